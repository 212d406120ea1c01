"""A stream through both pipelines: any length, any order of arrival, links that are lost on the way."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.aio.inputs import StreamSources
from tallow_protocol.aio.streambuffer import StreamBuffer
from tallow_protocol.core.entries import Entry, EntryKind
from tallow_protocol.core.messages import FileDone
from tallow_protocol.core.receiving import ReceivePipeline
from tallow_protocol.core.records import parse_record
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.streams import STREAM_CHUNK_BYTES
from tallow_protocol.core.window import Window
from tallow_protocol.errors import IntegrityError, ViolationError
from tallow_protocol.testing import MemoryFolder

STREAM = (Entry("stdin", EntryKind.FILE, None, 0o644, 1),)


class Transfer:
    """Both pipelines with records between them; a link is a number."""

    def __init__(self, content):
        self.buffer = StreamBuffer()
        for at in range(0, len(content), STREAM_CHUNK_BYTES):
            self.buffer.put(content[at : at + STREAM_CHUNK_BYTES])
        self.buffer.end()
        self.sender = SendPipeline(
            STREAM, StreamSources(self.buffer), window=Window(limit_bytes=1 << 24), streams={0: self.buffer}
        )
        self.sender.accept(None)
        self.folder = MemoryFolder()
        self.receiver = ReceivePipeline(STREAM, self.folder)
        self.receiver.begin()

    def records(self, link):
        """Return the headers and bodies of all records that `link` may carry now."""
        made = []
        while (plan := self.sender.plan(link, 1.0)) is not None:
            buffer = memoryview(bytearray(self.sender.frame_capacity(plan)))
            filled = self.sender.fill(plan, buffer)
            self.sender.filled(filled)
            made.append(parse_record(buffer[4 : filled.frame_bytes - 16]))
        return made

    def store(self, record):
        header, body = record
        stored = self.receiver.store(header, body)
        self.sender.acknowledged(stored.ranges, 2.0)

    def end(self):
        self.sender.end_empty_streams()
        while (done := self.sender.file_done()) is not None:
            self.receiver.file_done(done)


@given(st.integers(0, 5 * STREAM_CHUNK_BYTES), st.integers(0, 2**32))
def test_a_stream_arrives_whole_in_any_order_over_links_that_are_lost(length, seed):
    source = random.Random(seed)
    content = source.randbytes(length)
    transfer = Transfer(content)
    for link in range(3):
        records = transfer.records(link)
        source.shuffle(records)
        for record in records[: len(records) if link == 2 else source.randrange(len(records) + 1)]:
            transfer.store(record)
        transfer.sender.lost(link)
    transfer.end()
    assert transfer.folder.files == {"stdin": content}
    assert transfer.receiver.complete
    assert transfer.receiver.total == transfer.sender.total_bytes == length
    assert transfer.receiver.roots == transfer.sender.roots


def test_no_total_is_known_before_the_last_chunk():
    transfer = Transfer(bytes(2 * STREAM_CHUNK_BYTES + 1))
    first, second, last = transfer.records(0)
    transfer.store(first)
    transfer.store(second)
    assert transfer.receiver.total is None
    transfer.store(last)
    assert transfer.receiver.total == 2 * STREAM_CHUNK_BYTES + 1


def test_chunks_are_dropped_as_they_arrive():
    transfer = Transfer(bytes(3 * STREAM_CHUNK_BYTES))
    for record in transfer.records(0):
        transfer.store(record)
    assert not transfer.buffer._chunks


def test_a_stream_cannot_end_before_what_came_of_it():
    transfer = Transfer(bytes(3 * STREAM_CHUNK_BYTES))
    first, second, _ = transfer.records(0)
    transfer.store(second)
    header, body = first
    with pytest.raises(ViolationError):
        transfer.receiver.store(replace(header, last=True), body)


def test_a_stream_whose_end_says_another_length_is_refused():
    transfer = Transfer(b"abc")
    transfer.store(transfer.records(0)[0])
    done = transfer.sender.file_done()
    with pytest.raises(IntegrityError):
        transfer.receiver.file_done(FileDone(0, 4, done.count, done.root))
