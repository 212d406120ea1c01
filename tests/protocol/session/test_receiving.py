"""What a hostile sender can put into chunks, packs and FileDone, and what comes of it: nothing on the disk."""

from __future__ import annotations

import pytest
import zstandard
from tallow_crypto import FileRoot, chunk_digest
from tallow_protocol.core.chunking import packed_root
from tallow_protocol.core.messages import Entry, EntryKind, FileDone
from tallow_protocol.core.receiving import OPEN_FILES, ReceivePipeline
from tallow_protocol.core.records import ChunkHeader, PackHeader, pack_entry_header
from tallow_protocol.errors import IntegrityError, ViolationError
from tallow_protocol.testing import MemoryFolder

CHUNK = 65536
SIZE = 2 * CHUNK + 5
DATA = bytes(range(256)) * 513
DATA = DATA[:SIZE]


def receiving(*entries: Entry) -> tuple[ReceivePipeline, MemoryFolder]:
    folder = MemoryFolder()
    pipeline = ReceivePipeline(entries or (Entry("f", EntryKind.FILE, SIZE, 0o644, 1),), folder)
    pipeline.begin()
    return pipeline, folder


def chunk(position: int, data: bytes = b"", **changes: object) -> tuple[ChunkHeader, memoryview]:
    index = changes.pop("at", position)
    data = data or DATA[position * CHUNK : (position + 1) * CHUNK]
    values = {"file": 0, "index": index, "raw_length": len(data), "log2_chunk_size": 16, "last": index == 2}
    return ChunkHeader(**{**values, **changes}), memoryview(chunk_digest(data) + data)


def whole_root() -> bytes:
    root = FileRoot(SIZE, CHUNK)
    for index in range(3):
        root.update(chunk_digest(DATA[index * CHUNK : (index + 1) * CHUNK]))
    return root.digest()


def pack(*files: tuple[int, bytes]) -> tuple[PackHeader, memoryview]:
    body = b"".join(
        pack_entry_header(n, len(data), packed_root(memoryview(data))) + data for n, data in files
    )
    return PackHeader(entries=len(files), raw_length=len(body)), memoryview(body)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 0, 2, 2)])
@pytest.mark.parametrize("done_first", [True, False])
def test_chunks_in_any_order_and_repeated_make_the_file(order: tuple[int, ...], done_first: bool) -> None:
    pipeline, folder = receiving()
    done = FileDone(0, SIZE, 3, whole_root())
    if done_first:
        pipeline.file_done(done)
    for index in order:
        stored = pipeline.store(*chunk(index))
        assert stored.ranges == ((0, index, 1),)
    if not done_first:
        assert folder.files == {}
        pipeline.file_done(done)
    assert folder.files == {"f": DATA}
    assert pipeline.complete


@pytest.mark.parametrize(
    "changes",
    [
        {"at": 3},
        {"last": True},
        {"raw_length": CHUNK - 1, "last": True},
        {"file": 1},
        {"file": 2**32 - 1},
        {"log2_chunk_size": 17},
    ],
)
def test_a_chunk_that_does_not_fit_its_file_is_refused(changes: dict[str, object]) -> None:
    pipeline, folder = receiving()
    pipeline.store(*chunk(1))
    with pytest.raises(ViolationError):
        pipeline.store(*chunk(0, **changes))
    assert folder.files == {}


def test_a_chunk_whose_digest_is_wrong_is_never_written() -> None:
    pipeline, _ = receiving()
    header, body = chunk(0)
    changed = memoryview(bytearray(body))
    changed[40] ^= 1
    with pytest.raises(IntegrityError):
        pipeline.store(header, changed)
    assert pipeline.stored_bytes == 0


@pytest.mark.parametrize("wrong", [{"root": bytes(32)}, {"count": 2}])
def test_a_wrong_file_done_gives_no_final_name(wrong: dict[str, object]) -> None:
    pipeline, folder = receiving()
    for index in range(3):
        pipeline.store(*chunk(index))
    with pytest.raises(IntegrityError):
        pipeline.file_done(FileDone(**{"file": 0, "size": SIZE, "count": 3, "root": whole_root(), **wrong}))
    pipeline.close()
    assert folder.files == {}
    assert folder.abandoned == 1


def test_a_file_done_of_another_size_than_offered_is_refused() -> None:
    pipeline, _ = receiving()
    with pytest.raises(IntegrityError):
        pipeline.file_done(FileDone(0, SIZE + 1, 3, whole_root()))


def test_an_empty_file_may_come_packed_or_by_its_file_done() -> None:
    empty = tuple(Entry(name, EntryKind.FILE, 0, 0o600, 1) for name in ("a", "b"))
    pipeline, folder = receiving(*empty)
    pipeline.store(*pack((0, b"")))
    pipeline.file_done(FileDone(1, 0, 0, packed_root(memoryview(b""))))
    assert folder.files == {"a": b"", "b": b""}
    assert pipeline.complete


def test_a_packed_file_of_another_size_or_root_is_refused() -> None:
    pipeline, folder = receiving(Entry("a", EntryKind.FILE, 3, 0o600, 1))
    with pytest.raises(ViolationError):
        pipeline.store(*pack((0, b"four")))
    header, body = pack((0, b"abc"))
    changed = memoryview(bytearray(body))
    changed[-1] ^= 1
    with pytest.raises(IntegrityError):
        pipeline.store(header, changed)
    assert folder.files == {}


def test_a_folder_cannot_be_sent_as_a_file() -> None:
    pipeline, _ = receiving(Entry("d", EntryKind.FOLDER, None, 0o755, 1))
    with pytest.raises(ViolationError):
        pipeline.store(*chunk(0))
    with pytest.raises(ViolationError):
        pipeline.store(*pack((0, b"x")))


def test_a_compressed_pack_that_explodes_is_refused_before_memory_is_taken() -> None:
    pipeline, folder = receiving(Entry("a", EntryKind.FILE, 3, 0o600, 1))
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 * 1024 * 1024))
    with pytest.raises(ViolationError):
        pipeline.store(PackHeader(entries=1, raw_length=4 * 1024 * 1024, compressed=True), memoryview(bomb))
    assert folder.files == {}


def test_256_files_may_be_open_at_once_and_one_more_is_refused() -> None:
    entries = [Entry(f"f{n}", EntryKind.FILE, SIZE, 0o644, 1) for n in range(OPEN_FILES + 1)]
    pipeline, _ = receiving(*entries)
    for number in range(OPEN_FILES):
        pipeline.store(*chunk(0, file=number))
    with pytest.raises(ViolationError):
        pipeline.store(*chunk(0, file=OPEN_FILES))
