"""Seconds from the yes to the first new byte of a file that goes on: `python bench_resume.py [--mib 10240] [--share 0.9]`.

The receiver holds `share` of the file with a whole journal, made here without a transfer; the sender's digest cache is
first empty (the prefix is read again), then warm. Both run in this process over TCP on the loopback.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

from tallow_crypto import IdentityKeyPair, chunk_digest
from tallow_protocol import (
    CodeReady,
    OfferReceived,
    Receiver,
    Resumed,
    Sender,
    TransferOptions,
    TransferProgress,
    TransportChoice,
)
from tallow_protocol.disk.partials import PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.ports import Ports

MIB = 1 << 20
CHUNK = 512 * 1024


class Cache:
    """Digests in memory, as the store keeps them."""

    def __init__(self) -> None:
        self.known: dict[object, bytes] = {}

    def digests(self, version, chunk_size):
        return self.known.get((version, chunk_size), b"")

    def remember(self, pieces):
        for piece in pieces:
            key = piece.version, piece.chunk_size
            if len(self.digests(*key)) == piece.first * 32:
                self.known[key] = self.digests(*key) + piece.digests


def prepare(source: Path, out: Path, sender: IdentityKeyPair, mib: int, share: float) -> int:
    """Write the source, and the partial file of its beginning; return the bytes of that."""
    root = OutputRoot.open(out)
    folder = PartialFolder(root, sender.public_key.fingerprint)
    size, chunks = mib * MIB, int(mib * share) * MIB // CHUNK
    partial = folder.begin(source.name, size, CHUNK, (source.name,), resumes=False)
    digests = bytearray()
    with source.open("wb") as file:
        for index in range(size // CHUNK):
            data = os.urandom(CHUNK)
            file.write(data)
            if index < chunks:
                partial.write_at(index * CHUNK, data)
                digests += chunk_digest(data)
    partial.sync(0, bytes(digests))
    folder.close()
    root.close()
    return chunks * CHUNK


async def first_byte(source: Path, out: Path, sender: IdentityKeyPair, cache: Cache, there: int) -> float:
    """Return the seconds from the yes to the first byte that is new; the transfer is ended then."""
    options = TransferOptions(
        identity=sender, lan=False, transport=TransportChoice.TCP, ports=Ports(digests=cache)
    )
    async with Sender([source], options=options) as sending:
        async for event in sending:
            if isinstance(event, CodeReady):
                code, port = event.code, event.peer.rpartition(":")[2]
                break

        async def drain() -> None:
            async for _ in sending:
                pass

        task = asyncio.create_task(drain())
        said_yes = 0.0
        async with Receiver(
            code, out, peer=f"127.0.0.1:{port}", options=TransferOptions(lan=False)
        ) as receiving:
            async for event in receiving:
                if isinstance(event, OfferReceived):
                    receiving.accept()
                    said_yes = time.perf_counter()
                elif isinstance(event, Resumed):
                    assert event.bytes >= there
                elif isinstance(event, TransferProgress) and event.bytes > there:
                    break
            seconds = time.perf_counter() - said_yes
        sending.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=10 * 1024)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument(
        "--folder", default=None, help="where the two files are made; twice their size is needed"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as home:
        source, out, sender = Path(home) / "source.bin", Path(home) / "out", IdentityKeyPair.generate()
        there = prepare(source, out, sender, given.mib, given.share)
        time.sleep(2.1)  # what changed within two seconds is not remembered
        cache = Cache()
        for name in ("cold", "warm"):
            seconds = asyncio.run(first_byte(source, out, sender, cache, there))
            print(
                json.dumps(
                    {"mib": given.mib, "share": given.share, "cache": name, "seconds": round(seconds, 3)}
                )
            )


if __name__ == "__main__":
    main()
