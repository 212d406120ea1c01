"""A session that loses its last connection, again and again, goes on as soon as it has another."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tallow_crypto import Secret, Suite, aead
from tallow_net import Side
from tallow_protocol.core.rejoining import DONE_RETURN_S, UNHEARD_RETURN_S
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import CancelledByUserError, PeerLeftError, ViolationError
from tallow_protocol.events import Rejoined, TransferDone
from tallow_protocol.limits import DONE_WAIT_S, FLOW_PING_S, FLOW_SILENCE_S, SILENCE_S
from tallow_protocol.testing import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 600.0


def contents(seed: int = 1) -> dict[str, bytes | None]:
    source = random.Random(seed)
    return {
        "top": None,
        "top/small": source.randbytes(1000),
        "top/large": source.randbytes(700_001),
        "top/other": source.randbytes(300_000),
    }


def assert_whole(pair: Pair, wanted: dict[str, bytes | None]) -> None:
    files = {path: data for path, data in wanted.items() if data is not None}
    assert pair.folder.files == files
    for side in (Side.A, Side.B):
        assert pair.sessions[side].error is None
        assert pair.sessions[side].machine.state is TransferState.COMPLETED
        done = [event for event in pair.events[side] if isinstance(event, TransferDone)]
        assert [(event.files, event.bytes) for event in done] == [(len(files), sum(map(len, files.values())))]


@contextlib.contextmanager
def recorded_nonces() -> Iterator[list[tuple[bytes, bytes]]]:
    """Record the secret and the counter of every record that is sealed: together they are the key and the nonce."""
    sealed: list[tuple[bytes, bytes]] = []
    made = aead.RecordSealer.__init__

    def remember(self: object, suite: Suite, secret: Secret, *, epoch_shift: int = 14) -> None:
        made(self, suite, secret, epoch_shift=epoch_shift)  # type: ignore[arg-type] # the class's own
        secrets[id(self)] = secret.reveal()
        kept.append(self)

    def count(self: aead.RecordSealer, buffer: memoryview, associated_data: bytes) -> None:
        sealed.append((secrets[id(self)], self.records.to_bytes(8, "big")))
        seal(self, buffer, associated_data)

    secrets: dict[int, bytes] = {}
    kept: list[object] = []
    seal = aead.RecordSealer.seal_in_place
    with (
        mock.patch.object(aead.RecordSealer, "__init__", remember),
        mock.patch.object(aead.RecordSealer, "seal_in_place", count),
    ):
        yield sealed


def begun(pair: Pair) -> bool:
    """Return whether both know that the other's session began."""
    return pair.sessions[Side.A].begun and pair.sessions[Side.B].acknowledged > 0


def cut_all(pair: Pair) -> None:
    for connection in pair.open_connections:
        pair.cut(connection)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_everything_is_cut_at_any_frame_border_any_number_of_times_and_no_byte_is_lost(
    data: st.DataObject,
) -> None:
    with recorded_nonces() as sealed:
        pair = Pair(contents(), seed=data.draw(st.integers(0, 2**32)), epoch_shift=2, rejoin_s=LIMIT_S)
        pair.run(until=lambda: begun(pair))
        for _ in range(data.draw(st.integers(1, 8))):
            for _ in range(data.draw(st.integers(0, 30))):
                pair.step()
            cut_all(pair)
            pair.now += data.draw(st.sampled_from([0.0, 0.5, 3.0]))
            pair.attach(data.draw(st.sampled_from([Side.A, Side.B])))
            if data.draw(st.booleans()):
                pair.attach(data.draw(st.sampled_from([Side.A, Side.B])))
        pair.run()
    assert_whole(pair, contents())
    assert len(set(sealed)) == len(sealed)


def test_both_sides_say_that_they_are_back() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    cut_all(pair)
    assert all(session.gone for session in pair.sessions.values())
    pair.attach(Side.A)
    assert not pair.sessions[Side.A].gone
    assert pair.sessions[Side.B].gone  # until something of A opens
    pair.run()
    assert_whole(pair, contents())
    for side in Side:
        assert len([event for event in pair.events[side] if isinstance(event, Rejoined)]) == 1


def test_a_session_waits_until_its_limit_and_not_a_moment_longer() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    lost_at = pair.now
    cut_all(pair)
    for side, session in pair.sessions.items():
        assert session.next_deadline() == lost_at + LIMIT_S, side
        session.tick(lost_at + LIMIT_S - 0.001)
        assert session.gone
        assert not session.finished
        session.tick(lost_at + LIMIT_S)
        assert session.finished
        assert isinstance(session.error, PeerLeftError)
        assert str(session.error) == (
            "the connection was lost and could not be made again within 10 minutes; what arrived is kept"
        )


def test_without_a_limit_the_last_connection_is_the_end() -> None:
    pair = Pair(contents())
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    cut_all(pair)
    assert not any(session.gone for session in pair.sessions.values())


def test_a_session_that_never_began_does_not_wait() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    cut_all(pair)
    assert not pair.sessions[Side.A].gone
    assert not pair.sessions[Side.B].gone


def test_a_receiver_that_does_not_know_whether_the_sender_began_waits_for_a_short_time() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    session = pair.sessions[Side.B]
    pair.run(until=lambda: session.begun)
    assert not session.acknowledged
    cut_all(pair)
    assert session.next_deadline() == pair.now + UNHEARD_RETURN_S
    pair.attach(Side.B)
    pair.run()
    assert_whole(pair, contents())


def test_a_connection_that_carries_nothing_does_not_make_the_wait_longer() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    began = pair.now
    cut_all(pair)
    for _ in range(5):
        pair.now += 100.0
        pair.attach(Side.A)
        cut_all(pair)
    assert pair.sessions[Side.A].next_deadline() == began + LIMIT_S


def test_our_user_ends_a_wait_at_once() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    cut_all(pair)
    session = pair.sessions[Side.A]
    session.cancel(pair.now)
    session.tick(pair.now)
    assert session.finished
    assert isinstance(session.error, CancelledByUserError)


def test_the_offer_is_accepted_while_nobody_is_connected() -> None:
    pair = Pair(contents(), answer=False, rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.sessions[Side.B].machine.state is TransferState.OFFERING and begun(pair))
    cut_all(pair)
    pair.receiver_role.accept(pair.sessions[Side.B], pair.now)
    pair.now += 300.0
    pair.attach(Side.B)
    pair.run()
    assert_whole(pair, contents())


def _completed(pair: Pair) -> bool:
    return pair.sessions[Side.B].machine.state is TransferState.COMPLETED


def test_a_receiver_whose_last_word_was_lost_comes_back_to_say_it() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: _completed(pair))
    cut_all(pair)
    a, b = pair.sessions[Side.A], pair.sessions[Side.B]
    assert a.gone
    assert b.gone
    assert b.next_deadline() == pair.now + DONE_RETURN_S
    pair.now += DONE_RETURN_S - 1
    pair.attach(Side.B)
    pair.run()
    assert_whole(pair, contents())


def test_a_receiver_whose_last_word_is_not_answered_tries_another_connection() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: _completed(pair))
    (connection,) = pair.open_connections
    session = pair.sessions[Side.B]
    connection.cut = True  # half-open: nobody is told
    pair.now += DONE_WAIT_S
    session.tick(pair.now)
    assert session.gone
    assert not session.finished
    assert session.next_deadline() == pair.now + DONE_RETURN_S
    # The sender notices while the receiver still comes back.
    sender = pair.sessions[Side.A]
    while not sender.gone:
        pair.now += 1.0
        for either in pair.sessions.values():
            either.tick(pair.now)
        assert not session.finished
    pair.attach(Side.B)
    pair.run()
    assert_whole(pair, contents())


def test_a_receiver_that_nobody_comes_back_to_has_its_files_all_the_same() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: _completed(pair))
    cut_all(pair)
    session = pair.sessions[Side.B]
    session.tick(pair.now + DONE_RETURN_S)
    assert session.finished
    assert session.error is None


@pytest.mark.parametrize("victim", list(Side))
def test_a_record_spoiled_before_the_session_began_ends_both_sides(victim: Side) -> None:
    """The side that cannot begin does not come back, so the other, which may have begun, must not wait for it."""
    other = Side.A if victim is Side.B else Side.B
    # Both sides' first records are written, and the one that is not to be spoiled arrives.
    pair = Pair(contents(), rejoin_s=LIMIT_S, choose=lambda n: min(int(victim is Side.B), n - 1))
    connection = pair.connections[0]
    pair.step()
    assert not pair.sessions[victim].begun
    frame = bytearray(connection.flying[other].popleft())
    frame[-1] ^= 1
    pair.deliver(connection, other, bytes(frame))
    pair.run()
    for side in Side:
        assert pair.sessions[side].finished
        assert isinstance(pair.sessions[side].error, ViolationError), side
    assert pair.now < 1000.0 + 10.0


def silent_from_now(pair: Pair) -> None:
    for connection in pair.open_connections:
        connection.cut = True  # half-open: nobody is told


@pytest.mark.parametrize("side", list(Side))
def test_a_connection_that_falls_silent_while_data_flows_is_given_up_after_twelve_seconds(side: Side) -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    session = pair.sessions[side]
    assert session.machine.state is TransferState.TRANSFERRING
    silent_from_now(pair)
    session.tick(pair.now + FLOW_SILENCE_S - 0.001)
    assert not session.gone
    session.tick(pair.now + FLOW_SILENCE_S)
    assert session.gone
    assert session.loss == "network"


def test_who_would_not_come_back_waits_out_a_longer_silence() -> None:
    pair = Pair(contents())
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    session = pair.sessions[Side.B]
    silent_from_now(pair)
    session.tick(pair.now + FLOW_SILENCE_S)
    assert session.links
    session.tick(pair.now + SILENCE_S)
    assert not session.links


def test_a_transfer_that_has_nothing_to_say_is_kept_up_by_pings() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    for session in pair.sessions.values():
        session.plan = lambda *_: None  # type: ignore[method-assign]  # a disk that gives nothing for a while
    until = pair.now + 5 * FLOW_SILENCE_S
    while pair.now < until:
        if not pair.step():
            pair.pass_time()
    assert not any(session.gone for session in pair.sessions.values())
    for session in pair.sessions.values():
        del session.plan
    pair.run()
    assert_whole(pair, contents())


def test_the_silence_before_the_yes_does_not_count_after_it() -> None:
    pair = Pair(contents(), answer=False, rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.sessions[Side.B].machine.state is TransferState.OFFERING and begun(pair))
    while pair.step():
        pass
    session = pair.sessions[Side.B]
    pair.now += 14.0  # no ping is due before the yes
    pair.receiver_role.accept(session, pair.now)
    session.tick(pair.now)
    assert not session.gone
    pair.run()
    assert_whole(pair, contents())


def test_each_side_is_pinged_every_two_seconds_once_data_may_flow() -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    silent_from_now(pair)
    for side, session in pair.sessions.items():
        (link,) = session.links
        while session.control_frame(link, pair.now) is not None:
            pass
        assert session.control_frame(link, link.last_sent + FLOW_PING_S - 0.001) is None, side
        assert session.control_frame(link, link.last_sent + FLOW_PING_S) is not None, side


@pytest.mark.parametrize("side", [Side.A, Side.B])
def test_a_session_that_is_being_cancelled_does_not_come_back(side: Side) -> None:
    pair = Pair(contents(), rejoin_s=LIMIT_S)
    pair.run(until=lambda: pair.connections[0].delivered >= 6)
    session = pair.sessions[side]
    session.cancel(pair.now)
    session.lost(session.links[0], pair.now)
    session.tick(pair.now)
    assert session.finished
