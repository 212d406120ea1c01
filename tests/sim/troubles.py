"""What goes wrong in a world: each trouble draws its moment and its kind from the tape, and says which errors it excuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.code import Code
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.events import PathKind, PathLimit

from tests.sim.disk import SimDisk
from tests.sim.offers import EVIL_NAMES, NEWER_NS, break_stream
from tests.sim.peers import ReceivingPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.aio.streambuffer import StreamBuffer

    from tests.sim.net import Net
    from tests.sim.offers import Offer
    from tests.sim.peers import SendingPeer
    from tests.sim.rules import Rules
    from tests.sim.tape import Tape
    from tests.sim.world import World

LIMITS = (PathLimit.RELAY_ONLY, PathLimit.DIRECT_ONLY, PathLimit.ANY)
STALLS = (1.0, 5.0, 20.0, 60.0)
PATHS = (
    (PathKind.DIRECT_TCP, False),
    (PathKind.DIRECT_TCP, True),
    (PathKind.DIRECT_QUIC, False),
    (PathKind.RELAY_TCP, True),
)
# Codes of errors that some trouble may lead to; what is not in the list of a world's troubles is a finding.
GONE = frozenset({"peer_left", "relay_unreachable", "peer_unreachable", "no_such_code", "expired", "in_use"})
DISK = frozenset({"no_space", "not_writable", "file", "unreadable"})
MIDDLE = GONE | {
    "violation",
    "wrong_code",
    "burned",
    "not_tallow",
    "relay_refused",
    "version",
    "two_receivers",
}
ANY = (
    MIDDLE
    | DISK
    | {"integrity", "cancelled", "interrupted", "refused", "no_path", "source_changed", "bad_name"}
)
ANY |= {"conflict", "unverified", "not_verified", "peer_failed"}
"""A side that lies may make the other say almost anything, as long as it is one of the typed errors."""


class Troubles:
    """The part of a scenario that harms it."""

    world: World
    tape: Tape
    net: Net
    disk: SimDisk
    offer: Offer
    rules: Rules
    sender: SendingPeer | None
    receiver: ReceivingPeer | None
    buffer: StreamBuffer | None
    span_s: float
    verify: bool
    attempts: int

    def begin_troubles(self) -> None:
        """Forget those of the attempt before."""
        self.troubled = self.second = self.traitor = self.intruded = False
        self.crashed_now = False
        self.survives = False
        self.evil: list[Entry] = []
        self.limits = PathLimit.ANY, PathLimit.ANY
        self.allowed: frozenset[str] = frozenset()

    def _plan(self, code: Code) -> None:
        kinds = [
            self._cut,
            self._stall,
            self._deafen,
            self._attach,
            self._data,
            self._down,
            self._relay_crash,
            self._kill,
            self._power,
            self._power,
            self._disk_fault,
            self._hostile,
            self._stranger,
            self._source,
            self._cancel,
            self._refuse,
            self._disk_says_no,
            self._traitor,
            self._intruder,
            self._input,
        ]
        for _ in range(self.tape.pick((0, 1, 1, 2, 3, 5))):
            self.tape.pick(kinds)(self.tape.span(0.0, 1.5 * self.span_s), code)

    def _odd(self) -> None:
        """Let one of the people be odd: names that no disk should get, or paths that the two do not agree on."""
        odd = self.tape.below(16)
        if odd == 15:
            name = self.tape.pick(EVIL_NAMES)
            self.evil = [Entry(name, EntryKind.FILE, 5, 0o644, 0)]
            self._trouble(GONE, "bad_name", "violation")
            self.survives = False
        elif odd == 14:
            self.limits = self.tape.pick(LIMITS), self.tape.pick(LIMITS)
            self._trouble(GONE, "no_path", "peer_unreachable", "violation")
            self.survives = False

    def _refuse(self, at_s: float, code: Code) -> None:
        self.survives = False
        self._trouble(GONE, "refused")
        self.receiver.answer = self.tape.pick(("no", "unattended", "looked"))

    def _trouble(self, *codes: str | frozenset[str]) -> None:
        self.troubled = True
        for code in codes:
            self.allowed |= code if isinstance(code, frozenset) else {code}

    def _wire(self):
        wires = [wire for wire in self.net.wires if wire.open]
        return self.tape.pick(wires) if wires else None

    def _begun(self) -> bool:
        return all(peer.session is not None and peer.session.begun for peer in (self.sender, self.receiver))

    def _later(self, at_s: float, what: str, call: Callable[[], None]) -> None:
        attempt = self.attempts

        def due() -> None:
            if self.attempts == attempt and not self.world.healed:
                # A receiver that was never acknowledged comes back for 20 s alone: the sender may not have begun.
                heard = self._begun() and self.receiver.session.acknowledged > 0
                self.survives = self.survives and heard
                self.world.note(what)
                call()

        self.world.after(at_s, due)

    def _cut(self, at_s: float, code: Code) -> None:
        later_s = self.tape.pick((0.0, 1.0, 10.0))
        self._trouble(GONE)
        self._later(at_s, "cut", lambda: (wire := self._wire()) and wire.cut(later_s))

    def _stall(self, at_s: float, code: Code) -> None:
        for_s = self.tape.pick(STALLS)
        self._trouble(GONE)
        self._later(at_s, f"stall {for_s:g} s", lambda: (wire := self._wire()) and wire.stall(for_s))

    def _deafen(self, at_s: float, code: Code) -> None:
        side = self.tape.below(2)
        self._trouble(GONE)
        self._later(at_s, "half-open", lambda: (wire := self._wire()) and wire.deafen(side))

    def _attach(self, at_s: float, code: Code) -> None:
        path, dedicated = self.tape.pick(PATHS)
        of_receiver = self.tape.below(2)

        def attach() -> None:
            peer = self.receiver if of_receiver else self.sender
            if peer.alive and not peer.ended and peer.session is not None and peer.session.begun:
                peer.attach(path, dedicated=dedicated)

        self._later(at_s, f"attach {path.value}", attach)

    def _data(self, at_s: float, code: Code) -> None:
        """Open plain data connections through the relay; a thief may come with a token that it saw."""
        thief = self.tape.below(2)

        def join() -> None:
            if self._begun() and not self.sender.ended and not self.receiver.ended:
                tokens = list(zip(self.sender.tokens, self.receiver.tokens, strict=True))
                if tokens:
                    self.sender.attach_data(tokens[0][0])
                    self.receiver.accept_data(tokens[0][1])
                    if thief:
                        self.world.after(
                            self.tape.span(0.0, self.span_s), lambda: self.net.dial_data(tokens[0][0])
                        )

        self._later(at_s, "data connection", join)

    def _down(self, at_s: float, code: Code) -> None:
        for_s = self.tape.pick(STALLS)
        self._trouble(GONE)

        def down() -> None:
            self.net.down_until = self.world.now + for_s
            for wire in self.net.wires:
                if wire.open:
                    wire.cut()

        self._later(at_s, f"network down {for_s:g} s", down)

    def _relay_crash(self, at_s: float, code: Code) -> None:
        for_s = self.tape.pick((1.0, 10.0, 100.0))
        self._trouble(GONE)

        def crash() -> None:
            if self.net.relay.up:
                self.net.relay.crash()
                self.world.after(for_s, lambda: self.net.relay.up or self.net.relay.start())

        self._later(at_s, f"relay crash {for_s:g} s", crash)

    def _kill(self, at_s: float, code: Code) -> None:
        self.survives = False
        of_receiver = self.tape.below(2)
        self._trouble(GONE)

        def kill() -> None:
            (self.receiver if of_receiver else self.sender).crash()
            if of_receiver:
                self.crashed = True
                self.disk.kill()

        self._later(at_s, "crash", kill)

    def _power(self, at_s: float, code: Code) -> None:
        self.survives = False
        self._trouble(GONE)

        def power() -> None:
            self.receiver.crash()
            self.crashed = True
            self.disk.power_loss()
            if self.receiver.summary is None:
                self.rules.forgive()

        if self.tape.below(2) == 0:
            self._later(at_s, "power loss", power)
        else:  # in the moment when the first large file gets its name
            self.rules.at_name = lambda: self._later(0.0, "power loss", power)

    def _disk_fault(self, at_s: float, code: Code) -> None:
        self.survives = False
        kind = self.tape.below(3)
        self._trouble(GONE, DISK)
        if kind == 2:
            self._later(at_s, "disk full", lambda: setattr(self.disk, "full", True))
            return
        operation = self.disk.operations + 1 + self.tape.below(60)
        self.disk.fail_at[operation] = (5, 28)[kind]

    def _hostile(self, at_s: float, code: Code) -> None:
        self.survives = False
        every = self.tape.pick((32, 8, 128))
        self._trouble(MIDDLE)
        before: list[bytes] = []

        def tamper(data: bytes) -> list[bytes]:
            if not self.tape.chance(every):
                before[:] = [data]
                return [data]
            self.world.note("tampered")
            how = self.tape.below(4)
            if how == 0:
                at = 4 + self.tape.below(max(len(data) - 4, 1))
                if at >= len(data):
                    return [data]
                changed = bytearray(data)
                changed[at] ^= 1 << self.tape.below(8)
                return [bytes(changed)]
            if how == 1:
                return []
            if how == 2:
                return [*before, data]
            return [data, data]

        def begin() -> None:
            self.net.tamper = tamper

        self._later(at_s, "hostile middle", begin)

    def _stranger(self, at_s: float, code: Code) -> None:
        self.survives = False
        right = self.tape.below(3) == 2
        self.second = self.second or right
        self._trouble(GONE, frozenset({"wrong_code", "burned", "two_receivers"}))
        text = code if right else Code.parse(f"{code.nameplate}-zebra-zebra-zebra")
        stranger = ReceivingPeer(
            self.net,
            text,
            OutputFolder("/elsewhere", calls=SimDisk(self.tape)),
            name="stranger",
            verify=False,
            cost_s=0.0,
        )
        self._later(at_s / 4, "stranger", stranger.meet)

    def _source(self, at_s: float, code: Code) -> None:
        self.survives = False
        self._trouble(GONE, "source_changed", "file", "peer_failed")
        self.offer.contents.changed_after = self.world.now + at_s

    def _disk_says_no(self, at_s: float, code: Code) -> None:
        self.survives = False
        if self.tape.below(2) == 0:
            self.disk.read_only = True
            self._trouble(GONE, "not_writable")
        else:
            self.disk.free_blocks = self.tape.pick((0, 1, None))
            self._trouble(GONE, "no_space")

    def _traitor(self, at_s: float, code: Code) -> None:
        """Let one side, which knows the code, seal what breaks the protocol."""
        self.survives = False
        self.second = self.traitor = True
        of_receiver = self.tape.below(2)
        self._trouble(GONE, ANY)

        def betray() -> None:
            (self.receiver if of_receiver else self.sender).spoils = True

        self._later(min(at_s, self.span_s / 2), "traitor", betray)

    def _intruder(self, at_s: float, code: Code) -> None:
        """Let somebody else put a thing where a file is about to come."""
        self.survives = False
        path = self.tape.pick(list(self.offer.files))
        # An offered link that would lead through somebody else's is refused for good, as it should be.
        as_link = self.tape.below(2) == 1 and not self.offer.has_links
        self._trouble(GONE, "conflict", "not_writable")

        def intrude() -> None:
            folder = path.rpartition("/")[0]
            there = {found for found, _ in self.disk.tree()}
            if path not in there and (not folder or folder in there):
                if as_link:
                    self.disk.place_link(path, "/etc")
                else:
                    self.disk.place(path, b"an intruder's", NEWER_NS)
                node = dict(self.disk.tree())[path]
                self.rules.stood[node.number] = path, node.version
                self.intruded = True

        self._later(at_s, "intruder", intrude)

    def _input(self, at_s: float, code: Code) -> None:
        """Let the input of a stream break."""
        if self.offer.form == "stream":
            self.survives = False
            self._trouble(GONE, "unreadable", "file")
            self._later(at_s, "input broke", lambda: break_stream(self.buffer))

    def _cancel(self, at_s: float, code: Code) -> None:
        self.survives = False
        of_receiver = self.tape.below(2)
        doubts = self.verify and self.tape.below(2) == 1
        self._trouble(GONE, "cancelled", "interrupted", "refused", "not_verified")

        def cancel() -> None:
            peer = self.receiver if of_receiver else self.sender
            if peer.alive and not peer.ended and peer.session is not None and doubts:
                if peer.session.awaits_confirmation and peer.session.begun:
                    peer.session.confirm(yes=False, now=self.world.now)
                    peer.settle()
            elif peer.alive and not peer.ended and peer.session is not None:
                peer.session.cancel(self.world.now)
                peer.settle()

        self._later(at_s, "cancel", cancel)
