"""Blind relay of Tallow: joins two connections and copies bytes it cannot read."""

__all__: list[str] = []
