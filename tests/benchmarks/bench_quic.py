"""Memory to memory over QUIC on loopback: our shell beside aioquic's own, in one run.

    python tests/benchmarks/bench_quic.py [--mib 128] [--rounds 3] [--uvloop]

Each side is a process of its own. Both shells send 1,200-byte datagrams into the same 16 MiB window; the
stock shell has no back-pressure, so its sender is given the whole payload at once, which favours it. The
last line is the ratio of the medians.
"""

import argparse
import asyncio
import multiprocessing
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection

from tallow_net.transport import quic_engine
from tallow_net.transport.certificates import Certificate, generate_certificate
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.quic import QuicTransport

MIB = 1024 * 1024
WINDOW = quic_engine.WINDOW_BYTES


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def ours_receives(pipe: Connection, certificate: Certificate, size: int) -> None:
    async with await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=certificate) as listener:
        pipe.send(listener.port)
        transport = await listener.accept()
        assert transport.kind is TransportKind.QUIC
        buffer = memoryview(bytearray(MIB))
        received = 0
        while count := await transport.receive_into(buffer):
            received += count
        assert received == size
        await transport.send(b"!")
        await transport.close()


async def ours_sends(port: int, size: int) -> None:
    transport = await QuicTransport.connect(("127.0.0.1", port))
    piece = memoryview(bytes(MIB))
    for _ in range(size // MIB):
        await transport.send(piece)
    await transport.finish()
    assert await transport.receive_into(memoryview(bytearray(1))) == 1
    await transport.close()


async def stock_receives(pipe: Connection, certificate: Certificate, size: int) -> None:
    from aioquic.asyncio import serve

    done = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = 0
        while data := await reader.read(MIB):
            received += len(data)
        assert received == size
        writer.write(b"!")
        writer.write_eof()
        await asyncio.sleep(0.2)  # the stock shell cannot say when this has arrived
        done.set()

    configuration = quic_engine.server_configuration(certificate)
    configuration.max_data = configuration.max_stream_data = WINDOW
    tasks: set[asyncio.Task[None]] = set()

    def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(count(reader, writer)))

    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=handler)
    pipe.send(server._transport.get_extra_info("sockname")[1])
    await done.wait()
    server.close()


async def stock_sends(port: int, size: int) -> None:
    from aioquic.asyncio import connect

    configuration = quic_engine.client_configuration("127.0.0.1")
    configuration.max_data = configuration.max_stream_data = WINDOW
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(bytes(size))
        writer.write_eof()
        assert await reader.readexactly(1) == b"!"


SHELLS = {"tallow": (ours_receives, ours_sends), "aioquic": (stock_receives, stock_sends)}


def receiver(name: str, pipe: Connection, certificate: tuple, size: int, *, uvloop: bool) -> None:
    from tallow_crypto.secret import Secret

    der, key, spki = certificate
    run(SHELLS[name][0](pipe, Certificate(der, Secret(key), spki), size), uvloop=uvloop)
    pipe.send(cpu_seconds())


def run(work, *, uvloop: bool) -> None:
    if uvloop:
        import uvloop as loop

        loop.run(work)
    else:
        asyncio.run(work)


def measure(name: str, certificate: Certificate, size: int, *, uvloop: bool) -> tuple[float, float]:
    """Return MB/s and CPU seconds a GiB, both sides."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    plain = (certificate.certificate_der, certificate.private_key_pem.reveal(), certificate.spki_sha256)
    child = context.Process(target=receiver, args=(name, far, plain, size), kwargs={"uvloop": uvloop})
    child.start()
    port = near.recv()
    cpu, start = cpu_seconds(), time.perf_counter()
    run(SHELLS[name][1](port, size), uvloop=uvloop)
    seconds = time.perf_counter() - start
    total = cpu_seconds() - cpu + near.recv()
    child.join()
    return size / 1e6 / seconds, total / (size / 2**30)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    certificate = generate_certificate()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in SHELLS}
    for turn in range(options.rounds):
        for name in sorted(SHELLS, reverse=bool(turn % 2)):
            rate, cpu = measure(name, certificate, options.mib * MIB, uvloop=options.uvloop)
            results[name].append((rate, cpu))
            print(f"{name:8} {rate:7.1f} MB/s {cpu:7.1f} CPU-s/GiB", flush=True)
    medians = {name: statistics.median(rate for rate, _ in rows) for name, rows in results.items()}
    ratio = medians["tallow"] / medians["aioquic"]
    print(f"ratio of medians: {ratio:.2f} (at least 0.80 is asked)")
    return 0 if ratio >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
