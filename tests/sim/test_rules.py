"""Every rule of the worlds can be broken: a planted violation for each, in the simplest world, is named by that rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tallow_crypto import chunk_digest
from tallow_net.signaling import Side
from tallow_protocol.core.journal import JournalHeader, decode_journal, encode_records
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.rejoining import Returning
from tallow_protocol.errors import PeerLeftError
from tallow_protocol.events import TransferDone

from tests.sim.disk import Node
from tests.sim.rules import window
from tests.sim.scenario import Scenario
from tests.sim.soak import report
from tests.sim.stretches import Stretches
from tests.sim.tape import Tape
from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "secretfile-0.bin"


def simplest() -> Scenario:
    return Scenario(Tape(values=[]), real=False)


def large() -> Scenario:
    """Return a world whose one file travels in chunks."""
    scenario = simplest()
    offer = scenario.offer
    offer.entries[0] = Entry(FILE, EntryKind.FILE, 300_000, 0o640, offer.entries[0].mtime_ns)
    offer.files[FILE] = offer.total_bytes = 300_000
    offer.contents._files[0] = FILE, 300_000
    scenario.span_s += 1.0
    return scenario


def rule_of(scenario: Scenario) -> str:
    with pytest.raises(BrokenRuleError) as caught:
        scenario.run()
    return caught.value.rule


def when(scenario: Scenario, event: Callable[[], bool], call: Callable[[], None]) -> None:
    """Call once, as soon as something holds, before the rules look."""
    done = False

    def watch() -> None:
        nonlocal done
        if not done and event():
            done = True
            call()

    scenario.world.watchers.insert(0, watch)


def test_the_worlds_of_this_page_hold_as_they_are() -> None:
    simplest().run()
    large().run()


def test_a_terabyte_that_is_offered_and_not_chosen_costs_nothing() -> None:
    scenario = simplest()
    offer, huge = scenario.offer, "secretfile-huge.bin"
    offer.entries.append(Entry(huge, EntryKind.FILE, 1 << 40, 0o640, offer.entries[0].mtime_ns))
    offer.contents._files.append((huge, 1 << 40))
    scenario.net.answer_s = 0.5

    def choose() -> None:
        scenario.receiver.chosen = frozenset({0})

    when(scenario, lambda: scenario.receiver is not None, choose)
    scenario.run()
    assert scenario.receiver.summary.bytes == 5
    assert [path for path, _ in scenario.disk.tree()] == [FILE]


def test_a_terabyte_for_which_there_is_no_room_is_refused_before_a_byte_of_it_came() -> None:
    scenario = simplest()
    offer = scenario.offer
    offer.entries[0] = Entry(FILE, EntryKind.FILE, 1 << 40, 0o640, offer.entries[0].mtime_ns)
    offer.contents._files[0] = FILE, 1 << 40
    scenario.disk.free_blocks = 1 << 27
    scenario._calm = lambda: None
    scenario.rejoin_s = 0.0
    assert rule_of(scenario) == "a failure has a cause"  # nothing had gone wrong that excuses it
    assert scenario.receiver.error.code == "no_space"
    assert scenario.sender.bulk_bytes == 0


def test_a_final_name_with_wrong_bytes() -> None:
    scenario = large()

    def stands() -> bool:
        return FILE in dict(scenario.disk.tree())

    def spoil() -> None:
        node = dict(scenario.disk.tree())[FILE]
        node.data.put(0, bytes([node.data.piece(0, 1)[0] ^ 1]))
        node.version += 1

    when(scenario, stands, spoil)
    assert rule_of(scenario) == "a final name never holds wrong bytes"


def test_a_final_name_that_was_never_sent() -> None:
    scenario = simplest()
    scenario.world.after(0.2, lambda: scenario.disk.place("other", b"x", 0))
    scenario.world.after(0.2, lambda: setattr(scenario.disk, "changed", True))
    assert rule_of(scenario) == "a final name never holds wrong bytes"


def test_what_stood_there_and_is_written_into() -> None:
    scenario = simplest()
    scenario.disk.place("mine", b"old", 0)
    scenario.rules.stands()
    node = dict(scenario.disk.tree())["mine"]
    scenario.world.after(0.2, lambda: scenario.disk._write(node, 0, b"new"))
    assert rule_of(scenario) == "a final name never holds wrong bytes"


def test_what_tore_before_it_was_promised_is_forgiven_until_it_is() -> None:
    scenario = simplest()
    node = scenario.disk.place(FILE, b"12", 0)
    scenario.rules.forgive()
    scenario.rules.anew()
    scenario.rules.look()
    with pytest.raises(BrokenRuleError, match="never holds wrong bytes"):
        scenario.rules.right_bytes(FILE, node)
    node.version += 1
    scenario.disk.changed = True
    with pytest.raises(BrokenRuleError, match="never holds wrong bytes"):
        scenario.rules.look()


@pytest.mark.parametrize(("durable", "sent"), [(True, False), (False, True)])
def test_a_journal_that_says_too_much(durable: bool, sent: bool) -> None:
    scenario = large()
    size = 64 * 1024
    right = scenario.offer.piece(FILE, 0, size)
    data = Node(1, 0, 0)
    data.durable = Stretches((right if sent else bytes(size)) if durable else b"")
    sender = scenario.crypto.identity(b"sender").public_key.fingerprint
    said = JournalHeader(sender, FILE, 300_000, size)
    digest = chunk_digest(right if sent else bytes(size))
    journal = decode_journal(said.encode() + encode_records(said.encode(), 0, digest))
    assert journal is not None
    assert journal.count == 1
    with pytest.raises(BrokenRuleError, match="the journal is a subset"):
        scenario.rules.chunks(journal, data)


def test_a_nonce_that_one_key_seals_with_twice() -> None:
    scenario = simplest()
    scenario.crypto.sealed(b"key", b"nonce")
    with pytest.raises(BrokenRuleError, match="twice"):
        scenario.crypto.sealed(b"key", b"nonce")


@pytest.mark.parametrize("secret", range(6))
def test_a_code_word_or_a_file_name_on_the_wire(secret: int) -> None:
    scenario = simplest()
    scenario.run()
    with pytest.raises(BrokenRuleError, match="on the wire"):
        scenario.net._pass(b"..." + scenario.net.secrets[secret])


def test_a_window_that_miscounts_and_one_that_is_passed() -> None:
    def pipeline(counted: int, in_flight: int) -> SimpleNamespace:
        sendings = [SimpleNamespace(counted_bytes=counted, settled=False) for _ in range(2)]
        lane = SimpleNamespace(records=[(None, sending) for sending in sendings])
        return SimpleNamespace(
            _lanes={0: lane}, window=SimpleNamespace(in_flight_bytes=in_flight, limit_bytes=100)
        )

    window(pipeline(50, 100))
    with pytest.raises(BrokenRuleError, match="counts what is on its way"):
        window(pipeline(50, 99))
    with pytest.raises(BrokenRuleError, match="buffers within window times chunk"):
        window(pipeline(51, 102))


def test_a_token_that_opens_two_connections() -> None:
    relay = simplest().net.relay
    tokens = {side: (bytes([side]) * 32,) for side in Side}
    relay.tokens.add(1, tokens)
    relay.join_data(simplest().net.wire("data").ends[1], tokens[Side.A][0])
    relay.tokens.add(1, tokens)
    with pytest.raises(BrokenRuleError, match="a token opens one connection"):
        relay.join_data(simplest().net.wire("data").ends[1], tokens[Side.A][0])


def test_a_relay_that_buffers_without_bound() -> None:
    scenario = large()

    def paired() -> bool:
        return bool(scenario.net.relay._pairs)

    def flood() -> None:
        pair = next(iter(scenario.net.relay._pairs.values()))
        for _ in range(40):
            pair.moved(pair.clients[0], bytes(64 * 1024))

    when(scenario, paired, flood)
    assert rule_of(scenario) == "a relay's buffers are bounded"


def test_a_failure_that_is_no_typed_error() -> None:
    scenario = simplest()
    scenario.world.after(0.05, lambda: scenario.sender.fail(ValueError("bare")))
    assert rule_of(scenario) == "every failure is a typed error"


def test_a_fault_inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallow_protocol.core.filling.Filler._read_pack", lambda self, plan, body: 1 / 0)
    assert rule_of(simplest()) == "every failure is a typed error"


def test_a_failure_without_a_cause() -> None:
    scenario = simplest()
    scenario.rejoin_s = 0.0
    scenario.world.after(0.05, lambda: scenario.sender.fail(PeerLeftError(by="peer")))
    assert rule_of(scenario) == "a failure has a cause"


def test_a_session_that_does_not_outlive_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Returning, "look", lambda self, since, ways, now: [])
    scenario = large()
    begun = scenario._begun
    when(
        scenario,
        lambda: scenario.sender is not None and begun() and scenario.receiver.session.acknowledged > 0,
        lambda: [wire.cut() for wire in scenario.net.wires if wire.open],
    )
    assert rule_of(scenario) == "a session outlives its connections"


def done(scenario: Scenario) -> bool:
    receiver = scenario.receiver
    return receiver is not None and receiver.summary is not None


def test_two_sides_that_report_differently() -> None:
    scenario = simplest()
    when(
        scenario,
        lambda: done(scenario),
        lambda: setattr(scenario.receiver, "summary", TransferDone(7, 7, 1.0)),
    )
    assert rule_of(scenario) == "both sides report the same"


def test_a_sender_that_says_done_alone() -> None:
    scenario = simplest()
    when(
        scenario,
        lambda: scenario.sender is not None and scenario.sender.summary is not None,
        lambda: setattr(scenario.receiver, "summary", None),
    )
    assert rule_of(scenario) == "both sides report the same"


def test_what_is_done_and_is_not_there() -> None:
    scenario = simplest()
    when(scenario, lambda: done(scenario), scenario.disk.clear)
    assert rule_of(scenario) == "what is done is there"


def test_what_is_left_over() -> None:
    scenario = simplest()
    when(scenario, lambda: done(scenario), lambda: scenario.disk.make_folders("/out/.tallow-left"))
    assert rule_of(scenario) == "nothing is left over"


def test_what_is_left_open() -> None:
    scenario = simplest()
    when(scenario, lambda: done(scenario), lambda: scenario.disk._open.update({7: scenario.disk.top}))
    assert rule_of(scenario) == "nothing is left open"


def test_two_sides_that_do_not_come_to_an_end() -> None:
    scenario = large()
    scenario.net.answer_s = 1e9
    assert rule_of(scenario) == "both sides come to an end"


def test_a_world_that_is_healed_and_does_not_come_to_its_end() -> None:
    scenario = simplest()
    scenario.heal()
    scenario.net.code_told = lambda peer: None
    scenario._told = lambda peer: None  # nobody tells the receiver the code
    assert rule_of(scenario) == "after the faults heal it is done"


def test_more_bytes_a_second_than_are_allowed() -> None:
    scenario = large()
    scenario.rate = 1e9
    when(
        scenario,
        lambda: scenario.sender is not None and scenario.sender.bulk_bytes > 0,
        lambda: scenario.sender.count_bulk(1 << 40),
    )
    assert rule_of(scenario) == "no more a second than is allowed"


def test_a_timer_that_is_always_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallow_protocol.core.session.Session.next_deadline", lambda self: 0.0)
    assert rule_of(simplest()) in {"a timer lets time pass", "time passes"}


def test_a_broken_world_is_shrunk_and_printed_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallow_protocol.core.filling.Filler._read_pack", lambda self, plan, body: 1 / 0)
    from tests.sim.scenario import run_seed, run_tape

    outcome = run_seed(3)
    while outcome.broken is None:  # a world that sends no small file
        outcome = run_seed(outcome.events)
    text = report(3, outcome, runs=40)
    assert "repeat: python -m tests.sim.soak --seed 3" in text
    tape = text.rpartition("--tape '")[2].partition("'")[0]
    values = [int(value) for value in tape.split(",") if value]
    assert len(values) < len(outcome.tape)
    again = run_tape(Tape(values=values))
    assert again.broken is not None
    assert again.broken.rule == outcome.broken.rule
