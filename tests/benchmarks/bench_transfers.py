"""Whole transfers by the real commands, as ratios to raw TCP of the same run.

    uv run python tests/benchmarks/bench_transfers.py [--mib 1024] [--rounds 3] [--quic-mib 64]

Every figure is the median of interleaved rounds. MB/s counts from the receiver's yes to the last verified byte, as the
`done` event gives it; CPU is user and system time of sender and receiver together, start-up included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

COMMANDS = Path(sys.executable).parent
PIECE = 1024 * 1024


def raw_tcp(size: int) -> float:
    """Return the MB/s of one TCP stream of a resident buffer over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def sink() -> None:
            connection, _ = server.accept()
            buffer = bytearray(PIECE)
            with connection:
                while connection.recv_into(buffer):
                    pass

        thread = threading.Thread(target=sink)
        thread.start()
        data = bytes(PIECE)
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(size // PIECE):
                client.sendall(data)
        thread.join()
        return size / (time.perf_counter() - start) / 1e6


def transfer(source: Path, work: Path, relay: str | None, transport: str) -> tuple[float, float]:
    """Return MB/s and CPU seconds a GiB of one transfer."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["--transport", transport, *(["--relay", relay] if relay else [])]
    environment = {**os.environ, "TALLOW_HOME": str(work / "home-a")}
    sender = subprocess.Popen(
        [COMMANDS / "tallow", "send", "--json", *options, str(source)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert sender.stdout is not None
    event = json.loads(sender.stdout.readline())
    while event["event"] != "code":
        event = json.loads(sender.stdout.readline())
    drain = threading.Thread(target=sender.stdout.read)
    drain.start()
    where = [] if relay else ["--peer", "127.0.0.1:" + event["peer"].rsplit(":")[-1]]
    output = work / "out"
    received = subprocess.run(
        [
            COMMANDS / "tallow",
            "receive",
            "--json",
            "--yes",
            "--out",
            str(output),
            *options,
            *where,
            event["code"],
        ],
        capture_output=True,
        env={**os.environ, "TALLOW_HOME": str(work / "home-b")},
        text=True,
        check=True,
    )
    sender.wait()
    drain.join()
    done = json.loads(received.stdout.splitlines()[-1])
    shutil.rmtree(output)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done["bytes"] / done["seconds"] / 1e6, cpu * 2**30 / done["bytes"]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--quic-mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources = {}
        for name, mib in (("tcp", arguments.mib), ("quic", arguments.quic_mib)):
            sources[name] = work / f"random-{name}"
            with sources[name].open("wb") as file:
                for _ in range(mib):
                    file.write(os.urandom(PIECE))
        relay = subprocess.Popen(
            [
                COMMANDS / "tallow-relay",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--json",
                "--state",
                str(work / "relay"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert relay.stdout is not None
        listening = json.loads(relay.stdout.readline())
        address = f"{listening['listen']}#{listening['fingerprint']}"
        cases = [("direct", "tcp"), ("relay", "tcp"), ("direct", "quic"), ("relay", "quic")]
        figures: dict[tuple[str, str], list[tuple[float, float]]] = {case: [] for case in cases}
        raw = []
        try:
            for _ in range(arguments.rounds):
                raw.append(raw_tcp(arguments.mib * PIECE))
                for route, transport in cases:
                    relayed = address if route == "relay" else None
                    figures[route, transport].append(transfer(sources[transport], work, relayed, transport))
        finally:
            relay.terminate()
            relay.wait()
    print(f"raw TCP, one stream: {statistics.median(raw):.0f} MB/s (median of {arguments.rounds})")
    for (route, transport), runs in figures.items():
        speed = statistics.median(s for s, _ in runs)
        cpu = statistics.median(c for _, c in runs)
        ratio = speed / statistics.median(raw)
        spread = f"{min(s for s, _ in runs):.0f} to {max(s for s, _ in runs):.0f}"
        print(f"{route}-{transport}: {speed:.0f} MB/s ({spread}), {ratio:.2f} of raw, {cpu:.2f} CPU-s a GiB")


if __name__ == "__main__":
    main()
