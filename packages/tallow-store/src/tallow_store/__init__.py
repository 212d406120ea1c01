"""What Tallow keeps on disk: configuration, identity, known relays."""

__all__: list[str] = []
