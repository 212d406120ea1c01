from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.signaling import Side
from tallow_protocol.core.attach import AttachAcceptor, AttachOpener, first_number
from tallow_protocol.errors import AttachError, MisuseError

from tests.protocol.core.material import established, flipped, octets

KEYS = established("attach")[0].keys
OTHER_KEYS = established("another session")[0].keys


def opener(number: int = 2, label: str = "r_o") -> AttachOpener:
    return AttachOpener(KEYS, number, octets(label))


def acceptor(highest: int = 0) -> AttachAcceptor:
    return AttachAcceptor(KEYS, Side.A, highest)


def test_attach_and_ack_have_their_sizes_and_both_sides_get_the_same_keys():
    one = opener()
    answered = acceptor().answer(one.attach, octets("r_a"))
    attached = one.receive_ack(answered.ack)
    assert (len(one.attach), len(answered.ack)) == (81, 65)
    for side in Side:
        assert attached.record_secret(KEYS, side) == answered.record_secret(KEYS, side)
    assert attached.record_secret(KEYS, Side.A) != attached.record_secret(KEYS, Side.B)


def test_a_opens_even_numbers_and_b_odd_ones():
    assert (first_number(Side.A), first_number(Side.B)) == (2, 1)
    with pytest.raises(AttachError):
        acceptor().answer(opener(1).attach, octets("r_a"))
    assert AttachAcceptor(KEYS, Side.B).answer(opener(1).attach, octets("r_a")).number == 1


@pytest.mark.parametrize(("number", "good"), [(2, True), (128, True), (130, False)])
def test_the_64_numbers_above_the_highest_are_known(number, good):
    if good:
        assert acceptor().answer(opener(number).attach, octets("r_a")).number == number
    else:
        with pytest.raises(AttachError):
            acceptor().answer(opener(number).attach, octets("r_a"))


@pytest.mark.parametrize(("number", "good"), [(128, False), (130, True), (256, True), (258, False)])
def test_the_window_moves_with_the_highest_number_attached(number, good):
    moved = acceptor()
    moved.opened(moved.answer(opener(128).attach, octets("r_a")))
    assert moved.highest == 128
    if good:
        assert moved.answer(opener(number).attach, octets("r_a 2")).number == number
    else:
        with pytest.raises(AttachError):
            moved.answer(opener(number).attach, octets("r_a 2"))


def test_answering_alone_spends_no_number():
    accepts = acceptor()
    accepts.answer(opener(128).attach, octets("r_a"))
    assert accepts.highest == 0
    assert accepts.answer(opener(2).attach, octets("r_a 2")).number == 2


def test_four_tries_of_one_number_stand_side_by_side_and_a_fifth_is_refused():
    accepts = acceptor()
    tries = [accepts.answer(opener(2, f"try {n}").attach, octets(f"r_a {n}")) for n in range(4)]
    with pytest.raises(AttachError):
        accepts.answer(opener(2, "try 4").attach, octets("r_a 4"))
    accepts.ended(tries[0])
    assert accepts.answer(opener(2, "try 4").attach, octets("r_a 4")).number == 2


def test_the_first_try_whose_record_opens_wins_and_voids_its_siblings():
    accepts = acceptor()
    first, second = (accepts.answer(opener(2, f"try {n}").attach, octets(f"r_a {n}")) for n in range(2))
    accepts.opened(second)
    with pytest.raises(AttachError):
        accepts.opened(first)
    with pytest.raises(AttachError):
        accepts.answer(opener(2, "late").attach, octets("r_a late"))


def test_a_higher_number_attached_first_does_not_void_a_lower_one_under_way():
    accepts = acceptor()
    low = accepts.answer(opener(2).attach, octets("r_a 2"))
    high = accepts.answer(opener(4).attach, octets("r_a 4"))
    accepts.opened(high)
    accepts.opened(low)
    assert accepts.highest == 4


def test_a_number_that_was_passed_over_can_still_be_attached_once():
    accepts = acceptor()
    accepts.opened(accepts.answer(opener(6).attach, octets("r_a 6")))
    low = accepts.answer(opener(2).attach, octets("r_a 2"))
    accepts.opened(low)
    assert accepts.highest == 6
    with pytest.raises(AttachError):
        accepts.answer(opener(2, "again").attach, octets("r_a again"))
    assert accepts.answer(opener(4).attach, octets("r_a 4")).number == 4


@pytest.mark.parametrize(("number", "good"), [(8, True), (6, False)])
def test_numbers_that_were_passed_over_stay_valid_for_64_more(number, good):
    accepts = acceptor()
    for higher in (2, 4, 128, 136):
        accepts.opened(accepts.answer(opener(higher).attach, octets(f"r_a {higher}")))
    if good:
        assert accepts.answer(opener(number).attach, octets("r_a")).number == number
    else:
        with pytest.raises(AttachError):
            accepts.answer(opener(number).attach, octets("r_a"))


def test_numbers_below_a_highest_that_was_given_are_spent():
    accepts = acceptor(10)
    accepts.opened(accepts.answer(opener(16).attach, octets("r_a 16")))
    with pytest.raises(AttachError):
        accepts.answer(opener(8).attach, octets("r_a 8"))
    assert accepts.answer(opener(12).attach, octets("r_a 12")).number == 12


def test_a_replayed_attach_gains_other_keys_and_does_not_spend_the_number():
    accepts = acceptor()
    one = opener()
    original = accepts.answer(one.attach, octets("r_a"))
    replayed = accepts.answer(one.attach, octets("r_a for the replay"))
    assert replayed.record_secret(KEYS, Side.A) != original.record_secret(KEYS, Side.A)
    accepts.ended(replayed)
    accepts.opened(original)


def test_an_attach_replayed_after_its_number_was_spent_is_refused():
    accepts = acceptor()
    one = opener()
    accepts.opened(accepts.answer(one.attach, octets("r_a")))
    with pytest.raises(AttachError):
        accepts.answer(one.attach, octets("r_a 2"))


def test_an_attach_of_another_session_is_refused():
    with pytest.raises(AttachError):
        acceptor().answer(AttachOpener(OTHER_KEYS, 2, octets("r_o")).attach, octets("r_a"))


@pytest.mark.parametrize("position", [0, 1, 16, 17, 48, 49, 80])
def test_a_changed_byte_of_attach_is_refused(position):
    with pytest.raises(AttachError):
        acceptor().answer(flipped(opener().attach, position), octets("r_a"))


@pytest.mark.parametrize("position", [0, 1, 32, 33, 64])
def test_a_changed_byte_of_ack_is_refused(position):
    one = opener()
    ack = acceptor().answer(one.attach, octets("r_a")).ack
    with pytest.raises(AttachError):
        one.receive_ack(flipped(ack, position))


@pytest.mark.parametrize("length", [0, 1, 80, 82])
def test_an_attach_of_another_length_is_refused(length):
    with pytest.raises(AttachError):
        acceptor().answer((opener().attach + b"x")[:length], octets("r_a"))


@pytest.mark.parametrize("length", [0, 1, 64, 66])
def test_an_ack_of_another_length_is_refused(length):
    one = opener()
    ack = acceptor().answer(one.attach, octets("r_a")).ack
    with pytest.raises(AttachError):
        one.receive_ack((ack + b"x")[:length])


def test_an_attach_reflected_to_its_opener_is_no_ack():
    one = opener()
    with pytest.raises(AttachError):
        one.receive_ack(one.attach[:65])


def test_an_ack_for_another_try_of_the_number_is_refused():
    accepts = acceptor()
    one, two = opener(2, "one"), opener(2, "two")
    accepts.answer(one.attach, octets("r_a 1"))
    second = accepts.answer(two.attach, octets("r_a 2"))
    with pytest.raises(AttachError):
        one.receive_ack(second.ack)


def test_an_opener_takes_one_ack():
    one = opener()
    ack = acceptor().answer(one.attach, octets("r_a")).ack
    one.receive_ack(ack)
    with pytest.raises(MisuseError):
        one.receive_ack(ack)


def test_number_0_and_numbers_beyond_32_bits_cannot_be_opened():
    with pytest.raises(MisuseError):
        AttachOpener(KEYS, 0, octets("r_o"))
    with pytest.raises(MisuseError):
        AttachOpener(KEYS, 2**32, octets("r_o"))


def test_nonces_have_32_bytes():
    with pytest.raises(MisuseError):
        AttachOpener(KEYS, 2, b"short")
    with pytest.raises(MisuseError):
        acceptor().answer(opener().attach, b"short")


def test_ending_an_unknown_try_changes_nothing():
    accepts = acceptor()
    accepts.ended(acceptor().answer(opener().attach, octets("r_a")))
    assert accepts.highest == 0


@pytest.mark.parametrize("highest", [2**32 - 2, 2**32 - 4])
def test_the_window_ends_with_the_numbers(highest):
    with pytest.raises(AttachError):
        acceptor(highest).answer(opener(2).attach, octets("r_a"))


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=20))
def test_no_order_of_tries_gives_two_connections_the_same_keys(schedule):
    accepts = acceptor()
    secrets = set()
    made = 0
    for step, (half, nonce, completes) in enumerate(schedule):
        try:
            connection = accepts.answer(opener(2 * half, f"nonce {nonce}").attach, octets(f"r_a {step}"))
        except AttachError:
            continue
        made += 1
        secrets.add(connection.record_secret(KEYS, Side.A).reveal())
        secrets.add(connection.record_secret(KEYS, Side.B).reveal())
        if completes:
            accepts.opened(connection)
    assert len(secrets) == 2 * made
