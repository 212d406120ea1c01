"""RelayAddress: what people write, one canonical form, and clear refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import InvalidAddressError
from tallow_net.relay.address import RelayAddress

PIN = bytes(range(32))
PIN_TEXT = f"#sha256:{PIN.hex()}"

READ = [
    ("relay.example", RelayAddress("relay.example", 443)),
    (" relay.example \n", RelayAddress("relay.example", 443)),
    ("Relay.Example.", RelayAddress("relay.example", 443)),
    ("relay.example:8443", RelayAddress("relay.example", 8443)),
    ("relay.example:1", RelayAddress("relay.example", 1)),
    ("relay.example:65535", RelayAddress("relay.example", 65535)),
    ("localhost:4000", RelayAddress("localhost", 4000)),
    ("my_relay", RelayAddress("my_relay", 443)),
    ("xn--bcher-kva.example", RelayAddress("xn--bcher-kva.example", 443)),
    ("192.0.2.1", RelayAddress("192.0.2.1", 443)),
    ("127.0.0.1:4000", RelayAddress("127.0.0.1", 4000)),
    ("2001:DB8::1", RelayAddress("2001:db8::1", 443)),
    ("[2001:db8:0:0::1]", RelayAddress("2001:db8::1", 443)),
    ("[::1]:4000", RelayAddress("::1", 4000)),
    ("[fe80::1%eth0]:4000", RelayAddress("fe80::1%eth0", 4000)),
    (f"relay.example{PIN_TEXT}", RelayAddress("relay.example", 443, PIN)),
    (f"relay.example:8443#sha256:{PIN.hex().upper()}", RelayAddress("relay.example", 8443, PIN)),
    (f"[::1]:4000{PIN_TEXT}", RelayAddress("::1", 4000, PIN)),
    (f"::1{PIN_TEXT}", RelayAddress("::1", 443, PIN)),
    (
        f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}",
        RelayAddress(f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}"),
    ),
]

REFUSED = [
    "",
    ":443",
    "relay.example:",
    "relay.example:0",
    "relay.example:65536",
    "relay.example:0443",
    "relay.example:-1",
    "relay.example:+1",
    "relay.example:4 3",
    "relay.example:\N{ARABIC-INDIC DIGIT FOUR}",
    "relay.example:https",
    "https://relay.example",
    "user@relay.example",
    "relay.example/path",
    "relay example",
    "relay..example",
    ".relay.example",
    "-relay.example",
    "relay-.example",
    "bücher.example",
    "relay\0.example",
    "a" * 64 + ".example",
    f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 62}",
    "256.0.0.1",
    "1.2.3",
    "1.2.3.4.5",
    "0x7f.1",
    "123",
    "[::1",
    "::1]",
    "[::1]4000",
    "[::1]:",
    "[::1]:0",
    "[127.0.0.1]:4000",
    "[]",
    "[relay.example]",
    ":::",
    "1:2:3",
    "relay.example#",
    "relay.example#sha256:",
    f"relay.example#{PIN.hex()}",
    f"relay.example#sha1:{PIN.hex()}",
    f"relay.example#sha256:{PIN.hex()[:-1]}",
    f"relay.example#sha256:{PIN.hex()}0",
    f"relay.example#sha256:{'g' * 64}",
    "relay.example#sha256:" + "\uff11" * 64,
]


@pytest.mark.parametrize(("text", "address"), READ)
def test_what_people_write_is_read(text, address):
    assert RelayAddress.parse(text) == address


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(InvalidAddressError) as raised:
        RelayAddress.parse(text)
    assert raised.value.code == "bad_address"
    assert raised.value.hints


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (RelayAddress("relay.example"), "relay.example:443"),
        (RelayAddress("::1", 4000), "[::1]:4000"),
        (RelayAddress("relay.example", 8443, PIN), f"relay.example:8443{PIN_TEXT}"),
    ],
)
def test_an_address_is_shown_whole(address, text):
    assert str(address) == text


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABEL, min_size=1, max_size=4).map(".".join) | st.ip_addresses().map(str)


@given(st.builds(RelayAddress, HOSTS, st.integers(1, 65535), st.none() | st.binary(min_size=32, max_size=32)))
def test_what_is_shown_is_read_back(address):
    assert RelayAddress.parse(str(address)) == address


@given(st.text(max_size=60) | st.text(alphabet="a.:[]#sh256%0-", max_size=20))
def test_garbage_is_refused_or_has_one_canonical_form(text):
    try:
        address = RelayAddress.parse(text)
    except InvalidAddressError:
        return
    assert RelayAddress.parse(str(address)) == address


@pytest.mark.parametrize(("port", "pin"), [(0, None), (65536, None), (443, b"p" * 31), (443, b"p" * 33)])
def test_a_port_or_pin_just_outside_is_refused(port, pin):
    with pytest.raises(InvalidAddressError):
        RelayAddress("relay.example", port, pin)
