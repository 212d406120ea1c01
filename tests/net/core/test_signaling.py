"""SignalingMessage: layouts byte by byte, round trips, garbage, and each limit from both sides."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net import limits
from tallow_net.canonical import encode_map
from tallow_net.errors import MalformedMessageError, MisuseError
from tallow_net.limits import PLAIN_FRAME_BYTES, SIGNALING_FRAME_BYTES
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    ErrorCode,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Redirect,
    Restarting,
    Side,
    SignalingError,
    Waiting,
    Welcome,
    WelcomeLimits,
    decode,
    encode,
    error_name,
    is_signaling,
)
from tallow_net.untrusted import PeerText

ROOM, LEASE = b"r" * 32, b"l" * 16
U16 = st.integers(1, 0xFFFF)
ROOMS = st.binary(min_size=32, max_size=32)
LEASES = st.binary(min_size=16, max_size=16)


def utf8(most, least=0):
    return st.text(min_size=least, max_size=most).filter(lambda t: least <= len(t.encode()) <= most)


MESSAGES = st.one_of(
    st.builds(
        Welcome,
        st.lists(U16, min_size=1, max_size=16).map(tuple),
        st.builds(
            WelcomeLimits,
            st.integers(limits.IN_FLIGHT_MIN_BYTES, limits.IN_FLIGHT_MAX_BYTES),
            st.integers(1, limits.MAX_WAIT_MAX_S),
            U16,
        ),
        utf8(300).map(PeerText),
        utf8(64).map(PeerText),
    ),
    st.builds(
        Join, U16, st.lists(ROOMS, min_size=1, max_size=64, unique=True).map(tuple), st.sampled_from(Side)
    ),
    st.builds(
        Join,
        U16,
        st.lists(ROOMS, min_size=1, max_size=64, unique=True).map(tuple),
        st.sampled_from(Side),
        LEASES,
        st.booleans(),
    ),
    st.just(Waiting()),
    st.builds(Allocate, U16, LEASES),
    st.builds(Allocated, st.integers(1, 10**12 - 1).map(str)),
    st.builds(Leave, ROOMS, LEASES, st.sampled_from(LeaveReason)),
    st.just(Left()),
    st.just(KeepAlive()),
    st.builds(
        Ready, st.none() | st.just(()) | st.lists(ROOMS, min_size=4, max_size=4, unique=True).map(tuple)
    ),
    st.builds(Call, ROOMS, LEASES),
    st.builds(Redirect, utf8(253, 1), U16, st.none() | ROOMS),
    st.builds(Restarting, st.integers(0, limits.RESTART_MS), st.integers(0, limits.RESTART_MS)),
    st.builds(SignalingError, st.integers(0, 0xFFFF), st.none() | st.integers(0, limits.RETRY_AFTER_S)),
)


@given(MESSAGES)
def test_every_message_comes_back_as_it_was(message):
    body = encode(message)
    assert decode(body) == message
    assert is_signaling(body)
    assert len(body) <= SIGNALING_FRAME_BYTES


@given(MESSAGES, st.integers(0, 5000), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_another_message(message, position, change):
    body = bytearray(encode(message))
    body[position % len(body)] ^= change
    try:
        other = decode(body)
    except MalformedMessageError:
        return
    assert encode(other) == body


@given(MESSAGES, st.integers(0, 5000))
def test_a_cut_message_is_refused(message, position):
    body = encode(message)
    with pytest.raises(MalformedMessageError):
        decode(body[: position % len(body)])


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_has_exactly_one_encoding(data):
    try:
        message = decode(data)
    except MalformedMessageError:
        return
    assert encode(message) == data


@given(
    st.sampled_from(range(1, 14)), st.dictionaries(st.integers(0, 8), st.integers() | st.binary() | st.text())
)
def test_a_map_of_wrong_fields_is_refused_or_has_exactly_one_encoding(number, fields):
    try:
        body = number.to_bytes(2, "big") + encode_map(fields)
    except MisuseError:
        return
    try:
        message = decode(body)
    except MalformedMessageError:
        return
    assert encode(message) == body


# --- layouts, as docs/protocol.md has them --------------------------------------------------------------------------

LAYOUTS = [
    (Welcome(), "0001 a4 01 8101 02 a3 01 1a01000000 02 1a00015180 03 1840 03 60 04 60"),
    (Join(1, (ROOM,), Side.B), f"0002 a3 01 01 02 5820{ROOM.hex()} 03 01"),
    (
        Join(1, (ROOM,), Side.A, LEASE, wait=False),
        f"0002 a5 01 01 02 5820{ROOM.hex()} 03 00 04 50{LEASE.hex()} 05 f4",
    ),
    (
        Join(1, (ROOM, b"s" * 32), Side.B, LEASE, wait=True),
        f"0002 a5 01 01 02 82 5820{ROOM.hex()} 5820{'73' * 32} 03 01 04 50{LEASE.hex()} 05 f5",
    ),
    (Waiting(), "0003 a0"),
    (Allocate(1, LEASE), f"0004 a2 01 01 02 50{LEASE.hex()}"),
    (Allocated("4821"), "0005 a1 01 64 34383231"),
    (Leave(ROOM, LEASE, LeaveReason.BURNED), f"0006 a3 01 5820{ROOM.hex()} 02 50{LEASE.hex()} 03 02"),
    (Left(), "0007 a0"),
    (KeepAlive(), "0008 a0"),
    (Ready(), "0009 a0"),
    (Ready(()), "0009 a1 01 80"),
    (Call(ROOM, LEASE), f"000a a2 01 5820{ROOM.hex()} 02 50{LEASE.hex()}"),
    (Redirect("h", 443), "000b a2 01 6168 02 1901bb"),
    (Redirect("h", 443, ROOM), f"000b a3 01 6168 02 1901bb 03 5820{ROOM.hex()}"),
    (Restarting(500, 60_000), "000c a2 01 1901f4 02 19ea60"),
    (SignalingError(ErrorCode.NO_SUCH_ROOM), "000d a1 01 03"),
    (SignalingError(ErrorCode.RELAY_FULL, 30), "000d a2 01 0a 02 181e"),
]


@pytest.mark.parametrize(("message", "layout"), LAYOUTS, ids=lambda v: type(v).__name__)
def test_a_message_has_its_layout(message, layout):
    assert encode(message).hex() == layout.replace(" ", "")


# --- every limit, just inside and just outside -----------------------------------------------------------------------


def rooms(count):
    return tuple(n.to_bytes(32, "big") for n in range(count))


def welcome_with(**changes):
    return Welcome(limits=replace(WelcomeLimits(), **changes))


INSIDE = [
    Join(1, rooms(64), Side.B, LEASE, wait=True),
    Join(0xFFFF, (ROOM,), Side.B),
    Welcome(versions=(1,) * 16),
    Welcome(notice=PeerText("é" * 512)),
    Welcome(address=PeerText("a" * 64)),
    welcome_with(in_flight_bytes=64 * 1024),
    welcome_with(in_flight_bytes=1 << 30),
    welcome_with(max_wait_s=1),
    welcome_with(max_wait_s=365 * 24 * 3600),
    welcome_with(rooms=1),
    welcome_with(rooms=0xFFFF),
    Allocated("1"),
    Allocated("9" * 12),
    Ready(rooms(4)),
    Redirect("h" * 253, 0xFFFF),
    Redirect("h", 1),
    Restarting(0, 3_600_000),
    Restarting(3_600_000, 0),
    SignalingError(0xFFFF, 7 * 24 * 3600),
    SignalingError(0, 0),
]
OUTSIDE = [
    Join(1, rooms(65), Side.B, LEASE, wait=True),
    Join(1, (), Side.B, LEASE),
    Join(1, (ROOM, ROOM), Side.B, LEASE),
    Join(1, (b"r" * 31,), Side.B),
    Join(1, (b"r" * 33,), Side.B),
    Join(0, (ROOM,), Side.B),
    Join(0x10000, (ROOM,), Side.B),
    Join(1, (ROOM,), 2),
    Join(1, (ROOM,), Side.B, b"l" * 15),
    Join(1, (ROOM,), Side.B, b"l" * 17),
    Join(1, (ROOM,), Side.B, None, wait=True),
    Welcome(versions=()),
    Welcome(versions=(1,) * 17),
    Welcome(versions=(0,)),
    Welcome(versions=(0x10000,)),
    Welcome(notice=PeerText("é" * 512 + "x")),
    Welcome(address=PeerText("a" * 65)),
    welcome_with(in_flight_bytes=64 * 1024 - 1),
    welcome_with(in_flight_bytes=(1 << 30) + 1),
    welcome_with(max_wait_s=0),
    welcome_with(max_wait_s=365 * 24 * 3600 + 1),
    welcome_with(rooms=0),
    welcome_with(rooms=0x10000),
    Allocate(1, b"l" * 15),
    Allocate(1, b"l" * 17),
    Allocate(0, LEASE),
    Allocated(""),
    Allocated("9" * 13),
    Allocated("0123"),
    Allocated("12a"),
    Allocated("\N{ARABIC-INDIC DIGIT ONE}2"),
    Leave(b"r" * 31, LEASE, LeaveReason.LEFT),
    Leave(ROOM, b"l" * 15, LeaveReason.LEFT),
    Leave(ROOM, LEASE, 3),
    Ready(rooms(1)),
    Ready(rooms(3)),
    Ready(rooms(5)),
    Ready((ROOM,) * 4),
    Ready((b"t" * 31, *rooms(3))),
    Call(b"r" * 33, LEASE),
    Call(ROOM, b"l" * 15),
    Redirect("", 443),
    Redirect("h" * 254, 443),
    Redirect("h", 0),
    Redirect("h", 0x10000),
    Redirect("h", 443, b"p" * 31),
    Restarting(3_600_001, 0),
    Restarting(0, 3_600_001),
    Restarting(-1, 0),
    SignalingError(0x10000),
    SignalingError(-1),
    SignalingError(1, 7 * 24 * 3600 + 1),
    SignalingError(1, -1),
]


@pytest.mark.parametrize("message", INSIDE, ids=lambda m: type(m).__name__)
def test_a_value_just_inside_its_limit_is_taken(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", OUTSIDE, ids=lambda m: type(m).__name__)
def test_a_value_just_outside_its_limit_is_not_sent(message):
    with pytest.raises(MisuseError, match="cannot be"):
        encode(message)


REFUSED = {
    "nothing": "",
    "half a type": "00",
    "type 0": "0000a0",
    "type 14": "000ea0",
    "type 256": "0100a0",
    "a plain handshake type": "1000a0",
    "no map": "0003",
    "unknown key": "0003a10101",
    "unknown key of Ready": "0009a10201",
    "missing key": "0005a0",
    "true for a number": "000da101f5",
    "number for true": f"0002a501010258{'20' + ROOM.hex()}03010450{LEASE.hex()}0501",
    "lease without wait": f"0002a4010102 5820{ROOM.hex()} 0301 0450{LEASE.hex()}",
    "wait without lease": f"0002a4010102 5820{ROOM.hex()} 0301 05f5",
    "one room in a list": f"0002a3010102 81 5820{ROOM.hex()} 0301",
    "side 2": f"0002a3010102 5820{ROOM.hex()} 0302",
    "text for bytes": "000aa201616102 6161",
    "null for absent": "000da20101 02f6",
    "unknown limit": "0001a4018101 02a4 011a01000000 021a00015180 031840 0401 0360 0460",
    "missing limit": "0001a4018101 02a2 011a01000000 021a00015180 0360 0460",
    "tokens of numbers": "0009a1018401020304",
    "trailing byte": "0003a000",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(MalformedMessageError):
        decode(bytes.fromhex(REFUSED[name]))


def test_a_body_of_the_frame_limit_is_looked_at_and_a_longer_one_is_not():
    with pytest.raises(MalformedMessageError, match="no CBOR map"):
        decode(b"\x00\x03" + b"\x00" * (SIGNALING_FRAME_BYTES - 2))
    with pytest.raises(MalformedMessageError, match="at most 4096"):
        decode(b"\x00\x03" + b"\x00" * (SIGNALING_FRAME_BYTES - 1))


def test_the_longest_join_fits_in_a_frame_with_room_to_spare():
    assert len(encode(Join(1, rooms(64), Side.B, LEASE, wait=True))) < 2300 < PLAIN_FRAME_BYTES


def test_errors_hold_no_text_of_the_peer():
    with pytest.raises(MalformedMessageError) as raised:
        decode(b"\x00\x05" + encode_map({1: "\x1b[31mred"}))
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("first", [1, 2, 16, 17, 18, 19, 0xFF])
def test_no_plain_type_looks_like_signaling(first):
    assert not is_signaling(bytes([first]))


def test_an_empty_body_is_no_signaling():
    assert not is_signaling(b"")


def test_error_names_are_stable():
    assert {code.value: error_name(code) for code in ErrorCode} == {
        1: "bad_request",
        2: "version",
        3: "no_such_room",
        4: "two_senders",
        5: "two_receivers",
        6: "in_use",
        7: "room_spent",
        8: "room_burned",
        9: "room_expired",
        10: "relay_full",
        11: "rate_limited",
        12: "quota_reached",
        13: "access_denied",
        14: "relay_closing",
        15: "replaced",
        16: "internal",
    }
    assert error_name(17) == "relay_error_17"
    assert SignalingError(3).name == "no_such_room"


def test_a_join_for_several_rooms_has_no_one_room():
    assert Join(1, (ROOM,), Side.A).room_id == ROOM
    with pytest.raises(MisuseError):
        _ = Join(1, rooms(2), Side.A).room_id
