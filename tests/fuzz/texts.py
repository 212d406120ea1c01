"""What people and peers write as text: codes, names, addresses, announcements, and what is typed."""

from __future__ import annotations

import ipaddress
import os
import posixpath

from tallow_cli.errors import UsageError
from tallow_cli.rates import bytes_per_second
from tallow_cli.selection import by_numbers, by_patterns
from tallow_cli.times import seconds_of
from tallow_net import PeerText
from tallow_net.discovery import SERVICE, Places, Search
from tallow_net.interfaces import Network
from tallow_net.paths import candidates
from tallow_protocol import OfferedEntry, OfferedKind
from tallow_protocol.code import Code
from tallow_protocol.core.messages import (
    Candidate,
    CandidateKind,
)
from tallow_protocol.disk.names import NameIndex, check_link_target, check_path, fold
from tallow_protocol.errors import (
    BadNameError,
    CodeError,
)

from tests.fuzz.kit import Reader, check, target


@target(
    "codes",
    lambda: [
        b"4821-copper-lantern-tidy",
        b"12:a text of my own",
        b"7 COP LANT tid",
        "5:ünïcödé long enough".encode(),
    ],
)
def codes(data: bytes) -> None:
    try:
        code = Code.parse(data.decode("utf-8", "surrogateescape"))
    except CodeError as error:
        check(error.hints, "an error without a next step")
        return
    again = Code.parse(code.reveal())
    check(
        (again.nameplate, again.password.reveal()) == (code.nameplate, code.password.reveal()),
        "a code changes",
    )
    check(code.password.reveal().decode() not in repr(code), "a code shows its words")


def _below(path: str) -> bool:
    root = "/out/put"
    joined = posixpath.normpath(posixpath.join(root, path))
    return joined == f"{root}/{path}" and posixpath.commonpath([root, joined]) == root


@target(
    "names and links of an offer",
    lambda: [
        b"a/b/c",
        b"a..b/x",
        b"../x",
        "é/x".encode(),
        b"CON",
        b"a:b",
        b"x.",
        b"/etc",
        "e\u0301".encode(),
    ],
)
def path_gate(data: bytes) -> None:
    """A path is taken as it stands, and then leads below the output directory on every system; or it is refused."""
    text = data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("utf-8", "replace")
    path, _, link = text.partition("\n")
    try:
        components = check_path(path)
    except BadNameError:
        return
    check("/".join(components) == path, "a path was repaired")
    check(_below(path), "a path leads out of the output directory")
    for component in components:
        check(component not in {"", ".", ".."} and not set(component) & set("/\\:\0"), "a component is none")
        check(len(os.fsencode(component)) <= 255 and component[-1] not in ". ", "a component no system has")
        check(str(PeerText(component)) == component or len(component) > 200, "a name is not shown as it is")
    other = NameIndex()
    other.add(path, _FILE)
    for spelling in {path.upper(), path.lower(), path.swapcase()} - {path}:
        if fold(spelling) == fold(path):
            try:
                other.add(spelling, _FILE)
            except BadNameError:
                continue
            raise AssertionError("two names for one place were taken")
    if link:
        _link_gate(components, link)


def _link_gate(components: tuple[str, ...], link: str) -> None:
    try:
        check_link_target(components, link)
    except BadNameError:
        return
    top = f"/out/{components[0]}"
    led = posixpath.normpath(posixpath.join("/out", *components[:-1], link))
    check(led == top or led.startswith(top + "/"), "a link leads out of its own folder")


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _kind_file():
    from tallow_protocol.disk.names import Kind

    return Kind.FILE


_FILE = _kind_file()


@target(
    "text of a peer",
    lambda: [b"plain", b"\x1b[31mred\x07", "a\u202eexe.txt".encode(), b"\xc2\x9b31m", b"\x1b]0;t\x1b\\"],
)
def peer_text(data: bytes) -> None:
    """What is shown of a peer's text drives no terminal, in whatever way it is shown, and takes no long time."""
    text = PeerText.from_bytes(data)
    for shown in (str(text), f"{text}", text.shown(20)):
        check(
            not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\ufeff" for c in shown),
            "a control character is shown",
        )
        check(
            not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"), "bidi"
        )
        shown.encode("utf-8")
    check(len(text.shown(20)) <= 20, "a text is longer than was asked for")


_NETWORKS = [Network(ipaddress.ip_address("10.1.2.3"), 24), Network(ipaddress.ip_address("2001:db8::5"), 64)]
_INTERFACES = [ipaddress.ip_interface("10.1.2.3/24"), ipaddress.ip_interface("2001:db8::5/64")]
_NAME = "0123456789abcdef"


def _candidate_seeds() -> list[bytes]:
    texts = [
        "127.0.0.1",
        "10.1.2.9",
        "10.1.2.255",
        "8.8.8.8",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "2001:db8::9",
    ]
    packed = [ipaddress.ip_address(text).packed for text in texts]
    return [b"".join(bytes((len(a) == 16,)) + a + b"\x01\xbb" for a in packed)]


@target("candidates of a peer", _candidate_seeds)
def candidate_list(data: bytes) -> None:
    """Of what a peer offers, nothing is tried that is no single host elsewhere; 16 at most."""
    reader, offered = Reader(data), []
    while reader.left and len(offered) < 40:
        flags = reader.number()
        address = reader.take(16 if flags & 1 else 4)
        port = reader.number(2)
        if len(address) in {4, 16} and port:
            offered.append(Candidate(CandidateKind(flags >> 1 & 1), address, port))
    tried = candidates.acceptable(offered, _INTERFACES, tuple(CandidateKind))
    check(len(tried) <= 16 and set(tried) <= set(offered), "what was not offered is tried")
    for place in tried:
        _check_host(ipaddress.ip_address(place.address))


def _check_host(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    check(
        not (ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local),
        f"{ip} is no single host elsewhere",
    )
    check(str(ip) not in {"255.255.255.255", "10.1.2.255"}, f"{ip} is everybody")
    check(getattr(ip, "ipv4_mapped", None) is None, f"{ip} is an IPv4 address in disguise")


def _mdns_seeds() -> list[bytes]:
    from zeroconf import DNSAddress, DNSOutgoing, DNSService  # type: ignore[attr-defined]  # not in __all__

    instance = f"{_NAME}.{SERVICE}"
    packets = []
    for address in (bytes((10, 1, 2, 9)), bytes((127, 0, 0, 1)), ipaddress.ip_address("2001:db8::9").packed):
        out = DNSOutgoing(0x8400)
        out.add_answer_at_time(DNSService(instance, 33, 1, 120, 0, 0, 4433, "host.local."), 0)
        out.add_answer_at_time(DNSAddress("host.local.", 1 if len(address) == 4 else 28, 1, 120, address), 0)
        packets += out.packets()
    return packets


@target("answers on the local network", _mdns_seeds)
def mdns(data: bytes) -> None:
    """Whatever arrives on the multicast port: sixteen places at most, each one host that may be dialled."""
    from zeroconf import DNSIncoming, RecordUpdate  # type: ignore[attr-defined]  # not in __all__

    if not 0 < len(data) <= 9000:
        return
    search = Search(_NAME)
    search._places = Places(_NETWORKS)
    packet = DNSIncoming(data)
    if not packet.valid:
        return
    for record in packet.answers():
        search._take(RecordUpdate(record, None))
    places = []
    while not search._found.empty():
        places.append(search._found.get_nowait())
    check(len(places) <= 16, "more than sixteen places")
    for host, port in places:
        check(0 < port < 65536, "no port")
        ip = ipaddress.ip_address(host)
        if not ip.is_link_local:
            _check_host(ip)


_ENTRIES = [
    OfferedEntry(PeerText(path), kind, 5, 0o644, None)
    for path, kind in [("d", OfferedKind.FOLDER), ("d/a", OfferedKind.FILE), ("b", OfferedKind.FILE)]
]


@target("rates, times, choices", lambda: [b"1 2", b"1-2", b"10M", b"90s", b"d/*", b"[!a]*", b"99999999"])
def typed(data: bytes) -> None:
    """Rates, times, globs and answers to the selection: a value in its range, or a documented error."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        check(bytes_per_second(text) >= 1000, "a rate below the least")
    except UsageError as error:
        check(error.hints, "an error without a next step")
    try:
        check(0 <= seconds_of(text, "--rejoin", most_s=86400) <= 86400, "a time out of its range")
    except UsageError as error:
        check(error.hints, "an error without a next step")
    chosen = by_numbers(_ENTRIES, text)
    check(chosen is None or chosen <= {0, 1, 2}, "entries that are not there were chosen")
    check(by_patterns(_ENTRIES, [text]) <= {0, 1, 2}, "entries that are not there were chosen")
