"""The protocol without input or output: bytes, messages and `now` in, bytes and events out.

Nothing here imports asyncio, a socket, a file, a clock or a random source; a test enforces it.
"""

__all__: list[str] = []
