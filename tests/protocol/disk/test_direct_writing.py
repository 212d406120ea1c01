"""Large files past the page cache: what is written, and what is done where that cannot be."""

import errno
import mmap
import os

import pytest
from tallow_crypto import Fingerprint
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.partials import BLOCK_BYTES, DIRECT_CHUNK_BYTES, DIRECT_FILE_BYTES, PartialFolder
from tallow_protocol.disk.root import OutputRoot

SIZE_BYTES = DIRECT_FILE_BYTES + 1234
PLACE = ("film.mkv",)


class Watched:
    """The real calls; they note how each write went, and refuse direct ones at the offset `refused`."""

    def __init__(self, *, able=True, refused=None):
        self.able = able
        self.refused = refused
        self.direct = False
        self.writes = []

    def __getattr__(self, name):
        return getattr(SYSTEM, name)

    def write_direct(self, _handle, *, on):
        self.direct = on and self.able
        return self.direct

    def pwrite(self, handle, data, offset):
        if self.direct and offset == self.refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self.direct:
            assert not (offset | len(data)) % BLOCK_BYTES, "a device takes whole blocks"
        self.writes.append((offset, self.direct))
        return SYSTEM.pwrite(handle, data, offset)


def received(directory, calls, *, size=SIZE_BYTES, chunk=DIRECT_CHUNK_BYTES):
    """Receive a file in chunks, from memory that begins with a page, as the buffer of a data connection does."""
    content = os.urandom(size)
    memory = memoryview(mmap.mmap(-1, chunk))
    with OutputRoot.open(directory, calls=calls) as root:
        folder = PartialFolder(root, Fingerprint(bytes(32)))
        partial = folder.begin(PLACE[0], size, chunk, PLACE, resumes=False)
        for offset in range(0, size, chunk):
            piece = content[offset : offset + chunk]
            memory[: len(piece)] = piece
            partial.write_at(offset, memory[: len(piece)])
        partial.commit(0o600, 0)
        folder.close()
    assert (directory / PLACE[0]).read_bytes() == content


def test_whole_chunks_of_a_large_file_go_to_the_device_and_its_end_through_memory(tmp_path):
    calls = Watched()
    received(tmp_path, calls)
    assert [direct for _, direct in calls.writes] == [True] * (len(calls.writes) - 1) + [False]


@pytest.mark.parametrize(
    ("size", "chunk"),
    [(DIRECT_FILE_BYTES - 1, DIRECT_CHUNK_BYTES), (SIZE_BYTES, DIRECT_CHUNK_BYTES // 2)],
    ids=["a shorter file", "shorter chunks"],
)
def test_others_go_through_memory(tmp_path, size, chunk):
    calls = Watched()
    received(tmp_path, calls, size=size, chunk=chunk)
    assert not any(direct for _, direct in calls.writes)


def test_where_the_device_refuses_a_write_the_rest_goes_through_memory(tmp_path):
    calls = Watched(refused=3 * DIRECT_CHUNK_BYTES)
    received(tmp_path, calls)
    assert [direct for _, direct in calls.writes] == [True] * 3 + [False] * (len(calls.writes) - 3)


def test_a_system_without_direct_writes_writes_as_ever(tmp_path):
    calls = Watched(able=False)
    received(tmp_path, calls)
    assert not any(direct for _, direct in calls.writes)


def test_the_real_system_takes_what_a_data_connection_gives_it(tmp_path):
    received(tmp_path, SYSTEM)


def test_a_file_that_lies_in_memory_is_not_written_directly():
    handle = os.memfd_create("in memory")
    try:
        assert not SYSTEM.write_direct(handle, on=True)
    finally:
        os.close(handle)
