"""Which key of a relay is taken, and what is remembered of it: one pure rule, never weakened.

    what is known                     what must hold                         what is remembered
    the address carries a pin         the key's SHA-256 equals it            mode "spki" with that pin
    remembered, mode "spki"           the key's SHA-256 equals it            the same
    remembered, mode "authority"      a system authority vouches             the same
    nothing (first use)               nothing more                           "authority" if one vouches,
                                                                             else "spki" with this key

The check comes before any byte is sent to the relay. A user's own pin is the one way to replace a remembered key,
and it is as strict as what it replaces. A pin that comes from a redirecting relay has to match and replaces nothing.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from tallow_net.errors import CertificateChangedError, CertificateRefusedError, MisuseError
from tallow_net.relay.address import PIN_BYTES, RelayAddress

__all__ = ["ForgetfulRelays", "KnownRelays", "PinMode", "RelayPin", "asks_authority", "check_relay"]

PinMode = Literal["spki", "authority"]


@dataclass(frozen=True, slots=True)
class RelayPin:
    """How a relay's key was accepted: `mode` "spki" with the SHA-256 of the key (32 bytes), or "authority" with None."""

    mode: PinMode
    spki_sha256: bytes | None = None

    def __post_init__(self) -> None:
        expected = PIN_BYTES if self.mode == "spki" else None
        actual = None if self.spki_sha256 is None else len(self.spki_sha256)
        if actual != expected:
            raise MisuseError(f"A pin of mode {self.mode} has a hash of {expected} bytes, not {actual}.")


class KnownRelays(Protocol):
    """Where pins are remembered. Both calls are made on the event loop: they must not block for long."""

    def lookup(self, host: str, port: int) -> RelayPin | None:
        """Return what is remembered of this relay, or None."""

    def remember(self, host: str, port: int, pin: RelayPin) -> None:
        """Keep `pin` for this relay, in place of an older one."""


class ForgetfulRelays:
    """Remember nothing: every use is the first one, unless the address carries a pin."""

    def lookup(self, host: str, port: int) -> RelayPin | None:
        """Return None."""
        return None

    def remember(self, host: str, port: int, pin: RelayPin) -> None:
        """Forget at once."""


def asks_authority(address: RelayAddress, known: RelayPin | None, *, pin_from_user: bool = True) -> bool:
    """Say whether `check_relay` will look at `authority_ok`; finding that out costs a certificate check."""
    if address.pin is not None and (pin_from_user or known is None):
        return False
    return known is None or known.mode == "authority"


def check_relay(
    address: RelayAddress,
    known: RelayPin | None,
    presented_spki: bytes,
    authority_ok: bool,  # noqa: FBT001 - the contract's fourth value, named at every call
    *,
    pin_from_user: bool = True,
) -> RelayPin:
    """Return what is to be remembered of the relay that presented the key with this SHA-256 (32 bytes).

    `authority_ok` says that the system's authorities vouch for its certificate and host name; `pin_from_user` that
    the address's pin, if any, was given by the user and not by another relay. Raises CertificateChangedError if the
    key is not the pinned, remembered or vouched one, and CertificateRefusedError if there is no key to check.
    """
    if len(presented_spki) != PIN_BYTES:
        raise CertificateRefusedError(
            f"The relay {address.host}:{address.port} showed no certificate that can be checked.",
            hints=("Check the address and the port; nothing was sent to it.",),
        )
    if address.pin is not None:
        if presented_spki != address.pin:
            raise _pin_mismatch(address, presented_spki)
        if pin_from_user or known is None:
            return RelayPin("spki", presented_spki)
    if known is None:
        return RelayPin("authority") if authority_ok else RelayPin("spki", presented_spki)
    if known.mode == "authority":
        if not authority_ok:
            raise _authority_lost(address)
        return known
    if presented_spki != known.spki_sha256:
        raise _key_changed(address, known, presented_spki)
    return known


_NOTHING_SENT = "Nothing was sent to it."


def _pin_mismatch(address: RelayAddress, presented: bytes) -> CertificateChangedError:
    return CertificateChangedError(
        f"The relay {address.host}:{address.port} has another key than its address asks for "
        f"(it showed sha256:{presented.hex()}). {_NOTHING_SENT}",
        hints=(
            "Somebody may be posing as the relay, or its operator made a new key.",
            "Ask the operator for the present fingerprint, over another way than this network.",
        ),
    )


def _key_changed(address: RelayAddress, known: RelayPin, presented: bytes) -> CertificateChangedError:
    remembered = (known.spki_sha256 or b"").hex()
    confirmed = RelayAddress(address.host, address.port, presented)
    return CertificateChangedError(
        f"The relay {address.host}:{address.port} has another key than at earlier uses "
        f"(remembered sha256:{remembered}, now sha256:{presented.hex()}). {_NOTHING_SENT}",
        hints=(
            "Somebody may be posing as the relay, or its operator made a new key.",
            f"If the operator confirms the new key, give the address once with its fingerprint: {confirmed}",
        ),
    )


def _authority_lost(address: RelayAddress) -> CertificateChangedError:
    return CertificateChangedError(
        f"No authority that this system trusts vouches any more for the relay {address.host}:{address.port}, "
        f"as one did at earlier uses. {_NOTHING_SENT}",
        hints=(
            "Somebody may be posing as the relay, its certificate may have run out, or this machine's clock is wrong.",
            "Ask the relay's operator.",
        ),
    )
