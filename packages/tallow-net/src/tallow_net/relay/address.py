"""Where a relay is, as people write it: `HOST[:PORT][#sha256:HEX]`."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from tallow_net.errors import InvalidAddressError
from tallow_net.limits import HOST_BYTES

__all__ = ["DEFAULT_PORT", "PIN_BYTES", "RelayAddress"]

DEFAULT_PORT: Final = 443
"""The port that most networks let through, on TCP and on UDP."""

PIN_BYTES: Final = 32
"""A pin is the SHA-256 of a public key (SubjectPublicKeyInfo, RFC 5280, section 4.1)."""

_PIN_PREFIX: Final = "sha256:"
# RFC 1123, section 2.1; the underscore is not allowed there and is used nevertheless.
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_PIN: Final = re.compile(r"[0-9a-f]{64}")
# RFC 4007, section 11.2, leaves it open; this is what systems call their interfaces, and drives no terminal.
_SCOPE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_ALL_DIGITS: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """A relay's host and port, and the pin of its key if the address carries one.

    `host` is a name in lower case or an IP address in its shortest form, without brackets; `port` is 1 to 65535;
    `pin` is 32 bytes, the SHA-256 of the public key, or None. `str()` gives the form that `parse` reads back.
    Raises InvalidAddressError for anything else.
    """

    host: str
    port: int = DEFAULT_PORT
    pin: bytes | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", _checked_host(self.host))
        if not 1 <= self.port <= 0xFFFF:
            raise InvalidAddressError(f"A port is a number from 1 to 65535, not {self.port}.")
        if self.pin is not None and len(self.pin) != PIN_BYTES:
            raise InvalidAddressError(f"A pin has {PIN_BYTES} bytes, not {len(self.pin)}.")

    @classmethod
    def parse(cls, text: str) -> "RelayAddress":
        """Return the address that `text` names; without a port, 443. Raises InvalidAddressError."""
        place, mark, pin_text = text.strip().partition("#")
        pin = _parse_pin(pin_text) if mark else None
        host, port_text = _split(place)
        if port_text is None:
            return cls(host, pin=pin)
        if not _PORT.fullmatch(port_text):
            raise InvalidAddressError(
                f"The port of a relay address is a number from 1 to 65535, not {port_text!r}."
            )
        return cls(host, int(port_text), pin)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        pin = "" if self.pin is None else f"#{_PIN_PREFIX}{self.pin.hex()}"
        return f"{host}:{self.port}{pin}"


def _split(place: str) -> tuple[str, str | None]:
    """Split `place` into host and port text, None where it has no port."""
    if place.startswith("["):
        inner, bracket, rest = place[1:].partition("]")
        if not bracket or ":" not in inner or (rest and not rest.startswith(":")):
            raise InvalidAddressError(f"This is no address in brackets: {place!r}.")
        return inner, rest[1:] if rest else None
    if place.count(":") > 1:  # an IPv6 address without brackets has no room for a port
        return place, None
    host, colon, port_text = place.partition(":")
    return host, port_text if colon else None


def _parse_pin(text: str) -> bytes:
    digits = text.removeprefix(_PIN_PREFIX).lower()
    if not text.startswith(_PIN_PREFIX) or not _PIN.fullmatch(digits):
        raise InvalidAddressError("The pin of a relay address is #sha256: and 64 hexadecimal digits.")
    return bytes.fromhex(digits)


def _checked_host(host: str) -> str:
    """Return `host` in its one form, or raise InvalidAddressError."""
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            raise InvalidAddressError(f"This is no IPv6 address: {host!r}.") from None
        if address.scope_id is not None and not _SCOPE.fullmatch(address.scope_id):
            raise InvalidAddressError(f"This is no IPv6 address: {host!r}.")
        return str(address)
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if not host.isascii() or len(name) > HOST_BYTES or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidAddressError(f"This is no host name: {host!r}.")
    if _ALL_DIGITS.fullmatch(
        labels[-1]
    ):  # no top-level domain is a number, so it is meant as an IPv4 address
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidAddressError(f"This is no IPv4 address: {host!r}.") from None
    return name
