"""Protocol of Tallow and an async API to send and receive files."""

__all__: list[str] = []
