from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol import limits
from tallow_protocol.core.messages import Auth, TallowCodec
from tallow_protocol.core.records import (
    ChunkHeader,
    ControlHeader,
    PackHeader,
    RecordKind,
    control_record,
    iter_pack,
    pack_entry_header,
    pack_header,
    padded_length,
    parse_record,
    write_padding,
)
from tallow_protocol.errors import MisuseError, RecordError

KINDS = {ControlHeader: RecordKind.CONTROL, ChunkHeader: RecordKind.CHUNK, PackHeader: RecordKind.PACK}


def record(header, body: bytes, *, auth: bool = False) -> bytearray:
    padded = padded_length(KINDS[type(header)], len(body), auth=auth)
    buffer = bytearray(b"\xaa" * padded)
    pack_header(buffer, header, len(body))
    buffer[32 : 32 + len(body)] = body
    write_padding(buffer, 32 + len(body), padded)
    return buffer


CHUNK = ChunkHeader(7, 3, 100, 20, compressed=False, last=True)
CHUNK_BODY = bytes(range(132))
PACK = PackHeader(1, 45)
PACK_BODY = pack_entry_header(9, 5, b"r" * 32) + b"hello"


def test_the_bytes_of_a_control_header_are_fixed():
    made = record(ControlHeader(0x0102, 0x0A0B), b"abc")
    assert made[:32].hex() == "01000000" + "00000003" + "0000000000000102" + "0000000000000a0b" + "00" * 8
    assert made[32:35] == b"abc"
    assert made[35:] == bytes(221)


def test_the_bytes_of_a_chunk_header_are_fixed():
    made = record(CHUNK, CHUNK_BODY)
    assert (
        made[:32].hex() == "02021400" + "00000084" + "00000007" + "00000064" + "0000000000000003" + "00" * 8
    )
    assert len(made) == 4096


def test_the_bytes_of_a_pack_header_are_fixed():
    made = record(PACK, PACK_BODY)
    assert made[:32].hex() == "03000000" + "0000002d" + "00000001" + "0000002d" + "00" * 16
    assert made[32:77].hex() == "00000009" + "00000005" + b"r".hex() * 32 + b"hello".hex()
    assert len(made) == 4096


controls = st.builds(ControlHeader, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


@st.composite
def chunks(draw):
    log2 = draw(st.integers(16, 22))
    last = draw(st.booleans())
    raw = draw(st.integers(1, 1 << 16)) if last else 1 << log2
    compressed = draw(st.booleans()) or raw > 1 << 16
    body = 32 + (draw(st.integers(1, 1000)) if compressed else raw)
    header = ChunkHeader(
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**48 - 1)), raw, log2, compressed, last
    )
    return header, bytes(body)


@given(controls, st.binary(min_size=1, max_size=3000).filter(lambda body: body[:2] != b"\x00\x01"))
def test_any_control_record_survives(header, body):
    assert parse_record(memoryview(record(header, body))) == (header, body)


@given(chunks())
def test_any_chunk_record_survives(made):
    header, body = made
    assert parse_record(memoryview(record(header, body))) == (header, body)


@given(st.binary(min_size=32, max_size=8192))
def test_any_plaintext_is_parsed_or_refused(data):
    try:
        parse_record(memoryview(data))
    except RecordError:
        return


def test_the_body_is_a_view_of_the_callers_buffer():
    made = record(CHUNK, CHUNK_BODY)
    _, body = parse_record(memoryview(made))
    made[32] = 0xEE
    assert body[0] == 0xEE


@pytest.mark.parametrize(("body", "padded"), [(1, 256), (224, 256), (225, 512), (480, 512), (481, 768)])
def test_control_records_are_padded_to_256(body, padded):
    assert padded_length(RecordKind.CONTROL, body) == padded
    assert len(control_record(1, 0, b"\x00\x09" + bytes(body - 2) if body > 1 else b"x")) == padded + 16


@pytest.mark.parametrize(("body", "padded"), [(33, 4096), (4064, 4096), (4065, 8192)])
def test_chunks_and_packs_are_padded_to_4096(body, padded):
    assert padded_length(RecordKind.CHUNK, body) == padded_length(RecordKind.PACK, body) == padded


def test_auth_with_and_without_r_a_has_the_same_length():
    one = TallowCodec.encode(Auth(bytes(32), bytes(2592), bytes(64), bytes(4627), bytes(32), True))
    two = TallowCodec.encode(Auth(bytes(32), bytes(2592), bytes(64), bytes(4627), None, False))
    assert len(control_record(1, 0, one)) == len(control_record(1, 0, two)) == 8192 + 16
    header, body = parse_record(memoryview(control_record(1, 0, one))[:-16])
    assert (header, bytes(body)) == (ControlHeader(1, 0), one)


def test_auth_padded_like_any_other_message_is_refused():
    body = TallowCodec.encode(Auth(bytes(32), bytes(2592), bytes(64), bytes(4627), None, False))
    with pytest.raises(RecordError):
        parse_record(memoryview(record(ControlHeader(1, 0), body)))


def test_a_bare_acknowledgement_has_number_0_and_no_body():
    header, body = parse_record(memoryview(control_record(0, 5, b""))[:-16])
    assert (header, bytes(body)) == (ControlHeader(0, 5), b"")
    with pytest.raises(MisuseError):
        control_record(1, 5, b"")


@pytest.mark.parametrize(
    "made", [record(ControlHeader(1, 0), b"abc"), record(CHUNK, CHUNK_BODY), record(PACK, PACK_BODY)]
)
def test_every_pad_byte_is_checked(made):
    _, body = parse_record(memoryview(made))
    for position in {32 + len(body), 32 + len(body) + 1, len(made) // 2 + 100, len(made) - 1}:
        bad = bytearray(made)
        bad[position] = 1
        with pytest.raises(RecordError, match="padding"):
            parse_record(memoryview(bad))


@pytest.mark.parametrize(
    ("made", "reserved"),
    [
        (record(ControlHeader(1, 0), b"abc"), (1, 2, 3, *range(24, 32))),
        (record(CHUNK, CHUNK_BODY), (3, *range(24, 32))),
        (record(PACK, PACK_BODY), (2, 3, *range(16, 32))),
    ],
)
def test_every_reserved_byte_is_checked(made, reserved):
    for position in reserved:
        bad = bytearray(made)
        bad[position] |= 0x80
        with pytest.raises(RecordError):
            parse_record(memoryview(bad))


@pytest.mark.parametrize(
    ("made", "flags"),
    [
        (record(ControlHeader(1, 0), b"abc"), (1, 2, 4)),
        (record(CHUNK, CHUNK_BODY), (4, 8, 128)),
        (record(PACK, PACK_BODY), (2, 4)),
    ],
)
def test_an_unknown_flag_is_refused(made, flags):
    for flag in flags:
        bad = bytearray(made)
        bad[1] |= flag
        with pytest.raises(RecordError):
            parse_record(memoryview(bad))


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_record_type_is_refused(kind):
    bad = record(ControlHeader(1, 0), b"abc")
    bad[0] = kind
    with pytest.raises(RecordError, match="unknown type"):
        parse_record(memoryview(bad))


@pytest.mark.parametrize("extra", [256, 4096])
def test_more_padding_than_needed_is_refused(extra):
    with pytest.raises(RecordError):
        parse_record(memoryview(record(ControlHeader(1, 0), b"abc") + bytes(extra)))


def test_a_body_length_beyond_the_record_is_refused():
    bad = record(ControlHeader(1, 0), b"abc")
    bad[4:8] = (225).to_bytes(4, "big")
    with pytest.raises(RecordError):
        parse_record(memoryview(bad))
    bad[4:8] = b"\xff\xff\xff\xff"
    with pytest.raises(RecordError):
        parse_record(memoryview(bad))


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_record_shorter_than_its_header_is_refused(length):
    with pytest.raises(RecordError):
        parse_record(memoryview(bytes(length)))


def test_the_largest_chunk_fits_and_a_larger_record_is_refused():
    raw = 1 << 22
    made = record(ChunkHeader(0, 0, raw, 22), bytes(32 + raw))
    assert len(made) == raw + 4096
    assert len(made) <= limits.RECORD_PLAINTEXT_BYTES
    parse_record(memoryview(made))
    with pytest.raises(RecordError):
        parse_record(memoryview(bytes(limits.RECORD_PLAINTEXT_BYTES + 1)))


@pytest.mark.parametrize(
    ("header", "body_length"),
    [
        (ChunkHeader(0, 0, 1, 15, last=True), 33),
        (ChunkHeader(0, 0, 1, 23, last=True), 33),
        (ChunkHeader(0, 0, 0, 16, last=True), 32),
        (ChunkHeader(0, 0, 65537, 16, last=True), 65569),
        (ChunkHeader(0, 0, 1, 16), 33),
        (ChunkHeader(0, 0, 1, 16, last=True), 34),
        (ChunkHeader(0, 0, 1, 16, last=True, compressed=True), 32),
        (ChunkHeader(0, 2**48, 1, 16, last=True), 33),
        (ChunkHeader(2**32, 0, 1, 16, last=True), 33),
        (PackHeader(0, 45), 45),
        (PackHeader(2, 45), 45),
        (PackHeader(1, 39), 39),
        (PackHeader(1, 45), 44),
        (PackHeader(1, limits.PACK_RAW_BYTES + 1, compressed=True), 45),
        (PackHeader(1, 45, compressed=True), 0),
        (ControlHeader(2**63, 0), 3),
        (ControlHeader(0, 2**63), 3),
        (ControlHeader(0, 0), limits.CONTROL_BODY_BYTES + 1),
    ],
)
def test_headers_out_of_range_are_misuse_when_they_are_built(header, body_length):
    with pytest.raises(MisuseError):
        pack_header(bytearray(64), header, body_length)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (2, b"\x0f"),  # chunk size 2**15
        (2, b"\x17"),  # chunk size 2**23
        (12, b"\x00\x00\x00\x00"),  # raw length 0
        (12, b"\x00\x10\x00\x01"),  # raw length over the chunk size
        (12, b"\x00\x00\x00\x65"),  # raw length that the body does not have
        (1, b"\x00"),  # short, but not the last
        (16, b"\x00\x01\x00\x00\x00\x00\x00\x00"),  # index 2**48
    ],
)
def test_a_chunk_header_out_of_range_is_refused(position, value):
    bad = record(CHUNK, CHUNK_BODY)
    bad[position : position + len(value)] = value
    with pytest.raises(RecordError):
        parse_record(memoryview(bad))


def test_padding_longer_than_any_multiple_is_misuse():
    with pytest.raises(MisuseError):
        write_padding(bytearray(20000), 0, 8193)
    with pytest.raises(MisuseError):
        write_padding(bytearray(20000), 2, 1)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=50)), min_size=1, max_size=10))
def test_any_pack_survives(files):
    body = b"".join(pack_entry_header(n, len(data), b"R" * 32) + data for n, data in files)
    assert [(e.file, bytes(e.data)) for e in iter_pack(body, len(files))] == files


@given(st.binary(max_size=200), st.integers(1, 5))
def test_any_bytes_are_a_pack_or_refused(data, entries):
    try:
        total = sum(40 + len(entry.data) for entry in iter_pack(data, entries))
    except RecordError:
        return
    assert total == len(data)


@pytest.mark.parametrize(
    ("body", "entries"),
    [(PACK_BODY, 2), (PACK_BODY[:-1], 1), (PACK_BODY + b"x", 1), (PACK_BODY[:39], 1), (b"", 1)],
)
def test_a_pack_cut_short_or_too_long_is_refused(body, entries):
    with pytest.raises(RecordError):
        list(iter_pack(body, entries))


def test_pack_entries_are_views():
    body = bytearray(PACK_BODY)
    (found,) = iter_pack(body, 1)
    body[-1:] = b"0"
    assert bytes(found.data) == b"hell0"


def test_a_pack_entry_out_of_range_is_misuse():
    with pytest.raises(MisuseError):
        pack_entry_header(0, 1, b"short")
    with pytest.raises(MisuseError):
        pack_entry_header(2**32, 1, bytes(32))
    with pytest.raises(MisuseError):
        pack_entry_header(0, limits.PACK_RAW_BYTES, bytes(32))
