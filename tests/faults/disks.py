"""Disks that are full or read-only, and sources that change while they are sent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.faults.catalogue import fault
from tests.faults.kit import MIB, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.kit import Run


def mounted(run: Run, *options: str) -> None:
    """Make the receiver's folder a small disk of its own."""
    run.out.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", run.out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise UnusableError(f"no small disk here: {done.stderr.strip()}")
    run.cleanups.append(lambda: subprocess.run(["umount", "-l", run.out], timeout=30, check=False) and None)


def enlarge(disk: Path) -> None:
    """Give a small disk room for everything."""
    subprocess.run(["mount", "-o", "remount,size=40m", disk], timeout=30, check=True)


@fault("the receiver's disk is full: before the start, or in mid-transfer", gate=(1,))
async def disk_full(run: Run) -> None:
    run.make_source(8, tree=False)
    # Room for a file is taken when it begins: the second one has none.
    (run.source / "next.bin").write_bytes(run.draw.randbytes(8 * MIB))
    run.note_versions()
    run.paths = sorted(run.source.iterdir())
    if run.draw.random() < 0.3:
        mounted(run, "size=8m")
        run.result.note = "before the start"
        await run.start(direct=True)
        ballast = None
    else:
        mounted(run, "size=24m")
        await run.start(direct=True)
        await run.at_point(0.05, 0.3)
        ballast = run.out / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(256 * 1024))
                file.flush()
        run.may_leave.add("ballast")
    await run.finish()
    if run.result.arrived:
        run.did_not_bite("there was room")
    else:
        if run.receiver.outcome != "13 no_space":
            run.problem(f"the receiver of a full disk ended with {run.receiver.outcome}")
        if ballast is None:
            enlarge(run.out)
        else:
            ballast.unlink()
        await run.again()


@fault("the receiver's folder is read-only", gate=(1,))
async def read_only(run: Run) -> None:
    run.make_source(2, tree=False)
    mounted(run, "ro", "size=8m")
    await run.start(direct=True)
    # The receiver ends before it has met anybody, so that the code can still be used.
    await run.receiver.end()
    run.sender.send(signal.SIGINT)
    await run.finish()
    if run.receiver.outcome != "14 not_writable" or run.sender.outcome != "130 interrupted":
        run.problem(f"a read-only folder ended with {run.receiver.outcome} and {run.sender.outcome}")


async def while_sending(run: Run, change: Callable[[Path], None]) -> None:
    # More than what is read ahead, so that the change comes before the sender is at its end.
    run.make_source(48)
    await run.start(direct=True, rate=16 * MIB)
    await run.at_point(0.0, 0.3)
    change(run.source / "big.bin")
    run.note_versions()
    await run.finish(hopeless=True)
    if not run.result.arrived and not run.sender.outcome.startswith("14 "):
        run.problem(f"the sender of a changed file ended with {run.sender.outcome}")


@fault("the source is cut short while it is sent", gate=(1,))
async def source_truncated(run: Run) -> None:
    def change(path: Path) -> None:
        os.truncate(path, run.draw.randrange(path.stat().st_size // 4 * 3))

    await while_sending(run, change)


@fault("the source is written over while it is sent")
async def source_changed(run: Run) -> None:
    def change(path: Path) -> None:
        handle = os.open(path, os.O_WRONLY)
        size = os.fstat(handle).st_size
        at = run.draw.randrange(size // 4 * 3, size - MIB)
        os.pwrite(handle, run.draw.randbytes(MIB), at)
        os.close(handle)

    await while_sending(run, change)


@fault("the source grows while it is sent")
async def source_growing(run: Run) -> None:
    def change(path: Path) -> None:
        with path.open("ab") as file:
            file.write(run.draw.randbytes(MIB))

    await while_sending(run, change)
