"""Addresses of a listening sender, as a person types them."""

import pytest
from tallow_protocol.aio.addresses import parse_peer
from tallow_protocol.errors import UnreachableError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7:4433", ("192.0.2.7", 4433)),
        ("[2001:db8::7]:65535", ("2001:db8::7", 65535)),
        ("laptop.example:1", ("laptop.example", 1)),
    ],
)
def test_host_and_port_are_told_apart(text, expected):
    assert parse_peer(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":4433",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:٤",
        "2001:db8::7:4433",
        "host:" + "1" * 5000,
    ],
)
def test_anything_else_is_one_clear_error(text):
    with pytest.raises(UnreachableError, match="HOST:PORT"):
        parse_peer(text)
