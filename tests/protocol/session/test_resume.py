"""Sessions after a crash: what an earlier one left is not sent again, and nothing else is mixed with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_crypto import IdentityKeyPair
from tallow_net import Side
from tallow_protocol import (
    ConflictError,
    Resumed,
    TransferDone,
    TransferProgress,
    TransferStarted,
    ViolationError,
    Warned,
)
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.messages import Accept, FileDone, From, Have
from tallow_protocol.core.resuming import Learned
from tallow_protocol.testing import MemoryFolder, Pair

KIB = 1024
CHUNK = 64 * KIB
NAME = "report.iso"
IDENTITIES = IdentityKeyPair.generate(), IdentityKeyPair.generate()


def content(size, seed=1):
    return bytes((seed * 31 + at // 7) % 251 for at in range(size))


def pair_of(contents, **options):
    options.setdefault("identities", IDENTITIES)
    return Pair(contents, **options)


def killed(contents, after_bytes, **options):
    """Run until the receiver has `after_bytes`, sync what it has, and forget both sessions: kill -9 of both."""
    pair = pair_of(contents, window_bytes=CHUNK, **options)
    pair.run(until=lambda: progress(pair).bytes >= after_bytes)
    pipeline = pair.receiver_role._pipeline
    pipeline.sync()
    return pair


def progress(pair, side=Side.B):
    seen = [event for event in pair.events[side] if isinstance(event, TransferProgress)]
    return seen[-1] if seen else TransferProgress(0, 1, 0, 1)


def only(events, kind):
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1
    return found[0]


def chunks_written(folder, monkeypatch):
    """Count the chunks that are written from here on."""
    written = []
    begin_file = MemoryFolder.begin_file

    def counted(self, *arguments, **options):
        place = begin_file(self, *arguments, **options)
        write_at = place.write_at
        place.write_at = lambda offset, data: (written.append(len(data)), write_at(offset, data))
        return place

    monkeypatch.setattr(MemoryFolder, "begin_file", counted)
    return written


def test_the_same_file_sent_again_goes_on_where_it_stopped(monkeypatch):
    data = content(20 * CHUNK + 5)
    first = killed({NAME: data}, 12 * CHUNK)
    left = first.folder.partials[IDENTITIES[0].public_key.fingerprint, NAME, len(data)]
    there = len(left.digests) // 32 * CHUNK
    assert there >= 12 * CHUNK
    written = chunks_written(first.folder, monkeypatch)

    second = pair_of({NAME: data}, folder=first.folder)
    second.run()

    assert second.folder.files == {NAME: data}
    assert sum(written) == len(data) - there
    for side in Side:
        assert second.sessions[side].error is None
        resumed = only(second.events[side], Resumed)
        assert (resumed.bytes, resumed.total, str(resumed.path)) == (there, len(data), NAME)
        assert only(second.events[side], TransferDone).bytes == len(data)
        assert progress(second, side).complete
    assert second.folder.partials == {}


def test_progress_counts_what_was_there_from_the_start():
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)

    second = pair_of({NAME: data}, folder=first.folder)
    second.run()

    for side in Side:
        events = second.events[side]
        told = events.index(only(events, Resumed))
        after = [event.bytes for event in events[told:] if isinstance(event, TransferProgress)]
        assert min(after) >= 12 * CHUNK


def test_a_changed_source_of_the_same_size_and_time_starts_anew_and_says_so(monkeypatch):
    first = killed({NAME: content(20 * CHUNK)}, 12 * CHUNK)
    other = content(20 * CHUNK, seed=2)
    written = chunks_written(first.folder, monkeypatch)

    second = pair_of({NAME: other}, folder=first.folder)
    second.run()

    assert second.folder.files == {NAME: other}
    assert sum(written) == len(other)
    for side in Side:
        assert "starts anew" in str(only(second.events[side], Warned).text)
        assert not any(isinstance(event, Resumed) for event in second.events[side])


def test_a_change_behind_what_is_there_is_sent_and_the_rest_is_not(monkeypatch):
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)
    changed = data[:-1] + b"!"
    written = chunks_written(first.folder, monkeypatch)

    second = pair_of({NAME: changed}, folder=first.folder)
    second.run()

    assert second.folder.files == {NAME: changed}
    assert sum(written) <= 8 * CHUNK


def test_only_the_changed_one_of_several_files_starts_anew():
    old = {"a": content(300 * KIB), "b": content(20 * CHUNK), "c": content(300 * KIB, seed=3)}
    chunks = ChunkConfig(usual_bytes=CHUNK, largest_bytes=CHUNK)
    first = killed(old, len(old["a"]) + 12 * CHUNK, chunks=chunks)
    first.folder.files.clear()  # moved away by the user, so that nothing is in conflict
    new = {**old, "a": content(300 * KIB, seed=9)}

    second = pair_of(new, folder=first.folder)
    second.run()

    assert second.folder.files == new


def test_a_stranger_with_another_identity_is_told_nothing(monkeypatch):
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)
    asked = []
    monkeypatch.setattr("tallow_protocol.core.sender.SenderRole._check", lambda *_: asked.append(1))

    second = pair_of(
        {NAME: data}, folder=first.folder, identities=(IdentityKeyPair.generate(), IDENTITIES[1])
    )
    second.run()

    assert not asked
    assert second.folder.files == {NAME: data}
    assert len(second.folder.partials) == 1  # the first sender's is still there


def test_nothing_is_told_before_the_yes_or_after_a_no():
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)
    second = pair_of({NAME: data}, folder=first.folder, answer=False)
    for _ in range(100):
        second.step()
    sender = second.sessions[Side.A].role
    assert not sender._haves
    assert not second.pipeline.awaits_check

    second.receiver_role.refuse(second.sessions[Side.B], second.now)
    second.run()

    assert not second.pipeline.awaits_check
    assert len(second.folder.partials) == 1


def test_a_partial_file_that_is_whole_gets_its_name_without_a_byte_sent(monkeypatch):
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)
    second = pair_of({NAME: data}, folder=first.folder)
    monkeypatch.setattr(MemoryFolder, "write_small", refuse_names)
    second.run()
    assert isinstance(second.sessions[Side.B].error, ConflictError)
    second.receiver_role.close()
    monkeypatch.undo()
    written = chunks_written(first.folder, monkeypatch)

    third = pair_of({NAME: data}, folder=first.folder)
    third.run()

    assert not written
    assert third.folder.files == {NAME: data}
    assert only(third.events[Side.A], Resumed).bytes == len(data)


def refuse_names(*_):
    raise ConflictError


@pytest.mark.parametrize("size", [1, CHUNK, 3 * CHUNK, 20 * CHUNK + 1])
def test_a_file_that_stands_and_is_the_same_is_not_sent(size, monkeypatch):
    data = content(size)
    folder = MemoryFolder(files={NAME: data}, standing=CHUNK)
    written = chunks_written(folder, monkeypatch)

    pair = pair_of({NAME: data, "new": b"x"}, folder=folder)
    pair.run()

    assert not written
    assert pair.folder.files == {NAME: data, "new": b"x"}
    assert only(pair.events[Side.B], TransferDone).bytes == size + 1


def test_a_file_that_stands_and_differs_is_sent_without_a_warning():
    data = content(20 * CHUNK)
    folder = MemoryFolder(files={NAME: content(20 * CHUNK, seed=5)}, standing=CHUNK)

    pair = pair_of({NAME: data}, folder=folder)
    pair.run()

    assert pair.folder.files == {NAME: data}
    assert not any(isinstance(event, Warned) for side in Side for event in pair.events[side])


def test_a_thousand_files_that_stand_fit_the_limits_of_the_control_channel():
    contents = {f"{number:04}": content(10 + number) for number in range(1000)}
    folder = MemoryFolder(files=dict(contents), standing=CHUNK)

    pair = pair_of(contents, folder=folder)
    pair.run()

    assert [session.error for session in pair.sessions.values()] == [None, None]
    assert only(pair.events[Side.A], Resumed).bytes == sum(map(len, contents.values()))


def test_a_chunk_may_be_stored_before_the_job_that_takes_where_its_file_goes_on(monkeypatch):
    """Jobs run in another thread than the chunks of a data connection, and nothing says which comes first."""
    data = content(20 * CHUNK + 5)
    first = killed({NAME: data}, 12 * CHUNK)
    written = chunks_written(first.folder, monkeypatch)
    second = pair_of({NAME: data}, folder=first.folder)
    session = second.sessions[Side.B]
    take_jobs, waiting = session.take_jobs, []

    def slow_jobs():
        waiting.extend(take_jobs())
        if any(isinstance(event, TransferStarted) for event in second.events[Side.B]) and not written:
            return []
        due = waiting.copy()
        waiting.clear()
        return due

    monkeypatch.setattr(session, "take_jobs", slow_jobs)
    second.run()

    assert session.error is None
    assert second.folder.files == {NAME: data}
    assert only(second.events[Side.B], Resumed).bytes == len(data) - sum(written)


class Remembered:
    """A digest port that counts what is asked."""

    def __init__(self):
        self.kept = {}

    def known(self, file, chunk_size):
        return self.kept.get((file, chunk_size), b"")

    def learn(self, learned):
        for piece in learned:
            assert len(self.known(piece.file, piece.chunk_size)) == piece.first * 32
            self.kept[piece.file, piece.chunk_size] = self.known(piece.file, piece.chunk_size) + piece.digests


def test_known_digests_spare_the_sender_to_read_what_the_receiver_has(monkeypatch):
    monkeypatch.setattr("tallow_protocol.core.sending.LEARNED_FILE_BYTES", CHUNK)
    monkeypatch.setattr("tallow_protocol.core.resuming.LEARNED_FILE_BYTES", 4 * CHUNK)
    data = content(20 * CHUNK)
    port = Remembered()
    first = killed({NAME: data}, 12 * CHUNK, digests=port)
    first.sessions[Side.A].role.close()
    known = len(port.known(0, CHUNK)) // 32
    assert known >= 8
    read = []
    monkeypatch.setattr(
        "tallow_protocol.aio.inputs.BytesSource.read_into",
        lambda self, offset, buffer: (read.append(offset), fill(data, offset, buffer))[1],
    )

    second = pair_of({NAME: data}, folder=first.folder, digests=port)
    second.run()

    second.sessions[Side.A].role.close()
    assert second.folder.files == {NAME: data}
    assert min(read) >= known * CHUNK
    assert len(port.known(0, CHUNK)) == 20 * 32


def fill(data, offset, buffer):
    piece = data[offset : offset + len(buffer)]
    buffer[: len(piece)] = piece
    return len(piece)


def test_wrong_remembered_digests_cost_a_new_start_and_nothing_else():
    data = content(20 * CHUNK)
    first = killed({NAME: data}, 12 * CHUNK)
    port = Remembered()
    port.learn([Learned(0, CHUNK, 0, b"x" * 32 * 20)])

    second = pair_of({NAME: data}, folder=first.folder, digests=port)
    second.run()

    assert second.folder.files == {NAME: data}


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_killed_and_cut_anywhere_any_number_of_times_it_ends_whole(data):
    contents = {"a": content(9 * CHUNK + 3), "b": content(5 * CHUNK, seed=4), "c": b"small"}
    folder = MemoryFolder()
    for _ in range(data.draw(st.integers(0, 4))):
        pair = pair_of(contents, folder=folder, window_bytes=2 * CHUNK, seed=data.draw(st.integers(0, 99)))
        if data.draw(st.booleans()):
            pair.attach(Side.A)
        for _ in range(data.draw(st.integers(0, 80))):
            pair.step()
            if data.draw(st.integers(0, 9)) == 0 and pair.receiver_role._pipeline is not None:
                pair.receiver_role._pipeline.sync()
        if data.draw(st.booleans()):
            pair.receiver_role.close()
        folder.files.clear()
    last = pair_of(contents, folder=folder)
    last.attach(Side.B)
    last.run()
    assert last.folder.files == contents


# -- what a peer must not do --------------------------------------------------------------------------------


def sent_by_receiver(monkeypatch, forge):
    """Have the receiver say what `forge` makes of each message that it sends."""
    from tallow_protocol.core.session import Session

    send = Session.send

    def forged(self, message):
        if self.side is Side.B and isinstance(message, Accept):
            for more in forge:
                send(self, more)
        return send(self, message)

    monkeypatch.setattr(Session, "send", forged)


@pytest.mark.parametrize(
    "forged",
    [
        (Have(1, CHUNK, 1, bytes(32)),),
        (Have(7, CHUNK, 1, bytes(32)),),
        (Have(0, CHUNK, 21, bytes(32)),),
        (Have(0, CHUNK, 1, bytes(32)), Have(0, CHUNK, 1, bytes(32))),
        (Have(2, CHUNK, 1, bytes(32)),),
    ],
    ids=["a folder", "no entry", "too many chunks", "twice", "an empty file"],
)
def test_a_have_that_cannot_be_ends_the_session(monkeypatch, forged):
    sent_by_receiver(monkeypatch, forged)
    pair = pair_of({"file": content(20 * CHUNK), "folder": None, "empty": b""})
    pair.run()
    assert isinstance(pair.sessions[Side.A].error, ViolationError)


def test_a_have_after_accept_ends_the_session(monkeypatch):
    pair = pair_of({NAME: content(20 * CHUNK)})
    pair.run(until=lambda: progress(pair).bytes > CHUNK)
    pair.sessions[Side.B].send(Have(0, CHUNK, 1, bytes(32)))
    pair.run()
    assert pair.sessions[Side.A].error is not None
    assert pair.folder.files == {}


@pytest.mark.parametrize("answer", [From(0, 1), From(1, 0)], ids=["not its count", "not asked"])
def test_a_from_that_was_not_asked_for_ends_the_session(monkeypatch, answer):
    contents = {"a": content(20 * CHUNK), "b": content(20 * CHUNK)}
    first = killed(contents, 12 * CHUNK)
    monkeypatch.setattr("tallow_protocol.core.sending.SendPipeline.answer", lambda *_: answer)
    second = pair_of(contents, folder=first.folder)
    second.run(until=lambda: second.sessions[Side.B].error is not None)
    assert isinstance(second.sessions[Side.B].error, ViolationError)


def test_a_chunk_before_its_from_ends_the_session(monkeypatch):
    first = killed({NAME: content(20 * CHUNK)}, 12 * CHUNK)
    second = pair_of({NAME: content(20 * CHUNK)}, folder=first.folder)
    monkeypatch.setattr("tallow_protocol.core.sender.SenderRole._check", lambda *_: None)
    second.run(until=lambda: second.receiver_role._accepted)
    second.sessions[Side.A].send(FileDone(0, 20 * CHUNK, 20, bytes(32)))
    second.run(until=lambda: second.sessions[Side.B].error is not None)
    assert isinstance(second.sessions[Side.B].error, ViolationError)
