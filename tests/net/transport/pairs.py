"""Connected pairs of every transport, over real sockets on 127.0.0.1."""

import asyncio
from functools import cache

from tallow_net.testing import faulty_pair
from tallow_net.transport.certificates import Certificate, generate_certificate
from tallow_net.transport.interface import Transport, TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.memory import memory_pair
from tallow_net.transport.quic import QuicTransport
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


async def quic() -> tuple[Transport, Transport]:
    return await socket_pair(TransportKind.QUIC)


async def memory() -> tuple[Transport, Transport]:
    return memory_pair()


async def slow_memory() -> tuple[Transport, Transport]:
    pair = faulty_pair(latency_s=0.002, capacity_bytes=4 * 1024 * 1024)
    return pair.a, pair.b


PAIRS = (memory, slow_memory, plain_tcp, tls, quic)
