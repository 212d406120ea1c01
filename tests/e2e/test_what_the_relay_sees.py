"""What a relay can read of a transfer, recorded behind its TLS: lengths, times, and nothing else."""

import asyncio
import itertools
import os
import secrets
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tallow_crypto import IdentityKeyPair, Secret
from tallow_net import RelayAddress, Side, TransportChoice
from tallow_net.canonical import decode_map
from tallow_net.errors import MalformedMessageError
from tallow_net.signaling import Allocate, Join, KeepAlive, Leave, Ready, decode, encode
from tallow_protocol import TransferOptions
from tallow_protocol.aio import attempt
from tallow_protocol.code import Code, lan_name_of
from tallow_protocol.core.handshake import CONFIRM_TYPE, HELLO_TYPE, REPLY_TYPE, HandshakeInputs, SenderStart
from tallow_protocol.limits import CONFIRM_BYTES, HELLO_BYTES, REPLY_BYTES

from tests.e2e.recording import Leg, recording_relay
from tests.protocol.api.running import accepting, receive, sender

WORDS = ("graffiti", "platypus", "snowdrift")
OTHER_WORDS = ("graffiti", "platypus", "trombone")
NAMEPLATE = "4821"
CODE = "-".join((NAMEPLATE, *WORDS))
NAMES = ("quarterly-figures.txt", "attachments", "holiday-picture.jpeg")
CONTENT = b"the quick brown fox jumps over the lazy dog; " * 100
LEGS = [
    (a, b)
    for a in (TransportChoice.TCP, TransportChoice.QUIC)
    for b in (TransportChoice.TCP, TransportChoice.QUIC)
]


def private_addresses() -> set[str]:
    """This machine's own addresses but loopback, as text."""
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.add(probe.getsockname()[0])
        except OSError:
            pass
    return {str(address).partition("%")[0] for address in found if not str(address).startswith("127.")} - {
        "::1"
    }


def tree(folder: Path) -> list[Path]:
    text, inner = folder / NAMES[0], folder / NAMES[1]
    text.write_bytes(CONTENT)
    inner.mkdir()
    (inner / NAMES[2]).write_bytes(os.urandom(2_000))
    return [text, inner]


def same_tree(one: Path, other: Path) -> bool:
    places = [Path(NAMES[0]), Path(NAMES[1]) / NAMES[2]]
    return all((one / place).read_bytes() == (other / place).read_bytes() for place in places)


def opaque(body: bytes) -> bool:
    """Neither a signaling message nor, at any of the places where one could begin, a whole map of CBOR."""
    try:
        decode(body)
    except MalformedMessageError:
        pass
    else:
        return False
    for start in (0, 1, 2):
        try:
            decode_map(body[start:], max_bytes=len(body))
        except MalformedMessageError:
            continue
        return False
    return True


@pytest.mark.parametrize(("a_choice", "b_choice"), LEGS)
async def test_a_recording_behind_tls_holds_no_secret_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_choice: TransportChoice, b_choice: TransportChoice
) -> None:
    paths = tree(tmp_path)
    out = tmp_path / "out"
    identities = {Side.A: IdentityKeyPair.generate(), Side.B: IdentityKeyPair.generate()}
    async with recording_relay(monkeypatch) as (server, legs):
        options = TransferOptions(relays=(RelayAddress("127.0.0.1", server.port),))
        a_options = replace(options, transport=a_choice, identity=identities[Side.A])
        b_options = replace(options, transport=b_choice, identity=identities[Side.B])
        async with sender(*paths, options=a_options, code=CODE) as (a, ready, task):
            b = await receive(ready, out, options=b_options, react=accepting)
            await task
        assert (a.error, b.error) == (None, None)
        async with asyncio.timeout(20):
            while server.connections:  # noqa: ASYNC110  (a figure has no event)
                await asyncio.sleep(0.01)
    assert same_tree(tmp_path, out)

    everything = b"".join(bytes(leg.heard) + bytes(leg.said) for leg in legs)
    assert len(everything) < 64 * 1024
    lowered = everything.lower()
    for word in WORDS:
        assert word.encode() not in lowered
    for name in (*NAMES, "quarterly", "picture"):
        assert name.encode() not in lowered
    assert CONTENT[:16] not in everything
    for identity in identities.values():
        public = identity.public_key
        assert public.ed25519 not in everything
        assert public.mldsa[:32] not in everything
        assert bytes(public.fingerprint).hex().encode() not in lowered
        assert bytes(public.fingerprint) not in everything
    for address in private_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        assert address.encode() not in everything
        if family is socket.AF_INET6:
            assert socket.inet_pton(family, address) not in everything

    carrying = [
        leg for leg in legs if any(len(body) == HELLO_BYTES for body in leg.frames_heard + leg.frames_said)
    ]
    assert len(carrying) == 2
    for leg in carrying:
        assert_sealed_after_confirm(leg)


def assert_sealed_after_confirm(leg: Leg) -> None:
    """Signaling, then the three handshake frames of known type and length, then lengths and opaque bodies."""
    heard, said = after_ready(leg.frames_heard), after_ready(leg.frames_said)
    from_a, from_b = (heard, said) if heard[0][0] == HELLO_TYPE else (said, heard)
    assert (from_a[0][0], len(from_a[0])) == (HELLO_TYPE, HELLO_BYTES)
    assert (from_a[1][0], len(from_a[1])) == (CONFIRM_TYPE, CONFIRM_BYTES)
    assert (from_b[0][0], len(from_b[0])) == (REPLY_TYPE, REPLY_BYTES)
    sealed = from_a[2:] + from_b[1:]
    assert len(sealed) > 6
    for body in sealed:
        assert len(body) > 16
        assert opaque(body)


def after_ready(frames: list[bytes]) -> list[bytes]:
    """Check that everything up to Ready is signaling, and return the rest."""
    for index, body in enumerate(frames):
        if isinstance(decode(body), Ready):
            return frames[index + 1 :]
    raise AssertionError("no Ready on this leg")


def test_a_signaling_message_would_not_count_as_opaque() -> None:
    assert not opaque(encode(KeepAlive()))
    assert not opaque(encode(Join(1, (bytes(32),), Side.A, bytes(16))))
    assert opaque(os.urandom(64)[:-1] + b"\xff\xff")


# --- with fixed randomness, the words change nothing ---------------------------------------------------------------


class Counted:
    """Random bytes that are the same in every run."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def token_bytes(self, size: int | None = None) -> bytes:
        seed = next(self._calls).to_bytes(4, "big")
        return (seed * 64)[: size or 32]

    def randbelow(self, bound: int) -> int:
        return next(self._calls) % bound


async def signaling_of(
    code: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[bytes], list[bytes]]:
    """Run a sender and a receiver that cannot agree, at a recording relay; what A and what B said in plain."""
    with monkeypatch.context() as patch:
        async with recording_relay(patch) as (server, legs):
            options = TransferOptions(
                relays=(RelayAddress("127.0.0.1", server.port),), transport=TransportChoice.TCP
            )
            randomness = Counted()
            patch.setattr(secrets, "token_bytes", randomness.token_bytes)
            patch.setattr(secrets, "randbelow", randomness.randbelow)
            patch.setattr(attempt, "fast_aes", lambda: True)
            async with sender(path, options=options, code=code) as (a, ready, task):
                b = await receive(ready, path.parent / "never", options=options, code=f"{code}-zoology")
                assert b.outcome == "wrong_code"
                a.transfer.cancel()
                await task
    # who said it, and in which order each: A stood there first
    plain = [[body for body in leg.frames_heard if body[0] == 0] for leg in legs]
    said = [b"".join(frames) for frames in plain]
    joins = [decode(body) for frames in plain for body in frames]
    assert any(isinstance(message, Join) and message.side is Side.A for message in joins)
    assert any(isinstance(message, Join) and message.side is Side.B for message in joins)
    return said, [body for frames in plain for body in frames]


async def test_a_changed_word_changes_no_byte_of_plain_signaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAMES[0]
    await asyncio.to_thread(path.write_bytes, CONTENT)
    one, frames = await signaling_of(CODE, path, monkeypatch)
    other, _ = await signaling_of("-".join((NAMEPLATE, *OTHER_WORDS)), path, monkeypatch)
    assert one == other
    assert {type(decode(body)) for body in frames} >= {Join, Ready, Leave}


@pytest.mark.parametrize("nameplate", ["4821", "7", "123456789012"])
def test_room_lan_name_and_messages_depend_on_the_nameplate_alone(nameplate: str) -> None:
    one = Code.parse("-".join((nameplate, *WORDS)))
    other = Code.parse("-".join((nameplate, *OTHER_WORDS)))
    assert one.password.reveal() != other.password.reveal()
    assert one.nameplate == other.nameplate == nameplate
    assert lan_name_of(one.nameplate) == lan_name_of(other.nameplate)
    assert one.room_id == other.room_id
    lease = bytes(range(16))
    for side in Side:
        assert encode(Join(1, (one.room_id,), side, lease)) == encode(Join(1, (other.room_id,), side, lease))
    assert encode(Allocate(1, lease)) == encode(Allocate(1, lease))
    assert lan_name_of(nameplate) != lan_name_of(nameplate[:-1] + "9" if nameplate[-1] != "9" else "1")


def test_with_the_same_randomness_only_the_share_of_a_hello_depends_on_the_words() -> None:
    def hello(text: str) -> bytes:
        code = Code.parse(text)
        kem = attempt.HybridKem()

        class Seeded:
            def generate(self):
                return kem.from_seed(Secret(bytes(range(96))))

            encapsulate = kem.encapsulate

        inputs = HandshakeInputs(
            password=code.password,
            room_id=code.room_id,
            nonce=bytes(32),
            scalar=Secret(bytes(range(32))),
            grease=0xF123,
            fast_aes=True,
            kem=Seeded(),
        )
        return SenderStart(inputs, bytes(32)).hello

    one, other = hello(CODE), hello("-".join((NAMEPLATE, *OTHER_WORDS)))
    differing = [index for index in range(HELLO_BYTES) if one[index] != other[index]]
    share = range(1 + 8 + 1 + 32 + 32, 1 + 8 + 1 + 32 + 32 + 32)
    assert differing
    assert set(differing) <= set(share)
