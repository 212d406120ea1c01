"""The relay as its clients see it: addresses, pins, the signaling session and the client."""

__all__: list[str] = []
