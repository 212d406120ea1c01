"""DataTokens: which token opens which data connection (core, pure).

A pair has four tokens a side, paired by index: what side A's token i opens is joined with what side B's token i opens.
A token is good for one connection, and until its pair's encrypted connections end. It is kept, and looked up, as its
hash, so that the time of a look-up tells nothing of a token.

Memory: about 1.5 KB a pair.
"""

from dataclasses import dataclass

from tallow_crypto import derive_key
from tallow_net.signaling import Side

_CONTEXT = "tallow/1 relay data token"


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """What a token opens: one end of connection `index` of a pair."""

    pair: int
    side: Side
    index: int


class DataTokens:
    """All tokens of one relay that are good now."""

    def __init__(self) -> None:
        self._places: dict[bytes, TokenPlace] = {}
        self._of_pair: dict[int, list[bytes]] = {}

    def add(self, pair: int, tokens: dict[Side, tuple[bytes, ...]]) -> None:
        """Make the tokens (32 random bytes each) of a new pair good."""
        hashes = self._of_pair[pair] = []
        for side, its in tokens.items():
            for index, token in enumerate(its):
                hashed = derive_key(_CONTEXT, token)
                self._places[hashed] = TokenPlace(pair, side, index)
                hashes.append(hashed)

    def take(self, token: bytes) -> TokenPlace | None:
        """Use a token up; None where it is not known, was used, or its pair is over."""
        return self._places.pop(derive_key(_CONTEXT, token), None)

    def forget(self, pair: int) -> None:
        """End what is left of a pair's tokens; an unknown pair is ignored."""
        for hashed in self._of_pair.pop(pair, ()):
            self._places.pop(hashed, None)

    def __len__(self) -> int:
        """Return how many tokens are good now."""
        return len(self._places)
