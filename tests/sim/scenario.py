"""One world from one tape: what is sent over which wires onto which disk, what goes wrong, and what must hold.

A user stands behind both sides: after a failure both are started again under a new code, as a person would, until all
troubles are over ("healed"); what is begun after that has to succeed.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from tallow_protocol.aio.outputs import Outputs
from tallow_protocol.code import Code
from tallow_protocol.core.journal import JournalHeader, encode_records, partial_name
from tallow_protocol.core.messages import EntryKind
from tallow_protocol.core.resuming import Learned
from tallow_protocol.disk.leftovers import PARTIALS_NAME, clean_partials, list_partials
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.errors import NotWritableError
from tallow_protocol.events import OnConflict

from tests.sim.disk import NEW_NS, OUT, SimDisk
from tests.sim.net import Net
from tests.sim.offers import SENT_NS, Offer, Remembered, SimWriter, offered, place_others
from tests.sim.peers import ReceivingPeer, SendingPeer
from tests.sim.rules import Rules
from tests.sim.standins import REAL_EVERY, Cryptography
from tests.sim.stretches import Stretches
from tests.sim.tape import Tape
from tests.sim.troubles import Troubles
from tests.sim.wire import Nature
from tests.sim.world import BrokenRuleError, World

if TYPE_CHECKING:
    from tallow_protocol.aio.streambuffer import StreamBuffer

    from tests.sim.peer import Peer

ATTEMPTS = 6
LONG_REJOIN_S = 600.0
"""With this limit no trouble of connections alone ends a session that has begun on both sides."""

PATIENCE_S = 15 * 60.0
"""How long the second side may take once the first has ended: its rejoin limit is ten minutes."""

TIME_S = 30 * 60.0
"""From the start of an attempt to its end on both sides, whatever went wrong."""

LARGE_CHUNK_BYTES = 4 * 1024 * 1024
"""The largest chunks there are, for the largest files."""

TERABYTE = {"large_bytes": (1 << 40) + 12_345, "left_bytes": 100 * 1024 * 1024}
"""What makes a world one of a terabyte, of which 99.99 % are there from before."""

WORDS = ("copper", "lantern", "cactus"), ("velvet", "walnut", "harbor")
ANSWERS = (OnConflict.OVERWRITE, OnConflict.RENAME, OnConflict.SKIP, OnConflict.NEWER)
"""What a person may say about what stands there already."""


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


@lru_cache(maxsize=1)
def _records(header: bytes, digests: bytes) -> bytes:
    """Return the records of a journal; those of a terabyte take a second."""
    return encode_records(header, 0, digests)


class Scenario(Troubles):
    """A world with its people."""

    def __init__(self, tape: Tape, *, real: bool, large_bytes: int = 0, left_bytes: int = 0) -> None:
        """`large_bytes`: one file of so many travels, all but the last `left_bytes` of which are there from a crash."""
        self.tape = tape
        self.world = World(tape)
        self.crypto = Cryptography(self.world, real=real)
        below, pick = tape.below, tape.pick
        nature = Nature(
            rate=pick((4e6, 1e6, 1e6 if large_bytes else 2e5, 5e7)),
            delay_s=pick((0.01, 0.0, 0.15, 0.5)),
            recut=below(2) == 1,
            jitter_s=pick((0.0, 0.0, 0.2, 2.0)),
            datagrams=below(3) == 2,
        )
        in_flight = pick((16, 4, 2, 1)) * (LARGE_CHUNK_BYTES if large_bytes else 128 * 1024)
        self.net = Net(self.world, self.crypto, nature, in_flight_bytes=in_flight)
        self.net.chunk_bytes = LARGE_CHUNK_BYTES if large_bytes else pick((64, 128)) * 1024
        self.net.usual_bytes = LARGE_CHUNK_BYTES if large_bytes else 64 * 1024
        self.net.compress = below(4) == 3
        self.net.epoch_shift = pick((14, 2))
        self.net.answer_s = pick((0.0, 0.5, 50.0))
        self.cost_s = pick((0.0, 0.001, 0.05))
        self.scan_s = pick((0.0, 0.3, 5.0))
        self.rejoin_s = pick((600.0, 0.0, 30.0))
        self.rate = pick((None, None, None, None, 1e6, 2e5))
        self.net.direct = below(2) == 1
        self.verify = below(8) == 7
        self.disk = SimDisk(
            tape,
            folds=below(8) == 7,
            hard_links=below(8) != 7,
            plain=below(12) == 11,
            piece_bytes=pick((0, 0, 0, 1_000_000 if large_bytes else 10_000)),
        )
        self.offer = Offer(tape, large_bytes)
        self.offer.contents.now = lambda: self.world.now
        self.disk.recognise = self.offer.recognise
        self.rules = Rules(self.disk, self.offer)
        self.large = large_bytes > 0
        self.stood = set() if self.large or below(5) < 4 else place_others(tape, self.disk, self.offer)
        self.rules.stands()
        self.digests = Remembered() if self.large or below(2) == 1 else None
        if left_bytes:
            self._leave(large_bytes - left_bytes)
        self.seen: set[str] = set()
        self.sender: SendingPeer | None = None
        self.receiver: ReceivingPeer | None = None
        self.buffer: StreamBuffer | None = None
        self.outputs: Outputs | None = None
        self.writer: SimWriter | None = None
        self.attempts = 0
        self.crashed = False
        self.own_record = False
        self.policy = OnConflict.ASK
        self.world.watchers.append(self.rules.look)
        # How long an undisturbed transfer takes, about: troubles come within that time.
        rate = min(nature.rate, self.rate or nature.rate)
        self.span_s = (
            6 * nature.delay_s
            + (left_bytes or self.offer.total_bytes) / rate
            + self.scan_s
            + self.net.answer_s
            + 0.2
        )
        self.span_s += 4 * self.offer.stream_pause_s
        self.begin_troubles()

    def _leave(self, there_bytes: int) -> None:
        """Let a crash have left the first chunks of the large file, with its journal; the sender remembers its digests."""
        path, size = next(iter(self.offer.files.items()))
        count = there_bytes // LARGE_CHUNK_BYTES
        digests = self.offer.digests(path, 0, LARGE_CHUNK_BYTES, count)
        sender = self.crypto.identity(b"sender").public_key.fingerprint
        header = JournalHeader(sender, path, size, LARGE_CHUNK_BYTES).encode()
        data = Stretches()
        data.put(0, self.offer.made(path), count * LARGE_CHUNK_BYTES)
        name = f"{PARTIALS_NAME}/{partial_name(sender, path, size)}"
        for kind, held in ("data", data), ("journal", Stretches(header + _records(header, digests))):
            self.disk.place(f"{name}.{kind}", held, NEW_NS).mode = 0o600
        self.disk.make_private(PARTIALS_NAME)
        self.digests.learn([Learned(0, LARGE_CHUNK_BYTES, 0, digests)])

    # -- one attempt ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let both people try until it is done."""
        with self.crypto.in_place():
            for number in range(ATTEMPTS):
                self.attempts = number + 1
                if number == ATTEMPTS - 1:
                    self.heal()
                if self.attempt(troubles=not self.world.healed) or self._received():
                    self.done()
                    return
                if self.world.healed and not self._unanswered():
                    raise BrokenRuleError("after the faults heal it is done", self._story())
                if self.tape.below(2) == 0:
                    self.heal()
                self.world.run(lambda: False, self.world.now + 100.0)
                self._calm()
                self._think()
        raise BrokenRuleError("after the faults heal it is done", "no attempt was left")

    def _received(self) -> bool:
        """Return whether a large file came, though its sender does not know: nobody sends such a one again."""
        return self.large and self.receiver.summary is not None

    def _unanswered(self) -> bool:
        """Return whether all that is missing is a person's answer to what stands there."""
        error = self.receiver.error
        return error is not None and error.code == "conflict" and self.attempts < ATTEMPTS

    def _think(self) -> None:
        """Do what a person does between two tries."""
        self._partials()
        if self.tape.below(6) == 5 and self.offer.form == "files" and not self.large:
            path = self.tape.pick(list(self.offer.files))
            self.offer.contents.others[path] = self.offer.contents.others.get(path, 0) + 1
            if self.digests is not None:
                self.digests.forget()
        answer = self.tape.below(3)
        last = self.attempts >= ATTEMPTS - 1
        if answer == 1 and not self.stood and not self.offer.contents.others and not last:
            # What an interrupted try left is the sender's own, and no conflict: unless the disk lost the record of it.
            self.policy = OnConflict.ASK
            return
        if answer == 2 and not self.stood and not self.crashed:
            self.disk.clear()
            self.policy = OnConflict.ASK
            return
        self.policy = self.tape.pick(ANSWERS)
        if any(node.folder for path, node in self.disk.tree() if offered(path) in self.offer.files):
            self.policy = OnConflict.RENAME  # a folder never gives way
        if self.offer.contents.others and self.policy in {OnConflict.SKIP, OnConflict.NEWER}:
            self.policy = OnConflict.OVERWRITE

    def _partials(self) -> None:
        """List what was left, as `tallow resume list` does, and clean it now and then."""
        for info in list_partials(OUT, calls=self.disk):
            if info.path not in self.offer.files or info.verified_bytes > info.size_bytes:
                raise BrokenRuleError("what is left can be listed", f"{info.path}: {info.verified_bytes}")
        if self.tape.below(4) == 3 and not self.large:
            clean_partials(OUT, calls=self.disk)
            self.crashed = True  # with the record of what is the sender's own
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
        self.disk.full = self.disk.read_only = False
        self.disk.free_blocks = 1 << 30
        self.disk.fail_at.clear()
        self.offer.contents.changed_after = None
        if not self.net.relay.up:
            self.net.relay.start()

    def attempt(self, *, troubles: bool) -> bool:
        """Start both sides under a new code; return whether both say that all is done."""
        words = WORDS[self.attempts % 2]
        code = Code.parse(f"{4821 + self.attempts}-" + "-".join(words))
        names = [b"secretfile", b"secretlink", b"plainfolder", b"secrettext"]
        self.net.secrets = [word.encode() for word in words] + names
        started = self.world.now
        self._calm()
        self.begin_troubles()
        self.before = {node.number for _, node in self.disk.tree()}
        self.survives = self.rejoin_s >= LONG_REJOIN_S
        self.rules.at_name = None
        if self.stood or self.crashed or self.attempts > 1 or self.disk.plain:
            # What a person has to be asked about first.
            self.allowed |= {"conflict"}
            self.survives = self.survives and not (self.stood or self.attempts > 1 or self.disk.plain)
        if troubles:
            self._odd()
        options = {"verify": self.verify, "cost_s": self.cost_s, "rejoin_s": self.rejoin_s}
        self.buffer = self.offer.stream(self.world, self._moved)
        self.sender = SendingPeer(
            self.net,
            code,
            self.evil or self.offer.entries,
            self.offer.contents if self.evil else self.offer.sources(self.buffer),
            scan_s=self.scan_s,
            digests=self.digests,
            buffer=self.buffer,
            rate=self.rate,
            limit=self.limits[0],
            **options,
        )
        self.rules.sender = self.sender
        self._receive(code, options)
        self.net.find_other = self._other
        self.net.code_told = self._told
        self._came = False
        if troubles:
            self._plan(code)
        self.sender.meet()
        self._let_go(started)
        if self.buffer is not None:
            self.buffer.stop()
        return self._agree()

    def _receive(self, code: Code, options: dict[str, object]) -> None:
        """Start the receiver: into its folder, or to the screen or standard output where it can."""
        folder = OutputFolder(OUT, calls=self.disk, on_conflict=self.policy)
        apart = self.offer.form != "files" and self.tape.below(2) == 1
        self.writer = SimWriter() if apart and self.offer.form == "stream" else None
        self.outputs = Outputs(folder, writer=self.writer, show_text=apart)
        self.receiver = ReceivingPeer(
            self.net, code, self.outputs, name="receiver", limit=self.limits[1], **options
        )
        files = [n for n, entry in enumerate(self.offer.entries) if entry.kind is EntryKind.FILE]
        self.wanted = set(self.offer.files)
        if len(files) > 1 and self.tape.below(6) == 5:
            unwanted = {number for number in files if self.tape.below(2) == 1 and number != files[0]}
            self.receiver.chosen = frozenset(set(range(len(self.offer.entries))) - unwanted)
            self.wanted -= {self.offer.entries[number].path for number in unwanted}

        def before_yes() -> None:
            """Ask what stands there, as the prompt does; sometimes there is an answer at once."""
            there = ()
            if self.outputs.writes_files and not self.evil:
                with suppress(NotWritableError):  # a disk that fails: the yes will say so
                    there = folder.conflicts(self.receiver.session.peer.fingerprint)
            if there and self.policy is OnConflict.ASK and self.tape.below(2) == 1 and not self.disk.failed:
                self._answered(folder)

        self.receiver.before_yes = before_yes if not self.troubled else lambda: None

    def _answered(self, folder: OutputFolder) -> None:
        self.policy = folder.on_conflict = OnConflict.RENAME

    def _moved(self) -> None:
        if self.sender is not None:
            self.sender.moved()

    def _let_go(self, started: float) -> None:
        """Let both sides come to their ends; who waits for a handshake with nobody is called off by its person."""
        peers = self.sender, self.receiver
        self.world.run(lambda: any(peer.ended for peer in peers), started + TIME_S)
        self.world.run(lambda: all(peer.ended for peer in peers), self.world.now + PATIENCE_S)
        for peer in peers:
            if not peer.ended and peer.session is not None and not self.traitor:
                raise BrokenRuleError("both sides come to an end", self._story())
        for peer in peers:
            if not peer.ended:
                peer.crash()
                if peer is self.receiver:
                    self.crashed = True
                    self.disk.kill()

    def _other(self, peer: Peer) -> Peer | None:
        return self.receiver if peer is self.sender else self.sender

    def _told(self, peer: Peer) -> None:
        if not self._came and peer is self.sender and self.receiver.alive:
            self._came = True
            self.world.after(0.1, self.receiver.meet)

    # -- the end of an attempt -----------------------------------------------------------------------------

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
        if sender.alive and self.offer.contents.opened:
            raise BrokenRuleError("nothing is left open", f"{self.offer.contents.opened} sources")
        self.offer.contents.opened = 0
        return sender.error is None and receiver.error is None and receiver.summary is not None

    def _alike(self, sender: Peer, receiver: Peer) -> None:
        rule = "both sides report the same"
        if sender.summary is not None and receiver.summary is None and not self.second:
            raise BrokenRuleError(rule, "the sender says done, the receiver does not")
        if receiver.summary is None:
            return
        if sender.summary is None and not self.troubled:
            raise BrokenRuleError(rule, "the receiver says done, the sender does not")
        said = [(summary.files, summary.bytes) for summary in (sender.summary, receiver.summary) if summary]
        if len(set(said)) > 1 and not self.traitor:
            raise BrokenRuleError(rule, f"{said}")
        all_wanted = len(self.wanted), sum(self.offer.files[path] for path in self.wanted)
        if said[0] != all_wanted and self.policy not in {OnConflict.SKIP, OnConflict.NEWER}:
            raise BrokenRuleError(rule, f"{said[0]} of {all_wanted}")
        self._whole()

    def _whole(self) -> None:
        """Look whether what was promised is there."""
        rule = "what is done is there"
        if not self.outputs.writes_files:
            shown = bytes(self.writer.data) if self.writer is not None else self.outputs.text
            path = next(iter(self.offer.files))
            if shown != self.offer.piece(path, 0, self.offer.files[path]):
                raise BrokenRuleError(rule, "what was written out is not what was sent")
            return
        self.rules.anew()
        found = dict(self.disk.tree())
        right: set[str] = set()
        for path, node in found.items():
            if node.folder or node.target:
                continue
            # What stood and gives no way stands as it did, be it torn by a power loss before anything was promised: also
            # beside a file that an unfinished transfer began under another name, which goes on there.
            if node.number not in self.before:
                self.rules.right_bytes(path, node)
            source = offered(path)
            if source in self.offer.files and self.offer.is_now(source, node.data):
                right.add(source)
                self._mode(source, path, node)
        missing = self.wanted - right - self._left()
        if missing:
            raise BrokenRuleError(rule, ", ".join(sorted(missing)))

    def _left(self) -> set[str]:
        """Return what the policy leaves as it stood."""
        stood = self.before | self.rules.stood.keys()
        nodes = {path: node for path, node in self.disk.tree() if node.number in stood}
        if self.policy is OnConflict.SKIP:
            return set(nodes)
        if self.policy is OnConflict.NEWER:
            return {path for path, node in nodes.items() if node.mtime_ns >= SENT_NS or node.target}
        return set()

    def _mode(self, source: str, path: str, node) -> None:
        entry = next(entry for entry in self.offer.entries if entry.path == source)
        if node.number in self.rules.stood or self.disk.plain:
            return
        if node.mode != entry.mode & 0o777 or node.mtime_ns != entry.mtime_ns:
            raise BrokenRuleError("what is done is there", f"{path} is not as it was sent")

    def done(self) -> None:
        """Look at the end: nothing of somebody else's changed, nothing left over."""
        left = self.disk.own()
        # What was left out this time may have a part there from another.
        all_came = self.wanted == set(self.offer.files) and self.policy not in {
            OnConflict.SKIP,
            OnConflict.NEWER,
        }
        if left and all_came and self.outputs.writes_files and not self.crashed and not self.disk.failed:
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


def run_tape(tape: Tape, *, real: bool = False, large_bytes: int = 0, left_bytes: int = 0) -> Outcome:
    """Run the world of a tape; of a large file, where a size is given."""
    scenario = Scenario(tape, real=real, large_bytes=large_bytes, left_bytes=left_bytes)
    broken: BrokenRuleError | None = None
    try:
        scenario.run()
    except BrokenRuleError as error:
        broken = error
    except Exception as error:  # noqa: BLE001 - whatever escapes is a finding, to be shrunk and printed as any other
        where = traceback.extract_tb(error.__traceback__)[-1]
        broken = BrokenRuleError(
            "no error escapes", f"{error!r} in {where.name}, {where.filename}:{where.lineno}"
        )
        broken.__cause__ = error
    world = scenario.world
    return Outcome(
        tape.values, world.digest, world.log, world.events, scenario.attempts, broken, scenario.seen
    )


def run_seed(seed: int, **size: int) -> Outcome:
    """Run the world of a seed; one in fifty with real cryptography."""
    return run_tape(Tape(seed), real=seed % REAL_EVERY == 0, **size)
