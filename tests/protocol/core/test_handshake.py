from __future__ import annotations

import pytest
from tallow_crypto.aead import Suite
from tallow_crypto.errors import ProviderMissingError
from tallow_crypto.kem import HybridKem
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import (
    AbortCode,
    HandshakeInputs,
    ReceiverStart,
    SenderStart,
    encode_abort,
    parse_abort,
)
from tallow_protocol.errors import (
    BudgetExhaustedError,
    CodeBurnedError,
    HandshakeError,
    InUseError,
    MisuseError,
    PeerCancelledError,
    UnsupportedSystemError,
    VersionError,
    ViolationError,
    WrongCodeError,
)

from tests.protocol.core.material import (
    CODE,
    OTHER_CODE,
    established,
    fast_inputs,
    inputs,
    octets,
    until_reply,
)


def test_both_sides_agree_on_every_key():
    sender, receiver = established()
    a, b = sender.keys, receiver.keys
    assert a.prk == b.prk
    assert a.transcript_hash == b.transcript_hash
    assert (a.nonce_a, a.nonce_b) == (b.nonce_a, b.nonce_b)
    assert a.rejoin_room == b.rejoin_room
    assert a.contact == b.contact
    assert a.attach_tag(2) == b.attach_tag(2)


def test_every_frame_has_its_full_size():
    half = until_reply()
    assert (len(half.hello), half.hello[0]) == (1738, 0x10)
    assert (len(half.receiver.reply), half.receiver.reply[0]) == (1765, 0x11)
    confirm = half.sender.receive_reply(half.receiver.reply, half.budget_a).confirm
    assert (len(confirm), confirm[0]) == (65, 0x12)


def test_a_completed_handshake_gives_both_guesses_back():
    half = until_reply()
    assert half.budget_b.left == 2
    sender = half.sender.receive_reply(half.receiver.reply, half.budget_a)
    half.receiver.receive_confirm(sender.confirm, half.budget_b)
    assert half.budget_a.left == half.budget_b.left == 3


def test_wrong_words_fail_at_the_sender_and_cost_both_sides_a_guess():
    half = until_reply(code_b=OTHER_CODE)
    with pytest.raises(WrongCodeError) as caught:
        half.sender.receive_reply(half.receiver.reply, half.budget_a)
    assert caught.value.left == 2
    assert half.budget_a.left == 2
    assert half.budget_b.left == 2


def test_a_wrong_confirm_fails_at_the_receiver_and_its_guess_stays_spent():
    half = until_reply()
    with pytest.raises(WrongCodeError) as caught:
        half.receiver.receive_confirm(b"\x12" + bytes(64), half.budget_b)
    assert caught.value.left == 2
    assert half.budget_b.left == 2


def test_the_third_wrong_reply_leaves_no_guess_and_a_fourth_is_not_compared():
    budget = GuessBudget()
    left = []
    for number in range(3):
        half = until_reply(f"wrong {number}", code_b=OTHER_CODE, budget_a=budget)
        with pytest.raises(WrongCodeError) as caught:
            half.sender.receive_reply(half.receiver.reply, budget)
        left.append(caught.value.left)
    right = until_reply("right", budget_a=budget)
    assert left == [2, 1, 0]
    with pytest.raises(BudgetExhaustedError):
        right.sender.receive_reply(right.receiver.reply, budget)


def test_a_receiver_whose_replies_are_never_answered_stops_at_its_third():
    budget = GuessBudget()
    for number in range(3):
        hello = SenderStart(fast_inputs(f"relay drops {number} A"), octets("r")).hello
        ReceiverStart(fast_inputs(f"relay drops {number} B")).receive_hello(hello, budget)
    hello = SenderStart(fast_inputs("relay drops 3 A"), octets("r")).hello
    with pytest.raises(BudgetExhaustedError):
        ReceiverStart(fast_inputs("relay drops 3 B")).receive_hello(hello, budget)


@pytest.mark.parametrize(
    ("a", "b", "suite"),
    [
        (True, True, Suite.AES_256_GCM),
        (True, False, Suite.CHACHA20_POLY1305),
        (False, True, Suite.CHACHA20_POLY1305),
        (False, False, Suite.CHACHA20_POLY1305),
    ],
)
def test_aes_is_chosen_only_where_both_sides_have_it_in_hardware(a, b, suite):
    start = SenderStart(inputs("suite A", fast_aes=a), octets("r_a"))
    budget = GuessBudget()
    replied = ReceiverStart(inputs("suite B", fast_aes=b)).receive_hello(start.hello, budget)
    sender = start.sent().receive_reply(replied.reply, GuessBudget())
    receiver = replied.receive_confirm(sender.confirm, budget)
    assert sender.keys.suite is receiver.keys.suite is suite


def test_each_side_sees_the_others_capabilities_the_random_one_included():
    sender, receiver = established()
    assert 1 in sender.keys.peer_capabilities
    assert any(capability >= 0xF000 for capability in sender.keys.peer_capabilities)
    assert any(capability >= 0xF000 for capability in receiver.keys.peer_capabilities)


def test_the_highest_common_version_is_taken():
    start = SenderStart(inputs("versions A", versions=(3, 2, 1)), octets("r_a"))
    replied = ReceiverStart(inputs("versions B", versions=(2, 1))).receive_hello(start.hello, GuessBudget())
    assert start.sent().receive_reply(replied.reply, GuessBudget()).keys.version == 2


def test_no_common_version_is_said_in_words_and_costs_no_guess():
    start = SenderStart(inputs("new A", versions=(9,)), octets("r_a"))
    budget = GuessBudget()
    with pytest.raises(VersionError, match="version 9, this one 1"):
        ReceiverStart(inputs("old B")).receive_hello(start.hello, budget)
    assert budget.left == 3


def test_each_state_serves_once_and_a_second_use_is_misuse():
    start = SenderStart(fast_inputs("once A"), octets("r_a"))
    awaits = start.sent()
    first = ReceiverStart(fast_inputs("once B"))
    budget_a, budget_b = GuessBudget(), GuessBudget()
    replied = first.receive_hello(start.hello, budget_b)
    sender = awaits.receive_reply(replied.reply, budget_a)
    replied.receive_confirm(sender.confirm, budget_b)
    with pytest.raises(MisuseError):
        start.sent()
    with pytest.raises(MisuseError):
        first.receive_hello(start.hello, budget_b)
    with pytest.raises(MisuseError):
        awaits.receive_reply(replied.reply, budget_a)
    with pytest.raises(MisuseError):
        replied.receive_confirm(sender.confirm, budget_b)
    assert budget_a.left == budget_b.left == 3


def test_a_state_that_failed_cannot_be_tried_again():
    half = until_reply(code_b=OTHER_CODE)
    with pytest.raises(WrongCodeError):
        half.sender.receive_reply(half.receiver.reply, half.budget_a)
    with pytest.raises(MisuseError):
        half.sender.receive_reply(half.receiver.reply, half.budget_a)
    assert half.budget_a.left == 2


@pytest.mark.parametrize("length", [0, 1, 1737, 1739, 4096])
def test_a_hello_of_another_length_is_refused_without_a_guess(length):
    hello = SenderStart(fast_inputs("length A"), octets("r_a")).hello
    budget = GuessBudget()
    with pytest.raises(HandshakeError):
        ReceiverStart(fast_inputs("length B")).receive_hello((hello + bytes(4096))[:length], budget)
    assert budget.left == 3


@pytest.mark.parametrize("length", [0, 1, 1764, 1766, 4096])
def test_a_reply_of_another_length_is_refused_without_a_guess(length):
    half = until_reply()
    with pytest.raises(HandshakeError):
        half.sender.receive_reply((half.receiver.reply + bytes(4096))[:length], half.budget_a)
    assert half.budget_a.left == 3


@pytest.mark.parametrize("length", [0, 1, 64, 66])
def test_a_confirm_of_another_length_is_refused(length):
    half = until_reply()
    with pytest.raises(HandshakeError):
        half.receiver.receive_confirm((b"\x12" + bytes(70))[:length], half.budget_b)
    assert half.budget_b.left == 2


def test_a_hello_of_another_mode_is_refused_without_a_guess():
    hello = bytearray(SenderStart(fast_inputs("mode A"), octets("r_a")).hello)
    hello[9] = 1
    budget = GuessBudget()
    with pytest.raises(HandshakeError):
        ReceiverStart(fast_inputs("mode B")).receive_hello(hello, budget)
    assert budget.left == 3


def test_a_reply_with_a_set_reserved_byte_is_refused_without_a_guess():
    half = until_reply()
    reply = bytearray(half.receiver.reply)
    reply[4] = 1
    with pytest.raises(HandshakeError):
        half.sender.receive_reply(reply, half.budget_a)
    assert half.budget_a.left == 3


def test_an_all_zero_x25519_key_in_hello_is_refused_without_a_guess():
    hello = bytearray(SenderStart(fast_inputs("zero A"), octets("r_a")).hello)
    hello[1738 - 64 : 1738 - 32] = bytes(32)
    budget = GuessBudget()
    with pytest.raises(HandshakeError):
        ReceiverStart(fast_inputs("zero B")).receive_hello(hello, budget)
    assert budget.left == 3


def test_an_all_zero_share_in_hello_is_refused_without_a_guess():
    hello = bytearray(SenderStart(fast_inputs("zero share A"), octets("r_a")).hello)
    hello[74:106] = bytes(32)
    budget = GuessBudget()
    with pytest.raises(HandshakeError):
        ReceiverStart(fast_inputs("zero share B")).receive_hello(hello, budget)
    assert budget.left == 3


def test_an_all_zero_share_in_reply_counts_as_a_wrong_code():
    half = until_reply()
    reply = bytearray(half.receiver.reply)
    reply[69:101] = bytes(32)
    with pytest.raises(WrongCodeError):
        half.sender.receive_reply(reply, half.budget_a)
    assert half.budget_a.left == 2


TOLD_RECEIVER = {
    AbortCode.WRONG_CODE: WrongCodeError,
    AbortCode.IN_USE: InUseError,
    AbortCode.BURNED: CodeBurnedError,
    AbortCode.VERSION: VersionError,
    AbortCode.CANCELLED: PeerCancelledError,
    AbortCode.VIOLATION: ViolationError,
    AbortCode.INTERNAL: PeerCancelledError,
}
TOLD_SENDER = TOLD_RECEIVER | {AbortCode.WRONG_CODE: PeerCancelledError, AbortCode.BURNED: PeerCancelledError}


@pytest.mark.parametrize("code", list(AbortCode), ids=lambda code: code.name)
def test_an_abort_ends_the_receivers_attempt_with_its_error_and_changes_no_budget(code):
    half = until_reply(f"abort {code}")
    with pytest.raises(TOLD_RECEIVER[code]):
        half.receiver.receive_confirm(encode_abort(code), half.budget_b)
    assert half.budget_b.left == 2
    budget = GuessBudget()
    with pytest.raises(TOLD_RECEIVER[code]):
        ReceiverStart(fast_inputs("abort at once")).receive_hello(encode_abort(code), budget)
    assert budget.left == 3


@pytest.mark.parametrize("code", list(AbortCode), ids=lambda code: code.name)
def test_an_abort_never_makes_the_sender_believe_that_its_code_is_wrong_or_burned(code):
    half = until_reply(f"abort {code}")
    with pytest.raises(TOLD_SENDER[code]):
        half.sender.receive_reply(encode_abort(code), half.budget_a)
    assert half.budget_a.left == 3


def test_an_abort_survives_its_encoding_and_an_unknown_code_reads_as_internal():
    assert [parse_abort(encode_abort(code)) for code in AbortCode] == list(AbortCode)
    assert parse_abort(b"\x13\xff\xff") is AbortCode.INTERNAL
    with pytest.raises(HandshakeError):
        parse_abort(b"\x13\x00")
    with pytest.raises(HandshakeError):
        parse_abort(b"\x12\x00\x01")


def test_every_abort_code_comes_back_as_the_error_that_caused_it():
    for code in AbortCode:
        if code is not AbortCode.INTERNAL:
            assert AbortCode.of(code.error(3)) is code


def test_a_machine_without_ml_kem_gets_one_clear_error():
    class NoKem(HybridKem):
        def generate(self):
            raise ProviderMissingError("none")

        def encapsulate(self, public_key):
            raise ProviderMissingError("none")

    good = inputs("no kem")
    bad = HandshakeInputs(
        password=CODE.password,
        room_id=CODE.room_id,
        nonce=good.nonce,
        scalar=good.scalar,
        grease=0xF000,
        fast_aes=True,
        kem=NoKem(),
    )
    with pytest.raises(UnsupportedSystemError):
        SenderStart(bad, octets("r_a"))
    hello = SenderStart(good, octets("r_a")).hello
    budget = GuessBudget()
    with pytest.raises(UnsupportedSystemError):
        ReceiverStart(bad).receive_hello(hello, budget)
    assert budget.left == 3


def test_inputs_of_a_wrong_length_are_misuse():
    good = inputs("lengths")
    with pytest.raises(MisuseError):
        HandshakeInputs(
            password=good.password,
            room_id=good.room_id,
            nonce=b"short",
            scalar=good.scalar,
            grease=0xF000,
            fast_aes=True,
            kem=good.kem,
        )
    with pytest.raises(MisuseError):
        SenderStart(good, b"short")
