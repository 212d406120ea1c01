"""Errors of tallow_protocol: one tree, a stable code for each class, a sentence and a next step.

    ProtocolError
    |-- MisuseError                  misuse              the caller broke this API's rules
    |   |-- InvalidTransitionError   misuse              a transfer was told to make a move that does not exist
    |   `-- BadPatternError          bad_pattern         what is to be left out is no pattern
    |-- CodeError                    bad_code            the text is no code
    |   |-- CodeFormatError
    |   `-- UnknownWordError
    |-- NoSuchCodeError              no_such_code
    |-- CodeExpiredError             expired
    |-- CodeBurnedError              burned
    |   `-- BudgetExhaustedError     burned              no guess is left, so nothing was compared
    |-- WrongCodeError               wrong_code          `left` says how many tries remain
    |-- VersionError                 version
    |-- PeerLeftError                peer_left           the connection or the peer went away; `by` says who ended it
    |-- PeerCancelledError           cancelled           the person or program on the other side stopped it
    |-- CancelledByUserError         interrupted         this side stopped it
    |-- RefusedError                 refused
    |-- ConflictError                conflict
    |-- OutputClosedError            output_closed       who read the received stream has gone
    |-- NoSpaceError                 no_space
    |-- FileError                    file
    |   |-- PathMissingError         path_missing
    |   |-- UnreadableError          unreadable
    |   |-- NotWritableError         not_writable
    |   |-- SourceChangedError       source_changed
    |   `-- BadNameError             bad_name
    |-- ViolationError               violation           the peer broke the protocol
    |   |-- HandshakeError
    |   |-- MessageError
    |   |   `-- UnexpectedMessageError
    |   |-- RecordError
    |   |-- AttachError
    |   |-- AuthError
    |   `-- IntegrityError           violation           data or a signature did not match
    |-- InUseError                   in_use
    |-- NotVerifiedError             not_verified
    |-- UnreachableError             relay_unreachable, peer_unreachable or not_tallow
    |-- RelayFullError               relay_full or rate_limited
    |-- RelayChangedError            relay_changed
    |-- UnsupportedSystemError       unsupported         this machine's cryptography lacks ML-KEM or ML-DSA
    `-- InternalError                internal

No sentence, argument or hint holds a secret: `UnknownWordError` names the place of the word, and the word
itself only as an attribute and in the hint meant for the person who typed it.
"""

from __future__ import annotations

__all__ = [
    "AttachError",
    "AuthError",
    "BadNameError",
    "BadPatternError",
    "BudgetExhaustedError",
    "CancelledByUserError",
    "CodeBurnedError",
    "CodeError",
    "CodeExpiredError",
    "CodeFormatError",
    "ConflictError",
    "FileError",
    "HandshakeError",
    "InUseError",
    "IntegrityError",
    "InternalError",
    "InvalidTransitionError",
    "MessageError",
    "MisuseError",
    "NoPathError",
    "NoSpaceError",
    "NoSuchCodeError",
    "NotVerifiedError",
    "NotWritableError",
    "OutputClosedError",
    "PathMissingError",
    "PeerCancelledError",
    "PeerLeftError",
    "ProtocolError",
    "RecordError",
    "RefusedError",
    "RelayChangedError",
    "RelayFullError",
    "SourceChangedError",
    "UnexpectedMessageError",
    "UnknownWordError",
    "UnreachableError",
    "UnreadableError",
    "UnsupportedSystemError",
    "VersionError",
    "ViolationError",
    "WrongCodeError",
]


class ProtocolError(Exception):
    """Base of every error of this package.

    `code` is stable and meant for programs, `str()` is one sentence for people, `hints` are next steps, and
    `retryable` says whether the same call may succeed when it is simply made again.
    """

    code: str = "internal"
    default_sentence: str = "something went wrong inside Tallow"
    default_hints: tuple[str, ...] = ()
    retryable: bool = False

    def __init__(
        self,
        sentence: str | None = None,
        *,
        code: str | None = None,
        hints: tuple[str, ...] | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(sentence or self.default_sentence)
        self.hints: tuple[str, ...] = self.default_hints if hints is None else hints
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class InternalError(ProtocolError):
    """A fault of Tallow itself, or of the machine, that nothing above could name."""

    default_hints = ("report it together with the versions of both sides",)


class MisuseError(ProtocolError):
    """The caller broke this API's rules; never caused by the peer."""

    code = "misuse"
    default_sentence = "this call is not allowed here"
    default_hints = ("read the documentation of the call; each state has one legal move, usable once",)


class InvalidTransitionError(MisuseError):
    """A transfer was told to go to a state that its present state does not lead to."""

    default_sentence = "a transfer cannot make this move"


class BadPatternError(MisuseError):
    """What is to be left out of a scan is not written as a line of a `.gitignore` is."""

    code = "bad_pattern"
    default_sentence = "this is not a pattern"
    default_hints = ("write it as a line of a .gitignore is written, such as *.o or /build/",)


class CodeError(ProtocolError):
    """The text given as a code is none."""

    code = "bad_code"
    default_sentence = "this is not a code"
    default_hints = ("a code looks like 4821-copper-lantern-tidy; copy it from the sender's screen",)


class CodeFormatError(CodeError):
    """The text has not the form of a code: no number, too few words, text too short."""


class UnknownWordError(CodeError):
    """A word of a code is not in the list, or a prefix fits several words.

    `word` is what was typed, `position` counts the words from 1, `suggestions` are list words near it. `str()` and
    `repr()` name only the position, since logs keep them.
    """

    def __init__(
        self, word: str, suggestions: tuple[str, ...], *, position: int, ambiguous: bool = False
    ) -> None:
        fault = "fits several words of the list" if ambiguous else "is not in the word list"
        near = (
            f"did you mean {' or '.join(suggestions)}?"
            if suggestions
            else "look at the sender's screen again"
        )
        super().__init__(f"word {position} of the code {fault}", hints=(near,))
        self.word = word
        self.suggestions = suggestions
        self.position = position


class NoSuchCodeError(ProtocolError):
    """Nobody waits under this code."""

    code = "no_such_code"
    default_sentence = "nobody is sending under this code"
    default_hints = (
        "check the number before the words, and that the sender still waits; both sides need the same relay",
    )


class CodeExpiredError(ProtocolError):
    """The sender waited longer than the relay keeps a code."""

    code = "expired"
    default_sentence = "this code has expired"
    default_hints = ("ask the sender for a new code",)


class CodeBurnedError(ProtocolError):
    """Three wrong guesses ended this code."""

    code = "burned"
    default_sentence = "this code was burned by three wrong tries and is closed for good"
    default_hints = ("send again and use the new code",)


class BudgetExhaustedError(CodeBurnedError):
    """A guess was asked for and none was left; nothing was compared."""


class WrongCodeError(ProtocolError):
    """The other side did not prove the same words. `left` is how many tries this code has left on this side."""

    code = "wrong_code"
    default_hints = ("check every word; if they are right, somebody tampers with the connection",)

    def __init__(self, left: int, sentence: str | None = None) -> None:
        tries = "no try is left" if left == 0 else "1 try is left" if left == 1 else f"{left} tries are left"
        super().__init__(sentence or f"wrong code, or tampering; {tries}")
        self.left = left


class VersionError(ProtocolError):
    """The two sides have no protocol version in common."""

    code = "version"
    default_sentence = "the other side speaks no protocol version that this one knows"
    default_hints = ("update Tallow on the side that is older",)


class PeerLeftError(ProtocolError):
    """The other side went away. `by` is who ended the connection: "peer", "network", or "us"."""

    code = "peer_left"
    default_sentence = "the other side went away before the transfer was complete"
    default_hints = ("check that both sides are online, then send again",)
    retryable = True

    def __init__(
        self, sentence: str | None = None, *, by: str = "peer", hints: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(sentence, hints=hints)
        self.by = by


class PeerCancelledError(ProtocolError):
    """The person or program on the other side stopped the transfer."""

    code = "cancelled"
    default_sentence = "the other side cancelled the transfer"
    default_hints = ("ask why, then send again",)


class CancelledByUserError(ProtocolError):
    """This side stopped the transfer."""

    code = "interrupted"
    default_sentence = "interrupted"
    default_hints = ("send again under a new code to continue",)


class RefusedError(ProtocolError):
    """The receiver said no to the offer."""

    code = "refused"
    default_sentence = "the receiver refused the offer"
    default_hints = ("ask the receiver to look at the offer and say yes",)


class ConflictError(ProtocolError):
    """Something of the same name stands where a file or folder would be written; nothing was overwritten."""

    code = "conflict"
    default_sentence = "a file or folder of the same name exists in the output directory"
    default_hints = ("choose another directory, or move what is there out of the way",)


class OutputClosedError(ProtocolError):
    """Whoever read what was received has gone."""

    code = "output_closed"
    default_sentence = "whoever read the standard output has gone"
    default_hints = ("receive it again, with a reader that stays until the end",)


class NoSpaceError(ProtocolError):
    """The receiver's disk is full, or has no room for the offer."""

    code = "no_space"
    default_sentence = "there is not enough space on the receiver's disk"
    default_hints = ("free some space or choose a directory on another disk",)


class FileError(ProtocolError):
    """A file or folder on this machine, or on the other, cannot be used."""

    code = "file"
    default_sentence = "a file cannot be read or written"


class PathMissingError(FileError):
    """A path given to send does not exist."""

    code = "path_missing"
    default_sentence = "a path does not exist"
    default_hints = ("check the spelling and the directory you are in",)


class UnreadableError(FileError):
    """A file or folder to send cannot be read."""

    code = "unreadable"
    default_sentence = "a file cannot be read"
    default_hints = ("check its permissions",)


class NotWritableError(FileError):
    """The output directory cannot be written."""

    code = "not_writable"
    default_sentence = "the output directory cannot be written"
    default_hints = ("choose a directory that you may write to",)


class SourceChangedError(FileError):
    """A file changed while it was being sent."""

    code = "source_changed"
    default_sentence = "a file changed while it was being sent"
    default_hints = ("send it again when nothing writes to it",)


class BadNameError(FileError):
    """A name in an offer cannot be written on this machine, or would leave the output directory."""

    code = "bad_name"
    default_sentence = "a name in the offer is not one that can be written here"
    default_hints = ("ask the sender to rename it",)


class ViolationError(ProtocolError):
    """The peer, or somebody between, broke the protocol. Nothing unverified was kept."""

    code = "violation"
    default_sentence = "the other side broke the protocol"
    default_hints = ("update both sides; if that does not help, somebody tampers with the connection",)


class HandshakeError(ViolationError):
    """A handshake frame that is malformed or out of place. It costs no guess."""

    default_sentence = "the other side sent a malformed handshake"


class MessageError(ViolationError):
    """A control message that the codec refuses."""

    default_sentence = "the other side sent a malformed message"


class UnexpectedMessageError(MessageError):
    """A well-formed message in a state that does not take it."""

    default_sentence = "the other side sent a message out of turn"


class RecordError(ViolationError):
    """A record that does not open, or whose header, reserved bytes or padding are wrong. Ends its connection."""

    default_sentence = "a record did not open or is malformed"


class AttachError(ViolationError):
    """An Attach or Ack that is unknown, repeated or does not verify. Ends that connection only."""

    default_sentence = "a connection did not prove that it belongs to this session"


class AuthError(ViolationError):
    """The peer's identity, its signatures or its SAS commitment do not verify."""

    default_sentence = "the other side's identity did not verify"


class IntegrityError(ViolationError):
    """A chunk, a file or the signed manifest does not match what was promised; no file got its final name from it."""

    default_sentence = "received data does not match what the sender signed"


class InUseError(ProtocolError):
    """Somebody else already holds this side of the room: two senders, or two receivers."""

    code = "in_use"
    default_sentence = "another receiver or sender already uses this code"
    default_hints = ("if that was not you, send again under a new code",)


class NotVerifiedError(ProtocolError):
    """A person compared the eight digits and said no."""

    code = "not_verified"
    default_sentence = "the digits were not confirmed, so nothing was sent"
    default_hints = ("somebody between may hold the code: send again and pass the new code on another way",)


class UnreachableError(ProtocolError):
    """The relay or the peer cannot be reached. `code`: relay_unreachable, peer_unreachable or not_tallow."""

    code = "peer_unreachable"
    default_sentence = "the other side cannot be reached"
    default_hints = ("check the address, the network and any firewall",)
    retryable = True


class NoPathError(UnreachableError):
    """No path that both sides allow carries the file data. `code`: no_path."""

    code = "no_path"
    default_sentence = "no path that both sides allow was found"
    default_hints = ("leave out --direct-only to go through the relay, or join one network",)


class RelayFullError(ProtocolError):
    """The relay takes nobody new for now. `code`: relay_full or rate_limited; `retry_after_s` when it said."""

    code = "relay_full"
    default_sentence = "the relay is full"
    default_hints = ("try again later, or use another relay",)
    retryable = True

    def __init__(
        self, sentence: str | None = None, *, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        hints = (
            None if retry_after_s is None else (f"try again in {retry_after_s:g} s, or use another relay",)
        )
        super().__init__(sentence, code=code, hints=hints)
        self.retry_after_s = retry_after_s


class RelayChangedError(ProtocolError):
    """The relay's key is not the remembered one, so nothing was sent to it."""

    code = "relay_changed"
    default_sentence = "the relay's key has changed since it was first used"
    default_hints = ("ask its operator whether the key was replaced before you trust it again",)


class UnsupportedSystemError(ProtocolError):
    """The cryptography on this machine lacks ML-KEM or ML-DSA."""

    code = "unsupported"
    default_sentence = "this Python's OpenSSL has no ML-KEM or ML-DSA"
    default_hints = ("install the cryptography wheel from PyPI, or the extra tallow-crypto[kyber-py]",)
