"""RelayClient against a scripted relay in memory, in virtual time: no test waits."""

import asyncio
from types import SimpleNamespace

import pytest
from tallow_net import (
    CertificateChangedError,
    CertificateRefusedError,
    ConnectionLostError,
    MisuseError,
    NotTallowError,
    PeerText,
    PeerViolationError,
    RelayAddress,
    RelayClient,
    RelayConnected,
    RelayNotice,
    RelayPin,
    RelayReconnecting,
    RelayRefusedError,
    RelayUnreachableError,
    RelayWaiting,
    UnexpectedFrameError,
)
from tallow_net.limits import IN_FLIGHT_BYTES, RECONNECT_FOR_S
from tallow_net.signaling import (
    Allocate,
    Allocated,
    ErrorCode,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Redirect,
    Restarting,
    Side,
    SignalingError,
    Waiting,
    Welcome,
    WelcomeLimits,
)
from tallow_net.transport.interface import TransportKind

from tests.net.relay_client.memory_relay import (
    LEASE,
    ROOM,
    MemoryRelay,
    now,
    pair_at_once,
    wait_then_pair,
    wait_then_vanish,
)
from tests.net.relay_client.virtual import run_virtual

FIRST, SECOND = RelayAddress("first.example"), RelayAddress("second.example", 8443)
UNREACHABLE = RelayUnreachableError("The relay first.example could not be reached.")


class Meeting:
    """A client of a scripted relay, and what it told."""

    def __init__(self, *scripts, addresses=(FIRST,), known=None, stand_in=None, random=lambda: 0.5):
        self.relay = MemoryRelay(*scripts, stand_in=stand_in)
        self.events = []
        self.client = RelayClient(
            addresses, known=known, on_event=self.events.append, random=random, connect=self.relay.connect
        )

    async def meet(self, side=Side.A, *, wait=False):
        """Meet once, end the leg, and see the script through."""
        async with self.client:
            leg = await self.client.meet(ROOM, side, LEASE, wait=wait)
            await leg.transport.close()
        await self.relay.done()
        return leg

    def waits(self):
        return [event.in_s for event in self.events if isinstance(event, RelayReconnecting)]

    def dialled_at(self):
        return [at for at, _, _ in self.relay.dialled]

    def hosts(self):
        return [host for _, host, _ in self.relay.dialled]


def saying(*messages, hear=Join):
    """A relay that hears one message, answers it and ends the connection."""

    async def script(relay):
        await relay.say(Welcome())
        await relay.hear(hear)
        await relay.say(*messages)
        await relay.until_gone()

    return script


async def hang_up(relay):
    await relay.hear(Join)


async def fall_silent(relay):
    await relay.hear(Join)
    await relay.say(Waiting())
    await relay.until_gone()


# --- meeting --------------------------------------------------------------------------------------------------------


def test_meet_returns_once_ready_was_exchanged():
    tokens = tuple(bytes([n]) * 32 for n in range(4))

    async def script(relay):
        await relay.say(Welcome(limits=WelcomeLimits(in_flight_bytes=1 << 20)))
        assert await relay.hear(Join) == Join(1, (ROOM,), Side.A, LEASE, wait=False)
        await relay.say(Waiting(), Ready(tokens))
        assert await relay.hear(Ready) == Ready()
        await relay.until_gone()

    meeting = Meeting(script)
    leg = run_virtual(meeting.meet())
    assert (leg.kind, leg.in_flight_limit, leg.tokens) == (TransportKind.MEMORY, 1 << 20, tokens)
    assert meeting.events == [RelayConnected(TransportKind.MEMORY), RelayWaiting()]


def test_bytes_right_behind_ready_reach_the_leg_and_not_the_session():
    async def script(relay):
        await relay.hear(Join)
        await relay.say(Ready(()))
        await relay.frames.write(b"\x10 the peer's Hello")
        await relay.hear(Ready)
        assert await relay.frames.read() == b"ours"
        await relay.until_gone()

    async def meet(meeting):
        async with meeting.client:
            leg = await meeting.client.meet(ROOM, Side.B, LEASE, wait=False)
            await leg.frames.write(b"ours")
            body = await leg.frames.read()
            await leg.transport.close()
        await meeting.relay.done()
        return body, leg.in_flight_limit

    assert run_virtual(meet(Meeting(script))) == (b"\x10 the peer's Hello", IN_FLIGHT_BYTES)


def test_a_receiver_says_whether_it_waits():
    async def script(relay):
        assert (await relay.hear(Join)).wait is True
        await relay.say(Ready(()))
        await relay.hear(Ready)
        await relay.until_gone()

    run_virtual(Meeting(script).meet(Side.B, wait=True))


def test_a_client_that_waits_sends_a_keep_alive_every_twenty_seconds():
    async def script(relay):
        await relay.hear(Join)
        await relay.say(Waiting())
        for count in range(1, 61):
            await relay.say(await relay.hear(KeepAlive))
            assert now() == pytest.approx(count * 20)
        await relay.say(Ready(()))
        await relay.hear(Ready)
        await relay.until_gone()

    meeting = Meeting(script)
    run_virtual(meeting.meet())
    assert meeting.waits() == []


def test_a_notice_is_told_once_and_stripped():
    async def script(relay):
        await relay.say(Welcome(notice=PeerText("please \x1b[31mstop\x1b[0m")))
        await relay.hear(Join)
        await relay.say(Waiting())

    async def last(relay):
        await relay.say(Welcome(notice=PeerText("please \x1b[31mstop\x1b[0m")))
        await relay.hear(Join)
        await relay.say(Ready(()))
        await relay.hear(Ready)
        await relay.until_gone()

    meeting = Meeting(script, last)
    run_virtual(meeting.meet())
    notices = [str(event.text) for event in meeting.events if isinstance(event, RelayNotice)]
    assert notices == ["please stop"]
    assert meeting.client.welcome is not None


# --- losing the relay -----------------------------------------------------------------------------------------------


def test_a_waiting_client_survives_a_relay_that_restarts():
    meeting = Meeting(
        saying(Waiting(), Restarting(5_000, 60_000)),
        UNREACHABLE,
        UNREACHABLE,
        lambda r: wait_then_pair(r, keep_alives=2),
    )
    run_virtual(meeting.meet())
    assert meeting.waits() == [5.25, 0.5, 1.0]
    assert meeting.dialled_at() == pytest.approx([0, 5.25, 5.75, 6.75])
    assert [type(event) for event in meeting.events] == [
        RelayConnected,
        RelayWaiting,
        RelayReconnecting,
        RelayReconnecting,
        RelayReconnecting,
        RelayConnected,
        RelayWaiting,
    ]


def test_a_waiting_client_comes_back_with_the_same_lease_after_each_loss():
    leases = []

    async def lose(relay):
        leases.append((await relay.hear(Join)).lease)
        await relay.say(Waiting())

    meeting = Meeting(lose, lose, lose, pair_at_once)
    run_virtual(meeting.meet())
    assert leases == [LEASE] * 3
    assert meeting.waits() == [0.25, 0.25, 0.25]


def test_a_silent_relay_is_dead_after_45_seconds_and_met_again():
    meeting = Meeting(fall_silent, pair_at_once)
    run_virtual(meeting.meet())
    assert meeting.dialled_at() == pytest.approx([0, 45.25])


def test_a_relay_that_takes_the_join_and_says_nothing_is_lost_after_ten_seconds():
    async def mute(relay):
        await relay.until_gone()

    meeting = Meeting(mute, pair_at_once)
    run_virtual(meeting.meet())
    assert meeting.dialled_at() == pytest.approx([0, 10.25])


def test_waits_between_failed_connects_double():
    meeting = Meeting(wait_then_vanish, *[UNREACHABLE] * 9, pair_at_once, random=lambda: 1.0)
    run_virtual(meeting.meet())
    assert meeting.waits() == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_relay_that_stays_away_is_an_error_after_ten_minutes():
    meeting = Meeting(wait_then_vanish, *[UNREACHABLE] * 40, random=lambda: 1.0)

    async def meet():
        with pytest.raises(RelayUnreachableError):
            await meeting.meet()
        return now()

    assert run_virtual(meet()) == pytest.approx(RECONNECT_FOR_S, abs=31)


def test_a_relay_that_hangs_up_on_every_first_join_is_an_error_within_the_time_to_connect():
    meeting = Meeting(*[hang_up] * 20)

    async def meet():
        with pytest.raises(ConnectionLostError):
            await meeting.meet()
        return now()

    assert run_virtual(meet()) <= 20


def test_who_meets_again_after_a_wrong_guess_connects_at_once():
    meeting = Meeting(pair_at_once, pair_at_once)

    async def twice():
        async with meeting.client:
            for _ in range(2):
                leg = await meeting.client.meet(ROOM, Side.A, LEASE, wait=False)
                await leg.transport.close()
        await meeting.relay.done()

    run_virtual(twice())
    assert meeting.dialled_at() == [0, 0]
    assert meeting.waits() == []


def test_a_receiver_whose_sender_comes_back_later_than_itself_goes_on_waiting():
    nobody = saying(SignalingError(ErrorCode.NO_SUCH_ROOM))
    meeting = Meeting(wait_then_vanish, nobody, nobody, pair_at_once)
    run_virtual(meeting.meet(Side.B))
    assert meeting.waits() == [0.25, 0.5, 1.0]


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_refused_join_is_an_error_by_name_at_once(code):
    meeting = Meeting(saying(SignalingError(code, 7)))
    with pytest.raises(RelayRefusedError) as raised:
        run_virtual(meeting.meet())
    assert (raised.value.code, raised.value.retry_after_s) == (code.name.lower(), 7)


def test_a_refusal_that_comes_before_the_join_is_heard_too():
    async def full(relay):
        await relay.say(Welcome(), SignalingError(ErrorCode.RELAY_FULL, 30))
        await relay.until_gone()

    with pytest.raises(RelayRefusedError) as raised:
        run_virtual(Meeting(full).meet())
    assert raised.value.code == "relay_full"


def test_a_room_that_ends_while_it_waits_is_an_error():
    with pytest.raises(RelayRefusedError) as raised:
        run_virtual(Meeting(saying(Waiting(), SignalingError(ErrorCode.ROOM_EXPIRED))).meet())
    assert raised.value.code == "room_expired"


@pytest.mark.parametrize(
    "garbage", [b"\x00\x63\xa0", b"HTTP/1.1 400 Bad Request", b"", b"\x00\x09\xa1\x01\x81\x40"]
)
def test_garbage_from_the_relay_is_a_violation_and_not_tried_again(garbage):
    async def script(relay):
        await relay.hear(Join)
        await relay.frames.write(garbage)
        await relay.until_gone()

    with pytest.raises(PeerViolationError):
        run_virtual(Meeting(script).meet())


def test_an_oversized_frame_from_the_relay_is_a_violation():
    async def script(relay):
        await relay.hear(Join)
        await relay.frames.write_raw(b"\x00\x00\x10\x01")
        await relay.until_gone()

    with pytest.raises(PeerViolationError) as raised:
        run_virtual(Meeting(script).meet())
    assert raised.value.code == "frame_too_large"


# --- redirects ------------------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_once():
    meeting = Meeting(saying(Redirect("node2.example", 8443)), pair_at_once)
    run_virtual(meeting.meet())
    assert meeting.relay.dialled == [(0, "first.example", 443), (0, "node2.example", 8443)]


def test_a_second_redirect_is_a_violation():
    meeting = Meeting(saying(Redirect("node2.example", 443)), saying(Redirect("node3.example", 443)))
    with pytest.raises(UnexpectedFrameError, match="sent it on again"):
        run_virtual(meeting.meet())
    assert meeting.hosts() == ["first.example", "node2.example"]


def test_a_redirect_to_no_address_is_a_violation():
    with pytest.raises(PeerViolationError, match="an address that is none"):
        run_virtual(Meeting(saying(Redirect("a b", 443))).meet())


# --- several addresses ----------------------------------------------------------------------------------------------


def test_addresses_are_tried_in_order():
    meeting = Meeting(UNREACHABLE, pair_at_once, addresses=(FIRST, SECOND))
    run_virtual(meeting.meet())
    assert meeting.hosts() == ["first.example", "second.example"]


def test_the_address_that_worked_is_tried_first_afterwards():
    meeting = Meeting(UNREACHABLE, wait_then_vanish, pair_at_once, addresses=(FIRST, SECOND))
    run_virtual(meeting.meet())
    assert meeting.hosts() == ["first.example", "second.example", "second.example"]


def test_none_reachable_is_one_error_that_names_them_all():
    other = RelayUnreachableError("The relay second.example could not be reached.")
    with pytest.raises(RelayUnreachableError, match=r"first\.example.*second\.example"):
        run_virtual(Meeting(UNREACHABLE, other, addresses=(FIRST, SECOND)).meet())


def test_the_only_relay_s_own_error_is_kept():
    with pytest.raises(NotTallowError):
        run_virtual(Meeting(NotTallowError("That port speaks something else.")).meet())


def test_a_receiver_asks_the_next_relay_for_a_room_that_the_first_does_not_know():
    meeting = Meeting(saying(SignalingError(ErrorCode.NO_SUCH_ROOM)), pair_at_once, addresses=(FIRST, SECOND))
    run_virtual(meeting.meet(Side.B))
    assert meeting.hosts() == ["first.example", "second.example"]
    assert meeting.waits() == []


def test_a_room_that_no_relay_knows_is_the_error_after_each_was_asked_once():
    nobody = saying(SignalingError(ErrorCode.NO_SUCH_ROOM))
    meeting = Meeting(nobody, nobody, addresses=(FIRST, SECOND))
    with pytest.raises(RelayRefusedError) as raised:
        run_virtual(meeting.meet(Side.B))
    assert raised.value.code == "no_such_room"


def test_an_address_that_swallows_packets_leaves_time_for_the_others():
    shares = []

    async def connect(host, port, *, choice, timeout_s, check, carries_bulk):
        shares.append(timeout_s)
        await asyncio.sleep(timeout_s)
        raise RelayUnreachableError(f"The relay {host} could not be reached.")

    async def meet():
        async with RelayClient([FIRST, SECOND], connect=connect) as client:
            with pytest.raises(RelayUnreachableError):
                await client.meet(ROOM, Side.A, LEASE, wait=False)
        return now()

    assert run_virtual(meet()) == pytest.approx(20)
    assert shares == pytest.approx([10, 10])


def test_a_client_without_an_address_is_misuse():
    with pytest.raises(MisuseError):
        RelayClient([])


# --- keys -----------------------------------------------------------------------------------------------------------


class Remembering:
    def __init__(self, **pins):
        self.pins = {(host.replace("_", "."), 443): pin for host, pin in pins.items()}

    def lookup(self, host, port):
        return self.pins.get((host, port))

    def remember(self, host, port, pin):
        self.pins[host, port] = pin


def showing(key):
    return SimpleNamespace(peer_spki=key, peer_chain_der=(), peer_certificate_der=None)


def test_a_pinned_key_is_remembered():
    known = Remembering()
    pinned = RelayAddress("first.example", 443, b"k" * 32)
    run_virtual(Meeting(pair_at_once, addresses=(pinned,), known=known, stand_in=showing(b"k" * 32)).meet())
    assert known.pins == {("first.example", 443): RelayPin("spki", b"k" * 32)}


def test_a_changed_key_stops_everything_before_a_byte_is_sent():
    known = Remembering(first_example=RelayPin("spki", b"k" * 32))
    never = [pair_at_once] * 2
    meeting = Meeting(*never, addresses=(FIRST, SECOND), known=known, stand_in=showing(b"x" * 32))
    with pytest.raises(CertificateChangedError):
        run_virtual(meeting.meet())
    assert meeting.hosts() == ["first.example"]
    assert meeting.relay.tasks == []
    assert known.pins == {("first.example", 443): RelayPin("spki", b"k" * 32)}


def test_a_changed_key_stops_a_client_that_comes_back():
    known = Remembering(first_example=RelayPin("spki", b"k" * 32))
    meeting = Meeting(wait_then_vanish, pair_at_once, known=known, stand_in=showing(b"k" * 32))

    async def meet():
        task = asyncio.create_task(meeting.meet())
        await asyncio.sleep(0.1)
        meeting.relay.stand_in = showing(b"x" * 32)
        await task

    with pytest.raises(CertificateChangedError):
        run_virtual(meet())


def test_a_relay_without_a_key_is_refused():
    known = Remembering(first_example=RelayPin("spki", b"k" * 32))
    with pytest.raises(CertificateRefusedError):
        run_virtual(Meeting(pair_at_once, known=known, stand_in=showing(None)).meet())


def test_a_pin_from_a_redirect_replaces_nothing_that_was_remembered():
    known = Remembering(first_example=RelayPin("spki", b"x" * 32), node2_example=RelayPin("spki", b"k" * 32))
    script = saying(Redirect("node2.example", 443, b"x" * 32))
    meeting = Meeting(script, pair_at_once, known=known, stand_in=showing(b"x" * 32))
    with pytest.raises(CertificateChangedError):
        run_virtual(meeting.meet())
    assert known.pins["node2.example", 443] == RelayPin("spki", b"k" * 32)


# --- allocate and leave ---------------------------------------------------------------------------------------------


def test_a_nameplate_and_the_room_that_follows_share_one_connection():
    async def script(relay):
        await relay.say(Welcome())
        assert await relay.hear(Allocate) == Allocate(1, LEASE)
        await relay.say(Allocated("4821"))
        await relay.hear(Join)
        await relay.say(Ready(()))
        await relay.hear(Ready)
        await relay.until_gone()

    meeting = Meeting(script)

    async def run():
        async with meeting.client:
            nameplate = await meeting.client.allocate(LEASE)
            leg = await meeting.client.meet(ROOM, Side.A, LEASE, wait=False)
            await leg.transport.close()
        await meeting.relay.done()
        return nameplate

    assert run_virtual(run()) == "4821"


def test_a_redirect_of_the_join_after_allocate_is_followed():
    async def script(relay):
        await relay.hear(Allocate)
        await relay.say(Allocated("4821"))
        await relay.hear(Join)
        await relay.say(Redirect("node2.example", 443))
        await relay.until_gone()

    meeting = Meeting(script, pair_at_once)

    async def run():
        async with meeting.client:
            await meeting.client.allocate(LEASE)
            leg = await meeting.client.meet(ROOM, Side.A, LEASE, wait=False)
            await leg.transport.close()
        await meeting.relay.done()

    run_virtual(run())
    assert meeting.hosts() == ["first.example", "node2.example"]


def allocate_then(ending):
    async def script(relay):
        await relay.hear(Allocate)
        await relay.say(Allocated("4821"))
        await ending(relay)

    return script


@pytest.mark.parametrize("pause_s", [1, 60])
def test_a_connection_that_ended_after_allocate_is_replaced_without_a_word(pause_s):
    async def vanish(relay):
        await asyncio.sleep(0.5)

    meeting = Meeting(allocate_then(vanish), pair_at_once)

    async def run():
        async with meeting.client:
            await meeting.client.allocate(LEASE)
            await asyncio.sleep(pause_s)
            leg = await meeting.client.meet(ROOM, Side.A, LEASE, wait=False)
            await leg.transport.close()
        await meeting.relay.done()

    run_virtual(run())
    assert meeting.waits() == []


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (SignalingError(ErrorCode.RATE_LIMITED, 30), RelayRefusedError),
        (Restarting(2_000, 60_000), RelayUnreachableError),
        (Left(), PeerViolationError),
    ],
)
def test_a_nameplate_that_is_not_given_is_an_error(answer, error_class):
    async def run():
        relay = MemoryRelay(saying(answer, hear=Allocate))
        async with RelayClient([FIRST], connect=relay.connect) as client:
            with pytest.raises(error_class):
                await client.allocate(LEASE)
        await relay.done()

    run_virtual(run())


def test_leave_uses_a_fresh_connection_and_waits_for_left():
    async def script(relay):
        await relay.say(Welcome())
        assert await relay.hear(Leave) == Leave(ROOM, LEASE, LeaveReason.BURNED)
        await relay.say(Left())
        await relay.until_gone()

    async def run():
        relay = MemoryRelay(script)
        async with RelayClient([FIRST], connect=relay.connect) as client:
            await client.leave(ROOM, LEASE, LeaveReason.BURNED)
        await relay.done()

    run_virtual(run())


async def say_nothing(relay):
    await relay.until_gone()


@pytest.mark.parametrize(
    ("script", "takes_s"),
    [
        (say_nothing, 2.0),
        (UNREACHABLE, 0.0),
        (saying(SignalingError(ErrorCode.RATE_LIMITED), hear=Leave), 0.0),
        (saying(Ready(()), hear=Leave), 2.0),
        (saying(Waiting(), hear=Leave), 0.0),
    ],
    ids=["silent", "unreachable", "refused", "crossing", "violation"],
)
def test_leave_is_bounded_by_two_seconds_and_raises_nothing(script, takes_s):
    async def run():
        relay = MemoryRelay(script)
        async with RelayClient([FIRST], connect=relay.connect) as client:
            await client.leave(ROOM, LEASE, LeaveReason.LEFT)
        await relay.done()
        return now()

    assert run_virtual(run()) == pytest.approx(takes_s)


# --- cancellation and the end of the scope --------------------------------------------------------------------------


def test_a_cancelled_meet_ends_its_connection():
    async def run():
        relay = MemoryRelay(fall_silent)
        async with RelayClient([FIRST], connect=relay.connect) as client:
            task = asyncio.create_task(client.meet(ROOM, Side.A, LEASE, wait=False))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await relay.done()
        return now()

    assert run_virtual(run()) == pytest.approx(1)


def test_the_end_of_the_scope_ends_what_was_kept():
    async def run():
        relay = MemoryRelay(allocate_then(say_nothing))
        async with RelayClient([FIRST], connect=relay.connect) as client:
            await client.allocate(LEASE)
        await relay.done()

    run_virtual(run())


def test_the_end_of_the_scope_leaves_a_leg_alone():
    async def script(relay):
        await relay.hear(Join)
        await relay.say(Ready(()))
        await relay.hear(Ready)
        await relay.frames.write(b"still open")
        await relay.until_gone()

    async def run():
        relay = MemoryRelay(script)
        async with RelayClient([FIRST], connect=relay.connect) as client:
            leg = await client.meet(ROOM, Side.A, LEASE, wait=False)
        body = await leg.frames.read()
        await leg.transport.close()
        await relay.done()
        return body

    assert run_virtual(run()) == b"still open"
