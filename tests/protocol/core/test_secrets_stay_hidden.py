"""No secret in a repr, a str or an exception, however deep it lies."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import traceback

import pytest
import tallow_protocol.core
from tallow_crypto.secret import Secret
from tallow_net.signaling import Side
from tallow_protocol import errors
from tallow_protocol.code import Code
from tallow_protocol.core.attach import AttachAcceptor, AttachOpener
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import ReceiverStart, SenderStart
from tallow_protocol.core.messages import Auth
from tallow_protocol.errors import ProtocolError, UnknownWordError

from tests.protocol.core.material import CODE, OTHER_CODE, fast_inputs, octets, until_reply

R_A = octets("r_a secret")
SCALAR = octets("scalar hidden A")


def core_modules():
    for found in pkgutil.iter_modules(tallow_protocol.core.__path__, "tallow_protocol.core."):
        yield importlib.import_module(found.name)


def shown(value: object) -> str:
    return f"{value!r} {value}"


def handshake_with_known_secrets() -> tuple[list[object], list[bytes]]:
    start = SenderStart(fast_inputs("hidden A"), R_A)
    budget = GuessBudget()
    replied = ReceiverStart(fast_inputs("hidden B")).receive_hello(start.hello, budget)
    sender = start.sent().receive_reply(replied.reply, GuessBudget())
    receiver = replied.receive_confirm(sender.confirm, budget)
    keys = sender.keys
    secrets = [
        b"rover",
        b"tidy-abacus",
        R_A,
        SCALAR,
        keys.prk.reveal(),
        keys.contact.reveal(),
        keys.attach_key(2).reveal(),
        keys.handshake_record_secret(Side.A).reveal(),
        sender.confirm[1:],
    ]
    return [start, replied, sender, receiver, keys, keys.contact, keys.attach_key(2)], secrets


OBJECTS, SECRETS = handshake_with_known_secrets()


def assert_hidden(text: str) -> None:
    for secret in SECRETS:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


def test_no_state_of_the_handshake_and_no_key_shows_a_secret():
    inputs = fast_inputs("hidden A")
    more = [
        CODE,
        inputs,
        SenderStart(inputs, R_A).sent(),
        ReceiverStart(inputs),
        AttachOpener(OBJECTS[4], 2, octets("o")),
        AttachAcceptor(OBJECTS[4], Side.A),
        Auth(bytes(32), bytes(2592), bytes(64), bytes(4627), R_A),
        GuessBudget(),
    ]
    for value in [*OBJECTS, *more]:
        assert_hidden(shown(value))


@pytest.mark.parametrize(
    "module", list(core_modules()), ids=lambda module: module.__name__.rpartition(".")[2]
)
def test_every_secret_field_of_a_dataclass_is_a_secret_or_left_out_of_its_repr(module):
    named = {"prk", "scalar", "password", "r_a", "sas_nonce", "secret", "confirm", "key"}
    for _, kind in inspect.getmembers(module, dataclasses.is_dataclass):
        for field in dataclasses.fields(kind):
            if field.name in named:
                assert "Secret" in str(field.type) or not field.repr, f"{kind.__name__}.{field.name}"


def test_failing_handshakes_show_no_secret_in_error_or_traceback():
    half = until_reply(code_b=OTHER_CODE)
    caught = []
    for attempt in (
        lambda: half.sender.receive_reply(half.receiver.reply, half.budget_a),
        lambda: half.receiver.receive_confirm(b"\x12" + bytes(64), half.budget_b),
        lambda: ReceiverStart(fast_inputs("x")).receive_hello(b"", half.budget_b),
    ):
        with pytest.raises(ProtocolError) as info:
            attempt()
        caught.append(info.value)
    for error in caught:
        assert_hidden("".join(traceback.format_exception(error)) + shown(error) + str(error.hints))


def test_errors_chain_to_no_other_packages_error():
    half = until_reply()
    reply = bytearray(half.receiver.reply)
    reply[69:101] = bytes(32)
    with pytest.raises(ProtocolError) as info:
        half.sender.receive_reply(reply, half.budget_a)
    assert info.value.__cause__ is None
    assert info.value.__suppress_context__


def test_a_mistyped_code_shows_neither_its_other_words_nor_the_word_itself():
    with pytest.raises(UnknownWordError) as info:
        Code.parse("4821-rover-tidy-abaccus")
    text = "".join(traceback.format_exception_only(info.value)) + shown(info.value) + repr(info.value.args)
    for word in ("rover", "tidy", "abac"):
        assert word not in text
    assert "rover" not in str(info.value.hints)


ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ProtocolError) and kind is not UnknownWordError
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_a_sentence_and_a_next_step(kind):
    error = kind(2) if kind is errors.WrongCodeError else kind()
    assert error.code
    assert str(error)
    assert isinstance(error.hints, tuple)
    assert isinstance(error.retryable, bool)
    assert all(hint and isinstance(hint, str) for hint in error.hints)
    if kind not in {errors.ProtocolError, errors.FileError}:
        assert error.hints


def test_codes_of_errors_are_the_documented_ones():
    assert {kind.code for kind in ERRORS} == {
        "bad_code",
        "burned",
        "cancelled",
        "conflict",
        "expired",
        "file",
        "bad_name",
        "bad_pattern",
        "in_use",
        "internal",
        "interrupted",
        "misuse",
        "no_path",
        "no_space",
        "no_such_code",
        "not_verified",
        "not_writable",
        "output_closed",
        "path_missing",
        "peer_left",
        "peer_unreachable",
        "refused",
        "relay_changed",
        "relay_full",
        "source_changed",
        "unreadable",
        "unsupported",
        "version",
        "violation",
        "wrong_code",
    }


def test_a_secret_field_really_is_hidden_by_its_type():
    assert "1234" not in repr(Secret(b"1234"))
