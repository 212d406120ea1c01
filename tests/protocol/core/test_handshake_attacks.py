"""What somebody between, or a peer who lies, may try; every one fails closed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tallow_crypto.sas import sas_digits
from tallow_net.signaling import Side
from tallow_protocol.code import Code
from tallow_protocol.core.auth import check_auth
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import ReceiverStart, SenderStart
from tallow_protocol.core.messages import Auth
from tallow_protocol.errors import (
    AuthError,
    BudgetExhaustedError,
    HandshakeError,
    ProtocolError,
    VersionError,
    WrongCodeError,
)

from tests.protocol.core.material import (
    CODE,
    OTHER_CODE,
    established,
    fast_inputs,
    flipped,
    inputs,
    octets,
    until_reply,
)

HELLO_FIELDS = {
    "version slot": 2,
    "capability": 11,
    "random capability": 13,
    "nonce": 42,
    "share": 74,
    "ML-KEM key": 106,
    "X25519 key": 1674,
    "commitment": 1706,
}
REPLY_FIELDS = {
    "nonce": 37,
    "share": 69,
    "ML-KEM ciphertext": 101,
    "ML-KEM ciphertext's end": 1668,
    "X25519 ciphertext": 1669,
    "confirm": 1701,
    "confirm's end": 1764,
}


@pytest.mark.parametrize("position", HELLO_FIELDS.values(), ids=HELLO_FIELDS.keys())
def test_a_changed_byte_of_hello_never_ends_in_keys(position):
    start = SenderStart(fast_inputs("changed A"), octets("r_a"))
    awaits = start.sent()
    with pytest.raises((WrongCodeError, HandshakeError, VersionError)):
        awaits.receive_reply(
            ReceiverStart(fast_inputs("changed B"))
            .receive_hello(flipped(start.hello, position), GuessBudget())
            .reply,
            GuessBudget(),
        )


@pytest.mark.parametrize("position", REPLY_FIELDS.values(), ids=REPLY_FIELDS.keys())
def test_a_changed_byte_of_reply_is_a_wrong_code_and_is_counted(position):
    half = until_reply()
    with pytest.raises(WrongCodeError):
        half.sender.receive_reply(flipped(half.receiver.reply, position), half.budget_a)
    assert half.budget_a.left == 2


@pytest.mark.parametrize("position", [1, 2, 3, 4])
def test_a_changed_choice_in_reply_is_refused(position):
    half = until_reply()
    with pytest.raises((HandshakeError, VersionError)):
        half.sender.receive_reply(flipped(half.receiver.reply, position), half.budget_a)


def test_a_version_list_cut_down_on_the_way_is_noticed():
    start = SenderStart(inputs("downgrade A", versions=(2, 1)), octets("r_a"))
    hello = bytearray(start.hello)
    hello[1:9] = b"\x00\x01" + bytes(6)
    replied = ReceiverStart(inputs("downgrade B", versions=(2, 1))).receive_hello(hello, GuessBudget())
    with pytest.raises(WrongCodeError):
        start.sent().receive_reply(replied.reply, GuessBudget())


def test_a_capability_removed_on_the_way_is_noticed():
    start = SenderStart(fast_inputs("no aes A"), octets("r_a"))
    hello = bytearray(start.hello)
    hello[10:12], hello[12:14] = hello[12:14], b"\x00\x00"
    replied = ReceiverStart(fast_inputs("no aes B")).receive_hello(hello, GuessBudget())
    with pytest.raises((WrongCodeError, HandshakeError)):
        start.sent().receive_reply(replied.reply, GuessBudget())


def test_a_hello_reflected_to_its_sender_is_no_reply():
    start = SenderStart(fast_inputs("reflect"), octets("r_a"))
    with pytest.raises(HandshakeError):
        start.sent().receive_reply(start.hello, GuessBudget())


def test_a_hello_dressed_up_as_a_reply_is_a_wrong_code():
    start = SenderStart(fast_inputs("dressed"), octets("r_a"))
    hello = start.hello
    core = b"\x00\x01\x01\x00" + hello[10:42] + hello[42:74] + hello[74:106] + hello[106:1706]
    with pytest.raises(WrongCodeError):
        start.sent().receive_reply(b"\x11" + core + bytes(64), GuessBudget())


def test_a_confirm_tag_reflected_from_reply_is_refused():
    half = until_reply()
    with pytest.raises(WrongCodeError):
        half.receiver.receive_confirm(b"\x12" + half.receiver.reply[-64:], half.budget_b)


def test_two_senders_cannot_be_joined_to_each_other():
    one = SenderStart(fast_inputs("sender one"), octets("r_a"))
    other = SenderStart(fast_inputs("sender two"), octets("r_a 2"))
    with pytest.raises(HandshakeError):
        one.sent().receive_reply(other.hello, GuessBudget())


def test_a_replayed_reply_is_of_no_use_to_a_new_hello():
    recorded = until_reply("first").receiver.reply
    second = SenderStart(fast_inputs("second A"), octets("r_a")).sent()
    with pytest.raises(WrongCodeError):
        second.receive_reply(recorded, GuessBudget())


def test_a_replayed_hello_gives_new_keys_that_the_replayer_cannot_confirm():
    start = SenderStart(fast_inputs("recorded A"), octets("r_a"))
    first = ReceiverStart(fast_inputs("recorded B")).receive_hello(start.hello, GuessBudget())
    confirm = start.sent().receive_reply(first.reply, GuessBudget()).confirm
    budget = GuessBudget()
    again = ReceiverStart(fast_inputs("recorded B again")).receive_hello(start.hello, budget)
    with pytest.raises(WrongCodeError):
        again.receive_confirm(confirm, budget)


def test_frames_of_two_sessions_of_one_code_do_not_mix():
    one, two = until_reply("mix one"), until_reply("mix two")
    with pytest.raises(WrongCodeError):
        one.sender.receive_reply(two.receiver.reply, one.budget_a)
    confirm = two.sender.receive_reply(two.receiver.reply, two.budget_a).confirm
    with pytest.raises(WrongCodeError):
        one.receiver.receive_confirm(confirm, one.budget_b)


def test_a_core_with_the_tag_of_another_session_is_a_wrong_code():
    one, two = until_reply("core one"), until_reply("core two")
    with pytest.raises(WrongCodeError):
        one.sender.receive_reply(one.receiver.reply[:-64] + two.receiver.reply[-64:], one.budget_a)


def test_the_same_words_in_another_room_are_a_wrong_code():
    half = until_reply(code_b=Code.parse("4822-rover-tidy-abacus"))
    with pytest.raises(WrongCodeError):
        half.sender.receive_reply(half.receiver.reply, half.budget_a)


def test_replies_that_arrive_at_one_instant_cannot_buy_a_fourth_guess():
    budget = GuessBudget()
    halves = [until_reply(f"instant {n}", code_b=OTHER_CODE, budget_a=budget) for n in range(8)]
    barrier = Barrier(len(halves))

    def guess(half):
        barrier.wait(timeout=30)
        try:
            half.sender.receive_reply(half.receiver.reply, budget)
        except ProtocolError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(len(halves)) as pool:
        outcomes = list(pool.map(guess, halves))
    assert outcomes.count(WrongCodeError) == 3
    assert outcomes.count(BudgetExhaustedError) == 5


def test_a_man_in_the_middle_who_knows_the_code_cannot_grind_the_digits():
    """He must send his own Hello, with its commitment, before he sees B's nonce, and his Reply before A's r_A."""
    sender, _ = established("to A")
    middle, receiver = established("to B")
    digits_at_a = sender.keys.sas(sender.r_a)
    # Towards B he holds middle.keys and may want any r_A whose digits equal those of A: he finds one ...
    ground = next(
        r
        for r in (octets(f"try {n}") for n in range(100_000))
        if sas_digits(middle.keys.prk, middle.keys.transcript_hash, r)[:2] == digits_at_a[:2]
    )
    # ... but B takes no r_A other than the one that was committed to.
    forged = Auth(bytes(32), bytes(2592), bytes(64), bytes(4627), ground)
    with pytest.raises(AuthError, match="commitment"):
        check_auth(forged, Side.A, receiver.keys.transcript_hash, sas_commit=receiver.sas_commit)
    assert digits_at_a != receiver.keys.sas(middle.r_a)


def test_hello_does_not_reveal_the_value_behind_its_commitment():
    r_a = octets("hidden")
    assert r_a not in SenderStart(fast_inputs("commit"), r_a).hello


def test_changing_a_word_changes_the_share_and_nothing_else_of_hello():
    one = SenderStart(inputs("words", CODE), octets("r_a")).hello
    two = SenderStart(inputs("words", OTHER_CODE), octets("r_a")).hello
    assert one[:74] == two[:74]
    assert one[74:106] != two[74:106]
    assert one[106:] == two[106:]
    assert CODE.room_id == OTHER_CODE.room_id


def test_no_word_of_the_code_stands_in_any_frame():
    half = until_reply()
    frames = half.hello + half.receiver.reply
    for word in (b"rover", b"abacus"):
        assert word not in frames
