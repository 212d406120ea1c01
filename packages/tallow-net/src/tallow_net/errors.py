"""Every error that tallow_net raises.

Each class has a stable `code`, one sentence that says what happened, `hints` that say what to do next, and
`retryable`: whether the same call may work later. Callers branch on these, never on a list of classes.

    NetError
      MisuseError                 this program used the package wrongly: a bug on our side
      InvalidAddressError         a relay address that cannot be read
      PeerViolationError          the other end broke the protocol
        FrameTooLargeError          a frame longer than its limit
        MalformedMessageError       bytes that are no message
        UnexpectedFrameError        a message that has no place in this state
      ConnectionLostError         an open connection ended; `by` names who ended it
        EndOfStreamError            it ended inside a frame
      ConnectError                no usable connection came about
        RelayUnreachableError       no relay answered
        PeerUnreachableError        no sender answered there
        NotTallowError              something answered, but it is not Tallow
        DiscoveryUnavailableError   the local network cannot be asked: no zeroconf, or no multicast
        CertificateChangedError     the relay's key is not the one that was remembered or asked for
        CertificateRefusedError     the relay showed no usable certificate
      RelayRefusedError           the relay answered with an Error; `code` is the Error's name
"""

from typing import Literal

__all__ = [
    "CertificateChangedError",
    "CertificateRefusedError",
    "ConnectError",
    "ConnectionLostError",
    "DiscoveryUnavailableError",
    "EndOfStreamError",
    "FrameTooLargeError",
    "InvalidAddressError",
    "LostBy",
    "MalformedMessageError",
    "MisuseError",
    "NetError",
    "NotTallowError",
    "PeerUnreachableError",
    "PeerViolationError",
    "RelayRefusedError",
    "RelayUnreachableError",
    "UnexpectedFrameError",
]

LostBy = Literal["peer", "network", "us"]


class NetError(Exception):
    """Base of every error of this package."""

    code: str = "net_error"
    retryable: bool = False
    hints: tuple[str, ...] = ()

    def __init__(self, message: str, *, hints: tuple[str, ...] | None = None) -> None:
        super().__init__(message)
        if hints is not None:
            self.hints = hints


class MisuseError(NetError):
    """This program used the package in a way that its documentation rules out."""

    code = "misuse"


class InvalidAddressError(NetError):
    """A relay address could not be read."""

    code = "bad_address"
    hints = ("An address looks like relay.example, relay.example:443 or [2001:db8::1]:443#sha256:HEX.",)


class PeerViolationError(NetError):
    """The other end sent what the protocol does not allow; the connection is of no further use."""

    code = "violation"


class FrameTooLargeError(PeerViolationError):
    """A frame is longer than its limit; nothing was allocated for it."""

    code = "frame_too_large"


class MalformedMessageError(PeerViolationError):
    """The bytes are no message of this protocol."""

    code = "malformed_message"


class UnexpectedFrameError(PeerViolationError):
    """The message is well formed, and has no place in this state of the conversation."""

    code = "unexpected_frame"


class ConnectionLostError(NetError):
    """An open connection ended; `by` is "peer", "network" or "us"."""

    code = "connection_lost"
    retryable = True

    def __init__(self, message: str, *, by: LostBy = "network", hints: tuple[str, ...] | None = None) -> None:
        super().__init__(message, hints=hints)
        self.by: LostBy = by


class EndOfStreamError(ConnectionLostError):
    """The other end finished in the middle of a frame."""

    code = "end_of_stream"

    def __init__(self, message: str, *, by: LostBy = "peer", hints: tuple[str, ...] | None = None) -> None:
        super().__init__(message, by=by, hints=hints)


class ConnectError(NetError):
    """No usable connection came about."""

    code = "connect_failed"


class RelayUnreachableError(ConnectError):
    """None of the relay's addresses could be reached."""

    code = "relay_unreachable"
    retryable = True
    hints = ("Check the address of the relay and this machine's network.",)


class PeerUnreachableError(ConnectError):
    """No sender listens at that address."""

    code = "peer_unreachable"
    retryable = True
    hints = ("Check that the sender still waits, and that the address and port are the ones it printed.",)


class NotTallowError(ConnectError):
    """Something answered there, and it does not speak Tallow's protocol."""

    code = "not_tallow"
    hints = ("Check the port: another program listens there.",)


class DiscoveryUnavailableError(ConnectError):
    """The local network cannot be asked for a sender, nor told of one: no zeroconf, or no multicast."""

    code = "no_discovery"


class CertificateChangedError(ConnectError):
    """The relay's key is not the one that was remembered, or that its address asks for."""

    code = "relay_changed"


class CertificateRefusedError(ConnectError):
    """The relay showed no certificate whose key could be checked."""

    code = "relay_certificate"


class RelayRefusedError(NetError):
    """The relay answered with an Error.

    `code` is the name of the Error's code (`tallow_net.signaling.ErrorCode`, in lower case); `retry_after_s`
    is the time in seconds after which the relay may be asked again, if it gave one.
    """

    code = "relay_refused"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry_after_s: int | None = None,
        retryable: bool = False,
        hints: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(message, hints=hints)
        self.code = code
        self.retry_after_s = retry_after_s
        self.retryable = retryable
