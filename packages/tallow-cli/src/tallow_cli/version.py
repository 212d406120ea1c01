"""The version of this package, as a constant: reading it from the installed metadata costs 32 ms."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
