from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol import limits
from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.messages import (
    Accept,
    Auth,
    Cancel,
    Candidate,
    CandidateKind,
    Done,
    Entry,
    EntryKind,
    FileDone,
    From,
    Have,
    Manifest,
    MessageType,
    Offer,
    Paths,
    Ping,
    Received,
    Refuse,
    Spread,
    TallowCodec,
    split_offer,
)
from tallow_protocol.errors import IntegrityError, MessageError, MisuseError, ProtocolError
from tallow_protocol.events import PathLimit

CODEC = TallowCodec()


def wire(kind: int, value: object) -> bytes:
    return kind.to_bytes(2, "big") + cbor2.dumps(value, canonical=True)


def entry(**changes: object) -> list[object]:
    fields = {"path": "a", "kind": 0, "size": 1, "mode": 0o644, "mtime_ns": 0, "target": None}
    return list((fields | changes).values())


def offer(*entries: object, part: int = 0) -> bytes:
    return wire(2, {1: part, 2: True, 3: list(entries)})


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
mtimes = st.integers(limits.MTIME_NS_MIN, limits.MTIME_NS_MAX)
modes = st.integers(0, 0o777)
entries = st.one_of(
    st.builds(
        Entry, texts, st.just(EntryKind.FILE), st.integers(0, limits.FILE_SIZE_MAX), modes, mtimes, st.none()
    ),
    st.builds(Entry, texts, st.just(EntryKind.FOLDER), st.none(), modes, mtimes, st.none()),
    st.builds(Entry, texts, st.just(EntryKind.LINK), st.none(), modes, mtimes, texts),
)


@st.composite
def accepts(draw):
    ranges, at = [], 0
    for gap, count in draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20)):
        ranges.append((at + gap, count))
        at += gap + count + 1
    return Accept(tuple(ranges))


@st.composite
def file_dones(draw):
    size = draw(st.integers(0, limits.FILE_SIZE_MAX))
    chunk = 1 << draw(st.integers(16, 22))
    return FileDone(
        draw(st.integers(0, limits.FILE_NUMBER_MAX)),
        size,
        -(-size // chunk),
        draw(st.binary(min_size=32, max_size=32)),
    )


messages = st.one_of(
    st.builds(
        Auth,
        st.binary(min_size=32, max_size=32),
        st.just(bytes(2592)),
        st.binary(min_size=64, max_size=64),
        st.just(bytes(4627)),
        st.one_of(st.none(), st.binary(min_size=32, max_size=32)),
        st.booleans(),
    ),
    st.builds(
        Offer, st.integers(0, limits.OFFER_PARTS - 1), st.booleans(), st.lists(entries, max_size=8).map(tuple)
    ),
    st.just(Accept(None)),
    accepts(),
    st.builds(Refuse, st.sampled_from(CloseCode)),
    file_dones(),
    st.builds(Manifest, st.binary(min_size=32, max_size=32), st.just(bytes(64)), st.just(bytes(4627))),
    st.builds(Done, st.integers(0, limits.OFFER_ENTRIES), st.integers(0, limits.FILE_SIZE_MAX)),
    st.builds(Cancel, st.sampled_from(CloseCode)),
    st.just(Ping()),
    st.builds(
        Received,
        st.lists(
            st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**48), st.integers(1, 2**48)), max_size=20
        ).map(tuple),
    ),
    st.builds(
        Paths,
        st.sampled_from(PathLimit),
        st.lists(
            st.builds(
                Candidate,
                st.sampled_from(CandidateKind),
                st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
                st.integers(1, 65535),
            ),
            max_size=16,
        ).map(tuple),
    ),
    st.builds(Spread, st.integers(1, 4)),
    st.builds(
        Have,
        st.integers(0, 2**32 - 1),
        st.integers(16, 22).map(lambda log2: 1 << log2),
        st.integers(1, 2**41),
        st.binary(min_size=32, max_size=32),
    ),
    st.builds(From, st.integers(0, 2**32 - 1), st.integers(0, 2**48)),
)


@given(messages)
def test_any_message_survives_its_encoding(message):
    assert CODEC.decode(CODEC.encode(message)) == message


@given(st.integers(0, 14), st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(kind, data):
    try:
        message = CODEC.decode(kind.to_bytes(2, "big") + data)
    except MessageError:
        return
    assert CODEC.decode(CODEC.encode(message)) == message


@given(messages, st.data())
def test_a_message_cut_short_is_refused(message, data):
    encoded = CODEC.encode(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MessageError):
        CODEC.decode(encoded[:cut])


@given(messages)
def test_a_message_with_a_byte_too_many_is_refused(message):
    with pytest.raises(MessageError):
        CODEC.decode(CODEC.encode(message) + b"\x00")


@given(messages)
def test_an_unknown_key_is_refused_in_every_message(message):
    encoded = CODEC.encode(message)
    values = cbor2.loads(encoded[2:])
    with pytest.raises(MessageError):
        CODEC.decode(encoded[:2] + cbor2.dumps({**values, 20: 1}, canonical=True))


@given(messages, st.data())
def test_a_missing_key_is_refused_in_every_message(message, data):
    encoded = CODEC.encode(message)
    values = cbor2.loads(encoded[2:])
    optional = {5} if isinstance(message, Auth) else set()
    required = sorted(set(values) - optional)
    if not required:
        return
    values.pop(data.draw(st.sampled_from(required)))
    with pytest.raises(MessageError):
        CODEC.decode(encoded[:2] + cbor2.dumps(values, canonical=True))


def test_types_and_numbers_are_the_ones_of_the_wire():
    assert {kind.name: int(kind) for kind in MessageType} == {
        "AUTH": 1,
        "OFFER": 2,
        "ACCEPT": 3,
        "REFUSE": 4,
        "FILE_DONE": 5,
        "MANIFEST": 6,
        "DONE": 7,
        "CANCEL": 8,
        "PING": 9,
        "RECEIVED": 10,
        "PATHS": 11,
        "SPREAD": 12,
        "HAVE": 13,
        "FROM": 14,
    }


def test_the_bytes_of_a_small_message_are_fixed():
    assert CODEC.encode(Done(2, 300)).hex() == "0007a20102021901" + "2c"
    assert CODEC.encode(Ping()).hex() == "0009a0"
    assert CODEC.encode(Accept(None)).hex() == "0003a101f6"
    place = Candidate(CandidateKind.QUIC, bytes([192, 0, 2, 1]), 443)
    assert (
        CODEC.encode(Paths(PathLimit.DIRECT_ONLY, (place,))).hex()
        == "000ba20102028183" + "0144c00002011901bb"
    )
    assert CODEC.encode(Spread(4)).hex() == "000ca10104"
    have = Have(2, 524_288, 94, bytes(32))
    assert CODEC.encode(have).hex() == "000da40102021a00080000" + "03185e045820" + "00" * 32
    assert CODEC.encode(From(2, 94)).hex() == "000ea2010202185e"


@pytest.mark.parametrize("kind", [0, 15, 255, 256, 0xFFFF])
def test_an_unknown_type_is_refused(kind):
    with pytest.raises(MessageError):
        CODEC.decode(wire(kind, {}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x09",
        bytes.fromhex("0009a000"),  # a byte behind the map
        bytes.fromhex("0009bfff"),  # indefinite length
        bytes.fromhex("000980"),  # a list
        bytes.fromhex("0008a1011801"),  # 1 in two bytes
        bytes.fromhex("0008a201010101"),  # a key twice
        bytes.fromhex("0008a101f93c00"),  # 1.0
        bytes.fromhex("0008a101f5"),  # true for 1
        bytes.fromhex("0008a10100"),  # code 0
        bytes.fromhex("0008a1011a00010000"),  # code 65536
        bytes.fromhex("0008a10120"),  # code -1
        bytes.fromhex("0008a101c101"),  # a tag
        bytes.fromhex("0007a202190190010" + "1"),  # keys out of order
    ],
)
def test_what_is_not_canonical_or_of_the_wrong_type_is_refused(data):
    with pytest.raises(MessageError):
        CODEC.decode(data)


def test_an_unknown_close_code_reads_as_internal():
    assert CODEC.decode(wire(8, {1: 999})) == Cancel(CloseCode.INTERNAL)
    assert CODEC.decode(wire(4, {1: 999})) == Refuse(CloseCode.INTERNAL)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"path": "x" * limits.PATH_BYTES}, True),
        ({"path": "x" * (limits.PATH_BYTES + 1)}, False),
        ({"path": "\u00e9" * (limits.PATH_BYTES // 2)}, True),
        ({"path": "\u00e9" * (limits.PATH_BYTES // 2) + "x"}, False),
        ({"path": ""}, False),
        ({"path": b"a"}, False),
        ({"kind": 3}, False),
        ({"kind": -1}, False),
        ({"kind": True}, False),
        ({"size": limits.FILE_SIZE_MAX}, True),
        ({"size": limits.FILE_SIZE_MAX + 1}, False),
        ({"size": 0}, True),
        ({"size": -1}, False),
        ({"size": None}, True),
        ({"mode": 0o777}, True),
        ({"mode": 0o2000}, False),
        ({"mode": 0o1644, "size": limits.TEXT_BYTES}, True),
        ({"mode": 0o1644, "size": limits.TEXT_BYTES + 1}, False),
        ({"mode": 0o1644, "size": None}, False),
        ({"kind": 1, "size": None, "mode": 0o1755}, False),
        ({"mode": -1}, False),
        ({"mtime_ns": limits.MTIME_NS_MAX}, True),
        ({"mtime_ns": limits.MTIME_NS_MAX + 1}, False),
        ({"mtime_ns": limits.MTIME_NS_MIN}, True),
        ({"mtime_ns": limits.MTIME_NS_MIN - 1}, False),
        ({"target": "b"}, False),
        ({"kind": 1, "size": None}, True),
        ({"kind": 1}, False),
        ({"kind": 1, "size": None, "target": "b"}, False),
        ({"kind": 2, "size": None, "target": "b"}, True),
        ({"kind": 2, "size": None}, False),
        ({"kind": 2, "size": None, "target": ""}, False),
        ({"kind": 2, "size": None, "target": "x" * limits.PATH_BYTES}, True),
        ({"kind": 2, "size": None, "target": "x" * (limits.PATH_BYTES + 1)}, False),
        ({"kind": 2, "size": 1, "target": "b"}, False),
        ({"extra": 1}, False),
    ],
)
def test_an_entry_is_taken_within_its_limits_only(changes, good):
    encoded = offer(entry(**changes))
    if good:
        assert len(CODEC.decode(encoded).entries) == 1
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


def test_an_entry_with_five_values_is_refused():
    with pytest.raises(MessageError):
        CODEC.decode(offer(entry()[:5]))


def test_a_part_of_exactly_a_mebibyte_is_taken_and_one_byte_more_is_not():
    size = len(offer(*[entry(path="x" * 4000)] * 250)) - 2
    filler = limits.OFFER_PART_BYTES - size
    full = offer(
        *[entry(path="x" * 4000)] * 250, *[entry(path="y" * 3000)] * (filler // 3012), entry(path="z" * 1000)
    )
    short = limits.OFFER_PART_BYTES - (len(full) - 2)
    exact = offer(
        *[entry(path="x" * 4000)] * 250,
        *[entry(path="y" * 3000)] * (filler // 3012),
        entry(path="z" * (1000 + short)),
    )
    over = offer(
        *[entry(path="x" * 4000)] * 250,
        *[entry(path="y" * 3000)] * (filler // 3012),
        entry(path="z" * (1001 + short)),
    )
    assert len(exact) - 2 == limits.OFFER_PART_BYTES
    assert CODEC.decode(exact).raw == exact[2:]
    with pytest.raises(MessageError):
        CODEC.decode(over)


def test_a_message_longer_than_the_limit_is_refused_before_it_is_decoded():
    with pytest.raises(MessageError, match="has 1052673 bytes"):
        CODEC.decode(b"\x00\x02" + bytes(limits.CONTROL_BODY_BYTES - 1))


@pytest.mark.parametrize(
    ("part", "good"), [(limits.OFFER_PARTS - 1, True), (limits.OFFER_PARTS, False), (-1, False)]
)
def test_a_part_number_stays_under_its_limit(part, good):
    if good:
        assert CODEC.decode(offer(part=part)).part == part
    else:
        with pytest.raises(MessageError):
            CODEC.decode(offer(part=part))


@pytest.mark.parametrize(
    ("ranges", "good"),
    [
        ([[0, 1]], True),
        ([[0, 1], [2, 1]], True),
        ([[0, 1], [1, 1]], False),
        ([[2, 1], [0, 1]], False),
        ([[0, 0]], False),
        ([[0, limits.OFFER_ENTRIES]], True),
        ([[0, limits.OFFER_ENTRIES + 1]], False),
        ([[limits.OFFER_ENTRIES, 1]], False),
        ([[0, 1, 1]], False),
        ([[0]], False),
        ([0], False),
        ([[2 * n, 1] for n in range(limits.ACCEPT_RANGES)], True),
        ([[2 * n, 1] for n in range(limits.ACCEPT_RANGES + 1)], False),
        ([], True),
    ],
)
def test_accepted_ranges_are_ascending_apart_and_limited(ranges, good):
    encoded = wire(3, {1: ranges})
    if good:
        assert len(CODEC.decode(encoded).ranges) == len(ranges)
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize(
    ("ranges", "good"),
    [
        ([[0, 0, 1]] * limits.RECEIVED_RANGES, True),
        ([[0, 0, 1]] * (limits.RECEIVED_RANGES + 1), False),
        ([[2**32 - 1, 2**48, 1]], True),
        ([[2**32, 0, 1]], False),
        ([[0, 2**48 + 1, 1]], False),
        ([[0, 0, 0]], False),
        ([[0, 0]], False),
    ],
)
def test_acknowledged_ranges_are_limited(ranges, good):
    encoded = wire(10, {1: ranges})
    if good:
        assert len(CODEC.decode(encoded).ranges) == len(ranges)
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize(
    ("limit", "candidates", "good"),
    [
        (0, [], True),
        (2, [], True),
        (3, [], False),
        (-1, [], False),
        (True, [], False),
        (0, None, False),
        (0, [[0, bytes(4), 1]] * 16, True),
        (0, [[0, bytes(4), 1]] * 17, False),
        (0, [[1, bytes(16), 65535]], True),
        (0, [[2, bytes(4), 1]], False),
        (0, [[-1, bytes(4), 1]], False),
        (0, [[0, bytes(4), 0]], False),
        (0, [[0, bytes(4), 65536]], False),
        (0, [[0, bytes(3), 1]], False),
        (0, [[0, bytes(5), 1]], False),
        (0, [[0, bytes(15), 1]], False),
        (0, [[0, bytes(17), 1]], False),
        (0, [[0, "1234", 1]], False),
        (0, [[0, bytes(4)]], False),
        (0, [[0, bytes(4), 1, 1]], False),
        (0, [0], False),
    ],
)
def test_paths_are_taken_within_their_limits_only(limit, candidates, good):
    encoded = wire(11, {1: limit, 2: candidates})
    if good:
        assert len(CODEC.decode(encoded).candidates) == len(candidates)
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize(
    ("connections", "good"), [(0, False), (1, True), (4, True), (5, False), (True, False)]
)
def test_a_spread_is_one_to_four_connections(connections, good):
    encoded = wire(12, {1: connections})
    if good:
        assert CODEC.decode(encoded) == Spread(connections)
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize(
    ("chunk_size", "count", "good"),
    [
        (1 << 15, 1, False),
        (1 << 16, 1, True),
        (1 << 22, 1, True),
        (1 << 23, 1, False),
        (65_537, 1, False),
        (3 << 16, 1, False),
        (0, 1, False),
        (1 << 16, 0, False),
        (1 << 16, 1 << 47, True),
        (1 << 16, (1 << 47) + 1, False),
        (1 << 22, 1 << 41, True),
        (1 << 22, (1 << 41) + 1, False),
    ],
)
def test_a_have_is_of_whole_chunks_of_a_possible_file(chunk_size, count, good):
    encoded = wire(13, {1: 0, 2: chunk_size, 3: count, 4: bytes(32)})
    if good:
        assert CODEC.decode(encoded) == Have(0, chunk_size, count, bytes(32))
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize("root", [bytes(31), bytes(33), "x" * 32])
def test_a_have_has_a_root_of_32_bytes(root):
    with pytest.raises(MessageError):
        CODEC.decode(wire(13, {1: 0, 2: 1 << 16, 3: 1, 4: root}))


@pytest.mark.parametrize(
    ("file", "first", "good"),
    [(0, 0, True), (2**32 - 1, 2**48, True), (2**32, 0, False), (0, 2**48 + 1, False), (0, -1, False)],
)
def test_a_from_names_a_file_and_a_chunk_in_range(file, first, good):
    encoded = wire(14, {1: file, 2: first})
    if good:
        assert CODEC.decode(encoded) == From(file, first)
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize(
    ("size", "count", "good"),
    [
        (0, 0, True),
        (0, 1, False),
        (1, 1, True),
        (1, 0, False),
        (65536, 1, True),
        (65537, 2, True),
        (65537, 3, False),
        (1 << 22, 1, True),
        ((1 << 22) + 1, 1, False),
        ((1 << 22) + 1, 2, True),
        ((1 << 22) + 1, 65, True),
        ((1 << 22) + 1, 66, False),
    ],
)
def test_a_file_ends_with_as_many_chunks_as_its_size_allows(size, count, good):
    encoded = wire(5, {1: 0, 2: size, 3: count, 4: bytes(32)})
    if good:
        assert CODEC.decode(encoded).count == count
    else:
        with pytest.raises(MessageError):
            CODEC.decode(encoded)


@pytest.mark.parametrize("length", [31, 33])
def test_a_root_of_another_length_is_refused(length):
    with pytest.raises(MessageError):
        CODEC.decode(wire(5, {1: 0, 2: 1, 3: 1, 4: bytes(length)}))


@pytest.mark.parametrize("key", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("change", [-1, 1])
def test_an_auth_field_of_another_length_is_refused(key, change):
    fields = {1: bytes(32), 2: bytes(2592), 3: bytes(64), 4: bytes(4627), 5: bytes(32), 6: False}
    fields[key] = bytes(len(fields[key]) + change)
    with pytest.raises(MessageError):
        CODEC.decode(wire(1, fields))


def test_what_a_peer_would_refuse_is_misuse_when_it_is_sent():
    with pytest.raises(MisuseError):
        CODEC.encode(Done(-1, 0))
    with pytest.raises(MisuseError):
        CODEC.encode(Offer(0, True, (Entry("\udc80", EntryKind.FILE, 0, 0, 0),)))
    with pytest.raises(MisuseError):
        CODEC.encode(Offer(0, True, (Entry("a", EntryKind.FOLDER, 1, 0, 0),)))


def test_an_offers_raw_map_is_the_one_of_the_wire():
    encoded = offer(entry())
    decoded = CODEC.decode(encoded)
    assert CODEC.raw_map(decoded) == encoded[2:]
    assert CODEC.raw_map(Offer(0, True, decoded.entries)) == encoded[2:]


def test_a_large_offer_is_split_into_parts_that_a_receiver_takes():
    made = [Entry(f"folder/{n:06}" + "x" * 90, EntryKind.FILE, n, 0o644, -n) for n in range(25_000)]
    parts = list(split_offer(made))
    decoded = [CODEC.decode(CODEC.encode(part)) for part in parts]
    assert len(parts) > 2
    assert [part.part for part in decoded] == list(range(len(parts)))
    assert [part.last for part in decoded] == [False] * (len(parts) - 1) + [True]
    assert [e for part in decoded for e in part.entries] == made
    assert all(len(part.raw) <= limits.OFFER_PART_BYTES for part in parts)


def test_the_longest_entries_stay_within_the_share_that_is_reckoned_for_them():
    longest = Entry("\u00e9" * 2048, EntryKind.FILE, limits.FILE_SIZE_MAX, 0o777, limits.MTIME_NS_MIN)
    link = Entry("p" * 4096, EntryKind.LINK, None, 0o777, limits.MTIME_NS_MIN, "t" * 4096)
    parts = list(split_offer([longest, link] * 300))
    assert len(parts) > 3
    assert all(len(CODEC.decode(CODEC.encode(part)).raw) <= limits.OFFER_PART_BYTES for part in parts)


def test_an_empty_offer_is_one_part():
    assert list(split_offer([])) == [Offer(0, True, ())]


def test_too_many_entries_are_refused_before_they_are_sent(monkeypatch):
    monkeypatch.setattr("tallow_protocol.core.messages.OFFER_ENTRIES", 3)
    same = Entry("a", EntryKind.FILE, 0, 0, 0)
    assert len(list(split_offer([same] * 3))) == 1
    with pytest.raises(MisuseError):
        list(split_offer([same] * 4))


def test_every_close_code_has_an_error_for_the_side_that_is_told():
    for code in CloseCode:
        error = code.error()
        assert isinstance(error, ProtocolError)
        assert str(error)
        if code not in {CloseCode.UNATTENDED, CloseCode.LOOKED}:
            assert CloseCode.of(error) is code
    assert isinstance(CloseCode.INTEGRITY.error(), IntegrityError)
