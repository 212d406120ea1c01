"""Processes that end, stop or are told to; terminals and clocks that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tests.faults.catalogue import fault
from tests.faults.kit import UnusableError

if TYPE_CHECKING:
    from tests.faults.kit import Run

NO_SPACE = 13


async def began(run: Run, **options: object) -> None:
    """Start a transfer, direct or through a relay as the seed says."""
    direct = run.draw.random() < 0.5
    run.result.note = "direct" if direct else "through a relay"
    await run.start(direct=direct, **options)


@fault("the receiver is killed (kill -9); the same paths are sent again", gate=(1,))
async def kill_receiver(run: Run) -> None:
    run.make_source(16)
    await began(run)
    await run.at_point()
    run.receiver.send(signal.SIGKILL)
    await run.finish(hopeless=True)
    if not run.result.arrived:
        await run.again()


@fault("the sender is killed (kill -9); the same paths are sent again", gate=(1,))
async def kill_sender(run: Run) -> None:
    run.make_source(16)
    await began(run)
    await run.at_point()
    run.sender.send(signal.SIGKILL)
    await run.finish(hopeless=True)
    if not run.result.arrived and run.receiver.outcome != "0":
        await run.again()


@fault("the relay is killed (kill -9) and does not come back", gate=(1,))
async def kill_relay(run: Run) -> None:
    await run.start()
    await run.at_point(0.02, 0.6)
    assert run.relay is not None
    run.relay.send(signal.SIGKILL)
    run.middles[0].dark = True
    await run.middles[0].drop_all()
    await run.finish(hopeless=True)


@fault("the relay is killed (kill -9) and started again")
async def restart_relay(run: Run) -> None:
    await run.start()
    await run.at_point(0.02, 0.6)
    assert run.relay is not None
    run.relay.send(signal.SIGKILL)
    await run.relay.child.wait()
    await run.start_relay(run.relay_address)
    await run.finish()


@fault("SIGTERM, SIGHUP or SIGINT at one side", gate=(1,))
async def signal_side(run: Run) -> None:
    await began(run)
    number = run.draw.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
    side, other = run.draw.sample((run.sender, run.receiver), 2)
    run.result.note += f", {number.name} at the {side.name}"
    await run.at_point(0.0, 0.7)
    side.send(number)
    await run.finish()
    if not run.result.arrived and (side.outcome, other.outcome) != ("130 interrupted", "10 cancelled"):
        run.problem(f"it ended with {side.name} {side.outcome}, {other.name} {other.outcome}")


@fault("SIGTERM at the relay while a transfer runs")
async def signal_relay(run: Run) -> None:
    await run.start()
    await run.at_point(0.02, 0.6)
    await asyncio.gather(run.end_relay(), run.finish(hopeless=True))


@fault("one side stands still for some seconds (SIGSTOP, SIGCONT)")
async def sleep_side(run: Run) -> None:
    run.must_arrive = True
    await began(run)
    await run.at_point()
    side = run.draw.choice((run.sender, run.receiver))
    side.send(signal.SIGSTOP)
    seconds = run.draw.uniform(0.5, 7)
    run.result.note += f", the {side.name} for {seconds:.1f} s"
    await asyncio.sleep(seconds)
    side.send(signal.SIGCONT)
    await run.finish()


@fault("two receivers at once with one code", gate=(1,))
async def race(run: Run) -> None:
    await run.start()
    other = await run.receive("other", run.folder / "other")
    await asyncio.gather(other.end(), run.receiver.end())
    run.check_side(other)
    sides = [(run.receiver, run.out), (other, run.folder / "other")]
    winners = [side for side, _ in sides if side.child.returncode == 0]
    if len(winners) != 1:
        run.problem(f"{len(winners)} of two receivers have it: {run.receiver.outcome}, {other.outcome}")
    # The winner is looked at as the receiver; the loser's folder has nothing, or whole files, as all runs.
    sides.sort(key=lambda pair: pair[0].child.returncode == 0)
    (loser, run.out), (run.receiver, winning) = sides
    run.check_files(complete=False)
    run.out = winning
    run.result.note = f"the other receiver: {loser.outcome}"
    await run.finish()


def device(name: str) -> BinaryIO:
    """Open a device for writing."""
    return Path(name).open("wb")


@fault("standard output is full (/dev/full) at one side", gate=(1,))
async def full_output(run: Run) -> None:
    run.make_source(4)
    run.relay = None
    with device("/dev/full") as full:
        if run.draw.random() < 0.5:
            # The code cannot be told, so that nobody comes.
            await run.start(direct=True, sender={"stdout": full})
            await run.sender.end()
            run.result.note, run.result.sender = "the sender", run.sender.outcome
            run.check_side(run.sender)
            await run.check_leftovers()
            full_side = run.sender
        else:
            await began(run, receiver={"stdout": full})
            await run.finish(hopeless=True)
            full_side = run.receiver
    if full_side.child.returncode != NO_SPACE:
        run.problem(f"the {full_side.name} ended with {full_side.outcome}: {full_side.errors}")


@fault("who reads standard output goes away in mid-transfer")
async def closed_output(run: Run) -> None:
    read, write = os.pipe()
    try:
        await began(run, receiver={"stdout": write})
    finally:
        os.close(write)
    await run.sender.until("progress", int(run.draw.uniform(0.05, 0.8) * run.total))
    os.close(read)
    await run.finish(hopeless=True)


@fault("the receiver's terminal takes no output for some seconds")
async def slow_terminal(run: Run) -> None:
    run.must_arrive = True
    master, slave = pty.openpty()
    try:
        await began(run, receiver={"stdout": slave, "stderr": slave})
        os.close(slave)
        part, seconds = run.draw.uniform(0.05, 0.5), run.draw.uniform(0.5, 6)
        run.result.note += f", {seconds:.1f} s"
        await run.sender.until("progress", int(part * run.total))
        await asyncio.sleep(seconds)
        reading = asyncio.create_task(asyncio.to_thread(drain, master))
        await run.finish()
        await reading
    finally:
        os.close(master)


def drain(terminal: int) -> None:
    """Read a terminal to its end, a little at a time."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 200):
            pass


CLOCK = """
import mmap, os, struct, time
_file = open(os.environ["FAULT_CLOCK"], "rb")
_memory = mmap.mmap(_file.fileno(), 16, prot=mmap.PROT_READ)
_wall, _wall_ns, _steady = time.time, time.time_ns, time.monotonic
def _offsets(): return struct.unpack("dd", _memory[:16])
time.time = lambda: _wall() + _offsets()[0]
time.time_ns = lambda: _wall_ns() + int(_offsets()[0] * 1e9)
time.monotonic = lambda: _steady() + _offsets()[1]
"""


@fault("one side's wall clock jumps by days, or its steady clock by an hour (as after a sleep)")
async def clock_jump(run: Run) -> None:
    import struct

    name = run.draw.choice(("sender", "receiver"))
    place, clock = run.folder / "clock", run.folder / "clock-offsets"
    place.mkdir()
    (place / "sitecustomize.py").write_text(CLOCK)
    clock.write_bytes(struct.pack("dd", 0.0, 0.0))
    path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    run.environment[name] = {"PYTHONPATH": path, "FAULT_CLOCK": str(clock)}
    await began(run)
    await run.at_point()
    steady = run.draw.random() < 0.3
    days = run.draw.choice((-40_000, -400, -1, 1, 45, 4000))
    run.must_arrive = not steady
    with clock.open("r+b") as file:
        file.write(struct.pack("dd", 0.0 if steady else days * 86400.0, 3600.0 if steady else 0.0))
    run.result.note += f", the {name}'s " + ("steady clock by an hour" if steady else f"by {days} days")
    await run.finish(hopeless=steady)


@fault("one side's steady clock is days ahead (a time namespace)")
async def clock_offset(run: Run) -> None:
    prefix = ("unshare", "--time", "--monotonic", "900000", "--boottime", "900000")
    probe = await asyncio.create_subprocess_exec(*prefix, "true", stderr=asyncio.subprocess.DEVNULL)
    if await probe.wait() != 0:
        raise UnusableError("no time namespaces here")
    run.must_arrive = True
    side = run.draw.choice(("sender", "receiver"))
    # unshare --time puts children in: the shell is one, and the program takes its place.
    await began(run, **{side: {"prefix": (*prefix, "--")}})
    await run.finish()
