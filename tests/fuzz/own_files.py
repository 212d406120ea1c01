"""Decoders of what lies on a disk, where a crash, or somebody else's folder, may have changed it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tallow_crypto import Fingerprint, Secret
from tallow_protocol.core.journal import JournalHeader, decode_journal, encode_records
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.unfinished import RecordWriter, decode_record
from tallow_protocol.disk.patterns import Pattern, PatternError
from tallow_relay.config import RelayConfig
from tallow_relay.errors import ConfigError as RelayConfigError
from tallow_store import Config, ConfigError, load_config, save_config
from tallow_store.errors import SealError, StoreError
from tallow_store.sealed import SealedBox, load_key, load_or_create_key

from tests.fuzz.kit import check, target
from tests.hostile.peer import CHUNK


def _journal_seeds() -> list[bytes]:
    from tallow_crypto import Fingerprint

    header = JournalHeader(Fingerprint(bytes(32)), "d/f", 1_000_000, CHUNK).encode()
    return [header, header + encode_records(header, 0, bytes(range(96))), header[:-1]]


@target("the journal of a partial file", _journal_seeds)
def journal(data: bytes) -> None:
    """What a journal says is exactly what its first `good_bytes` are the encoding of."""
    said = decode_journal(data)
    if said is None:
        return
    header = said.header.encode()
    check(
        data[: said.good_bytes] == header + encode_records(header, 0, said.digests), "a journal has two forms"
    )
    check(said.count <= said.header.chunks, "a journal says more chunks than the file has")


_TOML_SEEDS = [
    b'relay = ["relay.example.org:443"]\nwords = 4\nverify = true\nout = "/tmp/x"\nlimit = "10M"\nrejoin = "10m"\n',
    b'transport = "quic"\npaths = "relay-only"\ncompress = false\n',
    b"words = 0x10\n",
]


@functools.cache
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tallow-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@target("the user's configuration", lambda: _TOML_SEEDS)
def store_config(data: bytes) -> None:
    path = _scratch() / "config.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        config = load_config(path)
    except ConfigError:
        return
    again = _scratch() / "again.toml"
    save_config(config, again)
    check(load_config(again) == config, "settings do not survive being saved")
    check(isinstance(config, Config), "settings are none")


@target(
    "a relay's configuration",
    lambda: [
        b'notice = "hi"\nrooms = 10\nroom_bytes_per_s = 65536\n',
        b"data_connections = false\njoins_burst = 64\n",
    ],
)
def relay_config(data: bytes) -> None:
    path = _scratch() / "relay.toml"
    path.write_bytes(data)
    try:
        config = RelayConfig.load(path)
    except RelayConfigError as error:
        check(str(error), "an error without a sentence")
        return
    check(config.turn_bytes >= 8192, "a turn is too short")
    check(config.joins_burst >= config.rooms_per_connection, "a burst is too small")


@target(
    "`.tallowignore`, `.gitignore`, `--exclude`",
    lambda: [
        b"*.o\n!keep.o\n/build/\n**/x\n",
        b"a[b-]",
        b"*a*a*a*a*b",
        b"[[:alpha:]!]*",
        b"\\",
        b"!",
        b"**/a/**/b",
    ],
)
def ignore_file(data: bytes) -> None:
    """Each line of an ignore file, or pattern of the user's, is a pattern that can be asked, or refused with a reason."""
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:50]:
        try:
            pattern = Pattern.parse(line)
        except PatternError as error:
            check(str(error), "a refusal without a reason")
            continue
        if pattern is not None:
            for path in ("a", "build/x.o", "d/keep.o", "a" * 250):
                check(
                    not (pattern.folders_only and pattern.matches(path, folder=False)), "a file is no folder"
                )
                pattern.matches(path, folder=True)


_SENDER = Fingerprint(bytes(range(32)))


def _unfinished_seeds() -> list[bytes]:
    lines = RecordWriter(_SENDER)
    entries = [Entry("d/f", EntryKind.FILE, 5, 0o644, 7), Entry("d", EntryKind.FOLDER, None, 0o755, 7)]
    told = b"".join(lines.offer(entries, set()))
    whole = lines.first() + lines.tops({"d": "d (1)"}) + lines.made("d (1)", 1, 2) + told
    return [whole, whole + lines.ended(["d (1)"]), whole[:-3], lines.first()]


@target("the record of an unfinished folder", _unfinished_seeds)
def unfinished(data: bytes) -> None:
    """A record says what its first `good_bytes` say by themselves, however the bytes come, and nothing behind them."""
    said = decode_record([data], _SENDER, {"d/f": 7})
    check(0 <= said.good_bytes <= len(data), "a record is longer than it is")
    check(
        said.good_bytes == 0 or data[said.good_bytes - 1 : said.good_bytes] == b"\n",
        "half a line was believed",
    )
    pieces = [data[at : at + 7] for at in range(0, said.good_bytes, 7)]
    check(decode_record(pieces, _SENDER, {"d/f": 7}) == said, "a record depends on how it is read")
    if said.good_bytes:
        other = decode_record([data], Fingerprint(bytes(32)), {"d/f": 7})
        check(other.good_bytes == 0, "a record is believed of another sender")


_SEALED_BOX = SealedBox(Secret(bytes(64)))
_SEALED = _SEALED_BOX.seal("identity", Secret(b"value"))


@target("sealed values of the store", lambda: [_SEALED, _SEALED[:-1], _SEALED[:40], b""])
def sealed_value(data: bytes) -> None:
    """A sealed value opens to what was sealed, or not at all."""
    try:
        value = _SEALED_BOX.open("identity", data)
    except SealError as error:
        check(error.hints, "an error without a next step")
        return
    check(value == Secret(b"value"), "a value opens that was never sealed")


@functools.cache
def _key_file() -> bytes:
    path = _scratch() / "made.key"
    load_or_create_key(path)
    return path.read_bytes()


@target("its key file", lambda: [_key_file(), _key_file()[:-1], _key_file()[:60]])
def key_file(data: bytes) -> None:
    """A key file holds a key whose check is right, or is refused without a word of what it holds."""
    path = _scratch() / "store.key"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        key = load_key(path)
    except StoreError as error:
        check(error.hints, "an error without a next step")
        check(error.__cause__ is None or isinstance(error.__cause__, StoreError), "a cause may show the file")
        return
    check(len(key) == 64 and key.reveal().hex().encode() in data.lower(), "a key that is not in its file")
