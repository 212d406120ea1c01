"""Who knows the code and breaks every rule behind the handshake: a typed error each time, and nothing wrong on the disk."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from tallow_cli.exit_codes import EXIT_CODES, ExitCode, exit_code_of
from tallow_crypto import chunk_digest, file_root
from tallow_net.canonical import encode_map
from tallow_protocol.core import receiver
from tallow_protocol.core.chunking import packed_root
from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.messages import (
    Accept,
    Cancel,
    Done,
    FileDone,
    From,
    Have,
    Manifest,
    Offer,
    Paths,
    Ping,
    Received,
    Refuse,
    Spread,
    TallowCodec,
)
from tallow_protocol.core.records import ChunkHeader
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import (
    BadNameError,
    IntegrityError,
    PeerCancelledError,
    ProtocolError,
    ViolationError,
)
from tallow_protocol.events import PathLimit
from tallow_protocol.limits import OFFER_PARTS

from tests.hostile.peer import (
    CHUNK,
    HostilePeer,
    file_entry,
    folder_entry,
    hostile_receiver,
    hostile_sender,
    link_entry,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = random.Random(7).randbytes(5 * CHUNK + 1)
PIECES = [DATA[at : at + CHUNK] for at in range(0, len(DATA), CHUNK)]
ROOT = file_root(len(DATA), CHUNK, [chunk_digest(piece) for piece in PIECES])
DONE = FileDone(0, len(DATA), len(PIECES), ROOT)


def accepted(peer: HostilePeer, *entries) -> HostilePeer:
    """Do what an honest sender does up to the receiver's yes."""
    peer.authenticate()
    peer.offer(*(entries or (file_entry("big", len(DATA)),)))
    assert peer.said(Accept)
    return peer


def send_all(peer: HostilePeer, file: int = 0) -> None:
    for index, piece in enumerate(PIECES):
        peer.chunk(file, index, piece, last=index == len(PIECES) - 1)


def message(number: int, *fields: object) -> bytes:
    """Return the bytes of a message that our own encoder would refuse to make."""
    return number.to_bytes(2, "big") + encode_map(dict(enumerate(fields, 1)))


# --- a hostile sender ---------------------------------------------------------------------------------------------


def auth_twice(p):
    p.authenticate()
    p.authenticate()


def offer_before_auth(p):
    p.offer(file_entry("a", 1))


def data_before_auth(p):
    p.chunk(0, 0, b"x", last=True)


def data_before_the_offer(p):
    p.authenticate()
    p.chunk(0, 0, b"x", last=True)


def data_before_the_yes(p):
    p.says_yes = False
    p.authenticate()
    p.offer(file_entry("big", len(DATA)))
    send_all(p)


def pack_before_the_yes(p):
    p.says_yes = False
    p.authenticate()
    p.offer(file_entry("small", 5))
    p.pack((0, b"12345"))


def file_done_before_the_yes(p):
    p.says_yes = False
    p.authenticate()
    p.offer(file_entry("big", len(DATA)))
    p.say(DONE)


def manifest_before_the_yes(p):
    p.says_yes = False
    p.authenticate()
    p.offer(file_entry("big", len(DATA)))
    p.say(p.signed({0: ROOT}))


def second_offer(p):
    accepted(p)
    p.raw(TallowCodec.encode(Offer(1, True, (file_entry("more", 1),))))


def offer_part_left_out(p):
    p.authenticate()
    p.say(Offer(1, True, (file_entry("a", 1),)))


def offer_part_twice(p):
    p.authenticate()
    p.say(Offer(0, False, (file_entry("a", 1),)), Offer(0, True, (file_entry("b", 1),)))


def offer_of_more_bytes_than_a_disk(p):
    p.authenticate()
    p.offer(file_entry("a", 2**63 - 1), file_entry("b", 1))


def text_beside_a_file(p):
    p.authenticate()
    p.offer(file_entry("t", 5, 0o1644), file_entry("b", 1))


def chunk_of_a_file_not_offered(p):
    accepted(p)
    p.chunk(1, 0, PIECES[0])


def chunk_of_the_last_possible_file(p):
    accepted(p)
    p.chunk(2**32 - 1, 0, PIECES[0])


def chunk_of_a_folder(p):
    accepted(p, folder_entry("d"), file_entry("d/f", 5))
    p.chunk(0, 0, b"12345", last=True)


def chunk_of_a_link(p):
    accepted(p, folder_entry("d"), link_entry("d/l", "x"), file_entry("d/f", 5))
    p.chunk(1, 0, b"12345", last=True)


def chunk_behind_the_end(p):
    accepted(p)
    p.chunk(0, 6, PIECES[0])


def chunk_at_the_highest_index(p):
    accepted(p)
    p.chunk(0, 2**48 - 1, PIECES[0])


def last_chunk_too_long(p):
    accepted(p)
    p.chunk(0, 5, b"xy", last=True)


def last_flag_in_the_middle(p):
    accepted(p)
    p.chunk(0, 0, PIECES[0], last=True)


def last_flag_left_out(p):
    accepted(p, file_entry("f", CHUNK))
    p.chunk(0, 0, PIECES[0], last=False)


def chunk_size_that_changes(p):
    accepted(p)
    p.chunk(0, 0, PIECES[0])
    data = PIECES[1] + PIECES[2]
    p.record(ChunkHeader(0, 1, len(data), 17), chunk_digest(data) + data)


def wrong_digest(p):
    accepted(p)
    p.chunk(0, 0, PIECES[0], digest=bytes(32))


def compressed_noise(p):
    accepted(p)
    p.record(ChunkHeader(0, 0, CHUNK, 16, compressed=True), chunk_digest(PIECES[0]) + bytes(200))


def file_done_with_another_root(p):
    accepted(p)
    send_all(p)
    p.say(FileDone(0, len(DATA), len(PIECES), bytes(32)))


def file_done_with_another_count(p):
    accepted(p)
    send_all(p)
    p.say(FileDone(0, len(DATA), 1, ROOT))


def file_done_with_another_size(p):
    accepted(p)
    send_all(p)
    p.say(FileDone(0, len(DATA) + 1, len(PIECES), ROOT))


def file_done_of_what_was_not_offered(p):
    accepted(p)
    p.say(FileDone(1, 5, 1, ROOT))


def file_dones_for_two_sizes(p):
    accepted(p)
    send_all(p)
    p.say(DONE)
    p.say(FileDone(0, len(DATA), len(PIECES), bytes(32)))


def file_done_for_files_that_never_come(p):
    accepted(p, *(file_entry(f"f{n}", 5) for n in range(600)))
    for number in range(600):
        p.say(FileDone(number, 5, 1, bytes(32)))


def more_files_at_once_than_handles(p):
    accepted(p, *(file_entry(f"f{n}", len(DATA)) for n in range(300)))
    for number in range(300):
        p.chunk(number, 0, PIECES[0])


def pack_with_another_root(p):
    accepted(p, file_entry("a", 5))
    p.pack((0, b"12345"), root=bytes(32))


def pack_of_another_size(p):
    accepted(p, file_entry("a", 5))
    p.pack((0, b"123456"))


def pack_of_a_file_not_offered(p):
    accepted(p, file_entry("a", 5))
    p.pack((1, b"12345"))


def pack_with_fewer_entries_than_it_says(p):
    accepted(p, file_entry("a", 50), file_entry("b", 5))
    p.pack((0, bytes(50)), entries=2)


def pack_with_bytes_behind(p):
    accepted(p, file_entry("a", 50), file_entry("b", 5))
    p.pack((0, bytes(50)), (1, bytes(5)), entries=1)


def pack_of_a_file_that_comes_in_chunks(p):
    accepted(p, file_entry("a", 2 * CHUNK))
    p.chunk(0, 0, PIECES[0])
    p.pack((0, PIECES[0] + PIECES[1]))


def manifest_over_another_root(p):
    accepted(p)
    send_all(p)
    p.say(DONE)
    p.say(p.signed({}, digest=bytes(32)))


def manifest_of_another_identity(p):
    from tallow_crypto import IdentityKeyPair

    accepted(p)
    send_all(p)
    p.say(DONE)
    p.identity = IdentityKeyPair.generate()
    p.say(p.signed({0: ROOT}))


def manifest_twice(p):
    accepted(p)
    signed = p.signed({0: ROOT})
    p.say(signed, signed)


def from_for_nothing(p):
    accepted(p)
    p.say(From(0, 0))


def from_before_the_yes(p):
    p.says_yes = False
    p.authenticate()
    p.offer(file_entry("big", len(DATA)))
    p.say(From(0, 0))


def from_of_a_file_not_offered(p):
    accepted(p)
    p.say(From(2**32 - 1, 2**48))


def a_receivers_accept(p):
    accepted(p)
    p.say(Accept(None))


def a_receivers_done(p):
    accepted(p)
    p.say(Done(1, len(DATA)))


def a_receivers_refuse(p):
    accepted(p)
    p.say(Refuse(CloseCode.REFUSED))


def a_receivers_received(p):
    accepted(p)
    p.say(Received(((0, 0, 1),)), number=0)


def a_receivers_have(p):
    accepted(p)
    p.say(Have(0, CHUNK, 1, bytes(32)))


def seventeen_candidates(p):
    p.authenticate()
    p.raw(message(11, 0, [[0, bytes([10, 0, 0, n]), 443] for n in range(17)]))


def candidate_of_three_bytes(p):
    p.authenticate()
    p.raw(message(11, 0, [[0, b"\x7f\x00\x01", 443]]))


def candidate_at_port_0(p):
    p.authenticate()
    p.raw(message(11, 0, [[0, b"\x7f\x00\x00\x01", 0]]))


def five_connections(p):
    accepted(p)
    p.raw(message(12, 5))


def numbered_ping(p):
    p.authenticate()
    p.say(Ping())


def offer_without_a_number(p):
    p.authenticate()
    p.say(Offer(0, True, (file_entry("a", 1),)), number=0)


def long_offer_without_a_number(p):
    p.authenticate()
    p.say(Offer(0, True, tuple(file_entry(f"a{n}", 1) for n in range(2000))), number=0)


def message_far_ahead(p):
    p.raw(TallowCodec.encode(Paths(PathLimit.ANY)), number=1000)


def acknowledgement_of_what_was_never_sent(p):
    p.raw(b"", number=0, ack=1000)


def unknown_message(p):
    p.authenticate()
    p.raw(message(15, 1))


def message_of_no_cbor(p):
    p.authenticate()
    p.raw(b"\x00\x02\xff\xff")


def deep_nest(p):
    p.authenticate()
    p.raw(b"\x00\x02" + b"\x81" * 100_000)


def oversized_count(p):
    p.authenticate()
    p.raw(b"\x00\x02\xa3\x01\x00\x02\xf5\x03\x9a\xff\xff\xff\xff")


def oversized_text(p):
    p.authenticate()
    p.raw(b"\x00\x02\xa3\x01\x00\x02\xf5\x03\x81\x86\x7b" + b"\xff" * 8)


SENDERS = [
    (auth_twice, ViolationError),
    (offer_before_auth, ViolationError),
    (data_before_auth, ViolationError),
    (data_before_the_offer, ViolationError),
    (data_before_the_yes, ViolationError),
    (pack_before_the_yes, ViolationError),
    (file_done_before_the_yes, ViolationError),
    (manifest_before_the_yes, ViolationError),
    (second_offer, ViolationError),
    (offer_part_left_out, ViolationError),
    (offer_part_twice, ViolationError),
    (offer_of_more_bytes_than_a_disk, ViolationError),
    (text_beside_a_file, ViolationError),
    (chunk_of_a_file_not_offered, ViolationError),
    (chunk_of_the_last_possible_file, ViolationError),
    (chunk_of_a_folder, ViolationError),
    (chunk_of_a_link, ViolationError),
    (chunk_behind_the_end, ViolationError),
    (chunk_at_the_highest_index, ViolationError),
    (last_chunk_too_long, ViolationError),
    (last_flag_in_the_middle, ViolationError),
    (last_flag_left_out, ViolationError),
    (chunk_size_that_changes, ViolationError),
    (wrong_digest, IntegrityError),
    (compressed_noise, ViolationError),
    (file_done_with_another_root, IntegrityError),
    (file_done_with_another_count, ViolationError),
    (file_done_with_another_size, IntegrityError),
    (file_done_of_what_was_not_offered, ViolationError),
    (file_dones_for_two_sizes, IntegrityError),
    (file_done_for_files_that_never_come, ViolationError),
    (more_files_at_once_than_handles, ViolationError),
    (pack_with_another_root, IntegrityError),
    (pack_of_another_size, ViolationError),
    (pack_of_a_file_not_offered, ViolationError),
    (pack_with_fewer_entries_than_it_says, ViolationError),
    (pack_with_bytes_behind, ViolationError),
    (pack_of_a_file_that_comes_in_chunks, ViolationError),
    (manifest_over_another_root, IntegrityError),
    (manifest_of_another_identity, IntegrityError),
    (manifest_twice, ViolationError),
    (from_for_nothing, ViolationError),
    (from_before_the_yes, ViolationError),
    (from_of_a_file_not_offered, ViolationError),
    (a_receivers_accept, ViolationError),
    (a_receivers_done, ViolationError),
    (a_receivers_refuse, ViolationError),
    (a_receivers_received, ViolationError),
    (a_receivers_have, ViolationError),
    (seventeen_candidates, ViolationError),
    (candidate_of_three_bytes, ViolationError),
    (candidate_at_port_0, ViolationError),
    (five_connections, ViolationError),
    (numbered_ping, ViolationError),
    (offer_without_a_number, ViolationError),
    (long_offer_without_a_number, ViolationError),
    (message_far_ahead, ViolationError),
    (acknowledgement_of_what_was_never_sent, ViolationError),
    (unknown_message, ViolationError),
    (message_of_no_cbor, ViolationError),
    (deep_nest, ViolationError),
    (oversized_count, ViolationError),
    (oversized_text, ViolationError),
]

PLACED_BEFORE = {
    file_dones_for_two_sizes: ("big", DATA),
    manifest_over_another_root: ("big", DATA),
    manifest_of_another_identity: ("big", DATA),
    pack_with_fewer_entries_than_it_says: ("a", bytes(50)),
    pack_with_bytes_behind: ("a", bytes(50)),
}
"""These lie only once every byte of a file is there and equals its root: that file is whole, and the error is told."""


def assert_ended(peer: HostilePeer, kind: type[ProtocolError]) -> None:
    """One typed error, told to the peer by its number, that a person can read, with a documented exit code."""
    error = peer.session.error
    assert isinstance(error, kind), error
    assert str(error)
    assert error.hints
    assert not error.retryable
    assert error.code in EXIT_CODES
    assert exit_code_of(error.code) not in {ExitCode.OK, ExitCode.INTERNAL}
    assert peer.session.machine.state in {TransferState.FAILED, TransferState.NEGOTIATING}
    assert [told.code for told in peer.said(Cancel)] in ([CloseCode.of(error)], [])


def names_below(directory: Path) -> set[str]:
    return (
        {os.path.relpath(path, directory) for path in directory.rglob("*")} if directory.exists() else set()
    )


@pytest.mark.parametrize(("script", "kind"), SENDERS, ids=lambda value: getattr(value, "__name__", None))
def test_a_sender_that_breaks_a_rule_ends_the_session_and_writes_nothing_wrong(
    script: Callable[[HostilePeer], None], kind: type[ProtocolError], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    peer = hostile_sender(output)
    script(peer)
    assert_ended(peer, kind)
    # What it says after the end is not listened to.
    peer.chunk(0, 0, PIECES[0])
    peer.session.role.close()
    assert_ended(peer, kind)
    left = names_below(output)
    under_final_names = {name for name in left if not name.startswith(".tallow-partial")}
    if script in PLACED_BEFORE:
        name, whole = PLACED_BEFORE[script]
        assert (output / name).read_bytes() == whole
        under_final_names.remove(name)
    assert under_final_names - {"d"} == set(), "only a folder of the offer may stand"
    assert names_below(tmp_path) == {"out"} | {f"out/{name}" for name in left} or not left


def honest(peer: HostilePeer) -> None:
    accepted(peer)
    send_all(peer)
    peer.say(DONE)
    peer.say(peer.signed({0: ROOT}))


def test_the_same_script_without_a_lie_is_a_whole_transfer(tmp_path: Path) -> None:
    peer = hostile_sender(tmp_path)
    honest(peer)
    assert peer.session.error is None
    assert peer.said(Done) == [Done(1, len(DATA))]
    peer.session.role.close()
    assert (tmp_path / "big").read_bytes() == DATA
    assert names_below(tmp_path) <= {"big", ".tallow-partial"}


def test_a_name_that_leaves_the_directory_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    for number, path in enumerate(
        ["../x", "/etc/passwd", "a/../../x", "a/./b", "a//b", "C:x", "CON", "a\\b"]
    ):
        peer = hostile_sender(tmp_path / "out", seed=number)
        peer.authenticate()
        peer.offer(file_entry(path, 5))
        assert isinstance(peer.session.error, BadNameError), path
        assert peer.said(Refuse)
        peer.pack((0, b"12345"))
        peer.session.role.close()
        assert not peer.said(Accept)
    assert names_below(tmp_path) == set()


def test_the_senders_cancel_is_its_own_error_and_leaves_no_final_name(tmp_path: Path) -> None:
    peer = accepted(hostile_sender(tmp_path))
    peer.chunk(0, 0, PIECES[0])
    peer.say(Cancel(CloseCode.CANCELLED))
    assert isinstance(peer.session.error, PeerCancelledError)
    peer.session.role.close()
    assert {name.split("/")[0] for name in names_below(tmp_path)} <= {".tallow-partial"}


# --- a hostile receiver -------------------------------------------------------------------------------------------


def acknowledge_all(peer: HostilePeer) -> None:
    """Acknowledge what came, as long as more comes of it."""
    told = -1
    while told < len(peer.bulk):
        told = len(peer.bulk)
        came = tuple(
            (header.file, header.index, 1) for header in peer.bulk if isinstance(header, ChunkHeader)
        )
        peer.say(Received(came), number=0)


def in_offer(peer: HostilePeer) -> HostilePeer:
    peer.authenticate()
    assert peer.said(Offer)
    return peer


def done_before_accept(p):
    in_offer(p)
    p.say(Done(1, len(DATA)))


def done_before_the_manifest(p):
    in_offer(p)
    p.say(Accept(None))
    p.say(Done(1, len(DATA)))


def received_before_accept(p):
    in_offer(p)
    p.say(Received(((0, 0, 1),)), number=0)


def numbered_received(p):
    in_offer(p)
    p.say(Accept(None), Received(((0, 0, 1),)))


def accept_before_auth(p):
    p.say(Accept(None))


def accept_twice(p):
    in_offer(p)
    p.say(Accept(None), Accept(None))


def accept_of_what_was_not_offered(p):
    in_offer(p)
    p.say(Accept(((1, 1),)))


def accept_behind_everything(p):
    in_offer(p)
    p.say(Accept(((262_143, 1),)))


def have_after_accept(p):
    in_offer(p)
    p.say(Accept(None), Have(0, CHUNK, 1, bytes(32)))


def have_before_auth(p):
    p.say(Have(0, CHUNK, 1, bytes(32)))


def have_of_more_chunks_than_the_file(p):
    in_offer(p)
    p.say(Have(0, CHUNK, 7, bytes(32)))


def have_of_a_file_not_offered(p):
    in_offer(p)
    p.say(Have(1, CHUNK, 1, bytes(32)))


def have_twice(p):
    in_offer(p)
    p.say(Have(0, CHUNK, 1, bytes(32)), Have(0, CHUNK, 2, bytes(32)))


def spread_from_the_receiver(p):
    in_offer(p)
    p.say(Spread(4))


def a_senders_offer(p):
    in_offer(p)
    p.say(Offer(0, True, (file_entry("x", 1),)))


def a_senders_chunk(p):
    in_offer(p)
    p.chunk(0, 0, PIECES[0])


def a_senders_file_done(p):
    in_offer(p)
    p.say(Accept(None), DONE)


def a_senders_manifest(p):
    in_offer(p)
    p.say(Accept(None), Manifest(bytes(32), bytes(64), bytes(4627)))


def a_senders_from(p):
    in_offer(p)
    p.say(From(0, 0))


def refuse_after_accept(p):
    in_offer(p)
    p.say(Accept(None), Refuse(CloseCode.REFUSED))


def done_with_other_counts(p):
    in_offer(p)
    p.say(Accept(None))
    acknowledge_all(p)
    assert p.said(Manifest)
    p.say(Done(2, len(DATA)))


RECEIVERS = [
    (done_before_accept, ViolationError),
    (done_before_the_manifest, ViolationError),
    (received_before_accept, ViolationError),
    (numbered_received, ViolationError),
    (accept_before_auth, ViolationError),
    (accept_twice, ViolationError),
    (accept_of_what_was_not_offered, ViolationError),
    (accept_behind_everything, ViolationError),
    (have_after_accept, ViolationError),
    (have_before_auth, ViolationError),
    (have_of_more_chunks_than_the_file, ViolationError),
    (have_of_a_file_not_offered, ViolationError),
    (have_twice, ViolationError),
    (spread_from_the_receiver, ViolationError),
    (a_senders_offer, ViolationError),
    (a_senders_chunk, ViolationError),
    (a_senders_file_done, ViolationError),
    (a_senders_manifest, ViolationError),
    (a_senders_from, ViolationError),
    (refuse_after_accept, ViolationError),
    (done_with_other_counts, IntegrityError),
    (auth_twice, ViolationError),
    (seventeen_candidates, ViolationError),
    (numbered_ping, ViolationError),
    (message_far_ahead, ViolationError),
    (acknowledgement_of_what_was_never_sent, ViolationError),
    (unknown_message, ViolationError),
    (message_of_no_cbor, ViolationError),
    (deep_nest, ViolationError),
]


@pytest.mark.parametrize(("script", "kind"), RECEIVERS, ids=lambda value: getattr(value, "__name__", None))
def test_a_receiver_that_breaks_a_rule_ends_the_session(
    script: Callable[[HostilePeer], None], kind: type[ProtocolError]
) -> None:
    peer = hostile_receiver({"big": DATA})
    script(peer)
    assert_ended(peer, kind)
    sent = len(peer.bulk)
    peer.say(Received(((0, 0, len(PIECES)),)), number=0)
    assert len(peer.bulk) == sent, "a session that has ended sends no further data"
    peer.session.role.close()


def test_what_was_never_sent_cannot_be_acknowledged_into_being() -> None:
    """`Received` for what was never sent moves nothing: every chunk still goes out, and Done alone says the end."""
    peer = in_offer(hostile_receiver({"big": DATA, "other": DATA}))
    peer.say(Accept(None))
    peer.say(Received(((1, 5, 2**40), (7, 0, 3), (2**32 - 1, 2**47, 2**47))), number=0)
    acknowledge_all(peer)
    assert peer.session.error is None
    chunks = {(header.file, header.index) for header in peer.bulk if isinstance(header, ChunkHeader)}
    assert chunks == {(file, index) for file in (0, 1) for index in range(6)}
    peer.session.role.close()


# --- what costs the other side nothing ----------------------------------------------------------------------------


def test_endless_pings_are_borne_and_nothing_of_them_is_kept(tmp_path: Path) -> None:
    import tracemalloc

    peer = accepted(hostile_sender(tmp_path))
    for _ in range(50):
        peer.say(Ping(), number=0)
    tracemalloc.start()
    for _ in range(3000):
        peer.say(Ping(), number=0)
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peer.session.error is None
    assert kept < 64 * 1024
    peer.session.role.close()


def test_a_loopback_candidate_of_a_stranger_is_taken_down_and_never_tried(tmp_path: Path) -> None:
    """The message is well formed, so it is no violation; `acceptable` decides what is dialled, which is nothing."""
    import ipaddress

    from tallow_net.paths.candidates import CandidateKind, acceptable
    from tallow_protocol.core.messages import Candidate

    peer = accepted(hostile_sender(tmp_path))
    bad = [
        "127.0.0.1",
        "169.254.169.254",
        "255.255.255.255",
        "224.0.0.251",
        "0.0.0.0",
        "::1",
        "ff02::1",
        "fe80::1",
    ]
    places = tuple(Candidate(CandidateKind.TCP, ipaddress.ip_address(text).packed, 80) for text in bad)
    peer.say(Paths(PathLimit.ANY, places))
    assert peer.session.error is None
    said = peer.session.agreement.theirs
    assert said is not None
    networks = [ipaddress.ip_interface("10.1.2.3/24"), ipaddress.ip_interface("2001:db8::5/64")]
    tried = acceptable(said.candidates, networks, tuple(CandidateKind))
    assert list(tried) == []
    peer.session.role.close()


def test_paths_may_be_said_again_and_again_and_the_last_one_alone_is_kept(tmp_path: Path) -> None:
    peer = accepted(hostile_sender(tmp_path))
    for _ in range(500):
        peer.say(Paths(PathLimit.ANY))
    assert peer.session.error is None
    assert peer.session.agreement.theirs == Paths(PathLimit.ANY)
    peer.session.role.close()


def test_an_empty_offer_of_all_parts_is_an_offer_of_nothing(tmp_path: Path) -> None:
    peer = hostile_sender(tmp_path / "out")
    peer.authenticate()
    for part in range(OFFER_PARTS):
        peer.say(Offer(part, part == OFFER_PARTS - 1, ()))
    peer.session.role.close()
    assert peer.session.error is None or isinstance(peer.session.error, ProtocolError)
    assert names_below(tmp_path / "out") == set()


def test_one_entry_more_than_an_offer_may_have_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "OFFER_ENTRIES", 100)
    for number, kind in ((100, None), (101, ViolationError)):
        peer = hostile_sender(tmp_path / "out")
        peer.says_yes = False
        peer.authenticate()
        peer.say(Offer(0, False, tuple(file_entry(f"a{n}", 1) for n in range(50))))
        peer.say(Offer(1, True, tuple(file_entry(f"b{n}", 1) for n in range(number - 50))))
        assert isinstance(peer.session.error, kind) if kind else peer.session.error is None


def test_packed_root_and_pack_header_are_what_the_scripts_think(tmp_path: Path) -> None:
    peer = accepted(hostile_sender(tmp_path), file_entry("a", 5), file_entry("b", 0))
    peer.pack((0, b"12345"), (1, b""))
    peer.say(peer.signed({0: packed_root(memoryview(b"12345")), 1: packed_root(memoryview(b""))}))
    assert peer.session.error is None
    assert peer.said(Done) == [Done(2, 5)]
    peer.session.role.close()
