"""docs/embedding.md names what the API has: each event, option and answer."""

import dataclasses
import inspect
import re
from pathlib import Path

from tallow_protocol import Receiver, Sender, TransferOptions, events

TEXT = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
NAMED = set(re.findall(r"\w+", TEXT))
NO_EVENTS = {"Event", "OfferedEntry", "OfferedKind", "OnConflict", "PathKind", "PathLimit"}


def parameters(call):
    return set(inspect.signature(call).parameters) - {"self"}


def test_every_event_is_named():
    assert set(events.__all__) - NO_EVENTS - NAMED == set()


def test_every_option_is_named():
    assert {field.name for field in dataclasses.fields(TransferOptions)} - NAMED == set()


def test_every_argument_and_answer_is_named():
    calls = (Sender, Receiver, Receiver.accept, Receiver.refuse)
    assert set().union(*map(parameters, calls)) - NAMED == set()
