"""One run of a fault: real processes, one fault at a point that the seed chooses, and what must hold afterwards.

    async with Run("cut", seed=7, folder=folder) as run:
        await run.start(rate=12 * MIB)
        await run.at_point()
        ...the fault...
        await run.finish()
    run.result

After every run: under a final name stand the right bytes or nothing; journals say only what their data holds; exit codes and
events are the documented ones; no process, no socket of the relay and no stray file is left. What does not hold is a
`problem` of the result; a problem is printed with the command that repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import stat
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tallow_crypto import DIGEST_BYTES, chunk_digest
from tallow_protocol.core.journal import decode_journal

from tests.cli.test_jsonlines import faults as schema_faults
from tests.faults.middle import Middle, Sabotage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.netns.kit import Namespace

ROOT = Path(__file__).parents[2]
TALLOW = Path(sys.executable).with_name("tallow")
RELAY = Path(sys.executable).with_name("tallow-relay")
KIB, MIB = 1 << 10, 1 << 20
START_S, END_S, LEFT_S = 90.0, 120.0, 20.0
"""How long a step and an end may take. A soak runs beside other work at low priority: generous, and nothing waits for them
that goes well."""

PARTIALS = ".tallow-partial"
WAITS_AGAIN = "the code still works, and this side waits again"
MTIME_NS = 1_600_000_000_123_456_789

SCHEMA = json.loads((files("tallow_cli") / "events.schema.json").read_text("utf-8"))


def documented_codes() -> dict[int, set[str]]:
    """Return the table of docs/cli.md: exit code to the errors that may stand behind it."""
    page = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2]
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    return {int(number): set(re.findall(r"`(\w+)`", errors)) for number, errors in rows}


class UnusableError(Exception):
    """This machine cannot make this fault; the sentence says why."""


class Program:
    """A running program and the JSON lines that it has written."""

    def __init__(self, name: str, child: asyncio.subprocess.Process) -> None:
        self.name = name
        self.child = child
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.errors = ""
        self.killed: set[int] = set()
        self._changed = asyncio.Condition()
        self._tasks = [
            asyncio.create_task(work) for work in (self._read(), self._read_errors()) if self._has(work)
        ]

    def _has(self, work: Any) -> bool:
        pipe = self.child.stdout if work.__name__ == "_read" else self.child.stderr
        if pipe is None:
            work.close()
        return pipe is not None

    async def _read(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            self.lines.append(line.decode("utf-8", "replace"))
            async with self._changed:
                with contextlib.suppress(ValueError):  # the line that a kill cut off; the checks look at it
                    self.events.append(json.loads(line))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def _read_errors(self) -> None:
        assert self.child.stderr is not None
        self.errors = (await self.child.stderr.read()).decode("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self.child.returncode is None

    def last(self, name: str) -> dict[str, Any] | None:
        return next((event for event in reversed(self.events) if event["event"] == name), None)

    def find(self, name: str, at_least: int = 0) -> dict[str, Any] | None:
        """Return the last event of this name if its `bytes` have come so far."""
        event = self.last(name)
        return event if event is not None and event.get("bytes", 0) >= at_least else None

    async def until(self, name: str, at_least: int = 0, seconds: float = START_S) -> dict[str, Any] | None:
        """Wait for an event; None where the program ended without it. Raises AssertionError where neither came."""
        wanted = f"{name} of {at_least} bytes" if at_least else name
        await self._until(lambda: self.find(name, at_least) is not None, seconds, wanted)
        return self.find(name, at_least)

    async def until_alone(self, seconds: float | None) -> bool:
        """Wait until it says that the other side is gone and waited for; False where it ended without that."""

        def is_alone() -> bool:
            return any(
                event["event"] == "rejoining"
                or (event["event"] == "warning" and event["text"].endswith(WAITS_AGAIN))
                for event in self.events
            )

        await self._until(is_alone, seconds, "word of being alone")
        return is_alone()

    async def _until(self, there: Callable[[], bool], seconds: float | None, wanted: str) -> None:
        try:
            async with asyncio.timeout(seconds), self._changed:
                while not (there() or self._tasks[0].done()):
                    # The end of the output notifies under the lock just before its task is done.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.5)
        except TimeoutError:
            raise AssertionError(f"the {self.name} gave no {wanted} in {seconds} s") from None

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            self.killed.add(number)
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(number)

    async def end(self, seconds: float | None = END_S) -> int:
        """Wait for its own end and return its exit code. Raises AssertionError where it does not come."""
        try:
            async with asyncio.timeout(seconds):
                await self.child.wait()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            raise AssertionError(f"the {self.name} did not end in {seconds} s") from None
        assert self.child.returncode is not None
        return self.child.returncode

    async def close(self) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGCONT)
                self.child.kill()
        await self.child.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.child._transport.close()  # its pipes would warn of themselves otherwise

    @property
    def outcome(self) -> str:
        """Exit code and error, such as `10 peer_left`, `0` or `killed`."""
        code = self.child.returncode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        error = self.last("error")
        return f"{code} {error['error']}" if error is not None and code else f"{code}"


@dataclass
class Result:
    """What a run showed."""

    fault: str
    seed: int
    note: str = ""
    sender: str = ""
    receiver: str = ""
    bit: bool = True
    arrived: bool = False
    arrived_later: bool = False
    bytes_lost: int = 0
    resumed_bytes: int = 0
    rejoined: bool = False
    sentences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def repeat(self) -> str:
        return f"python -m tests.faults.soak --fault {self.fault} --seed {self.seed}"


class Run:
    """One seeded run in a folder of its own. `draw` is the only source of chance."""

    def __init__(self, fault: str, seed: int, folder: Path) -> None:
        self.result = Result(fault, seed)
        self.draw = random.Random(f"{fault} {seed}")
        self.folder = folder
        self.source = folder / "source"
        self.out = folder / "out"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.programs: list[Program] = []
        self.middles: list[Middle] = []
        self.versions: dict[str, list[bytes]] = {}
        self.total = 0
        self.paths: list[Path] = []
        self.must_arrive = False
        self.relay: Program | None = None
        self.relay_address = ""
        self.relay_sockets = 0
        self.sender: Program
        self.receiver: Program
        self.hosts: dict[str, Namespace] = {}
        self.environment: dict[str, dict[str, str]] = {}
        self.cleanups: list[Callable[[], None]] = []
        self.count_sockets = True
        self.may_leave: set[str] = set()
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for program in reversed(self.programs):
            await program.close()
        for middle in self.middles:
            await middle.close()
        for cleanup in reversed(self.cleanups):
            cleanup()
        self.result.seconds = time.monotonic() - self._began
        shutil.rmtree(self.folder, ignore_errors=True)

    def problem(self, sentence: str) -> None:
        self.result.problems.append(sentence)

    # --- what is sent ------------------------------------------------------------------------------------------------

    def make_source(self, mib: int, *, tree: bool = True) -> None:
        """A file of `mib` MiB, and with `tree` folders of smaller ones: packed ones, chunked ones, empty ones."""
        self.source.mkdir()
        chance = random.Random(self.draw.random())
        (self.source / "big.bin").write_bytes(chance.randbytes(mib * MIB))
        if tree:
            for number in range(60):
                below = self.source / "tree" / f"d{number % 7}"
                below.mkdir(parents=True, exist_ok=True)
                size = chance.choice((0, 1, 100, 5000, 70_000)) if number % 20 else 300 * KIB + number
                (below / f"f{number}").write_bytes(chance.randbytes(size))
            (self.source / "tree" / "empty").mkdir()
        for number, path in enumerate(sorted(self.source.rglob("*"), reverse=True)):
            os.utime(path, ns=(MTIME_NS, MTIME_NS + number * 1_000_003))
        self.note_versions()
        self.paths = sorted(self.source.iterdir())

    def note_versions(self) -> None:
        """Remember what the files hold now: each of these versions is right under the final name, a mixture is not."""
        for path in self.source.rglob("*"):
            if path.is_file():
                self.versions.setdefault(path.relative_to(self.source).as_posix(), []).append(
                    path.read_bytes()
                )
        self.total = sum(len(known[-1]) for known in self.versions.values())

    # --- processes ---------------------------------------------------------------------------------------------------

    async def spawn(self, name: str, *words: object, prefix: Sequence[str] = (), **pipes: Any) -> Program:
        """Start a program with a home of its own, which stays its own when it is started again."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLOW_")}
        environment |= {"TALLOW_HOME": str(self.folder / f"home-{name}"), "TMPDIR": str(self.temporary)}
        environment |= self.environment.get(name, {})
        command = [*prefix, *map(str, words)]
        if (host := self.hosts.get(name)) is not None:
            command = host.command(*command)
        pipes = {
            "stdin": asyncio.subprocess.DEVNULL,
            "stdout": asyncio.subprocess.PIPE,
            "stderr": asyncio.subprocess.PIPE,
        } | pipes
        child = await asyncio.create_subprocess_exec(*command, env=environment, limit=8 * MIB, **pipes)
        self.programs.append(program := Program(name, child))
        return program

    async def start_relay(self, listen: str = "127.0.0.1:0") -> None:
        """Start the relay, or start it again where it was."""
        self.relay = await self.spawn(
            "relay", RELAY, "serve", "--listen", listen, "--json", "--state", self.folder / "relay-state"
        )
        line = await self.relay.until("listening")
        if line is None:
            raise AssertionError(f"no relay: {self.relay.errors}")
        self.relay_address = line["listen"]
        self.pin = line["fingerprint"]
        self.relay_sockets = self.sockets_of_relay()

    def sockets_of_relay(self) -> int:
        assert self.relay is not None
        count = 0
        folder = Path(f"/proc/{self.relay.child.pid}/fd")
        with contextlib.suppress(OSError):
            for link in folder.iterdir():
                with contextlib.suppress(OSError):
                    count += str(link.readlink()).startswith("socket:")
        return count

    async def middle(self, target: str, **options: Any) -> str:
        """Put a middle of ours before HOST:PORT and return its own address."""
        self.middles.append(middle := Middle(target, **options))
        await middle.start()
        return middle.address

    async def start(
        self,
        *,
        direct: bool = False,
        rate: float = 12.0 * MIB,
        words: Sequence[object] = (),
        sabotage: Sabotage | None = None,
        tls: bool = False,
        mib: int = 16,
        tree: bool = True,
        receiver: dict[str, Any] | None = None,
        sender: dict[str, Any] | None = None,
    ) -> None:
        """Begin a transfer through a middle of `rate` bytes a second: on the sender's way to the relay, or direct.

        `receiver` and `sender` go to spawn (prefix, pipes).
        """
        if not self.paths:
            self.make_source(mib, tree=tree)
        if direct:
            relay: list[str] = []
        else:
            if self.relay is None:
                await self.start_relay()
            address = await self.middle(self.relay_address, rate=rate, sabotage=sabotage, tls=tls)
            relay = ["--relay", f"{address}#{self.middles[-1].pin or self.pin}"]
            words = ("--relay-only", *(("--encrypt-twice",) if tls else ()), *words)
        self.sender = await self.spawn(
            "sender", TALLOW, "send", "--json", *relay, *words, *self.paths, **(sender or {})
        )
        ready = await self.sender.until("code")
        if ready is None:
            return
        if direct:
            target = "127.0.0.1:" + ready["peer"].rpartition(":")[2]
            where = ["--peer", await self.middle(target, rate=rate, sabotage=sabotage)]
        else:
            where = ["--relay", f"{self.relay_address}#{self.pin}"]
        self.code = ready["code"]
        self.receiving = [*where, *words]
        self.receiver = await self.receive(**(receiver or {}))

    async def receive(self, name: str = "receiver", out: Path | None = None, **options: Any) -> Program:
        return await self.spawn(
            name, TALLOW, "receive", "--json", *self.receiving, "--yes", "--out", out or self.out, self.code, **options
        )  # fmt: skip

    async def at_point(self, low: float = 0.05, high: float = 0.9) -> None:
        """Wait until the receiver has verified a seeded part of all bytes, or ended."""
        part = self.draw.uniform(low, high)
        self.result.note = f"{self.result.note} at {part:.0%}".strip()
        await self.receiver.until("progress", int(part * self.total))
        self.must_run()

    def must_run(self) -> None:
        """The fault comes now: it does not bite where a side has ended or all is there."""
        ended = not self.sender.running or not self.receiver.running
        if ended or self.receiver.find("progress", self.total) is not None:
            self.did_not_bite("the transfer was over before the fault")

    def did_not_bite(self, why: str) -> None:
        """Fail: this run says nothing about the fault."""
        self.result.bit = False
        self.problem(f"did not bite: {why}")

    # --- the end -----------------------------------------------------------------------------------------------------

    async def finish(self, *, hopeless: bool = False, seconds: float = END_S) -> None:
        """Wait for both ends, then look at everything.

        `hopeless`: the other side never comes back. A side that waits for it is interrupted once it says so.
        """
        sides = (self.sender, self.receiver)
        await asyncio.gather(*(self._ended(side, seconds, hopeless=hopeless) for side in sides))
        if not self.result.sender:  # of the first transfer, where a second goes on
            self.result.sender, self.result.receiver = self.sender.outcome, self.receiver.outcome
        await self.check()

    async def _ended(self, side: Program, seconds: float, *, hopeless: bool) -> None:
        try:
            async with asyncio.timeout(seconds):
                if hopeless and side.running and await side.until_alone(None):
                    side.send(signal.SIGINT)
                await side.end(None)
        except TimeoutError:
            self.problem(f"the {side.name} did not end in {seconds:.0f} s; last: {side.lines[-2:]}")
            side.send(signal.SIGKILL)
            await side.child.wait()

    async def again(self) -> None:
        """Send the same paths under a new code, with nothing in between: all of it must arrive."""
        await self.start(direct=True, rate=0)
        await self.finish()
        codes = self.sender.outcome, self.receiver.outcome
        resumed = self.receiver.last("resumed")
        self.result.resumed_bytes = resumed["bytes"] if resumed is not None else 0
        self.result.arrived_later = codes == ("0", "0")
        if not self.result.arrived_later:
            self.problem(f"sent again, it ended with {codes}: {self.sender.errors} {self.receiver.errors}")

    async def check(self) -> None:
        """Note everything that does not hold."""
        both_said_done = self.sender.child.returncode == 0, self.receiver.child.returncode == 0
        self.result.arrived = all(both_said_done) and (self.result.sender, self.result.receiver) == ("0", "0")
        self.result.rejoined |= any(side.last("rejoined") for side in (self.sender, self.receiver))
        self.check_files(complete=any(both_said_done))
        self.check_journals()
        for side in (self.sender, self.receiver):
            self.check_side(side)
        if self.must_arrive and not self.result.arrived:
            self.problem(f"it did not arrive: {self.result.sender}, {self.result.receiver}")
        await self.check_leftovers()

    def check_files(self, *, complete: bool) -> None:
        """Right bytes or nothing under each final name; all of them once somebody said that all arrived."""
        found: set[str] = set()
        # What a killed receiver left goes with the next one that receives into this folder.
        killed = signal.SIGKILL in self.receiver.killed
        for path in self.out.rglob("*") if self.out.exists() else ():
            name = path.relative_to(self.out).as_posix()
            top = name.partition("/")[0]
            if name in self.may_leave:
                continue
            if top.startswith(".tallow-"):
                if top != PARTIALS and "/" not in name and not killed:
                    self.problem(f"a folder of an unfinished transfer is left: {name}")
                continue
            if path.is_dir():
                continue
            found.add(name)
            data, known = path.read_bytes(), self.versions.get(name)
            if known is None:
                self.problem(f"a file of no known name: {name}")
            elif data not in known:
                closest = known[-1]
                wrong = sum(a != b for a, b in zip(data, closest, strict=False)) + abs(
                    len(data) - len(closest)
                )
                self.result.bytes_lost += wrong
                self.problem(f"{wrong} wrong bytes under the final name {name}")
        missing = self.versions.keys() - found
        if complete and missing:
            self.result.bytes_lost += sum(len(self.versions[name][-1]) for name in missing)
            self.problem(f"a side said that all arrived, and these are missing: {sorted(missing)[:5]}")
        if complete and not missing:
            self.check_attributes()

    def check_attributes(self) -> None:
        for path in self.source.rglob("*"):
            twin = self.out / path.relative_to(self.source)
            if not twin.exists() or path.read_bytes() != twin.read_bytes() if path.is_file() else False:
                continue  # another version
            left, right = path.stat(), twin.stat()
            if (left.st_mode, left.st_mtime_ns) != (right.st_mode, right.st_mtime_ns):
                self.problem(f"mode or time of {twin.name} differ")

    def check_journals(self) -> None:
        """A journal says only what its data holds, and that is a part of what was sent."""
        folder = self.out / PARTIALS
        if not folder.exists():
            return
        if folder.stat().st_mode & 0o777 != 0o700:
            self.problem(f"{PARTIALS} is {stat.filemode(folder.stat().st_mode)}")
        for path in folder.glob("*.journal"):
            journal = decode_journal(path.read_bytes())
            if journal is None:
                if path.stat().st_size and signal.SIGKILL not in self.receiver.killed:
                    self.problem("a journal that says nothing")
                continue
            data = path.with_suffix(".data").read_bytes()
            size = journal.header.chunk_size
            known = self.versions.get(journal.header.path, [])
            for index in range(journal.count):
                piece = data[index * size : min((index + 1) * size, journal.header.size)]
                wanted = journal.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
                if chunk_digest(piece) != wanted:
                    self.result.bytes_lost += len(piece)
                    self.problem(f"chunk {index} of {journal.count} in a journal is not what the data holds")
                elif not any(piece == version[index * size : (index + 1) * size] for version in known):
                    self.problem(f"chunk {index} of {journal.count} in a journal was never sent")

    def check_side(self, side: Program) -> None:
        code = side.child.returncode or 0
        documented = documented_codes()
        if "Traceback" in side.errors or "Traceback" in "".join(side.lines):
            self.problem(f"the {side.name} shows a traceback: {side.errors[-1500:]}")
        if code < 0:
            if -code not in side.killed or -code != signal.SIGKILL:
                self.problem(f"the {side.name} died of {signal.Signals(-code).name}")
        elif code == 1 or code not in documented:
            self.problem(f"the {side.name} ended with {code}: {side.errors[-500:]}")
        self._check_error(side, code, documented)
        self._check_lines(side, code)

    def _check_error(self, side: Program, code: int, documented: dict[int, set[str]]) -> None:
        error = side.last("error")
        if code > 0 and side.child.stdout is not None and code != 141:
            if error is None or error is not side.events[-1]:
                self.problem(f"the {side.name} ended with {code} and no error event at the end")
            elif error["error"] not in documented[code]:
                self.problem(
                    f"the {side.name} ended with {code}, whose errors do not include {error['error']}"
                )
            else:
                self.result.sentences.append(f"{side.name}: {error['message']}")

    def _check_lines(self, side: Program, code: int) -> None:
        for number, line in enumerate(side.lines):
            try:
                wrong = schema_faults(SCHEMA, json.loads(line))
            except ValueError:
                if code >= 0 or number < len(side.lines) - 1:
                    self.problem(f"the {side.name} wrote a line that is no JSON: {line[:200]}")
            else:
                if wrong:
                    self.problem(f"an event is not of the schema: {line[:300]}")

    async def check_leftovers(self) -> None:
        """No process of this run, no socket at the relay, nothing in the temporary folder."""
        alive = {
            program.child.pid for program in self.programs if program.running and program is not self.sender
        }
        for pid in processes_of(self.folder) - alive:
            self.problem(f"process {pid} is left")
        if found := list(self.temporary.iterdir()):
            self.problem(f"left in the temporary folder: {found}")
        if self.relay is not None and self.relay.running:
            await self._check_relay()

    async def _check_relay(self) -> None:
        for middle in self.middles:
            await middle.drop_all()
        end = time.monotonic() + LEFT_S
        while self.count_sockets and self.sockets_of_relay() > self.relay_sockets:
            if time.monotonic() > end:
                self.problem(
                    f"the relay holds {self.sockets_of_relay() - self.relay_sockets} sockets too many"
                )
                return
            await asyncio.sleep(0.1)

    async def end_relay(self) -> None:
        """The relay ends at SIGTERM with 0."""
        if self.relay is not None and self.relay.running:
            self.relay.send(signal.SIGTERM)
            try:
                code = await self.relay.end(30)
            except AssertionError as error:
                self.problem(f"{error} after SIGTERM")
            else:
                if code != 0 or "Traceback" in self.relay.errors + "".join(self.relay.lines):
                    self.problem(f"the relay ended with {code}: {self.relay.errors[-800:]}")


def processes_of(folder: Path) -> set[int]:
    """Return the processes whose home lies in this folder."""
    wanted = f"TALLOW_HOME={folder}/".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
    return found
