"""What must hold after every event, on the disk and in the sender's window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_crypto import DIGEST_BYTES, chunk_digest
from tallow_protocol.core.chunking import PACK_FILE_BYTES
from tallow_protocol.core.journal import JOURNAL_RECORD_BYTES, Journal, decode_journal, encode_records

from tests.sim.offers import offered
from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.core.sending import SendPipeline

    from tests.sim.disk import Node, SimDisk
    from tests.sim.offers import Offer
    from tests.sim.peers import SendingPeer


class Rules:
    """The rules of one world; `look` after every event."""

    def __init__(self, disk: SimDisk, offer: Offer) -> None:
        self.disk = disk
        self.offer = offer
        self.sender: SendingPeer | None = None
        self.at_name: Callable[[], None] | None = None
        """Called once, in the moment when the first large file gets its name."""
        self.stood: dict[int, tuple[str, int]] = {}
        """What stands in the output folder of somebody else's: number -> path and version."""
        self._right: dict[int, int] = {}
        self._forgiven: dict[int, int] = {}
        self._said: dict[int, tuple[bytes, Journal]] = {}
        self._judged: dict[int, tuple[int, int, int]] = {}

    def stands(self) -> None:
        """Take note of all that is there now: it is the user's, and nobody may change a byte of it in place."""
        self.stood = {node.number: (path, node.version) for path, node in self.disk.tree()}

    def forgive(self) -> None:
        """Leave small files alone that lost their bytes before Done was said: only from then on they are promised."""
        for path, node in self.disk.tree():
            if self.offer.files.get(offered(path), PACK_FILE_BYTES + 1) <= PACK_FILE_BYTES:
                self._forgiven[node.number] = node.version

    def anew(self) -> None:
        """Forget what was looked at."""
        self._right.clear()

    def look(self) -> None:
        """Look at everything that changed."""
        if self.disk.changed:
            self.disk.changed = False
            for path, node in self.disk.tree():
                if not node.folder and not node.target:
                    if self._forgiven.get(node.number) != node.version:
                        self.right_bytes(path, node)
                    if self.at_name is not None and len(node.data) > PACK_FILE_BYTES:
                        due, self.at_name = self.at_name, None
                        due()
            for name, folder in self.disk.own():
                if name.startswith(".tallow-partial"):
                    self.journals(dict(folder.entries.values()))
        pipeline = self.sender.pipeline if self.sender is not None else None
        if pipeline is not None:
            window(pipeline)

    def right_bytes(self, path: str, node: Node) -> None:
        """Look whether a final name holds what was sent, or what stood there."""
        if self._right.get(node.number) == node.version:
            return
        rule = "a final name never holds wrong bytes"
        if node.number in self.stood:
            if self.stood[node.number][1] != node.version:
                raise BrokenRuleError(rule, f"{path} stood there and was written into")
            return
        source = offered(path)
        if source not in self.offer.files:
            raise BrokenRuleError(rule, f"{path} was never sent")
        if self.disk.plain and not node.data:
            return  # where a name cannot be taken and filled in one step, an empty file takes it first
        if len(node.data) != self.offer.files[source] or not self.offer.was(source, node.data):
            raise BrokenRuleError(rule, f"{path}: {len(node.data)} of {self.offer.files[source]}")
        self._right[node.number] = node.version

    def journals(self, nodes: dict[str, Node]) -> None:
        """Look whether every journal tells only of chunks that are right and durable."""
        for name, journal in nodes.items():
            data = nodes.get(name.removesuffix(".journal") + ".data")
            if not name.endswith(".journal") or data is None:
                continue
            seen = journal.version, data.number, data.durable_version
            if self._judged.get(journal.number) == seen:
                continue
            self._judged[journal.number] = seen
            said = self._read(journal)
            if said is not None:
                self.chunks(said, data)

    def _read(self, node: Node) -> Journal | None:
        """Return what a journal says; of one that has only grown, the new records alone are read."""
        data = bytes(node.data)
        before = self._said.get(node.number)
        if before is None or not data.startswith(before[0]):
            said = decode_journal(data)
        else:
            said = _more(before[1], memoryview(data))
        if said is not None:
            self._said[node.number] = data[: said.good_bytes], said
        return said

    def chunks(self, said: Journal, data: Node) -> None:
        """Look whether what a journal says is on the device and was sent."""
        rule = "the journal is a subset of what was verified and durable"
        path, size, offer = said.header.path, said.header.chunk_size, self.offer
        ways = [offer.made(path, other) for other in offer.ways(path)]
        told = min(said.count * size, said.header.size)
        for made in ways:
            if said.digests == offer.digests(path, made.other, size, said.count) and not data.durable.differs(
                made, 0, told
            ):
                return
        for index in range(said.count):
            digest = said.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            at = index * size
            end = min(at + size, said.header.size)
            sent = [made for made in ways if offer.chunk_digest(path, made.other, size, index) == digest]
            if all(data.durable.differs(made, at, end) for made in sent) and (
                chunk_digest(data.durable.piece(at, size)) != digest
            ):
                raise BrokenRuleError(rule, f"{path}: chunk {index} is not durable")
            if not sent:
                raise BrokenRuleError(rule, f"{path}: chunk {index} was never sent")


def _more(said: Journal, data: memoryview) -> Journal:
    """Return what a journal says that goes on as `data` does where `said` ended."""
    header, digests, at = said.header.encode(), bytearray(said.digests), said.good_bytes
    for index in range(said.count, said.header.chunks):
        record = data[at : at + JOURNAL_RECORD_BYTES]
        if len(record) < JOURNAL_RECORD_BYTES or record != encode_records(
            header, index, record[:DIGEST_BYTES]
        ):
            break
        digests += record[:DIGEST_BYTES]
        at += JOURNAL_RECORD_BYTES
    return Journal(said.header, bytes(digests), at)


def window(pipeline: SendPipeline) -> None:
    """Look whether a sender's window counts what is on its way, and keeps its limit."""
    limits = pipeline.window
    unsettled = [
        sending.counted_bytes
        for lane in pipeline._lanes.values()
        for _, sending in lane.records
        if not sending.settled
    ]
    if sum(unsettled) != limits.in_flight_bytes:
        raise BrokenRuleError(
            "the window counts what is on its way",
            f"{sum(unsettled)} are, {limits.in_flight_bytes} counted",
        )
    if limits.in_flight_bytes > limits.limit_bytes and len(unsettled) > 1:
        raise BrokenRuleError(
            "buffers within window times chunk", f"{limits.in_flight_bytes} of {limits.limit_bytes}"
        )
