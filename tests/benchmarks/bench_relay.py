"""Memory to memory through a real relay process on loopback, for every mix of legs.

    python tests/benchmarks/bench_relay.py [--mib 512] [--quic-mib 32]

The relay is a process of its own, both clients share another one; a leg over QUIC moves `--quic-mib`. Each line is
one pair: MB/s of payload, the relay's CPU seconds for a GiB, and its peak resident memory so far.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tallow_net.transport.interface import Transport

from tests.relay.process_kit import Process, process
from tests.relay.relay_kit import LEGS, QUIC, paired

MIB = 1024 * 1024


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


def cpu_seconds(relay: Process) -> float:
    fields = Path(f"/proc/{relay.child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(relay: Process) -> float:
    status = Path(f"/proc/{relay.child.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with process(Path(directory) / "state") as relay:
            for choices in LEGS:
                size = (options.quic_mib if QUIC in choices else options.mib) * MIB
                async with paired(relay.port, choices) as (a, b):
                    cpu, began = cpu_seconds(relay), time.perf_counter()
                    _, received = await asyncio.gather(send(a.transport, size), receive(b.transport))
                    took, cpu = time.perf_counter() - began, cpu_seconds(relay) - cpu
                    assert received == size
                legs = " to ".join(choice.value for choice in choices)
                print(
                    f"{legs}: {size / took / 1e6:.0f} MB/s, {cpu / size * 1024 * MIB:.2f} CPU-s a GiB, "
                    f"peak {peak_mb(relay):.0f} MB"
                )
            await relay.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--quic-mib", type=int, default=32)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(parser.parse_args()))
    else:
        uvloop.run(main(parser.parse_args()))
