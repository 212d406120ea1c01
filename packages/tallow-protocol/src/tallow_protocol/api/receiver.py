"""Receiver: meets the sender, shows the offer, and writes what is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from tallow_net import PeerText

from tallow_protocol.api.options import TransferOptions
from tallow_protocol.api.transfer import Transfer, ended
from tallow_protocol.code import Code
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import MisuseError, ProtocolError, UnreachableError
from tallow_protocol.events import OnConflict, TextReceived, TransferDone, TransferStarted

if TYPE_CHECKING:
    import os
    from collections.abc import Container

    from tallow_crypto import Fingerprint

    from tallow_protocol.aio.outputs import Outputs
    from tallow_protocol.aio.routes import Met, ReceiverRoute
    from tallow_protocol.core.receiver import ReceiverRole
    from tallow_protocol.disk.output import OutputFolder
    from tallow_protocol.events import Event

__all__ = ["Receiver"]


class Receiver(Transfer):
    """Receives one offer into the folder `into`, once the application said `accept()`.

    `peer` is HOST:PORT of a sender that listens itself; without it the relays of the options are asked, and without
    those this machine's networks. With `output`, a descriptor, the one file of the offer that is accepted is written
    there in place of the folder. With `show_text` a text becomes the event TextReceived, and nothing is written.
    """

    _sends = False

    def __init__(
        self,
        code: Code | str,
        into: str | os.PathLike[str],
        *,
        peer: str | None = None,
        on_conflict: OnConflict = OnConflict.ASK,
        output: int | None = None,
        show_text: bool = False,
        options: TransferOptions | None = None,
    ) -> None:
        super().__init__(options or TransferOptions())
        self._on_conflict = on_conflict
        self._output = output
        self._show_text = show_text
        self._folder: OutputFolder | None = None
        self._outputs: Outputs | None = None
        self._code = code
        self._into = into
        self._peer_text = peer
        self._address: tuple[str, int] | None = None
        self._role: ReceiverRole | None = None
        self._noting: asyncio.Task[None] | None = None

    async def _prepare(self) -> None:
        if isinstance(self._code, str):
            self._code = Code.parse(self._code)
        if self._peer_text is not None:
            from tallow_protocol.aio.addresses import parse_peer

            self._address = parse_peer(self._peer_text)
        elif not self._options.relays and not self._options.lan:
            raise UnreachableError(
                "there is no way to the sender: neither a relay nor the sender's address is known",
                hints=("give the relay that the sender uses, or the HOST:PORT that the sender shows",),
            )

    def _emit(self, event: Event) -> None:
        text = None if self._outputs is None else self._outputs.text
        if isinstance(event, TransferDone) and text is not None:
            super()._emit(TextReceived(PeerText.from_bytes(text)))
        super()._emit(event)
        if self._output is not None or text is not None:
            return
        if isinstance(event, TransferStarted) and self._peer is not None and event.bytes:
            remember = self._options.ports.partials.remember
            self._noting = asyncio.create_task(asyncio.to_thread(remember, self._peer, self._place()))

    def _place(self) -> str:
        """Return the output directory as it is found again."""
        from pathlib import Path

        return str(Path(self._into).absolute())

    def _forget_if_nothing_is_left(self, peer: Fingerprint) -> None:
        from tallow_protocol.disk.leftovers import is_unfinished

        place = self._place()
        with contextlib.suppress(ProtocolError):
            if not is_unfinished(place, peer):
                self._options.ports.partials.forget(peer, place)

    async def conflicts(self) -> tuple[PeerText, ...]:
        """Return the top-level names of the offer that stand in the folder, between `OfferReceived` and the answer.

        What an unfinished transfer of the same sender made there is none: it goes on.

        Raises NotWritableError where that cannot be seen.
        """
        folder, outputs, peer = self._folder, self._outputs, self._peer
        if folder is None or outputs is None or peer is None or not outputs.writes_files:
            return ()
        return tuple(PeerText(name) for name in await asyncio.to_thread(folder.conflicts, peer))

    async def unfinished_bytes(self) -> int:
        """Return how much of the offer an unfinished transfer of the same sender left, between `OfferReceived` and the answer.

        Raises NotWritableError where that cannot be seen.
        """
        folder, outputs, peer = self._folder, self._outputs, self._peer
        if folder is None or outputs is None or peer is None or not outputs.writes_files:
            return 0
        return await asyncio.to_thread(folder.unfinished_bytes, peer)

    def accept(self, *, chosen: Container[int] | None = None, on_conflict: OnConflict | None = None) -> None:
        """Say yes to `OfferReceived`: write it, or those of its entries whose numbers are `chosen`.

        `on_conflict` is the user's answer about what stands there already, in place of the receiver's own.
        """
        session = self._running()
        if self._folder is not None and on_conflict is not None:
            self._folder.on_conflict = on_conflict
        if self._role is not None:
            self._role.accept(session, time.monotonic(), chosen=chosen)
        self._poke()

    def refuse(self, *, unattended: bool = False, looked: bool = False) -> None:
        """Say no to `OfferReceived`.

        The sender is told so: `unattended` that nobody was there to decide, `looked` that a look was all that was
        wanted.
        """
        session = self._running()
        if self._role is not None:
            self._role.refuse(session, time.monotonic(), unattended=unattended, looked=looked)
        self._poke()

    async def _run(self) -> None:
        from tallow_protocol.aio.routes import (
            DirectReceiverRoute,
            RelayReceiverRoute,
            relay_client,
            relay_events,
        )

        self._machine.to(TransferState.CONNECTING)
        options = self._options
        if not isinstance(self._code, Code):
            raise MisuseError("enter the transfer with `async with` first")
        if options.lan and not options.relays:
            from tallow_protocol.code import lan_name_of

            self._lan_name = lan_name_of(self._code.nameplate)
        if self._address is not None:
            host, port = self._address
            await self._take(DirectReceiverRoute(host, port, options.transport, self._code, self._budget))
            return
        if not options.relays:
            from tallow_protocol.aio.lan import LanReceiverRoute

            await self._take(LanReceiverRoute(self._code, options.transport, self._budget, self._emit))
            return
        events = relay_events(self._emit, lambda: None)
        async with relay_client(
            options.relays,
            options.transport,
            options.ports.relays,
            events,
            carries_bulk=not options.plain_data,
        ) as relay:
            await self._take(RelayReceiverRoute(relay, self._code, self._budget))

    async def _somebody_meets(self, route: ReceiverRoute) -> Met:
        """Meet the sender, and take an identity meanwhile."""
        somebody = asyncio.create_task(self._be_somebody())
        try:
            met = await route.next()
            try:
                await somebody
            except BaseException:
                met.frames.transport.abort()
                raise
            return met
        finally:
            await ended((somebody,))

    async def _take(self, route: ReceiverRoute) -> None:
        from tallow_protocol.aio.outputs import DescriptorWriter, Outputs
        from tallow_protocol.core.receiver import ReceiverRole
        from tallow_protocol.disk.output import OutputFolder

        try:
            met = await self._somebody_meets(route)
            self._folder = OutputFolder(
                self._into, on_conflict=self._on_conflict, force_space=self._options.force_space
            )
            writer = None if self._output is None else DescriptorWriter(self._output)
            self._outputs = Outputs(self._folder, writer=writer, show_text=self._show_text)
            self._role = ReceiverRole(self._outputs, self._identity.public_key.fingerprint)
            session = self._make_session(met, self._role)
            await self._run_session(met, session, None)
        finally:
            await asyncio.shield(route.close())
            if self._noting is not None and self._peer is not None:
                await asyncio.gather(self._noting, return_exceptions=True)
                await asyncio.to_thread(self._forget_if_nothing_is_left, self._peer)
