"""Send a file from one terminal to another under a short code, sealed end to end."""

__all__: list[str] = []
