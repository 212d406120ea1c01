"""Memory to memory over QUIC on loopback, both engines: bare, in our shell, and aioquic in its own, in one run.

    python tests/benchmarks/bench_quic.py [--mib 512] [--rounds 3] [--uvloop] [--only qh3,qh3-bare]

Each side is a process of its own. "bare" is the engine in the least loop that can run it: one socket, one connection,
select, no back-pressure towards an application, runs of datagrams (GSO and GRO), the datagram size that our shell
reaches, qh3's core called without its Python around it where ours does so. The stock shell has no back-pressure either: its sender is given the whole payload at once, which favours it. All have
windows of 16 MiB and socket buffers of 4 MiB. The last lines are ratios of medians and what is asked of them.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import select
import socket
import statistics
import struct
import sys
import time
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tallow_net.transport import quic_aioquic
from tallow_net.transport.certificates import Certificate, generate_certificate
from tallow_net.transport.datagrams import (
    ANCILLARY_BYTES,
    SOCKET_BUFFER_BYTES,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    runs,
)
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.path_mtu import LARGE_DATAGRAM_BYTES
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_engine import STREAM, WINDOW_BYTES, QuicEngineChoice, use_quic_engine

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MIB = 1024 * 1024
PIECE = 256 * 1024
AHEAD = 4 * MIB
CASES = ("aioquic-stock", "aioquic-bare", "aioquic", "qh3-bare", "qh3")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- our shell ------------------------------------------------------------------------------------------------


async def shell_receives(pipe: Connection, certificate: Certificate, size: int) -> None:
    async with await listen(
        "127.0.0.1", 0, tcp=None, quic=True, certificate=certificate, quic_window=WINDOW_BYTES
    ) as listener:
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


async def shell_sends(port: int, size: int) -> None:
    transport = await QuicTransport.connect(("127.0.0.1", port))
    piece = memoryview(bytes(MIB))
    for _ in range(size // MIB):
        await transport.send(piece)
    await transport.finish()
    assert await transport.receive_into(memoryview(bytearray(1))) == 1
    await transport.close()


# --- aioquic's own shell --------------------------------------------------------------------------------------


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

    configuration = quic_aioquic.server_configuration(certificate)
    configuration.max_data = configuration.max_stream_data = WINDOW_BYTES
    tasks: set[asyncio.Task[None]] = set()

    def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(count(reader, writer)))

    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=handler)
    pipe.send(server._transport.get_extra_info("sockname")[1])
    await done.wait()
    server.close()


async def stock_sends(port: int, size: int) -> None:
    from aioquic.asyncio import connect

    configuration = quic_aioquic.client_configuration("127.0.0.1")
    configuration.max_data = configuration.max_stream_data = WINDOW_BYTES
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(bytes(size))
        writer.write_eof()
        assert await reader.readexactly(1) == b"!"


# --- bare engines -----------------------------------------------------------------------------------------------


class Bare:
    """An engine of either library in the least loop that can run it."""

    def __init__(self, sock: socket.socket) -> None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        sock.setblocking(False)
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        self.sock = sock
        self.engine: Any = None
        self.peer: Any = None
        self.received = 0
        self.buffer = bytearray(65536)

    def send(self) -> None:
        for run, _ in runs(self._due()):
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(run[0])))]
            self._retried(self.sock.sendmsg, run, control if len(run) > 1 else [], 0, self.peer)

    def _due(self) -> list[tuple[bytes, Any]]:
        core = getattr(self.engine, "_core", None)  # qh3's
        if core is None:
            return self.engine.datagrams_to_send(time.monotonic())
        return [sent[:2] for sent in iter(partial(core.poll_transmit, time.monotonic()), None)]

    def _retried(self, call: Any, *arguments: Any) -> None:
        while True:
            try:
                call(*arguments)
            except BlockingIOError:
                select.select([], [self.sock], [])
            else:
                return

    def turn(self) -> list[Any]:
        """Send what is due, wait, take what came, and return the events."""
        self.send()
        due = self.engine.get_timer()
        wait = 1.0 if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select([self.sock], [], [], wait)
        now = time.monotonic()
        if readable:
            self._take(now)
        if due is not None and due <= now:
            self.engine.handle_timer(now)
        events = []
        while (event := self.engine.next_event()) is not None:
            events.append(event)
        return events

    def _take(self, now: float) -> None:
        for _ in range(64):
            try:
                count, ancillary, _, _ = self.sock.recvmsg_into([self.buffer], ANCILLARY_BYTES)
            except BlockingIOError:
                return
            size = struct.unpack("@i", ancillary[0][2])[0] if ancillary else count
            self._give(bytes(memoryview(self.buffer)[:count]), size, now)

    def _give(self, data: bytes, size: int, now: float) -> None:
        core = getattr(self.engine, "_core", None)
        if core is not None and self.engine._handshake_complete and not data[0] & 0x80:
            core.receive_gro_buffer(data, size, self.peer, now)
            self.engine._drain_core()
            return
        for start in range(0, len(data), size):
            self.engine.receive_datagram(data[start : start + size], self.peer, now)


def library(name: str) -> tuple[Any, Any]:
    """Return the module with our configurations and the library's own connection class."""
    if name == "qh3":
        from qh3.quic.connection import QuicConnection as Qh3Connection
        from tallow_net.transport import quic_qh3

        return quic_qh3, Qh3Connection
    from aioquic.quic.connection import QuicConnection

    return quic_aioquic, QuicConnection


def configured(configuration: Any, name: str) -> Any:
    configuration.max_data = configuration.max_stream_data = WINDOW_BYTES
    if name == "aioquic":
        configuration.max_datagram_size = LARGE_DATAGRAM_BYTES
    return configuration


def bare_receives(name: str, pipe: Connection, certificate: Certificate, size: int) -> None:
    module, connection = library(name)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    bare = Bare(sock)
    pipe.send(sock.getsockname()[1])
    select.select([sock], [], [])
    data, bare.peer = sock.recvfrom(2048)
    header = module.LIBRARY.read_header(data, 8)
    bare.engine = connection(
        configuration=configured(module.server_configuration(certificate), name),
        original_destination_connection_id=header.destination_id,
    )
    bare.engine.receive_datagram(data, bare.peer, time.monotonic())
    received, answered = 0, False
    while True:
        for event in bare.turn():
            kind = type(event).__name__
            if kind == "StreamDataReceived":
                received += len(event.data)
            elif kind == "ConnectionTerminated":
                assert received == size
                return
        if received == size and not answered:
            answered = True
            bare.engine.send_stream_data(STREAM, b"!", end_stream=True)


def bare_sends(name: str, port: int, size: int) -> None:
    module, connection = library(name)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bare = Bare(sock)
    bare.peer = ("127.0.0.1", port)
    bare.engine = connection(configuration=configured(module.client_configuration("127.0.0.1"), name))
    bare.engine.connect(bare.peer, time.monotonic())
    piece = bytes(PIECE)
    left, open_ = size, False
    while True:
        for event in bare.turn():
            kind = type(event).__name__
            open_ = open_ or kind == "HandshakeCompleted"
            if kind == "StreamDataReceived":
                bare.engine.close()
                bare.send()
                return
        while open_ and left and queued(bare.engine, name) < AHEAD:
            left -= PIECE
            bare.engine.send_stream_data(STREAM, piece, end_stream=not left)


def queued(engine: Any, name: str) -> int:
    if name == "qh3":
        return engine.get_send_buffer_size(STREAM) + engine._core.bytes_in_flight
    stream = engine._streams.get(STREAM)
    return stream.sender._buffer_stop - stream.sender._buffer_start if stream else 0


# --- one case -----------------------------------------------------------------------------------------------------


def run(work: Any, *, uvloop: bool) -> None:
    if uvloop:
        import uvloop as loop

        loop.run(work)
    else:
        asyncio.run(work)


def receiver(case: str, pipe: Connection, certificate: tuple, size: int, *, uvloop: bool) -> None:
    from tallow_crypto.secret import Secret

    der, key, spki = certificate
    rebuilt = Certificate(der, Secret(key), spki)
    name, _, how = case.partition("-")
    if how == "bare":
        bare_receives(name, pipe, rebuilt, size)
    else:
        with use_quic_engine(QuicEngineChoice(name)):
            run((stock_receives if how else shell_receives)(pipe, rebuilt, size), uvloop=uvloop)
    pipe.send(cpu_seconds())


def sender(case: str, port: int, size: int, *, uvloop: bool) -> None:
    name, _, how = case.partition("-")
    if how == "bare":
        bare_sends(name, port, size)
    else:
        with use_quic_engine(QuicEngineChoice(name)):
            run((stock_sends if how else shell_sends)(port, size), uvloop=uvloop)


def measure(case: str, certificate: Certificate, size: int, *, uvloop: bool) -> tuple[float, float]:
    """Return MB/s and CPU seconds a GiB, both sides."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    plain = (certificate.certificate_der, certificate.private_key_pem.reveal(), certificate.spki_sha256)
    child = context.Process(target=receiver, args=(case, far, plain, size), kwargs={"uvloop": uvloop})
    child.start()
    port = near.recv()
    cpu, start = cpu_seconds(), time.perf_counter()
    sender(case, port, size, uvloop=uvloop)
    seconds = time.perf_counter() - start
    total = cpu_seconds() - cpu + near.recv()
    child.join()
    return size / 1e6 / seconds, total / (size / 2**30)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--only", default="", help="cases, separated by commas")
    options = parser.parse_args()
    certificate = generate_certificate()
    cases = [case for case in CASES if case in (options.only.split(",") if options.only else CASES)]
    if find_spec("qh3") is None:
        cases = [case for case in cases if not case.startswith("qh3")]
    results: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
    for turn in range(options.rounds):
        for case in reversed(cases) if turn % 2 else cases:
            rate, cpu = measure(case, certificate, options.mib * MIB, uvloop=options.uvloop)
            results[case].append((rate, cpu))
            print(f"{case:13} {rate:7.1f} MB/s {cpu:7.1f} CPU-s/GiB", flush=True)
    medians = {case: statistics.median(rate for rate, _ in rows) for case, rows in results.items()}
    good = True
    for above, below, asked in (
        ("aioquic", "aioquic-bare", 0.8),
        ("qh3", "qh3-bare", 0.8),
        ("aioquic", "aioquic-stock", 0.8),
        ("qh3", "aioquic-stock", 6.0),
    ):
        if above in medians and below in medians:
            ratio = medians[above] / medians[below]
            good = good and ratio >= asked
            print(f"{above} / {below}: {ratio:.2f} (at least {asked} is asked)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
