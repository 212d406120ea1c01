"""The code: `NAMEPLATE-word-word-word`, or `NAMEPLATE:TEXT` of the users' own choice.

The nameplate, decimal without a leading zero, finds the room and is not secret. The words (or the text) are the
password of the handshake: nothing that leaves this machine before it depends on them, hashed or not. Case does not
matter, spaces do for dashes, and a word may be cut to a prefix that fits no other word. Text is taken verbatim, in
NFC (Unicode Standard Annex 15).
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tallow_crypto.hashing import derive_key
from tallow_crypto.secret import Secret

from tallow_protocol.core import labels
from tallow_protocol.errors import CodeFormatError, MisuseError, UnknownWordError
from tallow_protocol.limits import (
    CODE_TEXT_CHARACTERS_MAX,
    CODE_TEXT_CHARACTERS_MIN,
    CODE_WORDS_MAX,
    CODE_WORDS_MIN,
    NAMEPLATE_DIGITS_MAX,
    WORD_SUGGESTIONS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Code", "complete_word", "lan_name_of", "random_nameplate", "room_id_of", "word_list"]

_NAMEPLATE: Final = re.compile(rf"[1-9][0-9]{{0,{NAMEPLATE_DIGITS_MAX - 1}}}")
_BREAKS: Final = re.compile(r"[\s\-.,_\u2010-\u2015\u2212]+")
"""What separates words: spaces and the dashes that mail programs and phones make of "-"."""

_WORST_LENGTH: Final = 1024
"""Characters looked at; the longest code of 16 words has under 200."""

_LAN_NAME_DIGITS: Final = 16


@lru_cache(maxsize=1)
def word_list() -> tuple[str, ...]:
    """Return the 7,772 words in alphabetical order; none is a prefix of another. Read once, 0.6 MB."""
    from pkgutil import get_data  # importlib.resources costs ten times as much

    return tuple((get_data("tallow_protocol", "data/eff_large_wordlist.txt") or b"").decode("ascii").split())


def complete_word(prefix: str) -> tuple[str, ...]:
    """Return the words that begin with `prefix`, in any case; all of them for an empty one."""
    wanted, words = prefix.casefold(), word_list()
    start = bisect_left(words, wanted)
    end = bisect_left(words, wanted + "\x7f", start)
    return words[start:end]


def check_nameplate(nameplate: str) -> str:
    """Return `nameplate` if it is one. Raises CodeFormatError."""
    if not _NAMEPLATE.fullmatch(nameplate):
        raise CodeFormatError(
            f"a code begins with a number of at most {NAMEPLATE_DIGITS_MAX} digits that does not begin with 0"
        )
    return nameplate


def room_id_of(nameplate: str) -> bytes:
    """Return the 32-byte room id: BLAKE3-derive-key("tallow/1 room", nameplate)."""
    return derive_key(labels.ROOM, check_nameplate(nameplate).encode("ascii"))


def lan_name_of(nameplate: str) -> str:
    """Return the name announced on the local network: 16 hex digits of BLAKE3-derive-key("tallow/1 lan", nameplate)."""
    return derive_key(labels.LAN, check_nameplate(nameplate).encode("ascii")).hex()[:_LAN_NAME_DIGITS]


def random_nameplate(randbelow: Callable[[int], int]) -> str:
    """Return a nameplate of four digits; `randbelow(n)` gives a random number under n."""
    return str(1000 + randbelow(9000))


@dataclass(frozen=True, slots=True, repr=False)
class Code:
    """A code. `password` is PRS, what both sides must prove to know; `repr()` and `str()` show the nameplate alone."""

    nameplate: str
    password: Secret
    verbatim: bool = False

    def __repr__(self) -> str:
        return f"Code({self.nameplate}{':' if self.verbatim else '-'}...)"

    __str__ = __repr__

    @property
    def room_id(self) -> bytes:
        """The 32-byte id of the room where both sides meet; it depends on the nameplate alone."""
        return room_id_of(self.nameplate)

    def reveal(self) -> str:
        """Return the text to show or type; whoever sees it can take the transfer."""
        return f"{self.nameplate}{':' if self.verbatim else '-'}{self.password.reveal().decode('utf-8')}"

    @classmethod
    def generate(cls, nameplate: str, words: int, randbelow: Callable[[int], int]) -> Code:
        """Return a new code of `words` random words (3 to 16); `randbelow(n)` gives a random number under n."""
        if not CODE_WORDS_MIN <= words <= CODE_WORDS_MAX:
            raise CodeFormatError(f"a code has {CODE_WORDS_MIN} to {CODE_WORDS_MAX} words, not {words}")
        known = word_list()
        drawn = [randbelow(len(known)) for _ in range(words)]
        if not all(0 <= number < len(known) for number in drawn):
            raise MisuseError("the source of random numbers gave one out of range")
        return cls(
            check_nameplate(nameplate), Secret("-".join(known[number] for number in drawn).encode("ascii"))
        )

    @classmethod
    def parse(cls, text: str) -> Code:
        """Return the code in `text`, as typed. No guess is spent on what is refused here.

        Raises CodeFormatError where the text has not the form of a code, UnknownWordError where a word is not in
        the list or a prefix fits several words; neither holds more of the code than that one word.
        """
        if len(text) > _WORST_LENGTH:
            raise CodeFormatError("this is too long for a code")
        text = text.lstrip()
        nameplate, colon, own_text = text.partition(":")
        if colon and nameplate.isdecimal():
            return cls._parse_text(nameplate, own_text.rstrip("\r\n"))
        nameplate, *words = _BREAKS.split(text.strip())
        check_nameplate(nameplate)
        words = [word for word in words if word]
        if not CODE_WORDS_MIN <= len(words) <= CODE_WORDS_MAX:
            raise CodeFormatError(
                f"a code has {CODE_WORDS_MIN} to {CODE_WORDS_MAX} words, this one {len(words)}"
            )
        whole = [_whole_word(word.lower(), position) for position, word in enumerate(words, 1)]
        return cls(nameplate, Secret("-".join(whole).encode("ascii")))

    @classmethod
    def _parse_text(cls, nameplate: str, own_text: str) -> Code:
        check_nameplate(nameplate)
        own_text = unicodedata.normalize("NFC", own_text)
        if not CODE_TEXT_CHARACTERS_MIN <= len(own_text) <= CODE_TEXT_CHARACTERS_MAX:
            raise CodeFormatError(
                f"the text of a code has {CODE_TEXT_CHARACTERS_MIN} to {CODE_TEXT_CHARACTERS_MAX} characters,"
                f" this one {len(own_text)}"
            )
        if any("\ud800" <= character <= "\udfff" for character in own_text):
            raise CodeFormatError("the text of a code is not valid Unicode")
        return cls(nameplate, Secret(own_text.encode("utf-8")), verbatim=True)


def _whole_word(typed: str, position: int) -> str:
    fitting = complete_word(typed)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UnknownWordError(typed, fitting[:WORD_SUGGESTIONS], position=position, ambiguous=True)
    from difflib import get_close_matches

    near = tuple(get_close_matches(typed, word_list(), WORD_SUGGESTIONS, 0.7))
    raise UnknownWordError(typed, near, position=position)
