"""What many small files cost, stage by stage, and a whole transfer against `cp -r` of the same tree.

    uv run python tests/benchmarks/bench_small_files.py [--files 5000] [--bytes 4096] [--folders 50] [--rounds 5]
        [--stages] [--transfer] [--directory DIR]

Stages run in isolation, one after the other, on what the stage before left, as the two sides run them; their figures
are CPU seconds, user and system, which a busy machine moves less than the clock. All are medians. The transfer is one by the API over loopback, a process a side, from the yes to the last verified
byte. Every round writes into new directories; all are deleted at the end, since deleting in between slows what follows.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import secrets
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallow_crypto import Fingerprint
from tallow_net import PeerText, TransportChoice
from tallow_protocol import CodeReady, OfferReceived, Receiver, Sender, TransferDone, TransferOptions
from tallow_protocol.aio.sources import Sources
from tallow_protocol.core.filling import LENGTH_BYTES
from tallow_protocol.core.manifest import FileManifest
from tallow_protocol.core.messages import TallowCodec, split_offer
from tallow_protocol.core.receiving import ReceivePipeline
from tallow_protocol.core.records import parse_record
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.window import Window
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.disk.scan import scan
from tallow_protocol.events import OfferedEntry, OfferedKind

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_BYTES = 16


def make_tree(top: Path, files: int, size: int, folders: int) -> None:
    """Write `files` files of `size` random bytes into `folders` folders."""
    for number in range(files):
        folder = top / f"folder-{number % folders:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number:06d}.bin").write_bytes(secrets.token_bytes(size))


class Stopwatch:
    """CPU seconds of each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Run one stage and add its time."""
        start = time.process_time()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return result


def stages(tree: Path, into: Path) -> dict[str, float]:
    """Run every stage of both sides once."""
    watch = Stopwatch()
    found = watch.run("A scan", lambda: scan([tree]))
    entries = found.entries.offered
    parts = watch.run("A split and encode offer", lambda: list(split_offer(entries)))
    sent, received = FileManifest(), FileManifest()
    watch.run("A manifest parts", lambda: [sent.add_offer(part) for part in parts])
    wire = [TallowCodec.encode(part) for part in parts]
    decoded = watch.run("B decode offer", lambda: [TallowCodec.decode(data) for data in wire])
    watch.run("B manifest parts", lambda: [received.add_offer(part) for part in decoded])
    theirs = [entry for part in decoded for entry in part.entries]
    folder = OutputFolder(into)
    watch.run("B check offer", lambda: folder.check(theirs))
    kinds = tuple(OfferedKind)
    watch.run(
        "B show offer",
        lambda: tuple(OfferedEntry(PeerText(e.path), kinds[e.kind], e.size, e.mode, None) for e in theirs),
    )
    sending = SendPipeline(entries, Sources(found), window=Window(limit_bytes=1 << 40))
    sending.accept(None)
    receiving = ReceivePipeline(theirs, folder.open(Fingerprint(bytes(32))))
    watch.run("B begin offer, make folders", receiving.begin)
    buffer = bytearray(2 << 20)
    now = 0.0
    while (plan := watch.run("A plan", lambda: sending.plan(0, now))) is not None:
        filled = watch.run("A read and hash", lambda plan=plan: sending.fill(plan, memoryview(buffer)))
        sending.filled(filled)
        plaintext = memoryview(buffer)[LENGTH_BYTES : filled.frame_bytes - TAG_BYTES]
        header, body = parse_record(plaintext)
        stored = watch.run("B write files", lambda h=header, b=body: receiving.store(h, b))
        watch.run("A acknowledged", lambda stored=stored: sending.acknowledged(stored.ranges, now))
    ours = watch.run("A manifest digest", lambda: sent.digest(sending.roots))
    if watch.run("B manifest digest", lambda: received.digest(receiving.roots)) != ours:
        raise SystemExit("the two manifests differ")
    watch.run("B finish folders", receiving.finish)
    receiving.close()
    sending.close()
    return watch.seconds


def _send(tree: str, line: Any) -> None:
    async def main() -> None:
        options = TransferOptions(listen_host="127.0.0.1", transport=TransportChoice.TCP)
        async with Sender([tree], options=options) as sender:
            async for event in sender:
                if isinstance(event, CodeReady):
                    line.send((event.code.reveal(), event.peer))

    asyncio.run(main())


def _receive(code: str, peer: str, into: str, line: Any) -> None:
    async def main() -> None:
        options = TransferOptions(transport=TransportChoice.TCP)
        start = yes = time.perf_counter()
        async with Receiver(code, into, peer=peer, options=options) as receiver:
            async for event in receiver:
                if isinstance(event, OfferReceived):
                    yes = time.perf_counter()
                    receiver.accept()
                elif isinstance(event, TransferDone):
                    line.send((time.perf_counter() - yes, time.perf_counter() - start))

    asyncio.run(main())


def transfer(tree: Path, into: Path) -> tuple[float, float]:
    """Return the seconds from the yes, and from the receiver's start, to the end of one transfer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=_send, args=(str(tree), theirs))
    sender.start()
    code, peer = ours.recv()
    receiver = context.Process(target=_receive, args=(code, peer, str(into), theirs))
    receiver.start()
    found: tuple[float, float] = ours.recv()
    receiver.join()
    sender.join()
    return found


def copy(tree: Path, into: Path) -> float:
    """Return the seconds of `cp -r`."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", tree, into], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--folders", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", action="store_true", help="the stages alone")
    parser.add_argument("--transfer", action="store_true", help="the transfer alone")
    parser.add_argument("--directory", help="where to write; the system's temporary directory otherwise")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tallow-small-", dir=options.directory))
    every = options.stages == options.transfer
    measured: dict[str, list[float]] = {}
    try:
        tree = work / "tree"
        make_tree(tree, options.files, options.bytes, options.folders)
        os.sync()
        for number in range(options.rounds):
            found = {"cp -r": copy(tree, work / f"copy-{number}")}
            if every or options.stages:
                found |= stages(tree, work / f"stages-{number}")
            if every or options.transfer:
                yes, start = transfer(tree, work / f"transfer-{number}")
                found |= {"transfer from the yes": yes, "transfer from the receiver's start": start}
            for name, seconds in found.items():
                measured.setdefault(name, []).append(seconds)
    finally:
        shutil.rmtree(work)
    base = statistics.median(measured["cp -r"])
    print(
        f"{options.files} files of {options.bytes} bytes in {options.folders} folders, {options.rounds} rounds"
    )
    for name, seconds in measured.items():
        middle = statistics.median(seconds)
        low, high = min(seconds), max(seconds)
        micro = middle / options.files * 1e6
        print(
            f"{name:36} {middle:8.3f} s ({low:.3f} to {high:.3f}) {micro:7.1f} us a file {middle / base:6.2f} x cp"
        )


if __name__ == "__main__":
    main()
