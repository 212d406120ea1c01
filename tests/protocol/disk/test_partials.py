"""Partial files on a real disk: what is kept, what is believed, and what was planted there."""

import os
import stat
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tallow_crypto import Fingerprint, chunk_digest
from tallow_protocol.core.journal import JOURNAL_RECORD_BYTES, JournalHeader, decode_journal, partial_name
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.leftovers import PARTIALS_NAME, clean_partials, list_partials
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.disk.partials import KEEP_S, OPEN_PARTIALS, PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import BadNameError, ConflictError, IntegrityError, MisuseError, NotWritableError

CHUNK = 64 * 1024
SENDER, OTHER = Fingerprint(bytes(32)), Fingerprint(b"\1" * 32)
PATH = "report.iso"
PLACE = (PATH,)
COUNT = 8
DATA = b"".join(bytes([number]) * CHUNK for number in range(COUNT))
NAME = partial_name(SENDER, PATH, len(DATA))


def digests(first, count, data=DATA):
    return b"".join(chunk_digest(data[at * CHUNK : (at + 1) * CHUNK]) for at in range(first, first + count))


@pytest.fixture
def out(tmp_path):
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def opened(out):
    """Open partial folders that are closed at the end, as `opened(sender)`."""
    roots = []

    def open_one(sender=SENDER, clock=time.time):
        root = OutputRoot.open(out)
        folder = PartialFolder(root, sender, clock=clock)
        roots.append((folder, root))
        return folder

    yield open_one
    for folder, root in roots:
        folder.close()
        root.close()


def begin(folder, *, resumes=False):
    return folder.begin(PATH, len(DATA), CHUNK, PLACE, resumes=resumes)


def interrupted(opened, chunks=5, synced=None):
    """Leave a partial file of which `synced` chunks are noted and `chunks` written; the process ends then."""
    folder = opened()
    partial = begin(folder)
    partial.write_at(0, memoryview(DATA)[: chunks * CHUNK])
    partial.sync(0, digests(0, chunks if synced is None else synced))
    folder.close()
    folder.root.close()


def files(out):
    return (
        {path.name for path in (out / PARTIALS_NAME).iterdir()} if (out / PARTIALS_NAME).exists() else set()
    )


def test_what_was_noted_is_found_and_goes_on(out, opened):
    interrupted(opened, 5, synced=3)
    folder = opened()
    found = folder.find(PATH, len(DATA))
    assert (found.chunk_size, found.count, found.digests) == (CHUNK, 3, digests(0, 3))
    assert found.partial

    partial = begin(folder, resumes=True)
    partial.write_at(3 * CHUNK, DATA[3 * CHUNK :])
    partial.commit(0o640, 1_700_000_000_000_000_000)
    folder.close()

    placed = out / PATH
    assert placed.read_bytes() == DATA
    assert stat.S_IMODE(placed.stat().st_mode) == 0o640
    assert placed.stat().st_nlink == 1
    assert not (out / PARTIALS_NAME).exists()


def test_folder_and_files_are_closed_to_others(out, opened):
    interrupted(opened)
    assert stat.S_IMODE((out / PARTIALS_NAME).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out / PARTIALS_NAME).iterdir()} == {0o600}
    assert files(out) == {f"{NAME}.data", f"{NAME}.journal"}


def test_a_file_that_ends_in_one_go_has_no_journal(out, opened):
    folder = opened()
    partial = begin(folder)
    partial.write_at(0, DATA)
    assert files(out) == {f"{NAME}.data"}
    partial.commit(0o600, 0)
    folder.close()
    assert not (out / PARTIALS_NAME).exists()


def test_where_nothing_was_noted_nothing_is_left(out, opened):
    folder = opened()
    begin(folder).write_at(0, DATA[:100])
    folder.close()
    assert not (out / PARTIALS_NAME).exists()


@pytest.mark.parametrize(
    ("sender", "path", "size"),
    [(OTHER, PATH, len(DATA)), (SENDER, "b", len(DATA)), (SENDER, PATH, len(DATA) - 1)],
)
def test_another_sender_path_or_size_finds_nothing(opened, sender, path, size):
    interrupted(opened)
    assert opened(sender).find(path, size) is None


def test_a_journal_of_something_else_under_the_right_name_is_not_believed(out, opened):
    interrupted(opened)
    other = JournalHeader(OTHER, PATH, len(DATA), CHUNK)
    (out / PARTIALS_NAME / f"{NAME}.journal").write_bytes(other.encode())
    assert opened().find(PATH, len(DATA)) is None


def test_begun_anew_nothing_of_the_old_is_left(out, opened):
    interrupted(opened)
    folder = opened()
    assert folder.find(PATH, len(DATA)) is not None
    partial = folder.begin(PATH, len(DATA), 2 * CHUNK, PLACE, resumes=False)
    assert (out / PARTIALS_NAME / f"{NAME}.data").stat().st_size == 0
    assert (out / PARTIALS_NAME / f"{NAME}.journal").stat().st_size == 0
    partial.write_at(0, DATA[: 2 * CHUNK])
    partial.sync(0, chunk_digest(DATA[: 2 * CHUNK]))
    folder.close()
    folder.root.close()
    assert opened().find(PATH, len(DATA)).chunk_size == 2 * CHUNK


def test_a_journal_ahead_of_its_data_is_believed_as_far_as_the_data_goes(out, opened):
    interrupted(opened, 5)
    os.truncate(out / PARTIALS_NAME / f"{NAME}.data", 3 * CHUNK + 100)
    folder = opened()
    assert folder.find(PATH, len(DATA)).count == 3
    folder.close()
    journal = (out / PARTIALS_NAME / f"{NAME}.journal").read_bytes()
    assert decode_journal(journal).count == 3  # cut, before data is written over of which it spoke


def test_the_end_of_what_a_journal_says_is_read_again(out, opened):
    interrupted(opened, 5)
    with (out / PARTIALS_NAME / f"{NAME}.data").open("r+b") as data:
        data.seek(4 * CHUNK)
        data.write(b"what a disk lost")
    assert opened().find(PATH, len(DATA)).count == 4


def test_a_torn_record_is_cut_off(out, opened):
    interrupted(opened, 5)
    journal = out / PARTIALS_NAME / f"{NAME}.journal"
    os.truncate(journal, journal.stat().st_size - 1)
    folder = opened()
    assert folder.find(PATH, len(DATA)).count == 4
    partial = begin(folder, resumes=True)
    partial.write_at(4 * CHUNK, DATA[4 * CHUNK :])
    partial.sync(4, digests(4, 4))
    folder.close()
    folder.root.close()
    assert opened().find(PATH, len(DATA)).count == COUNT


def test_a_journal_is_never_ahead_of_the_data(opened, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: done.append("data"))
    folder = opened()
    partial = begin(folder)
    note = partial._note
    monkeypatch.setattr(partial, "_note", lambda *arguments: (done.append("journal"), note(*arguments)))
    partial.write_at(0, DATA)
    partial.sync(0, digests(0, 4))
    assert done == ["data", "journal"]


def test_data_that_cannot_be_synced_is_not_noted(out, opened, monkeypatch):
    def failing(handle):
        raise OSError(5, "Input/output error")

    folder = opened()
    partial = begin(folder)
    partial.write_at(0, DATA)
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(NotWritableError):
        partial.sync(0, digests(0, 4))
    assert files(out) == {f"{NAME}.data"}


def test_digests_are_noted_once_whoever_repeats_them(out, opened):
    folder = opened()
    partial = begin(folder)
    partial.write_at(0, DATA)
    partial.sync(0, digests(0, 3))
    partial.sync(0, digests(0, 5))
    partial.sync(7, digests(7, 1))  # a gap is no beginning
    folder.close()
    folder.root.close()
    assert opened().find(PATH, len(DATA)).digests == digests(0, 5)


def test_after_its_end_a_sync_does_nothing(out, opened):
    folder = opened()
    partial = begin(folder)
    partial.write_at(0, DATA)
    partial.commit(0o600, 0)
    partial.sync(0, digests(0, 5))
    partial.abandon()
    assert files(out) == set()
    with pytest.raises(MisuseError):
        partial.write_at(0, DATA)


def test_a_taken_place_keeps_the_partial_file(out, opened):
    interrupted(opened, COUNT)
    folder = opened()
    folder.find(PATH, len(DATA))
    partial = begin(folder, resumes=True)
    (out / PATH).write_bytes(b"somebody was here first")
    with pytest.raises(ConflictError):
        partial.commit(0o400, 0)
    folder.close()
    folder.root.close()
    assert (out / PATH).read_bytes() == b"somebody was here first"
    (out / PATH).unlink()
    folder = opened()
    assert folder.find(PATH, len(DATA)).count == COUNT
    begin(folder, resumes=True).commit(0o400, 0)
    assert (out / PATH).read_bytes() == DATA


def test_missing_bytes_are_noticed_at_the_end(opened):
    folder = opened()
    partial = begin(folder)
    partial.write_at(0, DATA[:-1])
    with pytest.raises(IntegrityError):
        partial.commit(0o600, 0)


def test_two_at_once_do_not_share_a_file(out, opened):
    first = begin(opened())
    first.write_at(0, DATA[:CHUNK])
    second_folder = opened()
    assert second_folder.find(PATH, len(DATA)) is None
    second = begin(second_folder)
    second.write_at(0, b"z" * len(DATA))
    second.sync(0, digests(0, 3))
    assert len(files(out)) == 2
    first.write_at(CHUNK, DATA[CHUNK:])
    second_folder.close()
    assert files(out) == {f"{NAME}.data"}


def test_a_second_name_of_a_placed_file_is_never_written_to(out, opened):
    interrupted(opened)
    placed = out / "placed"
    os.link(
        out / PARTIALS_NAME / f"{NAME}.data", placed
    )  # killed between giving its name and taking the old one away
    before = placed.read_bytes()
    folder = opened()
    assert folder.find(PATH, len(DATA)) is None
    begin(folder).write_at(0, b"z" * 100)
    assert placed.read_bytes() == before


# -- planted ------------------------------------------------------------------------------------------------


def test_a_planted_link_in_place_of_the_folder_is_refused(out, opened, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (PARTIALS_NAME, f"{PARTIALS_NAME}-{os.geteuid()}"):
        (out / name).symlink_to(elsewhere)
    folder = opened()
    assert folder.find(PATH, len(DATA)) is None
    with pytest.raises(NotWritableError, match="private folder"):
        begin(folder)
    assert list(elsewhere.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_passed_by(out, opened):
    (out / PARTIALS_NAME).write_bytes(b"")
    interrupted(opened)
    assert opened().find(PATH, len(DATA)).count == 5
    assert (out / f"{PARTIALS_NAME}-{os.geteuid()}").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder is made by root")
def test_another_users_folder_is_passed_by(out, opened):
    (out / PARTIALS_NAME).mkdir(mode=0o777)
    os.chown(out / PARTIALS_NAME, 12345, 12345)
    interrupted(opened)
    assert files(out) == set()
    assert opened().find(PATH, len(DATA)).count == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's file is made by root")
@pytest.mark.parametrize("kind", ["data", "journal"])
def test_another_users_file_in_our_folder_is_not_touched(out, opened, kind):
    interrupted(opened)
    planted = out / PARTIALS_NAME / f"{NAME}.{kind}"
    os.chown(planted, 12345, 12345)
    before = planted.read_bytes()
    folder = opened()
    assert folder.find(PATH, len(DATA)) is None
    partial = begin(folder)
    partial.write_at(0, DATA)
    if kind == "data":
        assert planted.read_bytes() == before
    partial.commit(0o600, 0)
    assert (out / PATH).read_bytes() == DATA


@pytest.mark.parametrize("kind", ["data", "journal"])
@pytest.mark.parametrize("noted", [False, True])
def test_a_planted_link_in_place_of_a_file_is_not_followed(out, opened, tmp_path, kind, noted):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    if noted:
        interrupted(opened)
        (out / PARTIALS_NAME / f"{NAME}.{kind}").unlink()
    else:
        (out / PARTIALS_NAME).mkdir(mode=0o700)
    (out / PARTIALS_NAME / f"{NAME}.{kind}").symlink_to(victim)
    folder = opened()
    assert folder.find(PATH, len(DATA)) is None
    partial = begin(folder)
    partial.write_at(0, DATA)
    partial.sync(0, digests(0, 5))
    partial.commit(0o600, 0)
    assert victim.read_bytes() == b"precious"
    assert (out / PATH).read_bytes() == DATA
    assert not (out / PATH).is_symlink()


def test_a_pipe_in_place_of_a_file_does_not_hang(out, opened):
    (out / PARTIALS_NAME).mkdir(mode=0o700)
    for kind in ("data", "journal"):
        os.mkfifo(out / PARTIALS_NAME / f"{NAME}.{kind}")
    folder = opened()
    assert folder.find(PATH, len(DATA)) is None
    begin(folder).write_at(0, DATA)


def test_a_folder_that_was_opened_to_others_is_closed_again(out, opened):
    interrupted(opened)
    (out / PARTIALS_NAME).chmod(0o777)
    assert opened().find(PATH, len(DATA)).count == 5
    assert stat.S_IMODE((out / PARTIALS_NAME).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "top", [PARTIALS_NAME, PARTIALS_NAME.upper(), f"{PARTIALS_NAME}-0", f".Tallow-{NAME}"]
)
def test_an_offer_cannot_name_the_folder(out, top):
    entries = [
        Entry(top, EntryKind.FOLDER, None, 0o755, 0),
        Entry(f"{top}/{NAME}.journal", EntryKind.FILE, 3, 0o644, 0),
    ]
    with pytest.raises(BadNameError):
        OutputFolder(out).check(entries)


# -- age, list, clean ---------------------------------------------------------------------------------------


def test_what_is_old_goes_at_the_next_use(out, opened):
    interrupted(opened)
    fresh = opened(clock=lambda: time.time() + KEEP_S - 60)
    assert fresh.find(PATH, len(DATA)) is not None
    fresh.close()
    fresh.root.close()
    folder = opened(clock=lambda: time.time() + KEEP_S + 60)
    assert folder.find(PATH, len(DATA)) is None
    assert files(out) == set()


def test_what_is_not_ours_in_the_folder_is_left_alone(out, opened):
    interrupted(opened)
    (out / PARTIALS_NAME / "notes.txt").write_bytes(b"mine")
    folder = opened(clock=lambda: time.time() + KEEP_S + 60)
    folder.find(PATH, len(DATA))
    folder.close()
    assert files(out) == {"notes.txt"}


def test_a_list_says_what_is_left(out, opened):
    assert list_partials(out) == ()
    assert list_partials(out / "nowhere") == ()
    interrupted(opened)
    (found,) = list_partials(out)
    assert (found.sender, found.path, found.size_bytes, found.verified_bytes) == (
        SENDER,
        PATH,
        len(DATA),
        5 * CHUNK,
    )
    assert found.directory == out
    assert 0 <= found.age_s < 60


def test_cleaning_removes_what_is_old_enough_and_not_in_use(out, opened):
    interrupted(opened)
    assert clean_partials(out, older_than_s=3600).files == 0
    folder = opened()
    folder.find(PATH, len(DATA))
    cleaned = clean_partials(out)
    assert (cleaned.files, cleaned.in_use) == (0, 1)
    folder.close()
    cleaned = clean_partials(out)
    assert (cleaned.files, cleaned.bytes, cleaned.in_use) == (1, 5 * CHUNK, 0)
    assert not (out / PARTIALS_NAME).exists()
    assert clean_partials(out).files == 0


def test_a_great_many_partial_files_do_not_take_all_handles(out, opened, monkeypatch):
    monkeypatch.setattr("tallow_protocol.disk.partials.OPEN_PARTIALS", 3)
    folder = opened()
    for number in range(5):
        partial = folder.begin(f"{number}", len(DATA), CHUNK, (f"{number}",), resumes=False)
        partial.write_at(0, DATA[:CHUNK])
        partial.sync(0, digests(0, 1))
    folder.close()
    folder.root.close()
    folder = opened()
    found = [folder.find(f"{number}", len(DATA)) is not None for number in range(5)]
    assert found == [True, True, True, False, False]
    assert OPEN_PARTIALS >= 3


# -- any order of events ------------------------------------------------------------------------------------


class Crashes(RuleBasedStateMachine):
    """A file that is received with crashes: what the journal says is always verified, and at the end all is right."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.home = tempfile.TemporaryDirectory()
        self.out = Path(self.home.name)
        self.partial = None
        self.synced = 0
        self.start()

    def start(self):
        self.root = OutputRoot.open(self.out)
        self.folder = PartialFolder(self.root, SENDER)
        found = self.folder.find("report.iso", len(DATA))
        self.verified = 0 if found is None else found.count
        assert self.verified == self.synced
        assert found is None or found.digests == digests(0, self.verified)
        self.partial = self.folder.begin(
            "report.iso", len(DATA), CHUNK, ("report.iso",), resumes=found is not None
        )

    @precondition(lambda self: self.verified < COUNT)
    @rule(ahead=st.integers(0, 2))
    def write(self, ahead):
        index = self.verified
        for at in {index, min(index + ahead, COUNT - 1)}:
            self.partial.write_at(at * CHUNK, DATA[at * CHUNK : (at + 1) * CHUNK])
        self.verified += 1

    @rule()
    def sync(self):
        self.partial.sync(self.synced, digests(self.synced, self.verified - self.synced))
        self.synced = self.verified

    @rule(torn=st.integers(0, JOURNAL_RECORD_BYTES - 1))
    def crash(self, torn):
        """End as a killed process does: handles go, nothing is said; the journal may have a torn record more."""
        journal = self.out / PARTIALS_NAME / f"{partial_name(SENDER, 'report.iso', len(DATA))}.journal"
        for handle in (self.partial._data, self.partial._journal, self.folder._handle, self.root._descriptor):
            if handle >= 0:
                SYSTEM.close(handle)
        if journal.exists() and torn:
            with journal.open("ab") as tail:
                tail.write(os.urandom(torn))
        self.start()

    @rule()
    def fail(self):
        self.folder.close()
        self.root.close()
        self.start()

    @rule(anew=st.just(None))
    def begin_anew(self, anew):
        del anew
        self.partial.restart(JournalHeader(SENDER, "report.iso", len(DATA), CHUNK))
        self.synced = self.verified = 0

    @invariant()
    def no_final_name_before_the_end(self):
        assert not (self.out / "report.iso").exists()

    def teardown(self):
        for at in range(self.verified, COUNT):
            self.partial.write_at(at * CHUNK, DATA[at * CHUNK : (at + 1) * CHUNK])
        self.partial.commit(0o600, 0)
        assert (self.out / "report.iso").read_bytes() == DATA
        self.folder.close()
        self.root.close()
        assert not (self.out / PARTIALS_NAME).exists()
        self.home.cleanup()


Crashes.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCrashes = Crashes.TestCase
