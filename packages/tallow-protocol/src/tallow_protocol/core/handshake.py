"""The handshake: one round trip, after which everything is sealed.

    Hello   (1738)  0x10 || 4 x u16 versions || u8 mode || 16 x u16 capabilities || nonce_A (32) || Y_A (32)
                    || ek (1600) || sas_commit (32)
    Reply   (1765)  0x11 || core || confirm_B (64)
    core    (1700)  u16 version || u8 suite || 0x00 || 16 x u16 capabilities || nonce_B (32) || Y_B (32) || ct (1600)
    Confirm   (65)  0x12 || confirm_A (64)
    Abort      (3)  0x13 || u16 code

Each state is a type with one legal move, usable once; a second use is a MisuseError, whatever came of the first.

    sender    SenderStart.sent -> SenderAwaitsReply.receive_reply -> SenderEstablished
    receiver  ReceiverStart.receive_hello -> ReceiverReplied.receive_confirm -> ReceiverEstablished

CPace is CPACE-X25519-SHA512 (draft-irtf-cfrg-cpace-21), initiator-responder, sid empty, with
CI = lv_cat("tallow/1", mode byte, room_id, "sender", "receiver"), AD_A = Hello, AD_B = core. Every random value
is passed in and is used for one attempt only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tallow_crypto.aead import Suite
from tallow_crypto.cpace import CPace, lv_cat
from tallow_crypto.errors import CryptoError, ProviderMissingError
from tallow_crypto.sas import sas_commitment
from tallow_crypto.secret import equal

from tallow_protocol.core import labels
from tallow_protocol.core.codes import AbortCode
from tallow_protocol.core.keyschedule import (
    SessionKeys,
    confirm_tag_a,
    confirm_tag_b,
    extract_prk,
    transcript_hash,
)
from tallow_protocol.core.version import (
    SUPPORTED_VERSIONS,
    check_version,
    choose_suite,
    choose_version,
    own_capabilities,
    pack_capabilities,
    pack_versions,
    parse_capabilities,
    parse_versions,
)
from tallow_protocol.errors import (
    BudgetExhaustedError,
    HandshakeError,
    MisuseError,
    UnsupportedSystemError,
    WrongCodeError,
)
from tallow_protocol.limits import ABORT_BYTES, CONFIRM_BYTES, HELLO_BYTES, REPLY_BYTES, REPLY_CORE_BYTES

if TYPE_CHECKING:
    from tallow_crypto.kem import Encapsulation
    from tallow_crypto.secret import Secret

    from tallow_protocol.core.budget import GuessBudget
    from tallow_protocol.core.records import Buffer

__all__ = [
    "ABORT_TYPE",
    "CONFIRM_TYPE",
    "HELLO_TYPE",
    "MODE_CODE",
    "REPLY_TYPE",
    "AbortCode",
    "HandshakeInputs",
    "KemKeyPair",
    "KemPort",
    "ReceiverEstablished",
    "ReceiverReplied",
    "ReceiverStart",
    "SenderAwaitsReply",
    "SenderEstablished",
    "SenderStart",
    "encode_abort",
    "parse_abort",
]

HELLO_TYPE: Final = 0x10
REPLY_TYPE: Final = 0x11
CONFIRM_TYPE: Final = 0x12
ABORT_TYPE: Final = 0x13
MODE_CODE: Final = 0

_HELLO = struct.Struct(">B8sB32s32s32s1600s32s")
_CORE = struct.Struct(">HBB32s32s32s1600s")
_RANDOM_BYTES = 32


class KemKeyPair(Protocol):
    """A key pair for one handshake."""

    @property
    def public_key(self) -> bytes:
        """The 1600-byte public key."""

    def decapsulate(self, ciphertext: bytes) -> Secret:
        """Return the 32-byte secret of a 1600-byte ciphertext; raises tallow_crypto's InvalidKeyError."""


class KemPort(Protocol):
    """What makes KEM keys and ciphertexts; `tallow_crypto.HybridKem` satisfies it, a simulation seeds its own."""

    def generate(self) -> KemKeyPair:
        """Return a new key pair."""

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        """Return a new secret and its ciphertext; raises tallow_crypto's InvalidKeyError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeInputs:
    """Everything that one side brings to one attempt.

    `password` is PRS, `room_id` and `nonce` have 32 bytes, `scalar` has 32 secret ones, `grease` is a number from
    0xF000 to 0xFFFF. Nonce, scalar and KEM keys are new in every attempt; the inputs of one must not serve another.
    """

    password: Secret
    room_id: bytes
    nonce: bytes
    scalar: Secret
    grease: int
    fast_aes: bool
    kem: KemPort = field(repr=False)
    versions: tuple[int, ...] = SUPPORTED_VERSIONS

    def __post_init__(self) -> None:
        if not len(self.room_id) == len(self.nonce) == len(self.scalar) == _RANDOM_BYTES:
            raise MisuseError("room id, nonce and scalar of a handshake have 32 bytes each")

    @property
    def capabilities(self) -> tuple[int, ...]:
        """What this side lists."""
        return own_capabilities(fast_aes=self.fast_aes, grease=self.grease)

    @property
    def channel_identifier(self) -> bytes:
        """CPace's CI: protocol, mode, room and both roles."""
        mode = bytes((MODE_CODE,))
        return lv_cat(labels.PROTOCOL, mode, self.room_id, labels.ROLE_SENDER, labels.ROLE_RECEIVER)


class _Once:
    """A state whose one move was not made yet."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _use(self) -> None:
        if self._used:
            raise MisuseError(
                f"{type(self).__name__} was used already; a new attempt starts over with new randomness"
            )
        self._used = True


@dataclass(frozen=True, slots=True)
class _Hello:
    versions: tuple[int, ...]
    capabilities: frozenset[int]
    nonce: bytes
    share: bytes
    encapsulation_key: bytes
    sas_commit: bytes


@dataclass(frozen=True, slots=True)
class _Core:
    version: int
    suite: int
    capabilities: frozenset[int]
    nonce: bytes
    share: bytes
    ciphertext: bytes


def encode_abort(code: AbortCode) -> bytes:
    """Return the 3-byte body of Abort."""
    return bytes((ABORT_TYPE,)) + int(code).to_bytes(2, "big")


def parse_abort(body: Buffer) -> AbortCode:
    """Return the code in an Abort body; an unknown one reads as INTERNAL. Raises HandshakeError for another body."""
    if len(body) != ABORT_BYTES or body[0] != ABORT_TYPE:
        raise HandshakeError
    return AbortCode.of_number(int.from_bytes(body[1:], "big"))


def _is_abort(body: Buffer) -> bool:
    return len(body) == ABORT_BYTES and body[0] == ABORT_TYPE


def _frame(body: Buffer, kind: int, length: int) -> bytes:
    """Return the body of an expected frame. Raises HandshakeError for any other."""
    if len(body) != length or body[0] != kind:
        raise HandshakeError
    return bytes(body)


def _parse_hello(hello: bytes) -> _Hello:
    _, versions, mode, capabilities, nonce, share, key, commit = _HELLO.unpack(hello)
    if mode != MODE_CODE:
        raise HandshakeError("the other side starts a handshake of another mode")
    return _Hello(parse_versions(versions), parse_capabilities(capabilities), nonce, share, key, commit)


def _parse_core(core: bytes) -> _Core:
    version, suite, zero, capabilities, nonce, share, ciphertext = _CORE.unpack(core)
    if zero:
        raise HandshakeError("a reserved byte of the other side's Reply is not zero")
    return _Core(version, suite, parse_capabilities(capabilities), nonce, share, ciphertext)


class SenderStart(_Once):
    """A has its Hello and sends it; `hello` is the 1738-byte body.

    `r_a` are the 32 random bytes that Hello commits to and A's Auth reveals. Raises UnsupportedSystemError where
    this machine has no ML-KEM.
    """

    __slots__ = ("_cpace", "_inputs", "_key_pair", "_r_a", "hello")

    hello: bytes

    def __init__(self, inputs: HandshakeInputs, r_a: bytes) -> None:
        super().__init__()
        if len(r_a) != _RANDOM_BYTES:
            raise MisuseError("r_a has 32 bytes")
        self._inputs = inputs
        self._r_a = r_a
        try:
            self._key_pair = inputs.kem.generate()
        except ProviderMissingError:
            raise UnsupportedSystemError from None
        self._cpace = CPace(inputs.password, inputs.channel_identifier, inputs.scalar)
        self.hello = _HELLO.pack(
            HELLO_TYPE,
            pack_versions(inputs.versions),
            MODE_CODE,
            pack_capabilities(inputs.capabilities),
            inputs.nonce,
            self._cpace.share,
            self._key_pair.public_key,
            sas_commitment(r_a),
        )

    def sent(self) -> SenderAwaitsReply:
        """Go on once Hello is on its way. Usable once."""
        self._use()
        return SenderAwaitsReply(self._inputs, self._r_a, self._cpace, self._key_pair, self.hello)


class SenderAwaitsReply(_Once):
    """A waits for the Reply. Made by SenderStart alone."""

    __slots__ = ("_cpace", "_hello", "_inputs", "_key_pair", "_r_a")

    def __init__(
        self, inputs: HandshakeInputs, r_a: bytes, cpace: CPace, key_pair: KemKeyPair, hello: bytes
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._r_a = r_a
        self._cpace = cpace
        self._key_pair = key_pair
        self._hello = hello

    def receive_reply(self, body: Buffer, budget: GuessBudget) -> SenderEstablished:
        """Take a Reply body; return the established state. Usable once.

        A well-formed Reply costs a guess before anything is compared, and only a right one gives it back. Raises
        WrongCodeError where it does not prove the words (a changed key, share or ciphertext ends here too),
        BudgetExhaustedError where no guess was left, HandshakeError for a malformed body and VersionError for a
        version that was not offered, both without a guess, and what an Abort says.
        """
        self._use()
        if _is_abort(body):
            raise parse_abort(body).error_of_sender()
        reply = _frame(body, REPLY_TYPE, REPLY_BYTES)
        raw_core, confirm_b = reply[1 : 1 + REPLY_CORE_BYTES], reply[1 + REPLY_CORE_BYTES :]
        core = _parse_core(raw_core)
        check_version(core.version, self._inputs.versions)
        suite = choose_suite(frozenset(self._inputs.capabilities), core.capabilities)
        if core.suite != suite:
            raise HandshakeError("the other side chose a cipher that the capabilities do not lead to")
        left = budget.spend()
        try:
            hybrid = self._key_pair.decapsulate(core.ciphertext)
            isk = self._cpace.isk_initiator(self._hello, core.share, raw_core)
        except CryptoError:
            raise WrongCodeError(left) from None
        th = transcript_hash(self._inputs.channel_identifier, self._hello, raw_core)
        prk = extract_prk(isk, hybrid)
        if not equal(confirm_b, confirm_tag_b(prk, th)):
            raise WrongCodeError(left)
        budget.give_back()
        keys = SessionKeys(
            transcript_hash=th,
            nonce_a=self._inputs.nonce,
            nonce_b=core.nonce,
            suite=suite,
            version=core.version,
            peer_capabilities=core.capabilities,
            prk=prk,
        )
        return SenderEstablished(bytes((CONFIRM_TYPE,)) + confirm_tag_a(prk, th, confirm_b), keys, self._r_a)


@dataclass(frozen=True, slots=True)
class SenderEstablished:
    """A has keys. `confirm` is the 65-byte body to send first; `r_a` goes into A's Auth and nowhere else."""

    confirm: bytes = field(repr=False)
    keys: SessionKeys
    r_a: bytes = field(repr=False)


class ReceiverStart(_Once):
    """B waits for Hello."""

    __slots__ = ("_inputs",)

    def __init__(self, inputs: HandshakeInputs) -> None:
        super().__init__()
        self._inputs = inputs

    def receive_hello(self, body: Buffer, budget: GuessBudget) -> ReceiverReplied:
        """Take a Hello body; return the state that holds the Reply to send. Usable once.

        Costs one guess, since a Reply lets its reader test the words. Raises HandshakeError for a malformed body,
        key or share, and VersionError where no version is common, both without a guess; BudgetExhaustedError where
        no guess was left; UnsupportedSystemError where this machine has no ML-KEM; and what an Abort says.
        """
        self._use()
        if _is_abort(body):
            raise parse_abort(body).error(budget.left)
        raw_hello = _frame(body, HELLO_TYPE, HELLO_BYTES)
        inputs = self._inputs
        hello = _parse_hello(raw_hello)
        version = choose_version(hello.versions, inputs.versions)
        suite = choose_suite(hello.capabilities, frozenset(inputs.capabilities))
        if budget.burned:
            raise BudgetExhaustedError  # before the costly work; `spend` below decides
        try:
            encapsulation = inputs.kem.encapsulate(hello.encapsulation_key)
            cpace = CPace(inputs.password, inputs.channel_identifier, inputs.scalar)
            core = _CORE.pack(
                version,
                suite,
                0,
                pack_capabilities(inputs.capabilities),
                inputs.nonce,
                cpace.share,
                encapsulation.ciphertext,
            )
            isk = cpace.isk_responder(core, hello.share, raw_hello)
        except ProviderMissingError:
            raise UnsupportedSystemError from None
        except CryptoError:
            raise HandshakeError("the other side's key or share is malformed") from None
        th = transcript_hash(inputs.channel_identifier, raw_hello, core)
        prk = extract_prk(isk, encapsulation.shared_secret)
        confirm_b = confirm_tag_b(prk, th)
        keys = SessionKeys(
            transcript_hash=th,
            nonce_a=hello.nonce,
            nonce_b=inputs.nonce,
            suite=Suite(suite),
            version=version,
            peer_capabilities=hello.capabilities,
            prk=prk,
        )
        budget.spend()
        return ReceiverReplied(core, confirm_b, keys, hello.sas_commit)


class ReceiverReplied(_Once):
    """B sends its Reply, the 1765-byte body `reply`, and waits for Confirm. Made by ReceiverStart alone."""

    __slots__ = ("_confirm_b", "_keys", "_sas_commit", "reply")

    reply: bytes

    def __init__(self, core: bytes, confirm_b: bytes, keys: SessionKeys, sas_commit: bytes) -> None:
        super().__init__()
        self.reply = bytes((REPLY_TYPE,)) + core + confirm_b
        self._confirm_b = confirm_b
        self._keys = keys
        self._sas_commit = sas_commit

    def receive_confirm(self, body: Buffer, budget: GuessBudget) -> ReceiverEstablished:
        """Take a Confirm body; return the established state and give the guess back. Usable once.

        Raises WrongCodeError where it does not prove the words, HandshakeError for a malformed body and what an
        Abort says; the guess stays spent then.
        """
        self._use()
        if _is_abort(body):
            raise parse_abort(body).error(budget.left)
        confirm = _frame(body, CONFIRM_TYPE, CONFIRM_BYTES)
        keys = self._keys
        if not equal(confirm[1:], confirm_tag_a(keys.prk, keys.transcript_hash, self._confirm_b)):
            raise WrongCodeError(budget.left)
        budget.give_back()
        return ReceiverEstablished(keys, self._sas_commit)


@dataclass(frozen=True, slots=True)
class ReceiverEstablished:
    """B has keys. `sas_commit` (32 bytes) is what A's Auth must open."""

    keys: SessionKeys
    sas_commit: bytes
