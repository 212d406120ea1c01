"""Network layer of Tallow: transports, framing, signaling, relay client."""

__all__: list[str] = []
