"""Strict CBOR: one encoding for each value, and an error for everything else."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.canonical import decode_map, encode_map
from tallow_net.errors import MalformedMessageError, MisuseError

LARGE = 1 << 20
KEYS = st.integers(0, 23)
LEAVES = (
    st.integers(-(1 << 64), (1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40)
    | st.booleans()
    | st.none()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=8)


def nested(levels):
    """A map that holds lists in lists, `levels` deep in all."""
    value = []
    for _ in range(levels - 2):
        value = [value]
    return {1: value}


@given(MAPS)
def test_what_is_encoded_is_decoded_to_the_same_value(fields):
    try:
        data = encode_map(fields)
    except MisuseError:  # deeper than eight levels
        return
    assert decode_map(data, max_bytes=LARGE) == fields
    assert encode_map(decode_map(data, max_bytes=LARGE)) == data


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_has_exactly_one_encoding(data):
    try:
        fields = decode_map(data, max_bytes=LARGE)
    except MalformedMessageError:
        return
    assert encode_map(fields) == data


@given(MAPS, st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_another_value(fields, position, change):
    try:
        data = bytearray(encode_map(fields))
    except MisuseError:
        return
    data[position % len(data)] ^= change
    try:
        other = decode_map(data, max_bytes=LARGE)
    except MalformedMessageError:
        return
    assert encode_map(other) == data
    assert encode_map(other) != encode_map(fields)


REFUSED = {
    "nothing": "",
    "trailing byte": "a000",
    "truncated": "a101",
    "no map: integer": "01",
    "no map: list": "80",
    "longer integer": "a1011801",
    "longer key": "a1180101",
    "longer length of bytes": "a101580161",
    "longer length of map": "b8010101",
    "indefinite map": "bf0101ff",
    "indefinite list": "a1019fff",
    "indefinite bytes": "a1015f4161ff",
    "duplicate key": "a201010102",
    "keys out of order": "a202010101",
    "key too large": "a1181801",
    "negative key": "a12001",
    "text key": "a1616101",
    "bytes key": "a1416101",
    "true as key": "a1f501",
    "list as key": "a18001",
    "null as key": "a1f601",
    "float": "a101fb3ff0000000000000",
    "half float": "a101f93c00",
    "not a number": "a101f97e00",
    "undefined": "a101f7",
    "simple value": "a101e0",
    "break": "a101ff",
    "text that is not UTF-8": "a10161ff",
    "surrogate in text": "a10163eda080",
    "date": "a101c074323031332d30332d32315432303a30343a30305a",
    "time stamp": "a101c11a514b67b0",
    "small big number": "a101c24101",
    "big number": "a101c249010000000000000000",
    "negative big number": "a101c349010000000000000000",
    "decimal fraction": "a101c48221196ab3",
    "big float with a large exponent": "a101c5821a7fffffff03",
    "string reference": "a101d9010080",
    "shared value": "a101d81c80",
    "shared value that holds itself": "a101d81c81d81d00",
    "rational": "a101d81e820102",
    "pattern": "a101d8236161",
    "mail": "a101d8246161",
    "uuid": "a101d8255000000000000000000000000000000000",
    "set": "a101d9010280",
    "address": "a101d9010444c0a80001",
    "self-described": "d9d9f7a0",
    "unknown tag": "a101da000fffff01",
    "reserved length": "a1011c",
    "length of 2^63": "a1015b8000000000000000",
    "list of 2^63": "a1019b8000000000000000",
    "map of 2^63": "bb8000000000000000",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(MalformedMessageError):
        decode_map(bytes.fromhex(REFUSED[name]), max_bytes=LARGE)


def test_a_tag_is_refused_before_it_is_acted_on():
    hook = cbor2.CBORTag(36, "From: x\n\n" * 1000)
    with pytest.raises(MalformedMessageError) as raised:
        decode_map(cbor2.dumps({1: hook}), max_bytes=LARGE)
    assert "no tag is used" in str(raised.value.__cause__.__cause__)


def test_eight_levels_are_taken_and_nine_refused():
    assert decode_map(encode_map(nested(8)), max_bytes=LARGE) == nested(8)
    with pytest.raises(MisuseError, match="8 levels"):
        encode_map(nested(9))
    with pytest.raises(MalformedMessageError):
        decode_map(cbor2.dumps(nested(9), canonical=True), max_bytes=LARGE)


def test_a_thousand_levels_are_refused_without_a_recursion_error():
    with pytest.raises(MalformedMessageError):
        decode_map(b"\xa1\x01" + b"\x81" * 1000 + b"\x80", max_bytes=LARGE)


def test_a_message_as_long_as_the_limit_is_taken_and_one_byte_more_refused():
    data = encode_map({1: b"x" * 100})
    assert decode_map(data, max_bytes=len(data)) == {1: b"x" * 100}
    with pytest.raises(MalformedMessageError, match="too long"):
        decode_map(data, max_bytes=len(data) - 1)


@pytest.mark.parametrize("key", [0, 23])
def test_the_smallest_and_the_largest_key_are_taken(key):
    assert decode_map(encode_map({key: 1}), max_bytes=10) == {key: 1}


@pytest.mark.parametrize("number", [-(1 << 64), (1 << 64) - 1, 0, -1, 23, 24])
def test_integers_of_64_bits_are_taken(number):
    assert decode_map(encode_map({1: number}), max_bytes=20) == {1: number}


@pytest.mark.parametrize(
    "fields",
    [
        {24: 1},
        {-1: 1},
        {"a": 1},
        {True: 1},
        {1: 1.0},
        {1: 1 << 64},
        {1: -(1 << 64) - 1},
        {1: {1, 2}},
        {1: "\ud800"},
    ],
    ids=str,
)
def test_what_would_not_be_decoded_is_not_encoded(fields):
    with pytest.raises(MisuseError):
        encode_map(fields)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_taken(kind):
    assert decode_map(kind(bytes.fromhex("a10102")), max_bytes=10) == {1: 2}


def test_a_tuple_is_encoded_as_a_list():
    assert decode_map(encode_map({1: (1, 2)}), max_bytes=10) == {1: [1, 2]}
