"""The code is told first; reading the paths, the identity and what they run into come after it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from tallow_crypto import IdentityKeyPair
from tallow_protocol import (
    CodeReady,
    Connected,
    PathMissingError,
    PeerIdentified,
    Sender,
    UnreadableError,
    VerificationNeeded,
)
from tallow_protocol.disk import scan as scanning

from tests.protocol.api.running import DIRECT, accepting, receive, sender

DEADLINE_S = 20


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "letter.txt").write_bytes(b"a letter")
    return folder


@pytest.fixture
def slow_scan(monkeypatch):
    """Scans wait for `.set()`; after `.fails = error` they raise it."""
    may_go = threading.Event()
    may_go.fails = None
    scan = scanning.scan

    def waiting(given, *options):
        assert may_go.wait(DEADLINE_S)
        if may_go.fails is not None:
            raise may_go.fails
        return scan(given, *options)

    monkeypatch.setattr(scanning, "scan", waiting)
    yield may_go
    may_go.set()


def releasing(may_go, kind):
    """Accept offers, and let the scan go on at the first event of a type."""

    def react(side, event):
        if isinstance(event, kind):
            may_go.set()
        accepting(side, event)

    return react


@pytest.mark.parametrize("moment", [Connected, PeerIdentified])
async def test_a_receiver_that_is_quicker_than_the_scan_waits_inside_the_session(
    paths, tmp_path, slow_scan, moment
):
    async with sender(paths) as (a, ready, task):
        b = await receive(ready, tmp_path / "out", react=releasing(slow_scan, moment))
        await task
    assert (a.outcome, b.outcome) == ("done", "done")
    assert (tmp_path / "out" / "tree" / "letter.txt").read_bytes() == b"a letter"


@pytest.mark.parametrize("first", ["digits", "scan"])
async def test_digits_and_scan_may_end_in_either_order(paths, tmp_path, slow_scan, first):
    def confirming(side, event):
        if isinstance(event, VerificationNeeded):
            if first == "scan":
                slow_scan.set()
            side.transfer.confirm(True)
            slow_scan.set()
        else:
            accepting(side, event)

    options = replace(DIRECT, verify=True)
    async with sender(paths, options=options, react=confirming) as (a, ready, task):
        b = await receive(ready, tmp_path / "out", options=options, react=confirming)
        await task
    assert (a.outcome, b.outcome) == ("done", "done")


async def test_what_the_scan_runs_into_ends_a_transfer_that_nobody_joined(paths, slow_scan):
    slow_scan.fails = UnreadableError("cannot read it")
    async with sender(paths) as (a, _ready, task):
        slow_scan.set()
        async with asyncio.timeout(DEADLINE_S):
            await task
    assert a.outcome == "unreadable"


async def test_what_the_scan_runs_into_is_told_to_a_receiver_that_waits(paths, tmp_path, slow_scan):
    slow_scan.fails = UnreadableError("cannot read it")
    async with sender(paths) as (a, ready, task):
        b = await receive(ready, tmp_path / "out", react=releasing(slow_scan, PeerIdentified))
        await task
    assert a.outcome == "unreadable"
    assert b.outcome not in {"done", "peer_left"}


async def test_a_sender_that_is_cancelled_while_it_scans_ends_at_once(paths, slow_scan):
    async with asyncio.timeout(DEADLINE_S):
        async with Sender([paths], options=DIRECT) as transfer:
            assert isinstance(await anext(transfer), CodeReady)
            slow_scan.set()
        assert transfer.summary is None


async def test_a_path_that_is_missing_is_told_before_a_code(tmp_path):
    with pytest.raises(PathMissingError):
        async with Sender([tmp_path / "nowhere"], options=DIRECT):
            pass


async def test_an_identity_may_be_loaded_when_it_is_needed(paths, tmp_path):
    identity = IdentityKeyPair.generate()
    threads = []

    def load():
        threads.append(threading.current_thread())
        return identity

    seen = []

    def react(side, event):
        if isinstance(event, PeerIdentified):
            seen.append(event.fingerprint)
        accepting(side, event)

    async with sender(paths, options=replace(DIRECT, identity=load)) as (_a, ready, task):
        b = await receive(ready, tmp_path / "out", react=react)
        await task
    assert b.outcome == "done"
    assert seen == [identity.public_key.fingerprint]
    assert threads
    assert threading.main_thread() not in threads


async def test_what_the_loading_of_an_identity_raises_leaves_the_transfer_unchanged(paths):
    class KeyFileLostError(Exception):
        pass

    def load():
        raise KeyFileLostError

    async def follow():
        async with Sender([paths], options=replace(DIRECT, identity=load)) as transfer:
            async for _event in transfer:
                pass

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(KeyFileLostError):
            await follow()
