"""Send a file from one terminal to another under a short code, sealed end to end."""

from tallow_cli.version import VERSION

__all__ = ["VERSION"]
