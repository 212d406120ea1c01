"""Handshakes with fixed or fresh randomness, for the tests beside this file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tallow_crypto.kem import HybridKem
from tallow_crypto.secret import Secret
from tallow_crypto.testing import SeededKem
from tallow_protocol.code import Code
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import (
    HandshakeInputs,
    ReceiverEstablished,
    ReceiverReplied,
    ReceiverStart,
    SenderAwaitsReply,
    SenderEstablished,
    SenderStart,
)

CODE = Code.parse("4821-rover-tidy-abacus")
OTHER_CODE = Code.parse("4821-rover-tidy-abdomen")


def octets(label: str, length: int = 32) -> bytes:
    """Return bytes that depend on the label alone."""
    return hashlib.shake_256(label.encode()).digest(length)


def inputs(
    label: str, code: Code = CODE, *, fast_aes: bool = True, versions: tuple[int, ...] = (1,)
) -> HandshakeInputs:
    """Return inputs whose every random value depends on the label alone."""
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=octets(f"nonce {label}"),
        scalar=Secret(octets(f"scalar {label}")),
        grease=0xF000 | octets(f"grease {label}", 2)[0],
        fast_aes=fast_aes,
        kem=SeededKem(f"kem {label}".encode()),
        versions=versions,
    )


def fast_inputs(label: str, code: Code = CODE) -> HandshakeInputs:
    """Return the same with OpenSSL's KEM, for tests that run many handshakes."""
    fixed = inputs(label, code)
    return HandshakeInputs(
        password=fixed.password,
        room_id=fixed.room_id,
        nonce=fixed.nonce,
        scalar=fixed.scalar,
        grease=fixed.grease,
        fast_aes=True,
        kem=HybridKem(),
    )


@dataclass
class Half:
    """A handshake up to the Reply, both budgets included."""

    hello: bytes
    sender: SenderAwaitsReply
    receiver: ReceiverReplied
    budget_a: GuessBudget
    budget_b: GuessBudget


def until_reply(
    label: str = "one", code_a: Code = CODE, code_b: Code = CODE, *, budget_a: GuessBudget | None = None
) -> Half:
    start = SenderStart(fast_inputs(f"{label} A", code_a), octets(f"r_a {label}"))
    budget_b = GuessBudget()
    receiver = ReceiverStart(fast_inputs(f"{label} B", code_b)).receive_hello(start.hello, budget_b)
    return Half(start.hello, start.sent(), receiver, budget_a or GuessBudget(), budget_b)


def established(label: str = "one") -> tuple[SenderEstablished, ReceiverEstablished]:
    half = until_reply(label)
    sender = half.sender.receive_reply(half.receiver.reply, half.budget_a)
    return sender, half.receiver.receive_confirm(sender.confirm, half.budget_b)


def flipped(data: bytes, position: int) -> bytes:
    """Return `data` with the lowest bit of one byte changed."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)
