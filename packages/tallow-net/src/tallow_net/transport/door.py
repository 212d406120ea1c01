"""PlainDoor: a plain protocol beside TLS on one TCP port, told apart by its first byte.

A TLS connection begins with 0x16 (RFC 8446, section 5.1: a handshake record). What begins with the first byte of a
door's preamble is read as `preamble || body` and given away; nothing is ever answered, and not a byte behind the body
is taken out of the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class PlainDoor:
    """What is let in beside TLS.

    `preamble` begins with another byte than 0x16; `body_bytes` follow it. `enter(sock, host, body, gone)` takes a
    connection that showed both: it owns the non-blocking socket, and calls `gone` once when it has closed it.
    """

    preamble: bytes
    body_bytes: int
    enter: Callable[[socket.socket, str, bytes, Callable[[], None]], None]


async def knocks(door: PlainDoor, sock: socket.socket) -> bool:
    """Wait for the first byte of a connection, leave it where it is, and return whether it is the door's."""
    while True:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(sock)
        except OSError:
            return False  # whoever reads next learns why
        else:
            return first == door.preamble[:1]


async def read_body(door: PlainDoor, sock: socket.socket) -> bytes | None:
    """Read the preamble and the body behind it; None where the peer sends something else, or ends."""
    said = b""
    whole = len(door.preamble) + door.body_bytes
    while len(said) < whole:
        try:
            piece = sock.recv(whole - len(said))
        except (BlockingIOError, InterruptedError):
            await _readable(sock)
            continue
        except OSError:
            return None
        said += piece
        if not piece or not said.startswith(door.preamble[: len(said)]):
            return None
    return said[len(door.preamble) :]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
