"""Appendix A of docs/protocol.md is the vector, and our code reproduces it from the document's own values."""

from __future__ import annotations

import hashlib

import pytest
from tallow_crypto.aead import RecordOpener, RecordSealer, Suite
from tallow_crypto.cpace import CPace, lv_cat
from tallow_crypto.kem import Encapsulation, HybridKem, HybridKeyPair
from tallow_crypto.secret import Secret
from tallow_net.signaling import Side
from tallow_protocol.code import Code, lan_name_of
from tallow_protocol.core.attach import AttachAcceptor, AttachedConnection, AttachOpener
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import (
    HandshakeInputs,
    ReceiverEstablished,
    ReceiverReplied,
    ReceiverStart,
    SenderEstablished,
    SenderStart,
)
from tallow_protocol.core.messages import Offer, TallowCodec
from tallow_protocol.core.records import ControlHeader, control_record, parse_record

from tests.docs.markdown import PROTOCOL
from tests.docs.worked_example import HEADING, read, render, vector

EXAMPLE = read()
INPUTS = {name: value for name, value in EXAMPLE["inputs"].items() if name != "ciphertext"}


def octets(section: str, name: str) -> bytes:
    """Return a value that stands whole in the document."""
    return bytes.fromhex(EXAMPLE[section][name])


def stated(data: bytes) -> set[str]:
    """Return both forms in which the document may show a value."""
    return {data.hex(), f"sha256 of {len(data)} bytes: {hashlib.sha256(data).hexdigest()}"}


CIPHERTEXT = bytes.fromhex(str(vector()["inputs"]["ciphertext"]))


class FixedKem(HybridKem):
    """Gives the key pair of the document's seed, and the ciphertext that the document names."""

    def generate(self) -> HybridKeyPair:
        return self.from_seed(Secret(octets("inputs", "kem_seed_a")))

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        pair = self.generate()
        assert public_key == pair.public_key
        return Encapsulation(pair.decapsulate(CIPHERTEXT), CIPHERTEXT)


def inputs_of(side: str) -> HandshakeInputs:
    code = Code.parse(INPUTS["code_text"])
    capabilities = [int(number, 0) for number in INPUTS[f"capabilities_{side}_text"].split(", ")]
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=octets("inputs", f"nonce_{side}"),
        scalar=Secret(octets("inputs", f"scalar_{side}")),
        grease=capabilities[-1],
        fast_aes=capabilities[0] == 1,
        kem=FixedKem(),
    )


@pytest.fixture(scope="module")
def run() -> tuple[bytes, ReceiverReplied, SenderEstablished, ReceiverEstablished]:
    start = SenderStart(inputs_of("a"), octets("inputs", "r_a"))
    replied = ReceiverStart(inputs_of("b")).receive_hello(start.hello, budget := GuessBudget())
    sender = start.sent().receive_reply(replied.reply, GuessBudget())
    return start.hello, replied, sender, replied.receive_confirm(sender.confirm, budget)


Run = tuple[bytes, ReceiverReplied, SenderEstablished, ReceiverEstablished]


def test_the_appendix_is_the_vector() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    assert text[text.index(HEADING) :] == render()


def test_the_code_gives_room_password_and_channel() -> None:
    derived = EXAMPLE["derived_from_code"]
    code = Code.parse(INPUTS["code_text"])
    assert derived["nameplate_text"] == code.nameplate
    assert derived["prs"] == code.password.reveal().hex()
    assert derived["room_id"] == code.room_id.hex()
    assert derived["lan_name_text"] == lan_name_of(code.nameplate)
    assert derived["ci"] == lv_cat(b"tallow/1", b"\x00", code.room_id, b"sender", b"receiver").hex()


def test_the_frames_are_reproduced(run: Run) -> None:
    hello, replied, sender, _ = run
    frames = EXAMPLE["frames"]
    assert EXAMPLE["inputs"]["ciphertext"] in stated(CIPHERTEXT)
    assert frames["hello"] in stated(hello)
    assert frames["reply"] in stated(replied.reply)
    assert frames["confirm"] in stated(sender.confirm)


def test_the_keys_are_reproduced_on_both_sides(run: Run) -> None:
    hello, replied, sender, receiver = run
    stated_keys = EXAMPLE["keys"]
    core = replied.reply[1:1701]
    cpace = CPace(inputs_of("a").password, octets("derived_from_code", "ci"), inputs_of("a").scalar)
    assert stated_keys["isk"] == cpace.isk_initiator(hello, core[68:100], core).reveal().hex()
    assert stated_keys["hybrid_secret"] == FixedKem().generate().decapsulate(CIPHERTEXT).reveal().hex()
    for keys in (sender.keys, receiver.keys):
        assert stated_keys["suite_number"] == str(int(keys.suite))
        assert stated_keys["th"] == keys.transcript_hash.hex()
        assert stated_keys["prk"] == keys.prk.reveal().hex()
        assert stated_keys["rejoin_room"] == keys.rejoin_room.hex()
        assert stated_keys["contact"] == keys.contact.reveal().hex()
        assert stated_keys["sas_text"] == keys.sas(octets("inputs", "r_a"))
        for side, name in ((Side.A, "connection_0_secret_a"), (Side.B, "connection_0_secret_b")):
            assert stated_keys[name] == keys.handshake_record_secret(side).reveal().hex()


def test_the_further_connection_is_reproduced(run: Run) -> None:
    _, _, sender, receiver = run
    connection = EXAMPLE["connection_2"]
    opener = AttachOpener(sender.keys, 2, octets("connection_2", "r_o"))
    answered = AttachAcceptor(receiver.keys, Side.A).answer(opener.attach, octets("connection_2", "r_a"))
    assert connection["attach"] == opener.attach.hex()
    assert connection["ack"] == answered.ack.hex()
    attached: AttachedConnection = opener.receive_ack(answered.ack)
    assert connection["secret_a"] == attached.record_secret(sender.keys, Side.A).reveal().hex()
    assert connection["secret_b"] == answered.record_secret(receiver.keys, Side.B).reveal().hex()


def test_the_record_is_reproduced_and_opens(run: Run) -> None:
    _, _, sender, receiver = run
    message = octets("first_record_of_a", "message")
    frame = octets("first_record_of_a", "frame")
    assert isinstance(TallowCodec.decode(message), Offer)
    record = control_record(1, 0, message)
    assert EXAMPLE["first_record_of_a"]["plaintext"] == bytes(record[:-16]).hex()
    sealer = RecordSealer(Suite(sender.keys.suite), sender.keys.handshake_record_secret(Side.A))
    sealer.seal_in_place(memoryview(record), frame[:4])
    assert frame == len(record).to_bytes(4, "big") + record
    opener = RecordOpener(Suite(receiver.keys.suite), receiver.keys.handshake_record_secret(Side.A))
    opened = memoryview(bytearray(opener.open(frame[4:], frame[:4])))
    header, body = parse_record(opened)
    assert header == ControlHeader(1, 0)
    assert body == message
