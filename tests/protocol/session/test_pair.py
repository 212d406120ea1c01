"""The Session that `tallow send` runs, in a Pair: every order of arrival, losses between any two frames."""

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
from tallow_protocol.core.messages import Accept, Ping
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import (
    CancelledByUserError,
    ConflictError,
    PeerCancelledError,
    RefusedError,
    ViolationError,
)
from tallow_protocol.events import OfferReceived, TransferDone, TransferProgress, VerificationNeeded
from tallow_protocol.testing import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator


def contents(seed: int = 1) -> dict[str, bytes | None]:
    source = random.Random(seed)
    return {
        "top": None,
        "top/empty": b"",
        "top/small": source.randbytes(1000),
        "top/text": b"all work and no play " * 40_000,
        "top/large": source.randbytes(700_001),
        "top/deep": None,
        "top/deep/other": source.randbytes(300_000),
    }


def assert_whole(pair: Pair, wanted: dict[str, bytes | None]) -> None:
    files = {path: data for path, data in wanted.items() if data is not None}
    assert pair.folder.files == files
    assert pair.folder.folders == {path for path, data in wanted.items() if data is None}
    for side in (Side.A, Side.B):
        assert pair.sessions[side].error is None
        assert pair.sessions[side].machine.state is TransferState.COMPLETED
        done = [event for event in pair.events[side] if isinstance(event, TransferDone)]
        assert [(event.files, event.bytes) for event in done] == [(len(files), sum(map(len, files.values())))]


def test_a_transfer_over_one_connection_arrives_whole() -> None:
    pair = Pair(contents())
    pair.run()
    assert_whole(pair, contents())


def test_folders_and_files_get_their_modes_and_times() -> None:
    pair = Pair({"d": None, "d/f": b"x"})
    pair.run()
    assert pair.folder.attributes == {
        "d": (0o755, 1_700_000_000_000_000_000),
        "d/f": (0o644, 1_700_000_000_000_000_001),
    }


def test_an_offer_of_nothing_but_folders_is_done_at_once() -> None:
    pair = Pair({"d": None, "d/e": None})
    pair.run()
    assert_whole(pair, {"d": None, "d/e": None})


@pytest.mark.parametrize("seed", range(12))
def test_connections_0_1_and_2_are_each_cut_once_and_no_byte_is_lost(seed: int) -> None:
    pair = Pair(contents(), seed=seed)
    source = random.Random(seed)

    def run_for(connection_index: int, frames: int) -> None:
        connection = pair.connections[connection_index]
        pair.run(until=lambda: connection.delivered >= frames)
        pair.cut(connection)

    run_for(0, source.randrange(3, 8))
    pair.attach(Side.B)
    run_for(1, source.randrange(2, 8))
    pair.attach(Side.A)
    run_for(2, source.randrange(2, 5))
    pair.attach(Side.A)
    pair.run()
    assert [connection.number for connection in pair.connections] == [0, 1, 2, 4]
    assert_whole(pair, contents())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_schedule_of_connections_losses_and_resends_repeats_no_key_and_nonce(data: st.DataObject) -> None:
    with recorded_nonces() as sealed:
        pair = Pair(
            contents(),
            seed=data.draw(st.integers(0, 2**32)),
            choose=lambda n: data.draw(st.integers(0, n - 1)) if n > 1 else 0,
            epoch_shift=2,
        )
        for _ in range(data.draw(st.integers(0, 5))):
            for _ in range(data.draw(st.integers(0, 12))):
                pair.step()
            if data.draw(st.booleans()):
                pair.attach(data.draw(st.sampled_from([Side.A, Side.B])))
            elif len(pair.open_connections) > 1:
                pair.cut(data.draw(st.sampled_from(pair.open_connections)))
        pair.run()
    assert_whole(pair, contents())
    assert len(sealed) > 15
    assert len(set(sealed)) == len(sealed)


@contextlib.contextmanager
def recorded_nonces() -> Iterator[list[tuple[bytes, bytes]]]:
    """Record the (key, nonce) of every record that anybody seals."""
    sealed: list[tuple[bytes, bytes]] = []
    make = aead._make_cipher

    class Recorder:
        def __init__(self, suite: Suite, key: Secret) -> None:
            self._key = key.reveal()
            self._cipher = make(suite, key)

        def encrypt_into(self, nonce: bytes, *rest: object) -> int:
            sealed.append((self._key, nonce))
            return self._cipher.encrypt_into(nonce, *rest)

        def decrypt_into(self, *arguments: object) -> int:
            return self._cipher.decrypt_into(*arguments)

    with mock.patch.object(aead, "_make_cipher", Recorder):
        yield sealed


def test_both_sides_show_the_same_digits_when_one_asks_for_them() -> None:
    pair = Pair({"f": b"x"}, verify=(False, True))
    pair.run()
    digits = {
        event.digits
        for side in pair.events.values()
        for event in side
        if isinstance(event, VerificationNeeded)
    }
    assert len(digits) == 1
    assert len(digits.pop()) == 8


def test_a_sender_that_verifies_offers_nothing_before_the_yes() -> None:
    pair = Pair({"secret-name": b"x"}, verify=(True, False), answer=False)
    while pair.step():
        pass
    assert not any(isinstance(event, OfferReceived) for event in pair.events[Side.B])
    pair.sessions[Side.A].confirm(yes=True, now=pair.now)
    while pair.step():
        pass
    assert any(isinstance(event, OfferReceived) for event in pair.events[Side.B])


def test_a_receiver_that_verifies_shows_no_offer_before_the_yes() -> None:
    pair = Pair({"f": b"x"}, verify=(False, True), answer=False)
    while pair.step():
        pass
    assert not any(isinstance(event, OfferReceived) for event in pair.events[Side.B])
    pair.sessions[Side.B].confirm(yes=True, now=pair.now)
    pair.step()
    assert any(isinstance(event, OfferReceived) for event in pair.events[Side.B])


def test_a_no_to_the_digits_ends_both_sides() -> None:
    pair = Pair({"f": b"x"}, verify=(True, False), answer=False)
    while pair.step():
        pass
    pair.sessions[Side.A].confirm(yes=False, now=pair.now)
    pair.run()
    assert {pair.sessions[side].error.code for side in (Side.A, Side.B)} == {"not_verified"}
    assert pair.folder.files == {}


def test_a_refused_offer_writes_nothing_and_tells_the_sender() -> None:
    pair = Pair({"f": b"x"}, answer=False)
    while pair.step():
        pass
    pair.receiver_role.refuse(pair.sessions[Side.B], pair.now)
    pair.run()
    assert isinstance(pair.sessions[Side.A].error, RefusedError)
    assert isinstance(pair.sessions[Side.B].error, RefusedError)
    assert pair.folder.files == {}


def test_a_conflict_is_told_to_both_and_writes_nothing() -> None:
    pair = Pair({"f": b"new", "g": b"x"})
    pair.folder.files["f"] = b"old"
    pair.run()
    assert isinstance(pair.sessions[Side.A].error, ConflictError)
    assert isinstance(pair.sessions[Side.B].error, ConflictError)
    assert pair.folder.files == {"f": b"old"}


@pytest.mark.parametrize("side", [Side.A, Side.B])
def test_a_cancellation_reaches_the_other_side(side: Side) -> None:
    pair = Pair(contents())
    pair.run(until=lambda: any(isinstance(event, TransferProgress) for event in pair.events[Side.B]))
    pair.sessions[side].cancel(pair.now)
    pair.run()
    other = Side.B if side is Side.A else Side.A
    assert isinstance(pair.sessions[side].error, CancelledByUserError)
    assert isinstance(pair.sessions[other].error, PeerCancelledError)
    assert "top/large" not in pair.folder.files or pair.folder.files["top/large"] == contents()["top/large"]


@pytest.mark.parametrize("position", [0, 4, 40, -1])
def test_a_flipped_bit_ends_its_connection_and_not_the_session(position: int) -> None:
    pair = Pair(contents())
    first = pair.connections[0]
    pair.run(until=lambda: first.delivered >= 4)
    pair.step()
    frame = bytearray(first.flying[Side.A][0])
    frame[position] ^= 1
    pair.deliver(first, Side.A, bytes(frame))
    assert first.links[Side.B].lost
    pair.cut(first)
    pair.attach(Side.A)
    pair.run()
    assert_whole(pair, contents())


def test_a_repeated_record_does_not_open_a_second_time() -> None:
    pair = Pair(contents())
    first = pair.connections[0]
    pair.run(until=lambda: first.delivered >= 3)
    pair.step()
    frame = first.flying[Side.A][0]
    pair.deliver(first, Side.A, frame)
    pair.deliver(first, Side.A, frame)
    assert first.links[Side.B].lost


def test_a_record_of_one_connection_does_not_open_on_another() -> None:
    pair = Pair(contents())
    pair.run(until=lambda: pair.connections[0].delivered >= 4)
    second = pair.attach(Side.A)
    pair.step()
    frame = pair.connections[0].flying[Side.A][0]
    pair.deliver(second, Side.A, frame)
    assert second.links[Side.B].lost


def test_a_replayed_attach_gets_a_connection_that_nobody_can_use() -> None:
    pair = Pair(contents())
    opener, acceptor = pair.sessions[Side.A], pair.sessions[Side.B]
    attempt = opener.open_link(opener.next_number(), bytes(32))
    genuine, ack = acceptor.accept_link(attempt.attach, bytes(32), pair.now)
    copy, _ = acceptor.accept_link(attempt.attach, b"\x01" * 32, pair.now)
    link = opener.opened_link(attempt, ack, pair.now)
    frame = opener.control_frame(link, pair.now)
    assert frame is not None
    for target in (copy, genuine):
        job = acceptor.incoming(target, memoryview(bytearray(frame[4:])), bytes(frame[:4]))
        job.run()
        job.finish(pair.now)
    assert copy.lost
    assert not genuine.lost
    assert acceptor.control_frame(copy, pair.now) is None


def test_45_seconds_of_silence_lose_the_connection_and_a_ping_prevents_it() -> None:
    pair = Pair({"f": b"x"}, answer=False)
    while pair.step():
        pass
    start = pair.now
    while pair.now < start + 200:
        pair.pass_time()
        while pair.step():
            pass
    assert not pair.connections[0].links[Side.A].lost
    pair.connections[0].cut = True
    start = pair.now
    while pair.now < start + 46:
        pair.pass_time()
    assert pair.connections[0].links[Side.A].lost
    assert pair.connections[0].links[Side.B].lost


def test_data_before_the_yes_is_a_violation() -> None:
    pair = Pair({"f": b"x" * 1000}, answer=False)
    while pair.step():
        pass
    pair.pipeline.accept(None)
    sender = pair.sessions[Side.A]
    sender.role._accepted_at = pair.now
    sender.machine.to(TransferState.TRANSFERRING)
    while pair.step():
        pass
    assert isinstance(pair.sessions[Side.B].error, ViolationError)
    assert pair.folder.files == {}


def test_a_numbered_ping_is_a_violation() -> None:
    pair = Pair({"f": b"x"}, answer=False)
    while pair.step():
        pass
    pair.sessions[Side.A].send(Ping())
    while pair.step():
        pass
    assert isinstance(pair.sessions[Side.B].error, ViolationError)


def test_a_message_without_a_number_that_needs_one_is_a_violation() -> None:
    pair = Pair({"f": b"x"}, answer=False)
    while pair.step():
        pass
    pair.sessions[Side.B].send_passing(Accept(None))
    while pair.step():
        pass
    assert isinstance(pair.sessions[Side.A].error, ViolationError)
