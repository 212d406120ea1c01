"""One world from one tape: what is sent over which wires onto which disk, what goes wrong, and what must hold.

A user stands behind both sides: after a failure both are started again under a new code, as a person would, until all
troubles are over ("healed"); what is begun after that has to succeed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blake3 import blake3
from tallow_crypto import chunk_digest
from tallow_protocol.code import Code
from tallow_protocol.core.chunking import PACK_FILE_BYTES
from tallow_protocol.core.journal import decode_journal
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.disk.leftovers import clean_partials, list_partials
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.events import OnConflict, PathKind, PathLimit

from tests.sim.disk import OUT, SimDisk
from tests.sim.net import Net
from tests.sim.peers import Peer, ReceivingPeer, SendingPeer
from tests.sim.standins import REAL_EVERY, Cryptography
from tests.sim.tape import Tape
from tests.sim.wire import Nature
from tests.sim.world import BrokenRuleError, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tallow_protocol.core.journal import Journal
    from tallow_protocol.core.resuming import Learned

    from tests.sim.disk import Node

ATTEMPTS = 6
LONG_REJOIN_S = 600.0
"""With this limit no trouble of connections alone ends a session that has begun on both sides."""

PATIENCE_S = 15 * 60.0
"""How long the second side may take once the first has ended: its rejoin limit is ten minutes."""

TIME_S = 30 * 60.0
"""From the start of an attempt to its end on both sides, whatever went wrong."""

WORDS = ("copper", "lantern", "cactus"), ("velvet", "walnut", "harbor")
SIZES = (5, 0, 1, 300_000, 64 * 1024, 64 * 1024 + 1, 256 * 1024 + 1, 600_000, 1_000_000)
EVIL_NAMES = (
    "../secretfile",
    "/etc/secretfile",
    "secretfile\x00",
    "con",
    "a/../b",
    "x" * 300,
    ".tallow-partial",
    "e\u0301",
)
LIMITS = (PathLimit.RELAY_ONLY, PathLimit.DIRECT_ONLY, PathLimit.ANY)
KINDS = ("", "", "text", "zeros")
TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(99, 0, -1))
STALLS = (1.0, 5.0, 20.0, 60.0)
PATHS = (
    (PathKind.DIRECT_TCP, False),
    (PathKind.DIRECT_TCP, True),
    (PathKind.DIRECT_QUIC, False),
    (PathKind.RELAY_TCP, True),
)
# Codes of errors that some trouble may lead to; what is not in the list of a world's troubles is a finding.
GONE = frozenset({"peer_left", "relay_unreachable", "peer_unreachable", "no_such_code", "expired", "in_use"})
DISK = frozenset({"no_space", "not_writable", "file"})
MIDDLE = GONE | {
    "violation",
    "wrong_code",
    "burned",
    "not_tallow",
    "relay_refused",
    "version",
    "two_receivers",
}


class Contents:
    """Source files whose bytes come from their names: no byte is kept, whatever their size."""

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self._files = files
        self.changed_after: float | None = None
        self.now: Callable[[], float] = lambda: 0.0
        self.opened = 0

    def piece(self, path: str, offset: int, length: int) -> bytes:
        """Return bytes of a file: noise, or what its name promises."""
        if not length:
            return b""
        if "text" in path:
            start = offset % len(TEXT)
            return (TEXT * (length // len(TEXT) + 2))[start : start + length]
        if "zeros" in path:
            return bytes(length)
        return blake3(path.encode()).digest(length=length, seek=offset)

    def open(self, file: int) -> _Source:
        """Open entry `file`."""
        self.opened += 1
        return _Source(self, *self._files[file])


class _Source:
    def __init__(self, contents: Contents, path: str, size: int) -> None:
        self._contents = contents
        self._path = path
        self._size = size
        self._closed = False

    def read_into(self, offset: int, buffer: memoryview) -> int:
        length = max(min(len(buffer), self._size - offset), 0)
        buffer[:length] = self._contents.piece(self._path, offset, length)
        return length

    def changed(self) -> bool:
        at = self._contents.changed_after
        return at is not None and self._contents.now() >= at

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._contents.opened -= 1


class Remembered:
    """A sender's memory of digests, as the store keeps them."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._kept: dict[tuple[int, int], bytes] = {}

    def known(self, file: int, chunk_size: int) -> bytes:
        return self._kept.get((file, chunk_size), b"")

    def learn(self, learned: Sequence[Learned]) -> None:
        for piece in learned:
            before = self.known(piece.file, piece.chunk_size)
            if len(before) == piece.first * 32:
                self._kept[piece.file, piece.chunk_size] = before + piece.digests


@dataclass
class Outcome:
    """What a run of a world gives."""

    tape: list[int]
    digest: str
    log: list[str]
    events: int
    attempts: int
    broken: BrokenRuleError | None = None
    seen: set[str] = field(default_factory=set)


class Scenario:
    """A world with its people."""

    def __init__(self, tape: Tape, *, real: bool) -> None:
        self.tape = tape
        self.world = World(tape)
        self.crypto = Cryptography(self.world, real=real)
        below, pick = tape.below, tape.pick
        nature = Nature(
            rate=pick((4e6, 1e6, 2e5, 5e7)),
            delay_s=pick((0.01, 0.0, 0.15, 0.5)),
            recut=below(2) == 1,
            jitter_s=pick((0.0, 0.0, 0.2, 2.0)),
        )
        in_flight = pick((16, 4, 2, 1)) * 128 * 1024
        self.net = Net(self.world, self.crypto, nature, in_flight_bytes=in_flight)
        self.net.chunk_bytes = pick((64, 128)) * 1024
        self.net.compress = below(4) == 3
        self.net.epoch_shift = pick((14, 2))
        self.net.answer_s = pick((0.0, 0.5, 50.0))
        self.cost_s = pick((0.0, 0.001, 0.05))
        self.scan_s = pick((0.0, 0.3, 5.0))
        self.rejoin_s = pick((600.0, 0.0, 30.0))
        self.net.direct = below(2) == 1
        self.verify = below(8) == 7
        self.disk = SimDisk(tape, folds=below(8) == 7, hard_links=below(8) != 7)
        self.entries = self._entries()
        self.total_bytes = sum(entry.size or 0 for entry in self.entries)
        self.files = {entry.path: entry.size for entry in self.entries if entry.kind is EntryKind.FILE}
        self.contents = Contents([(entry.path, entry.size or 0) for entry in self.entries])
        self.contents.now = lambda: self.world.now
        self._digests: dict[str, bytes] = {}
        self._right: dict[int, int] = {}
        self._judged: dict[int, tuple[int, int, int]] = {}
        self.digests = Remembered(self) if below(2) == 1 else None
        self.seen: set[str] = set()
        self.allowed: frozenset[str] = frozenset()
        self.troubled = False
        self.sender: SendingPeer | None = None
        self.receiver: ReceivingPeer | None = None
        self.attempts = 0
        self.crashed = self.overwrite = False
        self.at_name: Callable[[], None] | None = None
        self.world.watchers.append(self._look)
        # How long an undisturbed transfer takes, about: troubles come within that time.
        self.span_s = (
            6 * nature.delay_s + self.total_bytes / nature.rate + self.scan_s + self.net.answer_s + 0.2
        )

    def _entries(self) -> list[Entry]:
        entries: list[Entry] = []
        folder = ""
        if self.tape.below(3) == 2:
            folder = "plainfolder-Name/"
            entries.append(
                Entry("plainfolder-Name", EntryKind.FOLDER, None, 0o750, 1_700_000_000_000_000_000)
            )
        for number in range(1 + self.tape.below(4)):
            size = self.tape.pick(SIZES)
            entries.append(
                Entry(f"{folder}secretfile-{number}.bin", EntryKind.FILE, size, 0o640, 10**18 + number)
            )
        if folder and self.tape.below(3) == 2:
            entries.append(
                Entry(
                    f"{folder}secretlink",
                    EntryKind.LINK,
                    None,
                    0o777,
                    10**18,
                    entries[-1].path.partition("/")[2],
                )
            )
        return entries

    # -- one attempt ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let both people try until it is done."""
        with self.crypto.in_place():
            for number in range(ATTEMPTS):
                self.attempts = number + 1
                if number == ATTEMPTS - 1:
                    self.heal()
                if self.attempt(troubles=not self.world.healed):
                    self.done()
                    return
                if self.world.healed:
                    raise BrokenRuleError("after the faults heal it is done", self._story())
                if self.tape.below(2) == 0:
                    self.heal()
                self.world.run(lambda: False, self.world.now + 100.0)
                self._calm()
                self._partials()
                self.overwrite = self.tape.below(2) == 1
                if not self.overwrite:
                    self.disk.clear()
        raise BrokenRuleError("after the faults heal it is done", "no attempt was left")

    def _partials(self) -> None:
        """List what was left, as `tallow resume list` does, and clean it now and then."""
        for info in list_partials(OUT, calls=self.disk):
            if info.path not in self.files or info.verified_bytes > info.size_bytes:
                raise BrokenRuleError("what is left can be listed", f"{info.path}: {info.verified_bytes}")
        if self.tape.below(4) == 3:
            clean_partials(OUT, calls=self.disk)
            if list_partials(OUT, calls=self.disk):
                raise BrokenRuleError("what is left can be cleaned", "something stays")

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self.world.healed = True
        self._calm()

    def _calm(self) -> None:
        """End the troubles of the attempt before."""
        self.net.tamper = None
        self.net.down_until = 0.0
        self.disk.full = False
        self.disk.fail_at.clear()
        self.contents.changed_after = None
        if not self.net.relay.up:
            self.net.relay.start()

    def attempt(self, *, troubles: bool) -> bool:
        """Start both sides under a new code; return whether both say that all is done."""
        words = WORDS[self.attempts % 2]
        code = Code.parse(f"{4821 + self.attempts}-" + "-".join(words))
        self.net.secrets = [word.encode() for word in words] + [b"secretfile", b"secretlink", b"plainfolder"]
        started = self.world.now
        self._calm()
        self.troubled = self.second = False
        self.evil: list[Entry] = []
        self.at_name = None
        self.limits = PathLimit.ANY, PathLimit.ANY
        self.survives = self.rejoin_s >= LONG_REJOIN_S
        self.allowed = frozenset()
        if troubles:
            self._odd()
        options = {"verify": self.verify, "cost_s": self.cost_s, "rejoin_s": self.rejoin_s}
        self.sender = SendingPeer(
            self.net,
            code,
            self.evil or self.entries,
            self.contents,
            scan_s=self.scan_s,
            digests=self.digests,
            limit=self.limits[0],
            **options,
        )
        policy = OnConflict.OVERWRITE if self.overwrite else OnConflict.ASK
        folder = OutputFolder(OUT, calls=self.disk, on_conflict=policy)
        self.receiver = ReceivingPeer(
            self.net, code, folder, name="receiver", limit=self.limits[1], **options
        )
        self.net.find_other = self._other
        self.net.code_told = self._told
        self._came = False
        if troubles:
            self._plan(code)
        self.sender.meet()
        self._let_go(started)
        return self._agree()

    def _let_go(self, started: float) -> None:
        """Let both sides come to their ends; who waits for a handshake with nobody is called off by its person."""
        peers = self.sender, self.receiver
        self.world.run(lambda: any(peer.ended for peer in peers), started + TIME_S)
        self.world.run(lambda: all(peer.ended for peer in peers), self.world.now + PATIENCE_S)
        for peer in peers:
            if not peer.ended and peer.session is not None:
                raise BrokenRuleError("both sides come to an end", self._story())
        for peer in peers:
            if not peer.ended:
                peer.crash()

    def _other(self, peer: Peer) -> Peer | None:
        return self.receiver if peer is self.sender else self.sender

    def _told(self, peer: Peer) -> None:
        if not self._came and peer is self.sender and self.receiver.alive:
            self._came = True
            self.world.after(0.1, self.receiver.meet)

    def _agree(self) -> bool:
        """Look whether both sides tell the same; return whether they tell of success."""
        sender, receiver = self.sender, self.receiver
        if self.survives and receiver.summary is None and (sender.error or receiver.error):
            raise BrokenRuleError("a session outlives its connections", self._story())
        for peer in (sender, receiver):
            if peer.error is not None:
                self.seen.add(peer.error.code)
                if peer.error.code not in self.allowed:
                    raise BrokenRuleError("a failure has a cause", f"{peer.name}: {self._story()}")
        self._alike(sender, receiver)
        if receiver.alive and self.disk.handles:
            raise BrokenRuleError("nothing is left open", f"{self.disk.handles} handles")
        if sender.alive and self.contents.opened:
            raise BrokenRuleError("nothing is left open", f"{self.contents.opened} sources")
        self.contents.opened = 0
        return sender.error is None and receiver.error is None and receiver.summary is not None

    def _alike(self, sender: Peer, receiver: Peer) -> None:
        rule = "both sides report the same"
        if sender.summary is not None and receiver.summary is None and not self.second:
            raise BrokenRuleError(rule, "the sender says done, the receiver does not")
        if receiver.summary is None:
            return
        if sender.summary is None and not self.troubled:
            raise BrokenRuleError(rule, "the receiver says done, the sender does not")
        for summary in filter(None, (sender.summary, receiver.summary)):
            if (summary.files, summary.bytes) != (len(self.files), self.total_bytes):
                raise BrokenRuleError(rule, f"{summary} of {len(self.files)} files")
        self._whole()

    def _forgive(self) -> None:
        """Leave small files alone that lost their bytes before Done was said: only from then on they are promised."""
        for path, node in self.disk.tree():
            if self.files.get(path, PACK_FILE_BYTES + 1) <= PACK_FILE_BYTES:
                self._right[node.number] = node.version

    def _whole(self) -> None:
        found = dict(self.disk.tree())
        self._right.clear()
        for path in self.files:
            if path in found:
                self._right_bytes(path, found[path])
        missing = [path for path in self.files if path not in found]
        if missing:
            raise BrokenRuleError("what is done is there", ", ".join(missing))
        for entry in self.entries:
            node = found.get(entry.path)
            # A folder that stood there before, be it from an interrupted try, keeps its mode.
            mode_matters = entry.kind is EntryKind.FILE or (
                entry.kind is EntryKind.FOLDER and not self.overwrite
            )
            if node is None or (mode_matters and node.mode != entry.mode):
                raise BrokenRuleError("what is done is there", f"{entry.path} is not as it was sent")

    def done(self) -> None:
        """Look at the end: all there, nothing left over, even after a power loss."""
        left = self.disk.own()
        if left and not self.crashed and not self.disk.failed:
            raise BrokenRuleError("nothing is left over", ", ".join(name for name, _ in left))

    def _story(self) -> str:
        def state(peer: Peer | None) -> str:
            if peer is None:
                return "absent"
            if not peer.alive:
                return "dead"
            if not peer.ended:
                return "running"
            return f"{peer.error.code} ({peer.error})" if peer.error else "done"

        return f"sender {state(self.sender)}, receiver {state(self.receiver)} at {self.world.now:.1f} s"

    # -- what goes wrong -----------------------------------------------------------------------------------

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
        self.receiver.answer = self.tape.pick(("no", "unattended"))

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
                self._forgive()

        if self.tape.below(2) == 0:
            self._later(at_s, "power loss", power)
        else:  # in the moment when the first large file gets its name
            self.at_name = lambda: self._later(0.0, "power loss", power)

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
        self.contents.changed_after = self.world.now + at_s

    def _cancel(self, at_s: float, code: Code) -> None:
        self.survives = False
        of_receiver = self.tape.below(2)
        self._trouble(GONE, "cancelled", "interrupted", "refused")

        def cancel() -> None:
            peer = self.receiver if of_receiver else self.sender
            if peer.alive and not peer.ended and peer.session is not None:
                peer.session.cancel(self.world.now)
                peer.settle()

        self._later(at_s, "cancel", cancel)

    # -- what must hold ------------------------------------------------------------------------------------

    def _digest(self, path: str) -> bytes:
        if path not in self._digests:
            self._digests[path] = blake3(self.contents.piece(path, 0, self.files[path])).digest()
        return self._digests[path]

    def _look(self) -> None:
        """Look at everything, after every event."""
        if self.disk.changed:
            self.disk.changed = False
            for path, node in self.disk.tree():
                if not node.folder and not node.target:
                    self._right_bytes(path, node)
                    if self.at_name is not None and len(node.data) > PACK_FILE_BYTES:
                        due, self.at_name = self.at_name, None
                        due()
            for name, folder in self.disk.own():
                if name.startswith(".tallow-partial"):
                    self._journals(dict(folder.entries.values()))
        pipeline = self.sender.pipeline if self.sender is not None else None
        if pipeline is not None:
            self._window(pipeline)

    def _right_bytes(self, path: str, node: Node) -> None:
        if self._right.get(node.number) == node.version:
            return
        if path not in self.files:
            raise BrokenRuleError("a final name never holds wrong bytes", f"{path} was never sent")
        if len(node.data) != self.files[path] or blake3(node.data).digest() != self._digest(path):
            raise BrokenRuleError(
                "a final name never holds wrong bytes", f"{path}: {len(node.data)} of {self.files[path]}"
            )
        self._right[node.number] = node.version

    def _journals(self, nodes: dict[str, Node]) -> None:
        """Look whether every journal tells only of chunks that are right and durable."""
        for name, journal in nodes.items():
            data = nodes.get(name.removesuffix(".journal") + ".data")
            if not name.endswith(".journal") or data is None:
                continue
            seen = journal.version, data.number, data.durable_version
            if self._judged.get(journal.number) == seen:
                continue
            self._judged[journal.number] = seen
            said = decode_journal(bytes(journal.data))
            if said is not None:
                self._chunks(said, data)

    def _chunks(self, said: Journal, data: Node) -> None:
        rule = "the journal is a subset of what was verified and durable"
        size = said.header.chunk_size
        for index in range(said.count):
            digest = said.digests[index * 32 : (index + 1) * 32]
            if chunk_digest(data.durable[index * size : (index + 1) * size]) != digest:
                raise BrokenRuleError(rule, f"{said.header.path}: chunk {index} is not durable")
            length = min(size, said.header.size - index * size)
            if chunk_digest(self.contents.piece(said.header.path, index * size, length)) != digest:
                raise BrokenRuleError(rule, f"{said.header.path}: chunk {index} was never sent")

    def _window(self, pipeline) -> None:
        window = pipeline.window
        unsettled = [
            sending.counted_bytes
            for lane in pipeline._lanes.values()
            for _, sending in lane.records
            if not sending.settled
        ]
        if sum(unsettled) != window.in_flight_bytes:
            raise BrokenRuleError(
                "the window counts what is on its way",
                f"{sum(unsettled)} are, {window.in_flight_bytes} counted",
            )
        if window.in_flight_bytes > window.limit_bytes and len(unsettled) > 1:
            raise BrokenRuleError(
                "buffers within window times chunk", f"{window.in_flight_bytes} of {window.limit_bytes}"
            )


def run_tape(tape: Tape, *, real: bool = False) -> Outcome:
    """Run the world of a tape."""
    scenario = Scenario(tape, real=real)
    broken: BrokenRuleError | None = None
    try:
        scenario.run()
    except BrokenRuleError as error:
        broken = error
    world = scenario.world
    return Outcome(
        tape.values, world.digest, world.log, world.events, scenario.attempts, broken, scenario.seen
    )


def run_seed(seed: int) -> Outcome:
    """Run the world of a seed; one in fifty with real cryptography."""
    return run_tape(Tape(seed), real=seed % REAL_EVERY == 0)
