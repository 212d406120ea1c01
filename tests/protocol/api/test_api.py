"""Sender and Receiver over real sockets: answers, ends, and what is left behind."""

import asyncio
import gc
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tallow_protocol import (
    CancelledByUserError,
    Event,
    MisuseError,
    OfferReceived,
    PathMissingError,
    PeerCancelledError,
    Ports,
    Receiver,
    Sender,
    TransferDone,
    TransferOptions,
    TransferProgress,
    TransferStarted,
    VerificationNeeded,
)
from tallow_protocol.aio.workers import worker_pool
from tallow_protocol.disk.leftovers import PARTIALS_NAME
from tallow_protocol.disk.partials import PartialFile
from tallow_protocol.errors import NoSpaceError, UnreachableError
from tallow_protocol.events import CodeReady, WrongCode
from tallow_protocol.ports import TransferRecord

from tests.protocol.api.running import (
    DEADLINE_S,
    DIRECT,
    Reaction,
    Side,
    accepting,
    both,
    receive,
    sender,
)

BIG_BYTES = 24 * 1024 * 1024


class Ledger:
    """A history that keeps every record."""

    def __init__(self) -> None:
        self.records: list[TransferRecord] = []

    def record(self, transfer: TransferRecord) -> None:
        self.records.append(transfer)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(os.urandom(5000))
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(os.urandom(BIG_BYTES))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def recorded(*, verify: bool = False) -> tuple[TransferOptions, Ledger]:
    ledger = Ledger()
    return replace(DIRECT, verify=verify, ports=Ports(history=ledger)), ledger


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def made(folder: Path) -> bool:
    return folder.exists()


def left_in(folder: Path) -> list[str]:
    """Return what stands in a folder, but for what can be resumed."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*")] if folder.exists() else []
    return sorted(name for name in found if not name.startswith(PARTIALS_NAME))


def on(kind: type, act) -> Reaction:
    """Do `act` at the first event of a type; accept offers otherwise."""
    done = False

    def react(side: Side, event: Event) -> None:
        nonlocal done
        if isinstance(event, kind) and not done:
            done = True
            act(side.transfer)
        else:
            accepting(side, event)

    return react


async def nothing_runs(before: set[asyncio.Task]) -> None:
    """No task and no thread of a transfer is left."""
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
    async with asyncio.timeout(10):
        while worker_pool().busy:  # noqa: ASYNC110  (a thread that sits down again has no event)
            await asyncio.sleep(0.001)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("tallow")]
    assert set(names) <= {"tallow-worker"}  # idle ones, of the process
    gc.collect()  # an unclosed socket or transport would warn here, which is an error


async def test_an_accepted_offer_arrives_whole_and_events_come_in_order(small: Path, out: Path) -> None:
    before = asyncio.all_tasks()
    (a_options, a_ledger), (b_options, b_ledger) = recorded(), recorded()
    a, b = await both(small, into=out, options=a_options, receiver_options=b_options)
    assert (a.error, b.error) == (None, None)
    assert same_bytes(out / small.name, small)
    ordered = ["Connected", "PeerIdentified", "VerificationNeeded", "TransferStarted", "TransferProgress"]
    told = a.kinds()
    assert told[0] == "CodeReady"
    assert [name for name in told if name in ordered] == [name for name in ordered if name in told]
    assert told[-1] == "TransferDone"
    told = b.kinds()
    ordered.insert(3, "OfferReceived")
    assert [name for name in told if name in ordered] == [name for name in ordered if name in told]
    assert {"Connected", "PeerIdentified", "OfferReceived", "TransferStarted"} <= set(told)
    assert told[-1] == "TransferDone"
    for side in (a, b):
        assert isinstance(side.events[-1], TransferDone)
        assert side.transfer.summary == side.events[-1]
        assert (side.events[-1].files, side.events[-1].bytes) == (1, 5000)
    for ledger, sent in ((a_ledger, True), (b_ledger, False)):
        assert [(r.sent, r.files, r.bytes, r.outcome) for r in ledger.records] == [(sent, 1, 5000, "done")]
        assert ledger.records[0].peer is not None
    await nothing_runs(before)


async def test_progress_never_runs_backwards_and_ends_at_the_total(big: Path, out: Path) -> None:
    for side in await both(big, into=out):
        assert side.error is None
        counts = [event.bytes for event in side.all(TransferProgress)]
        assert counts == sorted(counts)
        assert counts[-1] == BIG_BYTES
        assert {event.total for event in side.all(TransferProgress)} == {BIG_BYTES}
    assert same_bytes(out / big.name, big)


async def test_a_refused_offer_ends_both_sides_and_writes_nothing(small: Path, out: Path) -> None:
    before = asyncio.all_tasks()
    (a_options, a_ledger), (b_options, b_ledger) = recorded(), recorded()
    refusing = on(OfferReceived, lambda receiver: receiver.refuse())
    a, b = await both(small, into=out, options=a_options, receiver_options=b_options, of_receiver=refusing)
    assert (a.outcome, b.outcome) == ("refused", "refused")
    assert [r.outcome for r in a_ledger.records + b_ledger.records] == ["refused", "refused"]
    assert not made(out)
    await nothing_runs(before)


async def test_both_sides_show_the_same_digits_and_wait_for_both_yeses(small: Path, out: Path) -> None:
    digits: list[str] = []
    must: list[bool] = []

    def confirming(side: Side, event: Event) -> None:
        if isinstance(event, VerificationNeeded):
            digits.append(event.digits)
            must.append(event.must_confirm)
            side.transfer.confirm(yes=True)
        accepting(side, event)

    options, _ = recorded(verify=True)
    a, b = await both(small, into=out, options=options, of_sender=confirming, of_receiver=confirming)
    assert (a.error, b.error) == (None, None)
    assert len(digits) == 2
    assert digits[0] == digits[1]
    assert len([character for character in digits[0] if character.isdigit()]) == 8
    assert must == [True, True]


@pytest.mark.parametrize("doubter", ["sender", "receiver"])
async def test_digits_that_differ_end_both_sides_before_anything_is_offered(
    small: Path, out: Path, doubter: str
) -> None:
    def answering(name: str) -> Reaction:
        def react(side: Side, event: Event) -> None:
            if isinstance(event, VerificationNeeded):
                side.transfer.confirm(yes=name != doubter)
            accepting(side, event)

        return react

    options, _ = recorded(verify=True)
    a, b = await both(
        small, into=out, options=options, of_sender=answering("sender"), of_receiver=answering("receiver")
    )
    assert (a.outcome, b.outcome) == ("not_verified", "not_verified")
    assert b.all(OfferReceived) == []
    assert not made(out)


async def test_a_transfer_cancelled_while_it_is_entered_does_not_start(small: Path) -> None:
    before = asyncio.all_tasks()
    transfer = Sender([small], options=DIRECT)
    entering = asyncio.create_task(transfer.__aenter__())
    await asyncio.sleep(0)
    transfer.cancel()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(CancelledByUserError):
            await entering
    await nothing_runs(before)


async def test_a_transfer_cancelled_before_it_is_entered_does_not_start(small: Path) -> None:
    transfer = Sender([small], options=DIRECT)
    transfer.cancel()
    with pytest.raises(CancelledByUserError):
        await transfer.__aenter__()


async def test_a_task_cancelled_while_it_enters_a_transfer_is_cancelled(small: Path) -> None:
    entering = asyncio.create_task(Sender([small], options=DIRECT).__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_a_sender_that_waits_can_be_cancelled(small: Path) -> None:
    before = asyncio.all_tasks()
    options, ledger = recorded()
    async with sender(small, options=options) as (a, _, task):
        a.transfer.cancel()
        await task
    assert a.outcome == "interrupted"
    assert [r.outcome for r in ledger.records] == ["interrupted"]
    await nothing_runs(before)


@pytest.mark.parametrize("moment", [OfferReceived, TransferStarted, TransferProgress])
async def test_a_receiver_can_cancel_before_and_during_the_transfer(
    big: Path, out: Path, moment: type
) -> None:
    before = asyncio.all_tasks()
    a, b = await both(big, into=out, of_receiver=on(moment, lambda receiver: receiver.cancel()))
    assert (a.outcome, b.outcome) == ("cancelled", "interrupted")
    assert left_in(out) == []
    await nothing_runs(before)


@pytest.mark.parametrize("moment", [TransferStarted, TransferProgress])
async def test_a_sender_can_cancel_during_the_transfer(big: Path, out: Path, moment: type) -> None:
    before = asyncio.all_tasks()
    a, b = await both(big, into=out, of_sender=on(moment, lambda transfer: transfer.cancel()))
    assert (a.outcome, b.outcome) == ("interrupted", "cancelled")
    assert left_in(out) == []
    await nothing_runs(before)


async def test_a_sender_can_cancel_while_the_receiver_thinks(small: Path, out: Path) -> None:
    async with sender(small) as (a, ready, task):
        thinks = on(OfferReceived, lambda _: a.transfer.cancel())
        b = await receive(ready, out, react=thinks)
        await task
    assert (a.outcome, b.outcome) == ("interrupted", "cancelled")
    assert not made(out)


async def test_an_answer_that_crosses_the_end_of_the_session_does_nothing(small: Path, out: Path) -> None:
    async with sender(small) as (a, ready, task):

        async def answer_late(side: Side) -> None:
            async for event in side.transfer:
                if isinstance(event, OfferReceived):
                    a.transfer.cancel()
                    await task
                    side.transfer.accept()
                    side.transfer.refuse()

        async with Receiver(ready.code, out, peer=ready.peer, options=DIRECT) as transfer:
            with pytest.raises(PeerCancelledError):
                await answer_late(Side(transfer))
    assert not made(out)


async def test_a_full_disk_is_told_to_both_sides_and_leaves_nothing(
    big: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    written = 0
    write_at = PartialFile.write_at

    def write_until_full(self: PartialFile, offset: int, data) -> None:
        nonlocal written
        written += len(data)
        if written > BIG_BYTES // 2:
            raise NoSpaceError
        write_at(self, offset, data)

    monkeypatch.setattr(PartialFile, "write_at", write_until_full)
    a, b = await both(big, into=out)
    assert (a.outcome, b.outcome) == ("no_space", "no_space")
    assert str(a.error)
    assert left_in(out) == []
    await nothing_runs(before)


@pytest.mark.parametrize("moment", [CodeReady, TransferStarted, TransferProgress])
async def test_leaving_the_senders_scope_early_ends_every_task_and_thread(
    big: Path, out: Path, moment: type
) -> None:
    before = asyncio.all_tasks()
    options, ledger = recorded()
    receiving: asyncio.Task[Side] | None = None
    async with asyncio.timeout(DEADLINE_S):
        async with Sender([big], options=options) as transfer:
            async for event in transfer:
                if isinstance(event, CodeReady) and moment is not CodeReady:
                    receiving = asyncio.create_task(receive(event, out))
                if isinstance(event, moment):
                    break
        if receiving is not None:
            assert (await receiving).outcome == "cancelled"
    assert [r.outcome for r in ledger.records] == ["interrupted"]
    await nothing_runs(before)


@pytest.mark.parametrize("moment", [OfferReceived, TransferProgress])
async def test_leaving_the_receivers_scope_early_ends_every_task_and_thread(
    big: Path, out: Path, moment: type
) -> None:
    before = asyncio.all_tasks()
    options, ledger = recorded()
    async with sender(big) as (a, ready, task):
        async with Receiver(ready.code, out, peer=ready.peer, options=options) as transfer:
            async for event in transfer:
                if isinstance(event, moment):
                    break
                if isinstance(event, OfferReceived):
                    transfer.accept()
        await task
    assert a.outcome == "cancelled"
    assert [r.outcome for r in ledger.records] == ["interrupted"]
    assert left_in(out) == []
    await nothing_runs(before)


async def test_an_exception_in_the_callers_loop_passes_and_ends_the_transfer(small: Path) -> None:
    before = asyncio.all_tasks()

    async def fail_at_the_first_event() -> None:
        async with asyncio.timeout(DEADLINE_S), Sender([small], options=DIRECT) as transfer:
            async for _ in transfer:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_at_the_first_event()
    await nothing_runs(before)


async def test_a_wrong_code_is_counted_and_the_right_one_still_works(small: Path, out: Path) -> None:
    async with sender(small, code="4821-copper-lantern-tidy") as (a, ready, task):
        b = await receive(ready, out, code="4821-copper-lantern-tiger")
        assert b.outcome == "wrong_code"
        assert b.kinds() == []
        c = await receive(ready, out)
        await task
    assert (a.outcome, c.outcome) == ("done", "done")
    assert a.all(WrongCode) == [WrongCode(2)]


async def test_what_cannot_start_says_so_at_the_door(small: Path, tmp_path: Path, out: Path) -> None:
    with pytest.raises(PathMissingError):
        async with Sender([tmp_path / "nowhere"], options=DIRECT):
            pass
    with pytest.raises(MisuseError):
        async with Sender([], options=DIRECT):
            pass
    async with sender(small) as (a, _, task):
        with pytest.raises(MisuseError):
            await a.transfer.__aenter__()
        with pytest.raises(MisuseError):
            a.transfer.confirm(yes=True)
        a.transfer.cancel()
        await task
    assert not made(out)


@pytest.mark.parametrize("peer", ["host", "host:", ":1", "host:0", "host:65536", "::1:1", "host:\u0661"])
async def test_an_address_that_is_none_is_told_before_anything_starts(out: Path, peer: str) -> None:
    with pytest.raises(UnreachableError, match="HOST:PORT"):
        await Receiver("4821-copper-lantern-tidy", out, peer=peer).__aenter__()
    assert not out.exists()
