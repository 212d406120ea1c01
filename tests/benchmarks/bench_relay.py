"""A real relay process on loopback: data connections with 1, 10 and 100 rooms, added delay, and encrypted legs.

    python tests/benchmarks/bench_relay.py                      # all of it, about a minute
    python tests/benchmarks/bench_relay.py --only data          # or: delay, legs
    python tests/benchmarks/bench_relay.py --rounds 5 --seconds 3
    python tests/benchmarks/bench_relay.py --quick              # one short round of data and delay

data   for each number of rooms: the sum in MB/s at the receivers, Jain's fairness index and the slowest over the
       fastest room, the relay's CPU seconds for a GiB (its own process alone); and raw
       TCP, the same sender and receiver without a relay, in the same round. Medians over the rounds, lowest and highest
       in brackets.
delay  the round trip of 64 bytes in a room of its own, without load and beside ten rooms that move 80 % of what ten
       rooms moved at full speed.
legs   memory to memory through every mix of encrypted legs.

The relay, the sender and the receiver are a process each; the two encrypted connections of each room stand beside.
Figures that another benchmark takes over stand in lines of their own, one JSON object each.
"""

import argparse
import asyncio
import json
import os
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOMS = (1, 10, 100)
MIB = 1024 * 1024
WARM_UP_S = 0.5
LOAD = 0.8
PROBES = 400

# What a receiver takes in one turn. All are one process here, where each of a user's has its own: one that took whatever
# lies there would serve a room the less the smaller the kernel made its receive window, which grows with what was
# taken before. With 1 MiB the slowest of 100 rooms had 0.1 to 0.3 of the fastest, whatever the relay did.
TAKEN_BYTES = MIB // 8


# -- the two ends: processes of their own, without asyncio -----------------------------------------------------


def play_sender(descriptors: list[int], bytes_per_s: float) -> None:
    """Send on all sockets until somebody ends them; with a rate, so many bytes a second in all."""
    piece = memoryview(os.urandom(MIB))
    if bytes_per_s:
        piece = piece[: MIB // 4]
    selector = selectors.DefaultSelector()
    for number in descriptors:
        selector.register(socket.socket(fileno=number), selectors.EVENT_WRITE)
    began, sent = time.monotonic(), 0
    while True:
        for key, _ in selector.select():
            try:
                sent += key.fileobj.send(piece)  # type: ignore[union-attr]  # a socket
            except BlockingIOError:
                continue
            except OSError:
                return
            ahead_s = sent / bytes_per_s - (time.monotonic() - began) if bytes_per_s else 0.0
            if ahead_s > 0:
                time.sleep(ahead_s)


def play_receiver(descriptors: list[int], seconds: float) -> None:
    """Say "ready", read from all sockets, say "begin" after the warm-up, then the bytes of each within the seconds."""
    buffer = memoryview(bytearray(TAKEN_BYTES))
    counts = [0] * len(descriptors)
    selector = selectors.DefaultSelector()
    for place, number in enumerate(descriptors):
        selector.register(socket.socket(fileno=number), selectors.EVENT_READ, place)

    def read_until(end: float) -> None:
        while time.monotonic() < end:
            for key, _ in selector.select(timeout=0.1):
                counts[key.data] += key.fileobj.recv_into(buffer)  # type: ignore[union-attr]  # a socket

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    selector.select()
    read_until(time.monotonic() + WARM_UP_S)
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    counts[:] = [0] * len(descriptors)
    began = time.monotonic()
    read_until(began + seconds)
    json.dump({"seconds": time.monotonic() - began, "counts": counts}, sys.stdout)
    sys.stdout.flush()


# -- what is measured ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """One interval: MB/s in all, fairness, slowest over fastest, and the relay's CPU seconds for a GiB."""

    mb_per_s: float
    jain: float
    least_over_most: float
    cpu_s_per_gib: float


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


async def role(name: str, sockets: list[socket.socket], *options: str) -> asyncio.subprocess.Process:
    numbers = [sock.fileno() for sock in sockets]
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--role", name, *options, "--descriptors", *map(str, numbers),
        pass_fds=numbers, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def sending(senders: list[socket.socket], rate: float = 0.0) -> AsyncIterator[None]:
    child = await role("send", senders, "--rate", str(rate))
    try:
        yield
    finally:
        child.kill()
        await child.communicate()


async def receiving(receivers: list[socket.socket], seconds: float) -> asyncio.subprocess.Process:
    """Start the receiver, and wait until it reads: what comes before would find small windows."""
    child = await role("receive", receivers, "--seconds", str(seconds))
    assert child.stdout is not None
    await child.stdout.readline()
    return child


async def flow(
    senders: list[socket.socket], receivers: list[socket.socket], pid: int | None, seconds: float
) -> Flow:
    child = await receiving(receivers, seconds)
    async with sending(senders):
        assert child.stdout is not None
        await child.stdout.readline()
        cpu = cpu_seconds(pid) if pid else 0.0
        report = json.loads(await child.stdout.read())
        cpu = (cpu_seconds(pid) if pid else 0.0) - cpu
        await child.wait()
    counts = report["counts"]
    total = sum(counts)
    return Flow(
        total / report["seconds"] / 1e6,
        total**2 / (len(counts) * sum(count**2 for count in counts)),
        min(counts) / max(counts),
        cpu / total * 1024 * MIB,
    )


@asynccontextmanager
async def rooms(port: int, count: int) -> AsyncIterator[tuple[list[socket.socket], list[socket.socket]]]:
    """The ends of one data connection in each of so many rooms."""
    from tests.relay.data_kit import joined
    from tests.relay.relay_kit import paired

    async with AsyncExitStack() as stack:
        ends = []
        for _ in range(count):
            a, b = await stack.enter_async_context(paired(port))
            # To close them in order, one after the other, would take minutes.
            stack.callback(a.transport.abort)
            stack.callback(b.transport.abort)
            ends.append(await stack.enter_async_context(joined(port, a, b)))
        yield [one for one, _ in ends], [other for _, other in ends]


@asynccontextmanager
async def raw(count: int) -> AsyncIterator[tuple[list[socket.socket], list[socket.socket]]]:
    """So many TCP connections without a relay."""
    async with AsyncExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ends = []
            for _ in range(count):
                one = stack.enter_context(socket.create_connection(server.getsockname()))
                ends.append((one, stack.enter_context(server.accept()[0])))
        for pair in ends:
            for sock in pair:
                sock.setblocking(False)
        yield [one for one, _ in ends], [other for _, other in ends]


@asynccontextmanager
async def relay_process() -> AsyncIterator[tuple[int, int]]:
    """Port and process number of a relay whose limits let a whole benchmark in."""
    from tests.relay.process_kit import process

    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "relay.toml"
        config.write_text("joins_per_minute = 1000000\njoins_burst = 1000000\n")
        async with process(Path(directory) / "state", "--config", str(config)) as relay:
            yield relay.port, relay.child.pid
            await relay.end()


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


async def measure_data(options: argparse.Namespace) -> None:
    for count in options.rooms:
        relayed: list[Flow] = []
        direct: list[Flow] = []
        async with relay_process() as (port, pid):
            for _ in range(options.rounds):
                async with raw(count) as (senders, receivers):
                    direct.append(await flow(senders, receivers, None, options.seconds))
                async with rooms(port, count) as (senders, receivers):
                    relayed.append(await flow(senders, receivers, pid, options.seconds))
            peak = peak_mb(pid)
        ratio = statistics.median(a.mb_per_s / b.mb_per_s for a, b in zip(relayed, direct, strict=True))
        print(
            f"{count} rooms: {spread([each.mb_per_s for each in relayed], '.0f')} MB/s, "
            f"{spread([each.cpu_s_per_gib for each in relayed], '.2f')} CPU-s a GiB, "
            f"Jain {spread([each.jain for each in relayed], '.3f')}, "
            f"slowest over fastest {spread([each.least_over_most for each in relayed], '.2f')}, "
            f"peak {peak:.0f} MB; raw TCP {spread([each.mb_per_s for each in direct], '.0f')} MB/s, ratio {ratio:.2f}"
        )
        medians = {
            "mb_s": statistics.median(each.mb_per_s for each in relayed),
            "jain": statistics.median(each.jain for each in relayed),
            "slowest_over_fastest": statistics.median(each.least_over_most for each in relayed),
            "cpu_s_gib": statistics.median(each.cpu_s_per_gib for each in relayed),
            "raw_ratio": ratio,
        }
        print(json.dumps({"rooms": count} | {key: round(value, 3) for key, value in medians.items()}))


async def round_trips(one: socket.socket, other: socket.socket) -> list[float]:
    """Milliseconds from one end through the relay, back from the other, and through the relay again."""
    from tests.relay.data_kit import hear, say

    async def echo() -> None:
        for _ in range(PROBES):
            await say(other, await hear(other, 64))

    echoing = asyncio.create_task(echo())
    taken = []
    for _ in range(PROBES):
        began = time.perf_counter()
        await say(one, bytes(64))
        await hear(one, 64)
        taken.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.005)
    await echoing
    return sorted(taken)


async def measure_delay(options: argparse.Namespace) -> None:
    async with relay_process() as (port, pid):
        async with rooms(port, 10) as (senders, receivers):
            full = (await flow(senders, receivers, pid, options.seconds)).mb_per_s
        async with rooms(port, 1) as ((one,), (other,)):
            quiet = await round_trips(one, other)
            async with rooms(port, 10) as (senders, receivers):
                child = await receiving(receivers, 60)
                async with sending(senders, LOAD * full * 1e6):
                    assert child.stdout is not None
                    await child.stdout.readline()
                    loaded = await round_trips(one, other)
                child.kill()
                await child.communicate()
    for name, values in (("without load", quiet), (f"beside ten rooms at {LOAD:.0%} load", loaded)):
        p99 = values[int(len(values) * 0.99)]
        print(f"round trip {name}: median {statistics.median(values):.2f} ms, p99 {p99:.2f} ms")
    added = statistics.median(loaded) - statistics.median(quiet)
    print(json.dumps({"load": LOAD, "rooms": 10, "added_delay_ms": round(added, 3)}))


async def measure_legs(options: argparse.Namespace) -> None:
    from tallow_net.transport.interface import Transport

    from tests.relay.relay_kit import LEGS, QUIC, paired

    async def send(transport: Transport, size: int) -> None:
        piece = os.urandom(MIB)
        for _ in range(size // MIB):
            await transport.send(piece)
        await transport.finish()

    async def receive(transport: Transport) -> int:
        buffer = memoryview(bytearray(MIB))
        received = 0
        while count := await transport.receive_into(buffer):
            received += count
        await transport.finish()
        return received

    async with relay_process() as (port, pid):
        for choices in LEGS:
            size = (options.quic_mib if QUIC in choices else options.mib) * MIB
            async with paired(port, choices) as (a, b):
                cpu, began = cpu_seconds(pid), time.perf_counter()
                _, received = await asyncio.gather(send(a.transport, size), receive(b.transport))
                took, cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu
                assert received == size
            legs = " to ".join(choice.value for choice in choices)
            print(
                f"{legs}: {size / took / 1e6:.0f} MB/s, {cpu / size * 1024 * MIB:.2f} CPU-s a GiB, "
                f"peak {peak_mb(pid):.0f} MB"
            )


MEASURES = {"data": measure_data, "delay": measure_delay, "legs": measure_legs}


async def main(options: argparse.Namespace) -> None:
    for name, measure in MEASURES.items():
        if options.only == name or (options.only is None and not (options.quick and name == "legs")):
            await measure(options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(MEASURES))
    parser.add_argument(
        "--quick", action="store_true", help="one round of two seconds, without the encrypted legs"
    )
    parser.add_argument("--rooms", type=int, nargs="+", default=ROOMS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each round")
    parser.add_argument("--mib", type=int, default=512, help="moved over TLS legs")
    parser.add_argument("--quic-mib", type=int, default=32, help="moved where a leg is QUIC")
    for option, kind in (("--role", str), ("--rate", float)):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--descriptors", type=int, nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 2.0
    if chosen.role == "send":
        play_sender(chosen.descriptors, chosen.rate)
    elif chosen.role == "receive":
        play_receiver(chosen.descriptors, chosen.seconds)
    else:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        asyncio.run(main(chosen))
