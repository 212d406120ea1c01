"""--json: every line is what events.schema.json says, progress is calm, and nothing waits in a buffer."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import pytest
from tallow_cli.errors import Failure
from tallow_cli.output.interface import ReceiveLine
from tallow_cli.output.jsonlines import JsonLines
from tallow_crypto import Fingerprint
from tallow_net import PeerText
from tallow_protocol import (
    Connected,
    PathInUse,
    PathKind,
    PeerIdentified,
    RelayBack,
    RelayTrouble,
    ServerNotice,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Tuned,
    VerificationNeeded,
    Warned,
    WrongCode,
)

from tests.cli.support import file_entry, folder_entry, link_entry, offer_of, sinks

SCHEMA = json.loads((files("tallow_cli") / "events.schema.json").read_text("utf-8"))
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


KEYWORDS = {"title", "description", "type", "properties", "required", "const", "enum", "items", "minimum"}
KEYWORDS |= {"pattern", "oneOf", "maxItems", "$schema", "$id"}


def faults(schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """Return how `value` differs from `schema`: the part of JSON Schema that our file uses, and nothing else."""
    assert set(schema) <= KEYWORDS, "this checker does not know a keyword of the schema"
    if "oneOf" in schema:
        fitting = [choice for choice in schema["oneOf"] if not faults(choice, value, at)]
        return [] if len(fitting) == 1 else [f"{at}: fits {len(fitting)} of the choices"]
    names = schema.get("type", [])
    wanted = [TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    if wanted and type(value) not in {kind for kinds in wanted for kind in kinds}:
        return [f"{at}: is no {names}"]
    return value_faults(schema, value, at) + nested_faults(schema, value, at)


def value_faults(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    broken = {
        "const": value != schema.get("const"),
        "enum": value not in schema.get("enum", ()),
        "minimum": type(value) in TYPES["number"] and value < schema.get("minimum", value),
        "pattern": not re.search(schema.get("pattern", ""), value if isinstance(value, str) else ""),
        "maxItems": isinstance(value, list) and len(value) > schema.get("maxItems", len(value)),
    }
    return [f"{at}: breaks {keyword}" for keyword, is_so in broken.items() if is_so and keyword in schema]


def nested_faults(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    found = []
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{at}: lacks {name}" for name in schema.get("required", []) if name not in value]
        found += [f"{at}: has the undocumented {name}" for name in value if name not in properties]
        for name in properties.keys() & value.keys():
            found += faults(properties[name], value[name], f"{at}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += faults(schema.get("items", {}), item, f"{at}[{index}]")
    return found


@pytest.fixture
def recorded():
    out, _err, stdout, _stderr = sinks()
    return out, JsonLines(stdout)


def events_of(stream) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


EVENTS = [
    WrongCode(2),
    Connected(PathKind.DIRECT_TCP),
    Connected(PathKind.RELAY_QUIC),
    PeerIdentified(Fingerprint(bytes(32)), None),
    PeerIdentified(Fingerprint(bytes(32)), PeerText("Ann\x1b[2J")),
    VerificationNeeded("01234567", must_confirm=False),
    offer_of(file_entry("a/.b", 5, 0o755), folder_entry("c"), link_entry("d", "a")),
    TransferStarted(1, 5),
    TransferProgress(5, 5, 1, 1),
    TransferDone(1, 5, 0.25),
    RelayTrouble(1.5),
    RelayBack(),
    PathInUse(PathKind.RELAY_TCP, plain=True, connections=2),
    Tuned(4 << 20, 1 << 20, 400_000_000, 0.0412, 1),
    ServerNotice(PeerText("down at noon")),
    Warned(PeerText("skipped a socket")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_the_schema(recorded, event):
    stream, output = recorded
    output.show(event, 0.0)
    (line,) = events_of(stream)
    assert faults(SCHEMA, line) == []


def test_the_code_line_is_of_the_schema_with_a_relay_and_without(recorded):
    stream, output = recorded
    output.code_ready(ReceiveLine("1-a-b-c", "tallow receive 1-a-b-c", None, ()))
    with_peer = "tallow receive --peer h:1 1-a-b-c"
    output.code_ready(ReceiveLine("1-a-b-c", "tallow receive 1-a-b-c", with_peer, ("h:1", "i:1")))
    through_relay, direct = events_of(stream)
    assert faults(SCHEMA, through_relay) == faults(SCHEMA, direct) == []
    assert (through_relay["peer"], direct["peer"]) == (None, "h:1")
    assert (through_relay["fallback"], direct["fallback"]) == (None, with_peer)


def test_the_path_and_what_was_tuned_have_these_fields(recorded):
    stream, output = recorded
    output.show(PathInUse(PathKind.DIRECT_TCP, plain=True, connections=1), 0.0)
    output.show(Tuned(4 << 20, 1 << 20, 400_000_000, 0.0412, 2), 0.0)
    assert events_of(stream) == [
        {"schema": 1, "event": "path", "path": "direct-tcp", "plain": True, "connections": 1},
        {
            "schema": 1,
            "event": "tuned",
            "window_bytes": 4 << 20,
            "chunk_bytes": 1 << 20,
            "rate": 400_000_000,
            "rtt_ms": 41.2,
            "connections": 2,
        },
    ]


def test_an_error_is_the_last_line_and_of_the_schema(recorded):
    stream, output = recorded
    output.failed(Failure("no_such_code", "nobody is sending under this code", ("check it",)))
    (line,) = events_of(stream)
    assert faults(SCHEMA, line) == []
    assert (line["error"], line["hints"]) == ("no_such_code", ["check it"])


def test_the_checker_itself_sees_a_wrong_type_a_missing_and_an_unknown_field():
    assert faults(SCHEMA, {"schema": 1, "event": "wrong_code", "left": "2"})
    assert faults(SCHEMA, {"schema": 1, "event": "wrong_code"})
    assert faults(SCHEMA, {"schema": 1, "event": "wrong_code", "left": 2, "more": 1})
    assert faults(SCHEMA, {"schema": 2, "event": "wrong_code", "left": 2})


def test_progress_is_written_ten_times_a_second_and_the_last_always(recorded):
    stream, output = recorded
    for step in range(101):
        output.show(TransferProgress(step, 100, step // 100, 1), step * 0.001)
    assert [event["bytes"] for event in events_of(stream)] == [0, 100]


def test_files_that_follow_the_last_byte_are_progress_like_any_other(recorded):
    stream, output = recorded
    for done in range(101):
        output.show(TransferProgress(0, 0, done, 100), done * 0.0001)
    assert [event["files_done"] for event in events_of(stream)] == [0, 100]


def test_progress_held_back_comes_out_with_time_and_before_what_follows(recorded):
    stream, output = recorded
    output.show(TransferProgress(1, 100, 0, 1), 0.0)
    output.show(TransferProgress(2, 100, 0, 1), 0.01)
    output.tick(0.05)
    assert len(events_of(stream)) == 1
    output.tick(0.2)
    output.show(TransferProgress(3, 100, 0, 1), 0.21)
    output.show(Warned(PeerText("x")), 0.22)
    assert [event.get("bytes", event["event"]) for event in events_of(stream)] == [1, 2, 3, "warning"]


def test_lines_are_ascii_and_hold_no_control_character(recorded):
    stream, output = recorded
    output.show(offer_of(file_entry("\u65e5\u672c\x1b[2J\u202etxt.exe")), 0.0)
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    assert "\\u001b" not in stream.getvalue()
    assert events_of(stream)[0]["entries"][0]["path"].startswith("\u65e5\u672c")


def test_an_offer_lists_a_thousand_entries_and_counts_the_rest(recorded):
    stream, output = recorded
    output.show(offer_of(*[file_entry(str(number)) for number in range(1001)]), 0.0)
    (line,) = events_of(stream)
    assert (len(line["entries"]), line["more"], line["files"]) == (1000, 1, 1001)
    assert faults(SCHEMA, line) == []
