"""Holes stay holes: on the receiver's disk, and unread on the sender's."""

import os

import pytest
from tallow_crypto import Fingerprint, chunk_digest
from tallow_protocol.disk import scan
from tallow_protocol.disk.partials import PartialFolder

KIB = 1024
MIB = 1024 * KIB
CHUNK = 64 * KIB


def blocks_bytes(path):
    return path.stat().st_blocks * 512


@pytest.fixture
def sparse(tmp_path):
    """64 MiB: data in the first, the 32nd and no last MiB."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"a" * MIB)
        file.seek(31 * MIB)
        file.write(b"b" * MIB)
        file.truncate(64 * MIB)
    if blocks_bytes(path) > 8 * MIB:
        pytest.skip("this file system has no holes")
    return path


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_a_chunk_of_zeros_becomes_a_hole(root, sparse, order):
    partials = PartialFolder(root, Fingerprint(bytes(32)))
    place = partials.begin("f", 64 * MIB, MIB, ("f",), resumes=False)
    data = sparse.read_bytes()
    numbers = range(64) if order == "forwards" else range(63, -1, -1)
    for number in numbers:
        place.write_at(number * MIB, memoryview(data)[number * MIB : (number + 1) * MIB])
    place.commit(0o644, 1)
    partials.close()
    placed = root.directory / "f"
    assert placed.read_bytes() == data
    assert blocks_bytes(placed) <= 8 * MIB


def test_zeros_over_what_an_earlier_session_left_are_written(root):
    sender = Fingerprint(bytes(32))
    first = PartialFolder(root, sender)
    place = first.begin("f", 8 * CHUNK, CHUNK, ("f",), resumes=False)
    place.write_at(0, b"x" * CHUNK)
    place.sync(0, chunk_digest(b"x" * CHUNK))
    place.write_at(CHUNK, b"not in the journal" * 100)
    first.close()
    second = PartialFolder(root, sender)
    found = second.find("f", 8 * CHUNK)
    assert found.count == 1
    place = second.begin("f", 8 * CHUNK, CHUNK, ("f",), resumes=True)
    for number in range(1, 8):
        place.write_at(number * CHUNK, bytes(CHUNK))
    place.commit(0o644, 1)
    second.close()
    assert (root.directory / "f").read_bytes() == b"x" * CHUNK + bytes(7 * CHUNK)


def test_holes_are_not_read(sparse, monkeypatch):
    (scanned,) = scan.scan([sparse]).entries
    read = os.preadv
    offsets = []

    def noted(descriptor, buffers, offset):
        offsets.append(offset)
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", noted)
    buffer = memoryview(bytearray(b"?" * MIB))
    content = bytearray()
    with scan.open_source(scanned) as source:
        for number in range(64):
            buffer[:] = b"?" * MIB
            assert source.read_into(number * MIB, buffer) == MIB
            content += buffer
    assert content == sparse.read_bytes()
    assert offsets == [0, 31 * MIB]


def test_a_range_that_is_partly_a_hole_is_read_whole(sparse):
    (scanned,) = scan.scan([sparse]).entries
    buffer = memoryview(bytearray(3 * MIB))
    with scan.open_source(scanned) as source:
        assert source.read_into(30 * MIB + 5, buffer) == 3 * MIB
        assert bytes(buffer) == sparse.read_bytes()[30 * MIB + 5 :][: 3 * MIB]
        assert source.read_into(64 * MIB - 7, buffer) == 7


def test_a_file_system_that_cannot_say_where_holes_are_is_read(sparse, monkeypatch):
    def refused(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", refused)
    (scanned,) = scan.scan([sparse]).entries
    buffer = memoryview(bytearray(b"?" * MIB))
    with scan.open_source(scanned) as source:
        assert source.read_into(5 * MIB, buffer) == MIB
    assert bytes(buffer) == bytes(MIB)
