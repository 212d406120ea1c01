"""The path of the data in words: a sentence's end for the screen, a label for the bar, the whole way at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_cli.output import sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_protocol import PathKind

__all__ = ["change", "journey", "label", "way"]


def way(path: PathKind) -> str:
    """Return "directly over TCP" or "through the relay over QUIC"."""
    return f"{'directly' if path.direct else 'through the relay'} over {path.transport.upper()}"


def change(path: PathKind, connections: int) -> str:
    """Return the sentence for a change: "The data goes directly over TCP now, on 2 connections."."""
    spread = f", on {sizes.count(connections, 'connection')}" if connections > 1 else ""
    return f"The data goes {way(path)} now{spread}."


def label(path: PathKind, connections: int = 1) -> str:
    """Return "direct-tcp", or "direct-tcp x2" where two connections share the data."""
    return f"{path.value} x{connections}" if connections > 1 else path.value


def journey(paths: Sequence[str]) -> str:
    """Return "relay-quic, then direct-tcp": the first and the last path that carried data, in order."""
    if len(paths) > 1 and paths[0] != paths[-1]:
        return f"{paths[0]}, then {paths[-1]}"
    return paths[-1] if paths else ""
