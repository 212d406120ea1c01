"""Keeping: which further connections a session should have, which to try next, and when. Pure; `now` is an argument.

Three kinds of step lead to a connection:

- `UseToken`: a plain data connection through the relay. Both sides use the tokens of Ready in the same order, one
  after the other, since token i of one side joins token i of the other. After two that failed or were lost, file
  data stays inside the encrypted connection.
- `Dial`: a direct connection, to what the peer offered or, where the session itself is direct, from B to the
  address that it dialled. After a failure or a loss it is tried again after 2, 4, 8 ... s.
- `Listen`: be reachable, and tell the peer where. TCP first; QUIC too, where no direct connection comes in time.

`aio/paths.py` does the steps and tells how they ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tallow_net.signaling import Side

from tallow_protocol.core.rejoining import Backoff, Returning, Way
from tallow_protocol.core.state import TransferState
from tallow_protocol.events import PathLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ATTACH_WAIT_S",
    "BULK_BYTES",
    "HALF_OPEN_LINKS",
    "Dial",
    "Keeping",
    "Listen",
    "Return",
    "Sight",
    "Situation",
    "Step",
    "UseToken",
]

BULK_BYTES: Final = 1024 * 1024
"""An offer of no more than this travels where it is: opening a connection takes as long as sending it."""

ATTACH_WAIT_S: Final = 10.0
"""A try without Attach and Ack in this time has failed; an accepted connection has as long."""

HALF_OPEN_LINKS: Final = 8
"""Accepted connections that have not attached, side by side; one more is closed. Each holds 20 KB for 10 s."""

SECOND_FIRST_S: Final = 0.3
"""B lets A dial first: one direct connection is enough. QUIC waits as long for TCP."""

TOKEN_FAILURES: Final = 2
"""So many data connections through a relay may fail: a firewall or a relay that cuts them will cut the next too."""

TOKEN_PAUSE_S: Final = 2.0
"""Between the beginnings of two tries with tokens, so that the other side sees the first one's end too."""

RETRY_FIRST_S: Final = 2.0
RETRY_MOST_S: Final = 64.0
STEADY_S: Final = 30.0
"""A direct connection that lived this long was a good one: its loss is tried again as soon as a first failure."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What does not change: who we are, how both met, what our user allows.

    `tokens` is how many of them the relay gave; `tcp` and `quic` what may be used at all. `room` says that a relay
    is known at which both sides can meet again.
    """

    side: Side
    relayed: bool
    limit: PathLimit = PathLimit.ANY
    tokens: int = 0
    tcp: bool = True
    quic: bool = True
    room: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What the session shows at a moment.

    `ready`: the peer is authorised and the session goes on. `direct` counts the direct connections besides the one
    that carried the handshake, tries left out; `dedicated` those of them that are plain TCP. `places` is how many
    candidates of the peer's may be tried. `gone_since` is when the last connection was lost, None while one stands.
    """

    ready: bool
    state: TransferState = TransferState.OFFERING
    offer_bytes: int | None = None
    allowed: PathLimit = PathLimit.ANY
    wanted: int = 1
    direct: int = 0
    dedicated: int = 0
    places: int = 0
    gone_since: float | None = None


@dataclass(frozen=True, slots=True)
class UseToken:
    """Open a data connection through the relay with token `index`; it has failed after `wait_s`."""

    index: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a direct connection; `further` where there is one already, whose address is then the one to dial."""

    number: int
    further: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen with TCP, QUIC or both, and tell the peer of all that listens; with neither: listen no more."""

    tcp: bool
    quic: bool

    @property
    def any(self) -> bool:
        """Return whether anything listens."""
        return self.tcp or self.quic


@dataclass(frozen=True, slots=True)
class Return:
    """Come back to the other side, of which no connection is left: in the relay's room, or where it listens."""

    way: Way


Step = UseToken | Dial | Listen | Return


@dataclass(slots=True)
class _Tokens:
    """Data connections through the relay. What is lost counts as failed: what cuts one will cut the next."""

    count: int
    first: int = 0
    started: int = 0
    running: int = 0
    failures: int = 0
    not_before: float = 0.0
    begun_at: dict[int, float] = field(default_factory=dict)

    def spent(self) -> bool:
        return self.failures >= TOKEN_FAILURES or self.started >= self.count

    def due(self, wanted: int, now: float) -> Iterator[UseToken]:
        while self.running < wanted and not self.spent() and now >= self.not_before:
            # The other side may be waiting with the token before this one, for all of its time.
            wait_s = ATTACH_WAIT_S if self.failures == 0 else 2 * ATTACH_WAIT_S
            step = UseToken(self.first + self.started, wait_s)
            self.begun_at[step.index] = now
            self.started += 1
            self.running += 1
            yield step

    def ended(self, step: UseToken) -> None:
        if step.index < self.first:
            return  # of an earlier pair at the relay, whose tokens ended with it
        self.running -= 1
        self.failures += 1
        self.not_before = max(self.not_before, self.begun_at.pop(step.index) + TOKEN_PAUSE_S)

    def next_at(self, wanted: int) -> float | None:
        return self.not_before if self.running < wanted and not self.spent() else None


@dataclass(slots=True)
class _Dials:
    """Direct connections beside others: at first at once or after A's turn, then after about 2, 4, 8 ... s."""

    first_wait_s: float
    backoff: Backoff
    started: int = 0
    trying: int = 0
    not_before: float = 0.0
    seen: int = 0
    short: bool = False
    opened_at: dict[int, float] = field(default_factory=dict)

    def look(self, places: int, have: int, wanted: int, now: float) -> None:
        """Begin to wait for our turn when there is something new to dial, or one more connection to have."""
        short = places > 0 and have + self.trying < wanted
        if places > self.seen:
            self.backoff.reset()
            self.not_before = now + self.first_wait_s
        elif short and not self.short:
            self.not_before = max(self.not_before, now + self.first_wait_s)
        self.short = short
        self.seen = places

    def again(self, now: float) -> None:
        """Begin anew after an absence, as at first."""
        self.backoff.reset()
        self.not_before = now + self.first_wait_s

    def due(self, have: int, wanted: int, now: float) -> Iterator[Dial]:
        while self.seen and now >= self.not_before and have + self.trying < wanted:
            self.trying += 1
            self.started += 1
            yield Dial(self.started, further=have > 0)

    def opened(self, step: Dial, now: float) -> None:
        self.trying -= 1
        self.opened_at[step.number] = now

    def ended(self, step: Dial, now: float) -> None:
        opened_at = self.opened_at.pop(step.number, None)
        if opened_at is None:
            self.trying -= 1
        elif now - opened_at >= STEADY_S:
            self.backoff.reset()
        self.not_before = max(self.not_before, now + self.backoff.next_s())

    def next_at(self, have: int, wanted: int) -> float | None:
        return self.not_before if self.seen and have + self.trying < wanted else None


def _longest() -> float:
    return 1.0


class Keeping:
    """Decides; calls may not overlap. `look` gives each step once, `opened` and `ended` tell what became of it.

    `random` gives a number from 0 up to 1, which spreads the waits.
    """

    def __init__(self, situation: Situation, random: Callable[[], float] = _longest) -> None:
        self._situation = situation
        self._returning = Returning(random)
        self._was_gone = False
        self._tokens = _Tokens(situation.tokens if situation.relayed and situation.tcp else 0)
        wait_s = SECOND_FIRST_S if situation.relayed and situation.side is Side.B else 0.0
        self._dials = _Dials(wait_s, Backoff(RETRY_FIRST_S, RETRY_MOST_S, random))
        self._listening = Listen(tcp=False, quic=False)
        self._quic_at: float | None = None
        self._deadline: float | None = None

    @property
    def next_deadline(self) -> float | None:
        """Return when `look` may have a step though nothing else happened; None for never. Good after a `look`."""
        return self._deadline

    def offers(self, sight: Sight) -> bool:
        """Return whether we listen, tell the peer where, and dial what it tells: never where a side forbids it."""
        return (
            self._situation.relayed
            and self._situation.limit is not PathLimit.RELAY_ONLY
            and sight.allowed is not PathLimit.RELAY_ONLY
            and sight.ready
            and (_bulk(sight) or sight.allowed is PathLimit.DIRECT_ONLY)
        )

    def look(self, sight: Sight, now: float) -> list[Step]:
        """Return what to start now. Without any connection nothing counts but to have one again."""
        if sight.gone_since is not None:
            self._was_gone = True
            ways = self._ways(sight)
            due = self._returning.look(sight.gone_since, ways, now)
            self._deadline = self._returning.next_at(ways)
            return [Return(way) for way in due]
        if self._was_gone:
            # An address may have changed with the connection: what listens is told anew.
            self._was_gone = False
            self._listening = Listen(tcp=False, quic=False)
            self._dials.again(now)
        if not sight.ready or sight.state in (TransferState.COMPLETED, TransferState.FAILED):
            self._deadline = None
            return []
        inside, have, direct, places = self._wanted(sight)
        self._dials.look(places, have, direct, now)
        steps: list[Step] = list(self._listen(sight, now))
        steps += self._tokens.due(inside, now)
        steps += self._dials.due(have, direct, now)
        times = (self._tokens.next_at(inside), self._dials.next_at(have, direct), self._quic_due(sight))
        self._deadline = min((at for at in times if at is not None), default=None)
        return steps

    def _ways(self, sight: Sight) -> tuple[Way, ...]:
        """Return how the other side can be come back to. A sender that is dialled itself can only wait."""
        mine = self._situation
        ways = [Way.ROOM] if mine.room else []
        forbidden = PathLimit.RELAY_ONLY in (mine.limit, sight.allowed)
        if (sight.places > 0 and not forbidden) if mine.relayed else mine.side is Side.B:
            ways.append(Way.DIRECT)
        return tuple(ways)

    def retry_at(self, sight: Sight, now: float) -> float | None:
        """Return when the next try to come back begins, `now` where one is under way; None where there is none."""
        ways = self._ways(sight)
        at = self._returning.next_at(ways)
        return at if at is not None or not ways else now

    def network_changed(self, now: float) -> None:
        """Take note that this machine has another network: tries to come back begin anew."""
        self._returning.afresh(now)

    def new_tokens(self, first: int, count: int) -> None:
        """Take note that both met at a relay again: tokens from `first` on, and none before."""
        mine = self._situation
        self._tokens = _Tokens(count if mine.relayed and mine.tcp else 0, first)

    def opened(self, step: Step, now: float) -> None:
        """Take note that the step's connection attached."""
        if isinstance(step, Dial):
            self._dials.opened(step, now)
        elif isinstance(step, Return):
            self._returning.ended(step.way, now)

    def ended(self, step: Step, now: float) -> None:
        """Take note that the step failed, or that its connection was lost."""
        if isinstance(step, Dial):
            self._dials.ended(step, now)
        elif isinstance(step, UseToken):
            self._tokens.ended(step)
        elif isinstance(step, Return):
            self._returning.ended(step.way, now)

    def _wanted(self, sight: Sight) -> tuple[int, int, int, int]:
        """Return how many connections through the relay, direct ones there are, and wanted, and places to dial."""
        mine = self._situation
        flows = sight.state is TransferState.TRANSFERRING
        inside = sight.wanted if flows and _bulk(sight) and sight.allowed is not PathLimit.DIRECT_ONLY else 0
        if not mine.relayed:
            dials = mine.side is Side.B and mine.tcp and _bulk(sight)
            return 0, sight.dedicated, sight.wanted if dials else 0, 1 if dials else 0
        if not self.offers(sight):
            return inside, sight.direct, 0, 0
        # More than one only of those that a thread serves: QUIC connections share what they find.
        return inside, sight.direct, sight.wanted if sight.dedicated else 1, sight.places

    def _listen(self, sight: Sight, now: float) -> Iterator[Listen]:
        if not self.offers(sight):
            if self._listening.any and sight.allowed is PathLimit.RELAY_ONLY:
                self._listening = Listen(tcp=False, quic=False)
                yield self._listening
            return
        mine = self._situation
        wanted = Listen(tcp=mine.tcp, quic=mine.quic and not mine.tcp)
        if self._quic_at is None:
            self._quic_at = now + SECOND_FIRST_S
        elif mine.quic and now >= self._quic_at and (sight.direct == 0 or self._listening.quic):
            wanted = Listen(tcp=mine.tcp, quic=True)
        if wanted != self._listening:
            self._listening = wanted
            yield wanted

    def _quic_due(self, sight: Sight) -> float | None:
        waits = self._situation.quic and self._situation.tcp and not self._listening.quic
        return self._quic_at if waits and sight.direct == 0 else None


def _bulk(sight: Sight) -> bool:
    return sight.offer_bytes is not None and sight.offer_bytes > BULK_BYTES
