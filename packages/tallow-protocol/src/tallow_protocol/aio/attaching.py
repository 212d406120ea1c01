"""Attaching: how one more connection of a running session becomes a link, from either end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from typing import TYPE_CHECKING

from tallow_net.transport.interface import TransportKind
from tallow_net.transport.tcp import TcpTransport

from tallow_protocol.core.attach import ATTACH_TYPE
from tallow_protocol.core.keeping import ATTACH_WAIT_S
from tallow_protocol.errors import AttachError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tallow_net import FrameStream, Transport

    from tallow_protocol.aio.network import AddressWatch
    from tallow_protocol.aio.shell import SessionShell
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.session import Session
    from tallow_protocol.events import PathKind

__all__ = ["Attaching"]


class Attaching:
    """Says Attach, answers it, and gives what attached to the shell, which owns it from then on.

    A call that raises leaves the connection to its caller.
    """

    def __init__(
        self, shell: SessionShell, session: Session, watch: AddressWatch, clock: Callable[[], float]
    ) -> None:
        self._shell = shell
        self._session = session
        self._watch = watch
        self._clock = clock
        self._spare: list[int] = []
        self._used: set[int] = set()

    @property
    def small_segments(self) -> bool:
        """Return whether a new TCP connection keeps to segments that every path carries."""
        return self._session.stalled

    @contextlib.contextmanager
    def number(self) -> Iterator[int]:
        """Give a connection number of ours; one whose try failed is given again, unless its Ack verified."""
        number = self._spare.pop(0) if self._spare else self._session.next_number()
        try:
            yield number
        except BaseException:
            if number not in self._used:
                self._spare.append(number)
                self._spare.sort()
            raise
        finally:
            self._used.discard(number)

    async def ask(
        self, frames: FrameStream, number: int, path: PathKind, wanted: Callable[[], bool] = lambda: True
    ) -> Link:
        """Say Attach, and nothing else before the Ack verifies; `wanted` is asked once it came.

        Raises AttachError, and the NetErrors of the connection.
        """
        session = self._session
        opener = session.open_link(number, secrets.token_bytes(32))
        await frames.write(opener.attach)
        ack = await frames.read()
        if ack is None or not wanted() or session.over:
            raise AttachError("a connection ended before it was attached")
        give = self._giver(frames)
        link = session.opened_link(
            opener, ack, self._clock(), path=path, dedicated=frames.transport.kind is TransportKind.TCP
        )
        self._used.add(number)
        with self._lost_on_error(link):
            give(link)
        return link

    async def answer(self, frames: FrameStream, attach: bytes | None, path: PathKind) -> Link:
        """Answer an Attach; the link is proven once a record of the peer opens on it. Raises as `ask` does."""
        session = self._session
        if not attach or attach[0] != ATTACH_TYPE or not session.begun or session.over:
            raise AttachError("a connection did not begin with an Attach")
        link, ack = session.accept_link(
            attach,
            secrets.token_bytes(32),
            self._clock(),
            path=path,
            dedicated=frames.transport.kind is TransportKind.TCP,
        )
        with self._lost_on_error(link):
            try:
                async with asyncio.timeout(ATTACH_WAIT_S):
                    await frames.write(ack)
            except TimeoutError:
                raise AttachError("a connection took no answer to its Attach") from None
            self._giver(frames)(link)
        return link

    @contextlib.contextmanager
    def _lost_on_error(self, link: Link) -> Iterator[None]:
        """Leave no link in the session whose connection the shell did not get."""
        try:
            yield
        except BaseException:
            self._session.lost(link, self._clock())
            self._shell.poke()
            raise

    def _giver(self, frames: FrameStream) -> Callable[[Link], None]:
        """Return what gives a link to the shell. Raises AttachError where the peer spoke out of turn."""
        transport: Transport = frames.transport
        give: Callable[[Link], None]
        if isinstance(transport, TcpTransport) and transport.kind is TransportKind.TCP:
            _, early = frames.detach()
            if early:
                raise AttachError("the other side spoke before its turn")
            give = partial(_give_socket, self._shell, transport)
        else:
            give = partial(self._shell.add, frames=frames)

        def watched(link: Link) -> None:
            give(link)
            self._watch.bound(link, transport.local)

        return watched


def _give_socket(shell: SessionShell, transport: TcpTransport, link: Link) -> None:
    shell.add_socket(link, transport.take_socket())
