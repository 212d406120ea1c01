"""Connected pairs of every transport, over real sockets on 127.0.0.1."""

import asyncio
from functools import cache
from importlib.util import find_spec

from tallow_net.testing import faulty_pair
from tallow_net.transport.certificates import Certificate, generate_certificate
from tallow_net.transport.interface import Transport, TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.memory import memory_pair
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_engine import QuicEngineChoice, use_quic_engine
from tallow_net.transport.tcp import TcpTlsTransport, TcpTransport

CONNECT = {
    TransportKind.TCP: TcpTransport,
    TransportKind.TLS: TcpTlsTransport,
    TransportKind.QUIC: QuicTransport,
}


@cache
def certificate() -> Certificate:
    return generate_certificate()


async def socket_pair(kind: TransportKind) -> tuple[Transport, Transport]:
    quic = kind is TransportKind.QUIC
    async with (
        asyncio.timeout(30),
        await listen(
            "127.0.0.1", 0, tcp=None if quic else kind, quic=quic, certificate=certificate()
        ) as listener,
    ):
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(CONNECT[kind].connect(("127.0.0.1", listener.port)))
            accepting = tasks.create_task(listener.accept())
        return connecting.result(), accepting.result()


async def plain_tcp() -> tuple[Transport, Transport]:
    return await socket_pair(TransportKind.TCP)


async def tls() -> tuple[Transport, Transport]:
    return await socket_pair(TransportKind.TLS)


async def quic_pair(
    client: QuicEngineChoice, server: QuicEngineChoice
) -> tuple[QuicTransport, QuicTransport]:
    async with asyncio.timeout(30):
        with use_quic_engine(server):
            listener = await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=certificate())
        async with listener, asyncio.TaskGroup() as tasks:
            with use_quic_engine(client):
                connecting = tasks.create_task(QuicTransport.connect(("127.0.0.1", listener.port)))
            accepting = tasks.create_task(listener.accept())
        near, far = connecting.result(), accepting.result()
        assert isinstance(far, QuicTransport)
        if client is QuicEngineChoice.QH3:
            # Its stream opens with the first byte, see test_quic_engines.py.
            await near.send(b"!")
            assert await far.receive_into(memoryview(bytearray(1))) == 1
        return near, far


async def quic() -> tuple[Transport, Transport]:
    return await quic_pair(QuicEngineChoice.AIOQUIC, QuicEngineChoice.AIOQUIC)


async def quic_qh3() -> tuple[Transport, Transport]:
    return await quic_pair(QuicEngineChoice.QH3, QuicEngineChoice.QH3)


async def quic_aioquic_to_qh3() -> tuple[Transport, Transport]:
    return await quic_pair(QuicEngineChoice.AIOQUIC, QuicEngineChoice.QH3)


async def quic_qh3_to_aioquic() -> tuple[Transport, Transport]:
    return await quic_pair(QuicEngineChoice.QH3, QuicEngineChoice.AIOQUIC)


async def memory() -> tuple[Transport, Transport]:
    return memory_pair()


async def slow_memory() -> tuple[Transport, Transport]:
    pair = faulty_pair(latency_s=0.002, capacity_bytes=4 * 1024 * 1024)
    return pair.a, pair.b


QH3_PAIRS = (quic_qh3, quic_aioquic_to_qh3, quic_qh3_to_aioquic)
HAVE_QH3 = find_spec("qh3") is not None
ENGINES = (QuicEngineChoice.AIOQUIC, *([QuicEngineChoice.QH3] if HAVE_QH3 else []))
QUIC_PAIRS = (quic, *(QH3_PAIRS if HAVE_QH3 else ()))
PAIRS = (memory, slow_memory, plain_tcp, tls, *QUIC_PAIRS)
