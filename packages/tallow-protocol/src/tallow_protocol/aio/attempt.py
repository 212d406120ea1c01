"""One attempt at a handshake over an open connection, from either side, with its deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from typing import TYPE_CHECKING

from tallow_crypto import TAG_BYTES, HybridKem, RecordSealer, Secret, Suite
from tallow_net import NetError

from tallow_protocol.core.handshake import (
    AbortCode,
    HandshakeInputs,
    ReceiverStart,
    SenderStart,
    encode_abort,
)
from tallow_protocol.errors import InUseError, PeerLeftError
from tallow_protocol.limits import REPLY_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net import FrameStream

    from tallow_protocol.code import Code
    from tallow_protocol.core.budget import GuessBudget
    from tallow_protocol.core.handshake import ReceiverEstablished, SenderEstablished

__all__ = ["agree_as_receiver", "agree_as_sender", "retire"]

PROBE_BYTES = 1024 * 1024
RETIRE_S = 2.0
"""How long a connection that was told to end is read, so that the news is not destroyed by a reset."""


@functools.cache
def fast_aes() -> bool:
    """Return whether this machine seals faster with AES-256-GCM than with ChaCha20-Poly1305.

    No API tells of AES hardware, so 1 MiB of each is timed once: about a millisecond.
    """
    buffer = memoryview(bytearray(PROBE_BYTES + TAG_BYTES))
    took: dict[Suite, float] = {}
    for suite in Suite:
        sealer = RecordSealer(suite, Secret(bytes(64)))
        sealer.seal_in_place(buffer[: 4096 + TAG_BYTES], b"")
        start = time.perf_counter()
        sealer.seal_in_place(buffer, b"")
        took[suite] = time.perf_counter() - start
    return took[Suite.AES_256_GCM] <= took[Suite.CHACHA20_POLY1305]


def _fresh_inputs(code: Code) -> HandshakeInputs:
    """Every attempt has new randomness: a scalar or nonce that served twice would break the draft's rules."""
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=secrets.token_bytes(32),
        scalar=Secret(secrets.token_bytes(32)),
        grease=0xF000 + secrets.randbelow(0x1000),
        fast_aes=fast_aes(),
        kem=HybridKem(),
    )


async def _expect(frames: FrameStream) -> bytes:
    try:
        async with asyncio.timeout(REPLY_WAIT_S):
            body = await frames.read()
    except TimeoutError:
        raise PeerLeftError(f"the other side sent nothing for {REPLY_WAIT_S:g} s", by="peer") from None
    if body is None:
        raise PeerLeftError(by="peer")
    return body


async def agree_as_sender(
    frames: FrameStream, code: Code, budget: GuessBudget, claim: Callable[[], bool] | None = None
) -> SenderEstablished:
    """Do A's side: Hello, Reply, Confirm.

    `claim` is asked before Confirm leaves, where several attempts run at once: no leaves this one behind, with
    InUseError. Raises what `SenderAwaitsReply.receive_reply` does, PeerLeftError, NetError.
    """
    start = SenderStart(_fresh_inputs(code), secrets.token_bytes(32))
    await frames.write(start.hello)
    awaiting = start.sent()
    established = awaiting.receive_reply(await _expect(frames), budget)
    if claim is not None and not claim():
        raise InUseError
    await frames.write(established.confirm)
    return established


async def agree_as_receiver(frames: FrameStream, code: Code, budget: GuessBudget) -> ReceiverEstablished:
    """Do B's side. Raises what `ReceiverStart` and `ReceiverReplied` do, PeerLeftError, NetError."""
    start = ReceiverStart(_fresh_inputs(code))
    replied = start.receive_hello(await _expect(frames), budget)
    await frames.write(replied.reply)
    return replied.receive_confirm(await _expect(frames), budget)


async def retire(frames: FrameStream, code: AbortCode | None) -> None:
    """End a connection before keys: say why, then read to its end, so that what was said arrives."""
    transport = frames.transport
    try:
        with contextlib.suppress(NetError, TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                if code is not None:
                    await frames.write(encode_abort(code))
                await transport.finish()
                scratch = memoryview(bytearray(4096))
                while await transport.receive_into(scratch):
                    pass
    finally:
        await transport.close()
