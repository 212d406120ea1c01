"""PeerText: what a peer says to a person, made harmless to look at.

A file name, a notice or an error text from another machine can hold escape sequences that rewrite the terminal,
bidirectional controls that turn "exe.txt" round, and characters without width that hide a difference. `str()` and
`format()` of a PeerText give it without them; the words of every language stay whole. The original is `.raw`.
"""

import re
from typing import Final

from tallow_net.errors import MisuseError
from tallow_net.limits import PEER_TEXT_CHARACTERS

__all__ = ["PeerText"]

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"

# Whole sequences first (ECMA-48, sections 5.4 and 5.6), in the 7-bit form and in the 8-bit one. No alternative can
# run over a control character, so each start is scanned once: the time is linear in the length of the text.
_SEQUENCE: Final = re.compile(
    # OSC, DCS, SOS, PM, APC: a string up to its terminator (BEL, or ST in either form)
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    # CSI: parameters, intermediates, one final byte
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    # every other escape sequence: intermediates, one final byte. The starts above are left out, so that what
    # follows an unfinished one stays readable: showing too much is safer than hiding it.
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"
)

# Letters and marks of the scripts whose spelling needs U+200C and U+200D between letters (Arabic, Syriac, N'Ko and
# the Indic scripts, Mongolian); between any others these two only hide.
_JOINING: Final = "\u0620-\u06ff\u0700-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1820-\u18aa"

_HIDDEN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u00ad\u034f\u180e\ufeff"  # soft hyphen, grapheme joiner, Mongolian separator, zero width no-break space
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, embeddings, overrides, isolates
    "\u200b\u2060-\u2065\u206a-\u206f"  # zero width space, word joiner, invisible operators, deprecated format characters
    "\u2028\u2029"  # line and paragraph separator
    "\ufff9-\ufffb"  # interlinear annotation
    "\U0001d173-\U0001d17a"  # musical format controls
    "\U000e0000-\U000e007f"  # tags
    "]"
    f"|(?<![{_JOINING}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINING}])"
)

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class PeerText:
    """Text that a peer chose.

    `str()`, `format()` and so every f-string give the stripped form, at most `limit` characters of it, the last of
    them an ellipsis where some were cut. For JSON, encode `str(text)` (or pass `default=str`). `repr` shows the
    stripped form. Two are equal if their raw texts are. Nothing else of `str` is offered, so that a peer's text is
    not taken for our own by accident.
    """

    __slots__ = ("_shown", "raw")

    raw: str
    _shown: str

    def __init__(self, raw: str, *, limit: int = PEER_TEXT_CHARACTERS) -> None:
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "_shown", _strip(raw, limit))

    @classmethod
    def from_bytes(
        cls, data: bytes | bytearray | memoryview, *, limit: int = PEER_TEXT_CHARACTERS
    ) -> "PeerText":
        """Return the text of `data`, read as UTF-8 with U+FFFD for what is not UTF-8."""
        return cls(bytes(data).decode("utf-8", errors="replace"), limit=limit)

    def shown(self, limit: int) -> str:
        """Return the stripped form, cut to `limit` characters (1 at least)."""
        return _strip(self.raw, limit)

    def __str__(self) -> str:
        return self._shown

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    def __repr__(self) -> str:
        return f"PeerText({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self.raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PeerText):
            return NotImplemented
        return self.raw == other.raw

    def __hash__(self) -> int:
        return hash((PeerText, self.raw))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"PeerText has no attribute that can be set: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"PeerText has no attribute that can be deleted: {name}")

    def __reduce__(self) -> tuple[type["PeerText"], tuple[str]]:
        return PeerText, (self.raw,)


def _strip(raw: str, limit: int) -> str:
    if limit < 1:
        raise MisuseError(f"A text is shown with at least 1 character, not {limit}.")
    if raw.isascii() and raw.isprintable():
        text = raw  # an offer has a hundred thousand of these, and nothing to be stripped in them
    else:
        text = _SURROGATE.sub("\ufffd", _HIDDEN.sub("", _SEQUENCE.sub("", raw)))
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS
