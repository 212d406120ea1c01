"""What no package does, looked for in the source: no archives, no HTTP, no HTML, no dialling relay, no list of rooms."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
import tallow_cli
import tallow_crypto
import tallow_net
import tallow_protocol
import tallow_relay
import tallow_store
from tallow_net import signaling

PACKAGES = [tallow_cli, tallow_crypto, tallow_net, tallow_protocol, tallow_relay, tallow_store]
SOURCES = sorted(path for package in PACKAGES for path in Path(package.__file__).parent.rglob("*.py"))
RELAY = sorted(Path(tallow_relay.__file__).parent.rglob("*.py"))

ARCHIVES = {"tarfile", "zipfile", "zipimport", "lzma", "bz2", "py7zr", "libarchive"}
OF_HTTP = {
    "http",
    "urllib",
    "requests",
    "httpx",
    "aiohttp",
    "wsgiref",
    "xmlrpc",
    "html",
    "jinja2",
    "socketserver",
}
DIALS = {
    "connect", "connect_ex", "create_connection", "create_datagram_endpoint", "open_connection", "sock_connect",
    "connect_direct", "connect_encrypted", "connect_data", "getaddrinfo", "gethostbyname", "open_unix_connection",
    "RelayClient",
}  # fmt: skip


def imported(tree: ast.AST) -> set[str]:
    """Return the first part of every module that is imported, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def used(tree: ast.AST) -> set[str]:
    """Return every name that is imported, called or looked up."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.name.rpartition(".")[2] for alias in node.names}
    return names


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_reads_an_archive_or_speaks_http(path: Path) -> None:
    """So there is no zip slip, no redirect between peers to be followed, and no page to put a script into."""
    parsed = tree(path)
    assert imported(parsed) & (ARCHIVES | OF_HTTP) == set()
    assert used(parsed) & {"unpack_archive", "make_archive", "urlopen"} == set()


@pytest.mark.parametrize("path", RELAY, ids=lambda path: path.name)
def test_a_relay_dials_nobody(path: Path) -> None:
    """It joins two connections that came in. It knows no host, since nothing that it reads names one to it."""
    assert used(tree(path)) & DIALS == set()


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.open_connection(host, port)",
        "sock.connect((host, port))",
        "from tallow_net.transport.negotiate import connect_direct",
        "loop.create_datagram_endpoint(P, remote_addr=a)",
        "from tallow_net import RelayClient",
    ],
)
def test_this_check_sees_a_relay_that_would_dial(line: str) -> None:
    assert used(ast.parse(f"async def f():\n    {line}")) & DIALS


@pytest.mark.parametrize(
    "line", ["import zipfile", "from urllib.request import urlopen", "import http.server", "import tarfile"]
)
def test_this_check_sees_an_import(line: str) -> None:
    assert imported(ast.parse(f"def f():\n    {line}")) & (ARCHIVES | OF_HTTP)


def test_no_message_of_a_client_names_a_place_to_the_relay() -> None:
    """What a client may say has numbers, room ids, leases and reasons: nothing of it is an address or a text."""
    of_clients = [signaling.Join, signaling.Allocate, signaling.Leave, signaling.KeepAlive, signaling.Ready]
    kinds = {str(found.type) for message in of_clients for found in dataclasses.fields(message)}
    assert len(kinds) >= 6
    assert not {kind for kind in kinds if "str" in kind or "PeerText" in kind}


def test_no_message_lists_rooms() -> None:
    """Of all that a relay says, a room's name stands in two: the one it gave to who asked, and where that one waits."""
    said = [
        signaling.Welcome, signaling.Waiting, signaling.Allocated, signaling.Left, signaling.KeepAlive,
        signaling.Ready, signaling.Call, signaling.Redirect, signaling.Restarting, signaling.SignalingError,
    ]  # fmt: skip
    numbers = set(signaling._BY_NUMBER)
    assert numbers == set(range(1, 14)), "a new message of the relay's needs a look here"
    fields = {f"{message.__name__}.{found.name}" for message in said for found in dataclasses.fields(message)}
    naming = {name for name in fields if "room" in name or "nameplate" in name}
    assert naming == {"Allocated.nameplate", "Call.room_id"}
    assert signaling.Allocated.__annotations__["nameplate"] in {str, "str"}
    assert signaling.Call.__annotations__["room_id"] in {bytes, "bytes"}


def test_no_document_asks_to_pipe_a_download_into_a_shell() -> None:
    root = Path(__file__).resolve().parents[2]
    documents = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    for document in documents:
        text = document.read_text("utf-8")
        assert "| sh" not in text.replace("| shown", ""), document.name
        assert "| bash" not in text, document.name
