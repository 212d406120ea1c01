"""The pure core: bytes, messages and `now` in, bytes and events out. No asyncio, socket, file, clock or random source."""
