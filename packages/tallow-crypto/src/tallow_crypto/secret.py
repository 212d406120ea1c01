"""A value that must not be seen, and the comparison for values that may be."""

import hmac
from typing import NoReturn, SupportsIndex, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


def equal(a: Buffer, b: Buffer) -> bool:
    """Tell whether two values are equal, in a time that depends on their lengths only."""
    return hmac.compare_digest(a, b)


class Secret:
    """Bytes that show only their length: in repr, logs, tracebacks, pickles and copies.

    `reveal` is the one way to the bytes, so that every use can be found by its name. Python cannot erase
    memory: a Secret promises not to be printed, not to be wiped.
    """

    __slots__ = ("__data",)

    def __init__(self, data: Buffer) -> None:
        """Copy `data`, of any length."""
        self.__data = bytes(data)

    def reveal(self) -> bytes:
        """Return the bytes themselves."""
        return self.__data

    def __len__(self) -> int:
        return len(self.__data)

    def __bool__(self) -> bool:
        # An empty Secret is still a Secret: `if secret` must not depend on its content.
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__data, other.__data)

    def __hash__(self) -> NoReturn:
        # A set or a dict compares by hash first, and that is not constant-time.
        raise TypeError("a Secret is not hashable; keep it in a list or under a public name")

    def __repr__(self) -> str:
        return f"Secret({len(self.__data)} bytes)"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; pass the object itself, or call reveal()")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret is not copied; pass the object itself")

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        raise TypeError("a Secret is not copied; pass the object itself")
