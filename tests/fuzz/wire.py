"""Decoders of what arrives before a session: frames, signaling, addresses, the handshake, Attach, a data connection."""

from __future__ import annotations

import asyncio
import functools
import random
import socket

from tallow_crypto import HybridKem, Secret
from tallow_net import PeerText, RelayAddress, Side
from tallow_net.canonical import decode_map, encode_map
from tallow_net.errors import FrameTooLargeError, InvalidAddressError, MalformedMessageError
from tallow_net.framing import FrameDecoder, encode_frame
from tallow_net.relay.data import DATA_PREAMBLE, TOKEN_BYTES
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Ready,
    Redirect,
    Restarting,
    SignalingError,
    Welcome,
)
from tallow_net.signaling import decode as decode_signaling
from tallow_net.signaling import encode as encode_signaling
from tallow_net.transport.door import PlainDoor, read_body
from tallow_protocol.code import Code
from tallow_protocol.core.attach import AttachAcceptor, AttachOpener
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import (
    HandshakeInputs,
    ReceiverStart,
    SenderStart,
    encode_abort,
    parse_abort,
)
from tallow_protocol.errors import (
    HandshakeError,
    ProtocolError,
    ViolationError,
)
from tallow_protocol.testing import handshake

from tests.fuzz.kit import check, peers_fault, target


@target(
    "frames of any cut",
    lambda: [encode_frame(b""), encode_frame(b"abc") + encode_frame(bytes(300)), b"\xff" * 8],
)
def frames(data: bytes) -> None:
    """The same bodies however the stream is cut; nothing but what was pushed is held."""
    at_once, one_by_one = FrameDecoder(4096), FrameDecoder(4096)
    try:
        bodies = at_once.feed(data)
    except FrameTooLargeError:
        bodies = None
    try:
        found: list[bytes] | None = [body for byte in data for body in one_by_one.feed(bytes((byte,)))]
    except FrameTooLargeError:
        found = None
    check((bodies is None) == (found is None), "cutting the stream decides whether it is refused")
    if bodies is not None:
        check(bodies == found, "cutting the stream changes its frames")
        whole = b"".join(map(encode_frame, bodies)) + at_once.pending
        check(whole == data, "frames are not what they were made of")


def _signaling_seeds() -> list[bytes]:
    room, lease = bytes(range(32)), bytes(16)
    messages = [
        Welcome(),
        Welcome((1, 2), notice=PeerText("hello"), address=PeerText("10.0.0.1:5")),
        Join(1, (room,), Side.A, lease, wait=True),
        Join(1, (room,), Side.B),
        Join(1, (room, bytes(32)), Side.B, lease),
        Allocate(1, lease),
        Allocated("4821"),
        Leave(room, lease, LeaveReason.BURNED),
        KeepAlive(),
        Ready(),
        Ready(tuple(bytes((n,)) * 32 for n in range(4))),
        Call(room, lease),
        Redirect("relay.example.org", 443, bytes(32)),
        Restarting(10, 20),
        SignalingError(11, 60),
    ]
    return [encode_signaling(message) for message in messages]


@target("what a client and a relay say", _signaling_seeds)
def signaling(data: bytes) -> None:
    try:
        message = decode_signaling(data)
    except MalformedMessageError:
        return
    check(encode_signaling(message) == data, "a signaling message has two encodings")


@target("CBOR maps", lambda: [encode_map({1: 5, 2: [b"x", "y", {3: None}], 4: True}), b"\xa0"])
def canonical(data: bytes) -> None:
    try:
        value = decode_map(data, max_bytes=4096)
    except MalformedMessageError:
        return
    check(encode_map(value) == data, "a map has two encodings")


@target(
    "addresses of relays",
    lambda: [b"relay.example.org", b"[2001:db8::1]:443#sha256:" + b"ab" * 32, b"10.0.0.1:5", b"fe80::1%eth0"],
)
def relay_address(data: bytes) -> None:
    """What a relay's Redirect, a configuration or a person says; it is shown and dialled."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        address = RelayAddress.parse(text)
    except InvalidAddressError:
        return
    shown = str(address)
    check(RelayAddress.parse(shown) == address, "an address does not survive being shown")
    check(shown.isascii() and shown.isprintable() and " " not in shown, "an address could drive a terminal")
    try:
        direct = RelayAddress(text)  # as a Redirect gives its host
    except InvalidAddressError:
        return
    check(str(direct).isascii() and str(direct).isprintable(), "a host could drive a terminal")


def _inputs(source: random.Random, text: str = "4821-copper-lantern-tidy") -> HandshakeInputs:
    code = Code.parse(text)
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=source.randbytes(32),
        scalar=Secret(source.randbytes(32)),
        grease=0xF123,
        fast_aes=True,
        kem=HybridKem(),
    )


@functools.cache
def _frames_of_a_handshake() -> tuple[bytes, bytes, bytes]:
    source = random.Random(5)
    start = SenderStart(_inputs(source), source.randbytes(32))
    awaiting = start.sent()
    replied = ReceiverStart(_inputs(source)).receive_hello(start.hello, GuessBudget())
    return start.hello, replied.reply, awaiting.receive_reply(replied.reply, GuessBudget()).confirm


@target("the handshake's first message", lambda: [_frames_of_a_handshake()[0], bytes(1738), b"\x05\x00\x01"])
def hello(data: bytes) -> None:
    """A Hello is refused, at no cost, or answered with a Reply at the cost of one guess."""
    budget = GuessBudget()
    try:
        replied = ReceiverStart(_inputs(random.Random(1))).receive_hello(data, budget)
    except ProtocolError as error:
        peers_fault(error)
        check(budget.left == 3, "a Hello that is refused costs a guess")
        return
    check(budget.left == 2 and len(replied.reply) == 1765, "a Reply was not counted, or has another length")


@target("its answer", lambda: [_frames_of_a_handshake()[1], bytes(1765), b"\x05\x00\x01"])
def reply(data: bytes) -> None:
    """No Reply of who does not know the words gives a session, and none costs more than one guess."""
    source = random.Random(2)
    budget = GuessBudget()
    start = SenderStart(_inputs(source, "4821-copper-lantern-absurd"), source.randbytes(32))
    try:
        start.sent().receive_reply(data, budget)
    except ProtocolError as error:
        peers_fault(error)
        check(budget.left >= 2, "one Reply costs two guesses")
        return
    raise AssertionError("somebody who does not know the words was let in")


@target("its third message", lambda: [_frames_of_a_handshake()[2], bytes(65), b"\x05\x00\x02"])
def confirm(data: bytes) -> None:
    """No Confirm of who does not know the words gives a session."""
    source = random.Random(3)
    replied = ReceiverStart(_inputs(source)).receive_hello(_frames_of_a_handshake()[0], GuessBudget())
    try:
        replied.receive_confirm(data, GuessBudget())
    except ProtocolError as error:
        peers_fault(error)
        return
    raise AssertionError("a Confirm of another handshake was taken")


@target("its end", lambda: [b"\x05" + code.to_bytes(2, "big") for code in (1, 2, 6, 999)])
def abort(data: bytes) -> None:
    try:
        code = parse_abort(data)
    except HandshakeError:
        return
    check(parse_abort(encode_abort(code)) == code, "an Abort does not survive its encoding")


@functools.cache
def _session_keys():
    return handshake(random.Random(6))


def _attach_seeds() -> list[bytes]:
    keys = _session_keys()[0].keys
    attach = AttachOpener(keys, 2, bytes(32)).attach
    ack = AttachAcceptor(_session_keys()[1].keys, Side.A).answer(attach, bytes(32)).ack
    return [attach, ack, attach[:-1], bytes(81), bytes(65)]


@target("Attach and Ack", _attach_seeds)
def attach(data: bytes) -> None:
    """Attach and Ack are taken as they were made, or refused."""
    ours, theirs = _session_keys()
    acceptor = AttachAcceptor(theirs.keys, Side.A)
    try:
        accepted = acceptor.answer(data, b"\x01" * 32)
        check(accepted.number == 2 and data == _attach_seeds()[0], "an Attach that nobody made was answered")
    except ViolationError as error:
        peers_fault(error)
    try:
        AttachOpener(ours.keys, 2, bytes(32)).receive_ack(data)
        check(data == _attach_seeds()[1], "an Ack that nobody made was taken")
    except ViolationError as error:
        peers_fault(error)


# --- a data connection --------------------------------------------------------------------------------------------


async def _entered(data: bytes) -> bytes | None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        door = PlainDoor(DATA_PREAMBLE, TOKEN_BYTES, lambda *_: None)
        async with asyncio.timeout(10):
            return await read_body(door, ours)


@target(
    "`TLW1` and the token of a data connection",
    lambda: [
        DATA_PREAMBLE + bytes(TOKEN_BYTES) + b"behind",
        DATA_PREAMBLE + bytes(31),
        b"TLW2" + bytes(32),
        b"T",
        b"",
    ],
)
def data_door(data: bytes) -> None:
    """What begins a data connection at a relay is the preamble and a token, whole, or nothing; what follows is not read."""
    data = data[:10_000]
    whole = len(DATA_PREAMBLE) + TOKEN_BYTES
    token = (
        data[len(DATA_PREAMBLE) : whole] if data.startswith(DATA_PREAMBLE) and len(data) >= whole else None
    )
    check(asyncio.run(_entered(data)) == token, "a token that was not said")
