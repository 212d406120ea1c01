"""Cryptography of Tallow: hybrid KEM, CPace, record sealing, signatures, hashing."""

__all__: list[str] = []
