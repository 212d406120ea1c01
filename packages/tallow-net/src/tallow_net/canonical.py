"""Strict CBOR: one map, small unsigned keys, one encoding for each value.

cbor2 by itself accepts trailing bytes, longer forms of integers, tags, floats and more. Here a message is decoded
with its strict flags, every tag is refused before it is acted on, every type is checked, and the value is encoded
again canonically (RFC 8949, section 4.2.1) and compared: what one implementation accepts, no other reads
differently, and a digest over raw bytes is a digest over the value.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

import cbor2

from tallow_net.errors import MalformedMessageError, MisuseError
from tallow_net.framing import Buffer
from tallow_net.limits import CBOR_DEPTH, CBOR_KEY

__all__ = ["Encodable", "Value", "decode_map", "encode_map"]

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int, Value] | None"
"""What a decoded map may hold."""

Encodable: TypeAlias = "int | bytes | str | bool | Sequence[Encodable] | Mapping[int, Encodable] | None"
"""What a map to be encoded may hold: lists may be tuples."""

_LEAST: Final = -(1 << 64)
_MOST: Final = (1 << 64) - 1

# The tags that cbor2 knows how to turn into objects (dates, big numbers, patterns, shared references ...): the
# hook for unknown tags does not see these, and building some of them costs time that a peer would choose.
_KNOWN_TAGS: Final = (
    *range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip


def encode_map(fields: Mapping[int, Encodable]) -> bytes:
    """Return the canonical encoding of `fields`.

    Raises MisuseError for what `decode_map` would refuse: a key outside 0 to 23, a float, an integer beyond 64
    bits, more than eight levels.
    """
    problem = _problem(fields, CBOR_DEPTH)
    if problem is not None:
        raise MisuseError(f"This map cannot be encoded: {problem}.")
    try:
        return cbor2.dumps(fields, canonical=True)
    except (cbor2.CBOREncodeError, UnicodeEncodeError) as error:
        raise MisuseError("This map cannot be encoded: a text in it is not Unicode.") from error


def decode_map(data: Buffer, *, max_bytes: int) -> dict[int, Value]:
    """Return the map that `data` is the canonical encoding of.

    Raises MalformedMessageError if `data` is longer than `max_bytes` (checked before decoding), is no map, or is
    not exactly what `encode_map` makes of its value.
    """
    if len(data) > max_bytes:
        raise MalformedMessageError(
            f"A message of {len(data)} bytes is too long; at most {max_bytes} are allowed."
        )
    try:
        value = cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_TAG_DECODERS,
            max_depth=CBOR_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        raise MalformedMessageError("A message is no valid CBOR.") from error
    if type(value) is not dict:
        raise MalformedMessageError("A message is no CBOR map.")
    problem = _problem(value, CBOR_DEPTH)
    if problem is not None:
        raise MalformedMessageError(f"A message is refused: {problem}.")
    if cbor2.dumps(value, canonical=True) != data:
        raise MalformedMessageError("A message is not in canonical encoding.")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("no tag is used in this protocol")


_TAG_DECODERS: Final = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def _problem(value: object, levels: int) -> str | None:
    """Say what in `value` has no place in a message, or return None."""
    if isinstance(value, int):
        return None if _LEAST <= value <= _MOST else "an integer is beyond 64 bits"
    if value is None or isinstance(value, str | bytes):
        return None
    if levels == 0:
        return f"it is nested deeper than {CBOR_DEPTH} levels"
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not int or not 0 <= key <= CBOR_KEY:
                return f"a map key is not an integer from 0 to {CBOR_KEY}"
        return _first_problem(value.values(), levels - 1)
    if isinstance(value, list | tuple):
        return _first_problem(value, levels - 1)
    return f"it holds a {type(value).__name__}"


def _first_problem(values: Iterable[object], levels: int) -> str | None:
    for value in values:
        if type(value) is str or value is None or (type(value) is int and 0 <= value <= _MOST):
            continue  # most are, and need no call
        problem = _problem(value, levels)
        if problem is not None:
            return problem
    return None
