"""Real processes with somebody between them and the relay, or between each other."""

import contextlib
from types import SimpleNamespace

import pytest

from tests.e2e.kit import assert_same, local, write_random
from tests.protocol.paths.middle import Middle

MIB = 1 << 20


@pytest.fixture
def between():
    """Makes proxies and ends them with the test."""
    made = []

    def make(target, **settings):
        made.append(Middle(target, **settings))
        return made[-1]

    yield make
    for middle in made:
        middle.close()


@pytest.fixture
def source(tmp_path):
    """A folder with one large file, and how to make it."""
    folder = tmp_path / "source"
    folder.mkdir()

    def make(mib):
        write_random(folder / "big", mib)
        return folder / "big"

    return make


def place_of(text):
    host, _, port = text.partition("#")[0].rpartition(":")
    return host, int(port)


def behind(relay, middle):
    """The relay as it is reached through a proxy; its certificate is its own."""
    return SimpleNamespace(address=f"127.0.0.1:{middle.port}#{relay.address.partition('#')[2]}")


def paths_of(process):
    return [(e["path"], e["plain"]) for e in process.events if e["event"] == "path"]


def all_of(sock):
    """Everything that arrives until the other side ends the connection, in order or not."""
    sock.settimeout(15)
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            got += piece
    return got


def over_relay(stage, relay, path, out, *words):
    """Send `path` with both sides on TCP and the relay alone."""
    options = ("--relay-only", *words)
    sender = stage.send(path, *options, relay=relay, transport="tcp")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], out, *options, relay=relay, transport="tcp")
    return sender, receiver


def finished(sender, receiver, tmp_path, seconds=60):
    codes = receiver.end(seconds), sender.end(seconds)
    assert codes == (0, 0), (receiver.errors, sender.errors, receiver.raw[-3:], sender.raw[-3:])
    assert_same(tmp_path / "source", tmp_path / "out")


def directly(stage, middle_of, path, out, **settings):
    """Send `path` to a receiver that dials through a proxy; return sender, receiver, proxy and the sender's place."""
    sender = stage.send(path, transport="tcp")
    code = sender.wait_for("code")
    place = place_of(local(code))
    middle = middle_of(place, **settings)
    receiver = stage.receive(code["code"], out, peer=f"127.0.0.1:{middle.port}", transport="tcp")
    return sender, receiver, middle, place
