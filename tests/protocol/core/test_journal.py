"""The journal says what was written to it, a beginning of that, or nothing: never a digest that was not written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_crypto import Fingerprint
from tallow_protocol.core.journal import (
    HEADER_BYTES_MAX,
    JOURNAL_RECORD_BYTES,
    JournalHeader,
    decode_journal,
    encode_records,
    journal_bytes_max,
    partial_name,
)
from tallow_protocol.errors import MisuseError
from tallow_protocol.limits import FILE_SIZE_MAX, PATH_BYTES

SENDER, OTHER = Fingerprint(bytes(32)), Fingerprint(b"\1" * 32)

headers = st.builds(
    JournalHeader,
    st.binary(min_size=32, max_size=32).map(Fingerprint),
    st.text(min_size=1, max_size=40),
    st.integers(1, FILE_SIZE_MAX),
    st.integers(16, 22).map(lambda log2: 1 << log2),
)
digests = st.lists(st.binary(min_size=32, max_size=32), max_size=12).map(b"".join)


def journal(header, said):
    said = said[: header.chunks * 32]
    return header.encode() + encode_records(header.encode(), 0, said), said


@given(headers, digests)
def test_what_was_written_is_what_is_read(header, said):
    data, said = journal(header, said)
    read = decode_journal(data)
    assert (read.header, read.digests, read.good_bytes) == (header, said, len(data))


@given(headers, digests, digests)
def test_records_that_are_added_later_are_the_same_bytes(header, first, then):
    encoded = header.encode()
    whole = encode_records(encoded, 0, first + then)
    assert whole == encode_records(encoded, 0, first) + encode_records(encoded, len(first) // 32, then)


@given(headers, digests)
@settings(max_examples=50)
def test_cut_off_at_any_byte_it_says_a_beginning(header, said):
    data, said = journal(header, said)
    start = len(header.encode())
    for length in range(len(data)):
        read = decode_journal(data[:length])
        if length < start:
            assert read is None
        else:
            whole = (length - start) // JOURNAL_RECORD_BYTES
            assert read.digests == said[: whole * 32]
            assert read.good_bytes == start + whole * JOURNAL_RECORD_BYTES


@given(headers, digests, st.data())
def test_a_flipped_bit_anywhere_ends_it_there(header, said, data):
    encoded, said = journal(header, said)
    at = data.draw(st.integers(0, len(encoded) * 8 - 1))
    flipped = bytearray(encoded)
    flipped[at // 8] ^= 1 << at % 8
    read = decode_journal(flipped)
    start = len(header.encode())
    if at // 8 < start:
        assert read is None
    else:
        assert read.header == header
        assert read.digests == said[: (at // 8 - start) // JOURNAL_RECORD_BYTES * 32]


@given(headers, digests, st.binary(max_size=100))
def test_what_follows_the_last_good_record_is_left_out(header, said, rest):
    data, said = journal(header, said)
    read = decode_journal(data + rest)
    assert read.digests[: len(said)] == said
    assert len(read.digests) == len(said)
    assert read.good_bytes == len(data)


@given(st.binary(max_size=300))
def test_noise_says_nothing(noise):
    assert decode_journal(noise) is None


def test_a_record_holds_only_in_its_own_place_and_its_own_journal():
    header = JournalHeader(SENDER, "a", 10 << 16, 1 << 16)
    records = encode_records(header.encode(), 0, b"x" * 32 + b"y" * 32)
    swapped = header.encode() + records[40:] + records[:40]
    assert decode_journal(swapped).digests == b""
    for other in (
        JournalHeader(OTHER, "a", 10 << 16, 1 << 16),
        JournalHeader(SENDER, "b", 10 << 16, 1 << 16),
        JournalHeader(SENDER, "a", 11 << 16, 1 << 16),
        JournalHeader(SENDER, "a", 10 << 16, 1 << 17),
    ):
        assert decode_journal(other.encode() + records).digests == b""


def test_more_records_than_the_file_has_chunks_are_not_believed():
    header = JournalHeader(SENDER, "a", 1, 1 << 16)
    records = encode_records(header.encode(), 0, b"x" * 64)
    assert decode_journal(header.encode() + records).digests == b"x" * 32


def test_another_version_is_not_read():
    encoded = bytearray(JournalHeader(SENDER, "a", 1, 1 << 16).encode())
    encoded[5] = 2
    assert decode_journal(encoded) is None


@pytest.mark.parametrize(
    ("path", "size", "chunk_size"),
    [
        ("", 1, 1 << 16),
        ("a" * (PATH_BYTES + 1), 1, 1 << 16),
        ("a", 0, 1 << 16),
        ("a", FILE_SIZE_MAX + 1, 1 << 16),
        ("a", 1, 1 << 15),
        ("a", 1, 1 << 23),
        ("a", 1, 100_000),
    ],
)
def test_a_header_out_of_range_is_not_written(path, size, chunk_size):
    with pytest.raises(MisuseError):
        JournalHeader(SENDER, path, size, chunk_size).encode()


def test_the_longest_journal_has_the_length_that_is_stated():
    header = JournalHeader(SENDER, "a" * PATH_BYTES, 5 << 16, 1 << 16)
    data, _ = journal(header, bytes(32 * 5))
    assert len(data) == journal_bytes_max(5 << 16, 1 << 16)
    assert len(header.encode()) == HEADER_BYTES_MAX


def test_the_layout_is_fixed():
    encoded = JournalHeader(SENDER, "a", 3, 1 << 16).encode()
    assert encoded.hex() == (
        "544c574a000110000000000000000003" + "00" * 32 + "0001" + "61" + encoded[-8:].hex()
    )
    assert len(encode_records(encoded, 0, bytes(32))) == JOURNAL_RECORD_BYTES


def test_a_name_tells_sender_path_and_size_apart_and_shows_none_of_them():
    names = {
        partial_name(SENDER, "a", 1),
        partial_name(OTHER, "a", 1),
        partial_name(SENDER, "b", 1),
        partial_name(SENDER, "a", 2),
        partial_name(SENDER, "../../etc/passwd", 1),
    }
    assert len(names) == 5
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
