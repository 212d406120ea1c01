"""RelayClient over real sockets on 127.0.0.1: QUIC and TLS, a relay that follows a script, real keys."""

import asyncio
import contextlib

import pytest
from tallow_net import (
    CertificateChangedError,
    ConnectionLostError,
    NotTallowError,
    PeerViolationError,
    RelayAddress,
    RelayClient,
    RelayConnected,
    RelayPin,
    RelayReconnecting,
    RelayUnreachableError,
    RelayWaiting,
    Side,
    TransportChoice,
    TransportKind,
    generate_certificate,
    listen,
)
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Join,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Restarting,
    Waiting,
    Welcome,
)

from tests.net.relay_client.authority import Authority
from tests.net.relay_client.memory_relay import LEASE, ROOM, RelaySide

DEADLINE_S = 30
BOTH = pytest.mark.parametrize("choice", [TransportChoice.QUIC, TransportChoice.TCP], ids=lambda c: c.value)


@pytest.fixture(scope="module")
def certificate():
    return generate_certificate()


@pytest.fixture(autouse=True)
def system_roots(tmp_path, monkeypatch):
    """The file of the roots that the system trusts: none, unless a test writes some."""
    (tmp_path / "no roots").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "no roots"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    return tmp_path / "roots.pem"


class ScriptedRelay:
    """A real listener; each connection gets the next script."""

    def __init__(self, listener, *scripts):
        self.listener = listener
        self.scripts = list(scripts)
        self.task = asyncio.create_task(self._serve())

    @property
    def address(self):
        return RelayAddress("127.0.0.1", self.listener.port)

    async def _serve(self):
        async with asyncio.TaskGroup() as group:
            while self.scripts:
                transport = await self.listener.accept()
                group.create_task(self._run(self.scripts.pop(0), transport))

    async def _run(self, script, transport):
        async with transport:
            await script(RelaySide(transport))

    async def done(self):
        """See all scripts through."""
        await self.task
        await self.listener.close()

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.listener.close()


@pytest.fixture
async def serve(certificate):
    """Start relays; whatever a test leaves open is closed behind it."""
    relays = []

    async def start(*scripts, key=certificate, port=0, quic=True):
        listener = await listen("127.0.0.1", port, tcp=TransportKind.TLS, quic=quic, certificate=key)
        relays.append(ScriptedRelay(listener, *scripts))
        return relays[-1]

    yield start
    for relay in relays:
        await relay.stop()


class Remembering:
    def __init__(self):
        self.pins = {}

    def lookup(self, host, port):
        return self.pins.get((host, port))

    def remember(self, host, port, pin):
        self.pins[host, port] = pin


async def pair(relay):
    await relay.say(Welcome())
    await relay.hear(Join)
    await relay.say(Waiting(), Ready(()))
    await relay.hear(Ready)
    await relay.frames.write(b"from the other side")
    assert await relay.frames.read() == b"from this side"
    await relay.until_gone()


async def exchange(leg):
    await leg.frames.write(b"from this side")
    body = await leg.frames.read()
    await leg.transport.close()
    return body


@BOTH
async def test_two_sides_meet_over(choice, serve, certificate):
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair)
        known, events = Remembering(), []
        async with RelayClient(
            [relay.address], transport=choice, known=known, on_event=events.append
        ) as client:
            leg = await client.meet(ROOM, Side.A, LEASE, wait=False)
            assert await exchange(leg) == b"from the other side"
        await relay.done()
    kind = {TransportChoice.QUIC: TransportKind.QUIC, TransportChoice.TCP: TransportKind.TLS}[choice]
    assert leg.kind is kind
    assert events == [RelayConnected(kind), RelayWaiting()]
    assert known.pins == {("127.0.0.1", relay.listener.port): RelayPin("spki", certificate.spki_sha256)}


@BOTH
async def test_a_pinned_relay_is_met_and_one_with_another_key_gets_no_byte(choice, serve, certificate):
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair)
        pinned = RelayAddress("127.0.0.1", relay.listener.port, certificate.spki_sha256)
        async with RelayClient([pinned], transport=choice) as client:
            assert (
                await exchange(await client.meet(ROOM, Side.B, LEASE, wait=False)) == b"from the other side"
            )
        await relay.done()

        heard = []

        async def impostor_script(relay):
            with contextlib.suppress(ConnectionLostError):
                heard.append(await relay.frames.read())

        impostor = await serve(impostor_script, key=generate_certificate())
        impostor_address = RelayAddress("127.0.0.1", impostor.listener.port, certificate.spki_sha256)
        async with RelayClient([impostor_address], transport=choice) as client:
            with pytest.raises(CertificateChangedError):
                await client.meet(ROOM, Side.B, LEASE, wait=False)
        await impostor.done()
    assert heard in ([], [None])


@BOTH
async def test_a_relay_whose_key_changed_since_the_first_use_is_refused(choice, serve, certificate):
    async def nameplate(relay):
        await relay.hear(Allocate)
        await relay.say(Allocated("4821"))
        await relay.until_gone()

    async with asyncio.timeout(DEADLINE_S):
        known = Remembering()
        relay = await serve(nameplate)
        async with RelayClient([relay.address], transport=choice, known=known) as client:
            assert await client.allocate(LEASE) == "4821"
        await relay.done()
        other = await serve(key=generate_certificate(), port=relay.listener.port)
        async with RelayClient([other.address], transport=choice, known=known) as client:
            with pytest.raises(CertificateChangedError):
                await client.allocate(LEASE)
        await other.done()
    assert known.pins[relay.address.host, relay.address.port].spki_sha256 == certificate.spki_sha256


@BOTH
async def test_a_relay_that_an_authority_vouched_for_may_change_its_key_but_not_do_without(
    choice, serve, system_roots
):
    authority, known = Authority(), Remembering()
    authority.write_root(system_roots)
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair, key=authority.issue("127.0.0.1"))
        port = relay.listener.port
        async with RelayClient([relay.address], transport=choice, known=known) as client:
            await exchange(await client.meet(ROOM, Side.A, LEASE, wait=False))
        await relay.done()
        assert known.pins == {("127.0.0.1", port): RelayPin("authority")}

        renewed = await serve(pair, key=authority.issue("127.0.0.1"), port=port)
        async with RelayClient([renewed.address], transport=choice, known=known) as client:
            await exchange(await client.meet(ROOM, Side.A, LEASE, wait=False))
        await renewed.done()

        self_signed = await serve(key=generate_certificate(), port=port)
        async with RelayClient([self_signed.address], transport=choice, known=known) as client:
            with pytest.raises(CertificateChangedError, match="No authority"):
                await client.meet(ROOM, Side.A, LEASE, wait=False)
        await self_signed.done()
    assert known.pins == {("127.0.0.1", port): RelayPin("authority")}


@BOTH
async def test_a_waiting_client_comes_back_to_a_relay_that_was_restarted(choice, serve):
    async def restart(relay):
        await relay.hear(Join)
        await relay.say(Waiting(), Restarting(10, 20_000))
        await relay.until_gone()

    async with asyncio.timeout(DEADLINE_S):
        events, first = [], await serve(restart)
        address = first.address
        async with RelayClient(
            [address], transport=choice, on_event=events.append, random=lambda: 0.1
        ) as client:
            meeting = asyncio.create_task(client.meet(ROOM, Side.A, LEASE, wait=False))
            await first.done()
            second = await serve(pair, port=address.port)
            assert await exchange(await meeting) == b"from the other side"
        await second.done()
    assert [type(event) for event in events].count(RelayWaiting) == 2
    assert any(isinstance(event, RelayReconnecting) for event in events)


@BOTH
async def test_leave_is_answered_on_a_fresh_connection(choice, serve):
    heard = []

    async def left(relay):
        heard.append(await relay.hear(Leave))
        await relay.say(Left())
        await relay.until_gone()

    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(left)
        async with RelayClient([relay.address], transport=choice) as client:
            await client.leave(ROOM, LEASE, LeaveReason.SPENT)
        await relay.done()
    assert heard == [Leave(ROOM, LEASE, LeaveReason.SPENT)]


@BOTH
async def test_a_frame_over_the_limit_from_the_relay_is_a_violation(choice, serve):
    async def oversized(relay):
        await relay.hear(Join)
        await relay.frames.write_raw((1 << 30).to_bytes(4, "big"))
        await relay.until_gone()

    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(oversized)
        async with RelayClient([relay.address], transport=choice) as client:
            with pytest.raises(PeerViolationError):
                await client.meet(ROOM, Side.A, LEASE, wait=False)
        await relay.done()


async def test_with_both_allowed_quic_is_used_where_it_answers(serve):
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair)
        async with RelayClient([relay.address]) as client:
            leg = await client.meet(ROOM, Side.A, LEASE, wait=False)
            await exchange(leg)
        await relay.done()
    assert leg.kind is TransportKind.QUIC


async def test_with_both_allowed_a_client_for_bulk_uses_tls(serve):
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair)
        async with RelayClient([relay.address], carries_bulk=True) as client:
            leg = await client.meet(ROOM, Side.A, LEASE, wait=False)
            await exchange(leg)
        await relay.done()
    assert leg.kind is TransportKind.TLS


async def test_without_udp_the_client_takes_tls(serve):
    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(pair, quic=False)
        async with RelayClient([relay.address]) as client:
            leg = await client.meet(ROOM, Side.A, LEASE, wait=False)
            await exchange(leg)
        await relay.done()
    assert leg.kind is TransportKind.TLS


async def test_a_relay_that_is_not_there_is_unreachable(serve):
    async with asyncio.timeout(DEADLINE_S):
        gone = await serve()
        await gone.done()
        async with RelayClient([gone.address], max_connect_s=2) as client:
            with pytest.raises(RelayUnreachableError) as raised:
                await client.meet(ROOM, Side.A, LEASE, wait=False)
    assert raised.value.hints


async def test_the_second_address_is_used_where_the_first_is_not_there(serve):
    async with asyncio.timeout(DEADLINE_S):
        gone = await serve()
        await gone.done()
        relay = await serve(pair)
        async with RelayClient(
            [gone.address, relay.address], transport=TransportChoice.TCP, max_connect_s=10
        ) as client:
            assert (
                await exchange(await client.meet(ROOM, Side.A, LEASE, wait=False)) == b"from the other side"
            )
        await relay.done()


async def test_a_port_that_speaks_something_else_is_named():
    async def banner(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with asyncio.timeout(DEADLINE_S):
        server = await asyncio.start_server(banner, "127.0.0.1", 0)
        address = RelayAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server, RelayClient([address], transport=TransportChoice.TCP) as client:
            with pytest.raises(NotTallowError):
                await client.meet(ROOM, Side.A, LEASE, wait=False)


async def test_a_cancelled_meet_closes_its_connection(serve):
    standing = asyncio.Event()

    async def stand(relay):
        await relay.hear(Join)
        await relay.say(Waiting())
        await relay.until_gone()

    async with asyncio.timeout(DEADLINE_S):
        relay = await serve(stand)
        async with RelayClient(
            [relay.address], on_event=lambda e: standing.set() if isinstance(e, RelayWaiting) else None
        ) as client:
            meeting = asyncio.create_task(client.meet(ROOM, Side.A, LEASE, wait=False))
            await standing.wait()
            meeting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await meeting
            await relay.done()
