"""One byte stream over QUIC, with back-pressure in both directions; the engine beneath may be either library."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError, NotTallowError, PeerUnreachableError
from tallow_net.limits import CLOSE_QUIC_S
from tallow_net.transport.datagrams import DatagramLoop
from tallow_net.transport.guarded import GuardedTransport
from tallow_net.transport.interface import TransportKind, remote_name
from tallow_net.transport.quic_engine import WINDOW_BYTES, engine_library
from tallow_net.transport.sockets import CLOSED_HERE
from tallow_net.transport.tcp import ALPN

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from tallow_net.errors import ConnectError, LostBy
    from tallow_net.transport.datagrams import Address
    from tallow_net.transport.quic_engine import QuicEngine

logger = logging.getLogger("tallow_net.quic")

# send() waits while more than this is unacknowledged: 1 Gbit/s at 32 ms. It is held in memory once.
UNACKNOWLEDGED_BYTES = 4 * 1024 * 1024

# What send() copies between two turns of the loop.
PIECE_BYTES = 256 * 1024

# This many reports in a row that nobody listens there, with no datagram between them, end the connection:
# one alone may be forged, or be about a port that was closed for a moment.
REFUSALS = 3

# Event loops round a wait up to a whole millisecond, and the pacing between datagrams is far less: what is
# due within this is done in the next turn instead (loopback under load: 10.2 against 8.7 MB/s).
TIMER_SLACK_S = 0.0008

# TLS alerts appear as error codes 0x100 to 0x1ff (RFC 9001, section 4.8).
CRYPTO_ERRORS = range(0x100, 0x200)

# Error codes that we send (RFC 9000, section 20.1).
NO_ERROR, CONNECTION_REFUSED, FLOW_CONTROL_ERROR, APPLICATION_ERROR = 0x0, 0x2, 0x3, 0xC

# What both engines say to themselves when version negotiation fails; it has no code of its own.
NO_COMMON_VERSION = "common protocol version"


class QuicTransport(GuardedTransport):
    """The first bidirectional stream of a QUIC connection.

    send() waits while more than `unacknowledged_limit` bytes are under way; the peer may send no more than
    `window` bytes beyond what was read here.
    """

    kind = TransportKind.QUIC

    def __init__(
        self,
        engine: QuicEngine,
        loop: DatagramLoop,
        remote: str,
        *,
        window: int = WINDOW_BYTES,
        unacknowledged_limit: int = UNACKNOWLEDGED_BYTES,
        route_changed: Callable[[bytes, bool], None] | None = None,
    ) -> None:
        self.remote = remote
        self.engine = engine
        self._datagrams = loop
        self._window = window
        self._limit = unacknowledged_limit
        # A waiting send() goes on only when a fair piece has room: one large copy instead of many small.
        self._slack = min(PIECE_BYTES, unacknowledged_limit // 2)
        self._route_changed = route_changed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._soon: asyncio.Handle | None = None
        self._refusals = 0
        # What was sent before the client had opened the stream.
        self._early = bytearray()
        self._finish_early = False
        self._received: deque[memoryview] = deque()
        self._unread = 0
        self._peer_finished = False
        self._released = False
        self._lost: ConnectionLostError | None = None
        self._foreign = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._answered = engine.is_client
        self._turn = 0
        self._arrived = asyncio.Event()
        self._acknowledged = asyncio.Event()

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        family: socket.AddressFamily = socket.AF_INET,
        *,
        server_name: str | None = None,
        unreachable: type[ConnectError] = PeerUnreachableError,
        window: int = WINDOW_BYTES,
        unacknowledged_limit: int = UNACKNOWLEDGED_BYTES,
    ) -> Self:
        """Connect to a literal IP address and complete the handshake; the caller sets the deadline.

        The certificate is not judged here: it stands in `peer_certificate_der`. Raises `unreachable`, or
        NotTallowError where another protocol answers.
        """
        remote = remote_name(address)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(address)
        except OSError as error:
            sock.close()
            reason = error.strerror or type(error).__name__
            raise unreachable(f"{remote} cannot be reached over UDP: {reason}.") from error
        return await cls.over(
            sock,
            server_name=server_name or address[0],
            unreachable=unreachable,
            window=window,
            unacknowledged_limit=unacknowledged_limit,
        )

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        *,
        server_name: str,
        unreachable: type[ConnectError] = PeerUnreachableError,
        window: int = WINDOW_BYTES,
        unacknowledged_limit: int = UNACKNOWLEDGED_BYTES,
    ) -> Self:
        """Complete the handshake over a connected UDP socket, which is the transport's from now on; as `connect`."""
        peer = sock.getpeername()
        remote = remote_name(peer)

        def route(_data: bytes, _address: Address) -> QuicTransport:
            return transport

        def refused(error: OSError) -> None:
            transport.refused(error)

        library = engine_library()
        datagrams = DatagramLoop(sock, connected_to=peer, route=route, refused=refused)
        engine = library.client(server_name, window=window, probes=datagrams.unfragmented)
        transport = cls(engine, datagrams, remote, window=window, unacknowledged_limit=unacknowledged_limit)
        transport.on_change(released=datagrams.close)
        try:
            engine.connect(peer, now=time.monotonic())
            transport.advance(time.monotonic())
            await transport.opened()
        except ConnectionLostError as error:
            transport.abort()
            if transport.foreign:
                raise NotTallowError(f"{remote} speaks QUIC, but not Tallow.") from error
            raise unreachable(f"{remote} cannot be reached over QUIC.") from error
        except BaseException:
            transport.abort()
            raise
        return transport

    @property
    def foreign(self) -> bool:
        """Whether the peer speaks QUIC, but not ours."""
        return self._foreign

    async def opened(self) -> None:
        """Wait until the handshake is complete; ConnectionLostError."""
        await asyncio.shield(self._opened)

    def on_change(self, *, opened: Callable[[], None] | None = None, released: Callable[[], None]) -> None:
        """Call `opened` when the handshake is complete, `released` when nothing more is sent or received."""
        self._on_open = opened
        self._on_release = released

    _on_open: Callable[[], None] | None = None
    _on_release: Callable[[], None] | None = None

    # --- the stream -----------------------------------------------------------------------------------------

    async def _send(self, views: list[memoryview]) -> None:
        for view in views:
            start = 0
            while start < len(view):
                await self._room()
                piece = bytes(view[start : start + min(PIECE_BYTES, self._limit - self._unacknowledged())])
                start += len(piece)
                self._turn += len(piece)
                self._write(piece)

    async def _receive(self, buffer: memoryview) -> int:
        """Take what has arrived, which is what lets the peer send more."""
        while not self._received:
            if self._peer_finished:
                return 0
            if self._lost is not None:
                raise self._lost
            self._arrived.clear()
            await self._arrived.wait()
            if self._closing:
                raise ConnectionLostError(CLOSED_HERE, by="us")
        return self._take(buffer)

    async def _end_stream(self) -> None:
        self._finish_early = True
        self._flush_early()
        self._transmit_soon()

    async def flush(self) -> None:
        """Wait until the peer has acknowledged everything that was sent, its end included."""
        while not self._all_acknowledged():
            if self._lost is not None:
                raise self._lost
            self._acknowledged.clear()
            await self._acknowledged.wait()

    async def _close_in_order(self) -> None:
        if self._released:
            return
        self._closing = True
        self._wake()
        if not self._broken and self._lost is None:
            await self._finish_once()
        try:
            async with asyncio.timeout(CLOSE_QUIC_S):
                await self.flush()
        except TimeoutError:
            logger.debug("%s did not acknowledge everything in %.0f s", self.remote, CLOSE_QUIC_S)
        self._leave(NO_ERROR)

    def abort(self) -> None:
        """See Transport."""
        self._closing = True
        self._leave(APPLICATION_ERROR)

    def _leave(self, code: int) -> None:
        self._closing = True
        self._fail(code, ConnectionLostError(CLOSED_HERE, by="us"))

    def _fail(self, code: int, reason: ConnectionLostError) -> None:
        """Tell the peer, and end. What was received stays readable, unless we closed."""
        if not self._released:
            self.engine.close(error_code=code)
            # Sent twice, since nothing answers it: a peer that misses it waits for its own idle timeout.
            self._transmit(time.monotonic(), copies=2)
            self._end(reason)

    def _write(self, piece: bytes) -> None:
        if not self.engine.stream_open:
            self._early += piece
        else:
            self._flush_early()
            self.engine.write(piece)
            self._transmit_soon()

    def _unacknowledged(self) -> int:
        return len(self._early) + self.engine.unacknowledged

    def _all_acknowledged(self) -> bool:
        if self._unacknowledged():
            return False
        return not self._finished or self.engine.end_acknowledged

    async def _room(self) -> None:
        self._check_sendable()
        if self._turn >= PIECE_BYTES:
            # Not a wait for the peer, only a turn for the others.
            self._turn = 0
            await asyncio.sleep(0)
        while self._unacknowledged() >= self._limit - self._slack:
            self._check_sendable()
            self._turn = 0
            self._acknowledged.clear()
            await self._acknowledged.wait()
        self._check_sendable()

    def _check_sendable(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self._closing:
            raise ConnectionLostError(CLOSED_HERE, by="us")

    def _take(self, buffer: memoryview) -> int:
        filled = 0
        room = len(buffer)
        while self._received and filled < room:
            piece = self._received[0]
            count = min(len(piece), room - filled)
            buffer[filled : filled + count] = piece[:count]
            filled += count
            if count == len(piece):
                self._received.popleft()
            else:
                self._received[0] = piece[count:]
        self._unread -= filled
        if not self._released and self.engine.taken(filled):
            self._transmit_soon()
        return filled

    # --- the datagram loop's side ---------------------------------------------------------------------------

    def receive(self, data: bytes, segment_bytes: int, address: Address, now: float) -> None:
        """Take datagrams that came together."""
        self._refusals = 0
        if self._released:
            return
        try:
            self.engine.receive(data, segment_bytes, address, now)
        except Exception:
            logger.debug("the QUIC engine failed on a datagram", exc_info=True)
            self._end(ConnectionLostError("The QUIC connection failed.", by="network"))

    def refused(self, error: OSError) -> None:
        """Note that the system reported an error for what was sent."""
        self._refusals += 1
        if self._refusals >= REFUSALS or not self._opened.done():
            reason = error.strerror or type(error).__name__
            self._end(ConnectionLostError(f"Nobody listens at {self.remote} ({reason}).", by="network"))

    def advance(self, now: float) -> None:
        """Handle events, send what is due, set the timer."""
        if self._released:
            return
        try:
            self.engine.deliver(self)
            if self._released:
                return
            self._flush_early()
        except Exception:  # as in `receive`
            logger.debug("the QUIC engine failed on an event", exc_info=True)
            self._end(ConnectionLostError("The QUIC connection failed.", by="network"))
            return
        self._transmit(now)
        if not self._answered:
            # An Initial that opens is acknowledged at once. Nothing to send means that it did not open.
            self._end(ConnectionLostError("The first datagram was not QUIC.", by="peer"))
        self._acknowledged.set()

    def _flush_early(self) -> None:
        """Write what was sent before the client's stream was known."""
        if not (self._early or self._finish_early) or not self.engine.stream_open:
            return
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self.engine.write(early)
        if self._finish_early:
            self._finish_early = False
            self.engine.end()

    # --- what the engine tells ------------------------------------------------------------------------------

    def route(self, connection_id: bytes, *, on: bool) -> None:
        """See EngineUser."""
        if self._route_changed is not None and not self._released:
            self._route_changed(connection_id, on)

    def broken_off(self) -> None:
        """See EngineUser."""
        self._fail(NO_ERROR, ConnectionLostError("The peer broke off the stream.", by="peer"))

    def take_in(self, data: bytes, *, ends: bool) -> None:
        """See EngineUser."""
        if self._released:
            return
        if data:
            self._received.append(memoryview(data))
            self._unread += len(data)
        self._peer_finished = self._peer_finished or ends
        if self._unread > self._window:
            # The engine has checked it already; this stands should that ever change.
            self._fail(
                FLOW_CONTROL_ERROR,
                ConnectionLostError("The peer sent more than it was allowed to.", by="peer"),
            )
        self._arrived.set()

    def handshake_completed(self, alpn: str | None) -> None:
        """See EngineUser."""
        if self._released:
            return
        if alpn != ALPN:
            self._foreign = True
            self._fail(
                CONNECTION_REFUSED,
                ConnectionLostError("The peer does not speak Tallow.", by="peer"),
            )
            return
        self.peer_chain_der = self.engine.peer_chain()
        self.peer_certificate_der = self.peer_chain_der[0] if self.peer_chain_der else None
        if self.engine.is_client:
            self.engine.open_stream()
        if not self._opened.done():
            self._opened.set_result(None)
            if self._on_open is not None:
                self._on_open()

    def terminated(self, code: int, reason: str) -> None:
        """See EngineUser."""
        by: LostBy = "peer"
        sentence = "The peer closed the connection."
        if reason == "Idle timeout":
            by, sentence = "network", "Nothing was heard of the peer for too long."
        elif code in CRYPTO_ERRORS or NO_COMMON_VERSION in reason:
            self._foreign = True
            sentence = f"The QUIC connection failed (error 0x{code:x})."
        self._end(ConnectionLostError(sentence, by=by))

    def _end(self, reason: ConnectionLostError) -> None:
        """Release everything; what was received stays readable."""
        if self._released:
            return
        self._released = True
        if self._lost is None:
            self._lost = reason
        if not self._opened.done():
            self._opened.set_exception(reason)
            self._opened.exception()  # nobody may be waiting
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        self._timer = self._soon = None
        self._datagrams.forget(self)
        if self._on_release is not None:
            self._on_release()
        self._wake()
        self._report_end()

    def _wake(self) -> None:
        self._arrived.set()
        self._acknowledged.set()

    def _transmit_soon(self) -> None:
        if self._soon is None and not self._released:
            self._soon = self._loop.call_soon(self._transmit_now)

    def _transmit_now(self) -> None:
        self._soon = None
        self.advance(time.monotonic())

    def _transmit(self, now: float, *, copies: int = 1) -> None:
        if self._datagrams.full and copies == 1:
            self._datagrams.call_when_writable(self)
            return
        try:
            datagrams = self.engine.datagrams_to_send(now)
        except Exception:  # as in `receive`
            logger.debug("the QUIC engine failed in sending", exc_info=True)
            self._end(ConnectionLostError("The QUIC connection failed.", by="network"))
            return
        self._answered = self._answered or bool(datagrams)
        for _ in range(copies):
            self._datagrams.send_all(datagrams)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        due = self.engine.get_timer()
        if due is None or self._released:
            return
        if self._timer is not None:
            # One that fires too early only looks again; that is cheaper than a new timer for each datagram.
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        delay = due - now
        self._timer = self._loop.call_later(delay if delay > TIMER_SLACK_S else 0.0, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._released:
            return
        now = time.monotonic()
        due = self.engine.get_timer()
        if due is not None and due <= now + TIMER_SLACK_S:
            now = max(now, due)
            self.engine.handle_timer(now)
            self.advance(now)
        else:
            self._set_timer(now)
