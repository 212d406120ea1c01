"""Writes handshake_1.json beside this file: one handshake with fixed randomness, and what follows from it.

Run it with `python tests/vectors/make_handshake_vector.py`. docs/protocol.md uses it as the worked example. Every
value is hexadecimal unless its name says otherwise. Signatures are left out: ML-DSA's differ in each call. The
ciphertext is an input in practice, since encapsulation draws its own randomness; the sender's KEM seed is here, so
that anyone can open it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tallow_crypto.aead import RecordSealer, Suite
from tallow_crypto.cpace import CPace, lv_cat
from tallow_crypto.kem import Encapsulation, HybridKem, HybridKeyPair
from tallow_crypto.secret import Secret
from tallow_crypto.testing import SeededKem
from tallow_net.signaling import Side
from tallow_protocol.code import Code, lan_name_of
from tallow_protocol.core.attach import AttachAcceptor, AttachOpener
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import HandshakeInputs, ReceiverStart, SenderStart
from tallow_protocol.core.messages import Entry, EntryKind, Offer, TallowCodec
from tallow_protocol.core.records import control_record

VECTOR = Path(__file__).parent / "handshake_1.json"
CODE_TEXT = "4821-rover-tidy-abacus"


def fixed(label: str, length: int = 32) -> bytes:
    """Return SHAKE256("tallow vector 1 " || label)."""
    return hashlib.shake_256(b"tallow vector 1 " + label.encode()).digest(length)


class SenderKem(HybridKem):
    """A KEM whose one key pair comes from a seed that stands in the vector."""

    def generate(self) -> HybridKeyPair:
        """Return the pair of the fixed seed."""
        return self.from_seed(Secret(fixed("kem seed A", 96)))


class ReceiverKem(SeededKem):
    """A deterministic KEM that keeps its last encapsulation, so that the secret can be written down."""

    __slots__ = ("last",)
    last: Encapsulation

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        """Return the next encapsulation and keep it."""
        self.last = super().encapsulate(public_key)
        return self.last


def side_inputs(side: str, code: Code, kem: HybridKem) -> HandshakeInputs:
    """Return the fixed inputs of side "A" or "B"."""
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=fixed(f"nonce {side}"),
        scalar=Secret(fixed(f"scalar {side}")),
        grease=0xF0AA if side == "A" else 0xF0BB,
        fast_aes=True,
        kem=kem,
    )


def build() -> dict[str, dict[str, str | int]]:
    """Return the vector."""
    code = Code.parse(CODE_TEXT)
    kem = ReceiverKem(b"tallow vector 1")
    inputs_a, inputs_b = side_inputs("A", code, SenderKem()), side_inputs("B", code, kem)
    start = SenderStart(inputs_a, fixed("r_a"))
    budget_a, budget_b = GuessBudget(), GuessBudget()
    replied = ReceiverStart(inputs_b).receive_hello(start.hello, budget_b)
    sender = start.sent().receive_reply(replied.reply, budget_a)
    receiver = replied.receive_confirm(sender.confirm, budget_b)
    keys = sender.keys
    core = replied.reply[1:1701]
    identifier = lv_cat(b"tallow/1", b"\x00", code.room_id, b"sender", b"receiver")
    isk = CPace(code.password, identifier, inputs_a.scalar).isk_initiator(start.hello, core[68:100], core)
    opener = AttachOpener(keys, 2, fixed("r_o"))
    accepted = AttachAcceptor(receiver.keys, Side.A).answer(opener.attach, fixed("r_acceptor"))
    attached = opener.receive_ack(accepted.ack)
    offer = Offer(0, True, (Entry("hello.txt", EntryKind.FILE, 6, 0o644, 1_700_000_000_000_000_000),))
    plaintext = control_record(1, 0, TallowCodec.encode(offer))
    frame_length = len(plaintext).to_bytes(4, "big")
    sealer = RecordSealer(Suite(keys.suite), keys.handshake_record_secret(Side.A))
    sealed = bytearray(plaintext)
    sealer.seal_in_place(memoryview(sealed), frame_length)
    secret = keys.record_secret
    return {
        "inputs": {
            "code_text": CODE_TEXT,
            "nonce_a": inputs_a.nonce.hex(),
            "nonce_b": inputs_b.nonce.hex(),
            "scalar_a": inputs_a.scalar.reveal().hex(),
            "scalar_b": inputs_b.scalar.reveal().hex(),
            "kem_seed_a": fixed("kem seed A", 96).hex(),
            "ciphertext": kem.last.ciphertext.hex(),
            "capabilities_a_text": "1, 0xF0AA",
            "capabilities_b_text": "1, 0xF0BB",
            "r_a": fixed("r_a").hex(),
        },
        "derived_from_code": {
            "nameplate_text": code.nameplate,
            "prs": code.password.reveal().hex(),
            "room_id": code.room_id.hex(),
            "lan_name_text": lan_name_of(code.nameplate),
            "ci": identifier.hex(),
        },
        "frames": {
            "hello": start.hello.hex(),
            "reply": replied.reply.hex(),
            "confirm": sender.confirm.hex(),
        },
        "keys": {
            "suite_number": int(keys.suite),
            "isk": isk.reveal().hex(),
            "hybrid_secret": kem.last.shared_secret.reveal().hex(),
            "th": keys.transcript_hash.hex(),
            "prk": keys.prk.reveal().hex(),
            "rejoin_room": keys.rejoin_room.hex(),
            "contact": keys.contact.reveal().hex(),
            "sas_text": keys.sas(sender.r_a),
            "connection_0_secret_a": keys.handshake_record_secret(Side.A).reveal().hex(),
            "connection_0_secret_b": keys.handshake_record_secret(Side.B).reveal().hex(),
        },
        "connection_2": {
            "r_o": fixed("r_o").hex(),
            "r_a": fixed("r_acceptor").hex(),
            "attach": opener.attach.hex(),
            "ack": accepted.ack.hex(),
            "secret_a": secret(2, Side.A, attached.opener_nonce, attached.acceptor_nonce).reveal().hex(),
            "secret_b": secret(2, Side.B, attached.opener_nonce, attached.acceptor_nonce).reveal().hex(),
        },
        "first_record_of_a": {
            "message": TallowCodec.encode(offer).hex(),
            "plaintext": bytes(plaintext[:-16]).hex(),
            "frame": (frame_length + sealed).hex(),
        },
    }


if __name__ == "__main__":
    VECTOR.write_text(json.dumps(build(), indent=2) + "\n", encoding="utf-8")
