"""Runs one transfer: the session's events to the output, the person's answers and signals to the session."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tallow_protocol import (
    CodeReady,
    Connected,
    OfferedKind,
    OfferReceived,
    OnConflict,
    PathInUse,
    PathLimit,
    PeerCancelledError,
    PeerLeftError,
    ProtocolError,
    Receiver,
    Sender,
    TransferDone,
    TransferProgress,
    TransferStarted,
    VerificationNeeded,
)

from tallow_cli.errors import CliError, OfferRefusedError, OutputClosedError, StoppedError, UsageError
from tallow_cli.output.interface import ReceiveLine
from tallow_cli.output.offer import STANDARD_OUTPUT
from tallow_cli.prompt import is_yes
from tallow_cli.selection import by_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tallow_protocol import Code, Event, PeerText

    from tallow_cli.output.human import Screen
    from tallow_cli.output.interface import Output
    from tallow_cli.prompt import Terminal
    from tallow_cli.sources import ToSend
    from tallow_cli.wiring import Wiring

__all__ = ["Person", "Wishes", "receive", "run", "send"]

_TICK_S = 0.5

_LAST_STANDARD_DESCRIPTOR = 2

_RECEIVERS_NEXT_STEP: dict[str, tuple[str, ...]] = {
    "burned": ("ask the sender for a new code",),
    "conflict": ("choose another folder with --out, or say with --on-conflict what is to be done",),
    "in_use": ("if that was not you, ask the sender for a new code",),
}
"""Where the same error asks another thing of the receiver than of the sender, whose words the error has."""

_GO_ON = ("what arrived is kept: send the same paths again, into the same folder, to go on",)

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


_CONFLICT_ANSWERS = {
    word: policy
    for policy in (OnConflict.SKIP, OnConflict.RENAME, OnConflict.OVERWRITE, OnConflict.NEWER)
    for word in (policy.value, policy.value[0])
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the receiver's options say about the answer to an offer. `on_conflict` None: ask if somebody is there."""

    yes: bool = False
    dry_run: bool = False
    select: tuple[str, ...] = ()
    on_conflict: OnConflict | None = None
    stdout: bool = False
    show_text: bool = True


class Person:
    """Who answers questions: at this terminal, looking at this screen."""

    def __init__(self, terminal: Terminal, screen: Screen) -> None:
        self._terminal = terminal
        self._screen = screen

    async def accepts(self, offer: OfferReceived, out: str, *, there_bytes: int = 0) -> frozenset[int] | None:
        """Show the offer and return the answer: None for all of it, the chosen entries, empty for a no.

        `there_bytes` are there from a transfer that was interrupted. `l` lists all entries and asks again, `s` asks which ones.
        """
        from tallow_cli.output.offer import full_list, numbered_list, question
        from tallow_cli.selection import by_numbers

        shortened = self._screen.offer(offer)
        while True:
            asked = question(offer, out, shortened=shortened, there_bytes=there_bytes)
            answer = (await self._terminal.ask(asked)).strip().lower()
            if shortened and answer == "l":
                for line in full_list(offer.entries):
                    self._screen.insist(line)
            elif offer.files > 1 and answer == "s":
                for line in numbered_list(offer.entries):
                    self._screen.insist(line)
                numbers = await self._terminal.ask("Which ones (such as 1 3-5)? ")
                chosen = by_numbers(offer.entries, numbers)
                if chosen:
                    return chosen
                self._screen.insist("These are no numbers of the list.")
            else:
                return None if is_yes(answer) else frozenset()

    async def resolves(self, taken: Sequence[PeerText]) -> OnConflict | None:
        """Return what is to be done about names that are taken; None to write nothing."""
        self._screen.insist("These exist here already:")
        for name in taken[:20]:
            self._screen.insist(f"  {name}")
        if len(taken) > len(taken[:20]):
            self._screen.insist(f"  and {len(taken) - 20} more")
        asked = "Skip, rename, overwrite, take what is newer, or cancel? [s/r/o/n/C] "
        answer = (await self._terminal.ask(asked)).strip().lower()
        return _CONFLICT_ANSWERS.get(answer)

    async def sees_the_same_digits(self) -> bool:
        """Return whether the other side shows the same digits."""
        return is_yes(await self._terminal.ask("Does the other side show the same digits? [y/N] "))


def run(transfer: Coroutine[Any, Any, None]) -> None:
    """Run `transfer` in an event loop of its own: uvloop's where it exists, since it moves twice the bytes a second."""
    _hold_standard_descriptors()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    # Measured for 1 GiB direct over TCP on two cores: 0.9 GB/s and 2.7 CPU-s against 0.45 GB/s and 4.1 CPU-s.
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(transfer)


def _hold_standard_descriptors() -> None:
    """Open the null device in place of standard streams that were closed: the loop's own sockets must not take theirs."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_DESCRIPTOR:
        pass
    os.close(descriptor)


async def send(
    source: ToSend,
    *,
    code: Code | None,
    words: int,
    wiring: Wiring,
    person: Person | None,
    output: Output,
) -> None:
    """Send what was asked for; raises the typed error that ended it, StoppedError after a signal."""
    stream = None
    if source.stream_name is not None:  # its imports would hold up the code of everything else
        from tallow_protocol.aio.inputs import StreamInput

        stream = StreamInput(0, source.stream_name)
    sender = Sender(
        source.paths, code=code, words=words, text=source.text, stream=stream, options=wiring.options
    )
    with _Attention(
        sender.cancel,
        output,
        before_data=_before_data(wiring),
        before_done="for the other side to confirm the last file",
        keeps=bool(source.paths) and wiring.options.identity is not None,
    ) as attention:
        attention.wait(f"for {wiring.meeting_place}" if wiring.relays else "for the list of what is sent")
        async with sender:
            attention.entered()
            async for event in sender:
                if isinstance(event, CodeReady):
                    attention.wait(None)
                    output.code_ready(_receive_line(event, wiring))
                    continue
                attention.show(event)
                if isinstance(event, Connected):
                    attention.wait("for the other side to accept the offer")
                elif isinstance(event, VerificationNeeded):
                    attention.compare(event, sender.confirm, person)


async def receive(
    code: Code,
    out: str,
    *,
    peer: str | None,
    wishes: Wishes,
    wiring: Wiring,
    person: Person | None,
    output: Output,
) -> None:
    """Receive under `code` into the folder `out`; raises as `send` does, OfferRefusedError after a no."""
    receiver = Receiver(
        code,
        out,
        peer=peer,
        on_conflict=wishes.on_conflict or OnConflict.ASK,
        output=1 if wishes.stdout else None,
        show_text=wishes.show_text,
        options=wiring.options,
    )
    refused: list[CliError | None] = []

    with _Attention(
        receiver.cancel,
        output,
        before_data=_before_data(wiring),
        before_done="until all of it is on the disk, and the other side knows",
        keeps=not wishes.stdout,
    ) as attention:
        attention.wait(f"for {wiring.meeting_place if peer is None else peer}")
        try:
            async with receiver:
                attention.entered()
                async for event in receiver:
                    attention.show(event)
                    if isinstance(event, Connected):
                        attention.wait("for the offer")
                    elif isinstance(event, OfferReceived):
                        attention.wait(None)
                        attention.ask(_answer(receiver, event, out, wishes, person=person, refused=refused))
                    elif isinstance(event, VerificationNeeded):
                        attention.compare(event, receiver.confirm, person)
        except ProtocolError as error:
            error.hints = _RECEIVERS_NEXT_STEP.get(error.code, error.hints)
            if error.code == OutputClosedError.code:
                raise OutputClosedError(str(error)) from None
            if not refused:
                raise
        if refused and refused[0] is not None:
            raise refused[0]
        if refused:
            output.looked()


class _Attention:
    """What goes on beside a session: ticks for the output, questions, signals. All of it ends with the scope."""

    def __init__(
        self,
        cancel: Callable[[], None],
        output: Output,
        *,
        before_data: str | None = None,
        before_done: str | None = None,
        keeps: bool = False,
    ) -> None:
        """Say what may have to be waited for before the first data and after the last, and whether a part is kept."""
        self._cancel = cancel
        self._before_data = before_data
        self._before_done = before_done
        self._keeps = keeps
        self._moved = False
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._signals = 0
        self._heard: list[signal.Signals] = []
        self._entered = False
        self._fault: BaseException | None = None
        self._main: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        self._main = asyncio.current_task()
        self._heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in self._heard:  # what nohup, or a shell for its background, lets us ignore stays ignored
            with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends the loop instead
                self._loop.add_signal_handler(number, self._on_signal)
        self.ask(self._ticks())
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for task in self._tasks:
            task.cancel()
        for number in self._heard:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_signal_handler(number)
        self._output.close(self._loop.time())
        if self._fault is not None and error is not None:
            raise self._fault from None  # what a question or the output ran into, not the cancelling it led to
        if self._signals and error is not None:
            raise StoppedError("interrupted", hints=_GO_ON if self._moved else ()) from None
        if self._moved and isinstance(error, PeerCancelledError | PeerLeftError):
            error.hints = _GO_ON

    def entered(self) -> None:
        """Note that the session runs: from now on it can be cancelled, and tells its peer."""
        self._entered = True

    def ask(self, question: Coroutine[Any, Any, None]) -> None:
        """Run `question` beside the events, until it is answered or the session ends."""
        task = self._loop.create_task(question)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def show(self, event: Event) -> None:
        """Hand an event to the output, and note what it ended the wait for."""
        now = self._loop.time()
        if isinstance(event, TransferStarted):
            self.wait(self._before_data)
        elif isinstance(event, PathInUse | TransferDone):
            self.wait(None)
        self._output.show(event, now)
        if isinstance(event, TransferProgress):
            self._moved = self._keeps and event.bytes > 0
        if isinstance(event, TransferProgress) and event.complete:
            self.wait(self._before_done)

    def compare(
        self, event: VerificationNeeded, confirm: Callable[[bool], None], person: Person | None
    ) -> None:
        """Have a person compare the digits where this side asked for it; else the other side does."""
        if not event.must_confirm:
            self.wait("for the other side to compare the digits")
        elif person is not None:
            self.wait(None)
            self.ask(_confirm(confirm, person))

    def wait(self, for_what: str | None) -> None:
        """Note what is waited for from now on."""
        self._output.waiting(for_what, self._loop.time())

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._output.tick(self._loop.time())

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
            self._cancel()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1 and self._entered:
            self.wait("for the other side to be told; Ctrl-C again ends at once")
            self._cancel()
        elif self._main is not None:
            self._main.cancel()


def _before_data(wiring: Wiring) -> str | None:
    """Return what may have to be waited for between the yes and the first data."""
    return "for a direct path to the other side" if wiring.options.paths is PathLimit.DIRECT_ONLY else None


async def _confirm(confirm: Callable[[bool], None], person: Person) -> None:
    confirm(await person.sees_the_same_digits())


async def _answer(
    receiver: Receiver,
    offer: OfferReceived,
    out: str,
    wishes: Wishes,
    *,
    person: Person | None,
    refused: list[CliError | None],
) -> None:
    """Say yes or no to the offer; why not goes to `refused`, None where a look was all that was wanted."""
    if wishes.dry_run:
        refused.append(None)
        receiver.refuse(looked=True)
        return
    try:
        chosen = await _choice(receiver, offer, out, wishes, person)
        policy = None
        if person is not None and not wishes.yes and wishes.on_conflict in {None, OnConflict.ASK}:
            taken = await receiver.conflicts()
            policy = await person.resolves(taken) if taken else None
            if taken and policy is None:
                raise OfferRefusedError("you refused the offer; nothing was written")
        receiver.accept(chosen=chosen, on_conflict=policy)
    except CliError as reason:
        refused.append(reason)
        receiver.refuse(unattended=person is None and not wishes.yes)


async def _choice(
    receiver: Receiver, offer: OfferReceived, out: str, wishes: Wishes, person: Person | None
) -> frozenset[int] | None:
    """Return the numbers of the entries that are taken, None for all. Raises what the offer is refused with."""
    chosen: frozenset[int] | None = None
    if wishes.select:
        chosen = by_patterns(offer.entries, wishes.select)
        if not chosen:
            raise UsageError("nothing in the offer matches --select; nothing was written")
    if wishes.stdout:
        chosen = chosen or frozenset(range(len(offer.entries)))
        files = [number for number in chosen if offer.entries[number].kind is OfferedKind.FILE]
        if len(files) != 1:
            raise UsageError(
                f"--stdout takes one file, and the offer has {len(files)}",
                hints=("choose one with --select, or receive them into a folder",),
            )
        chosen = frozenset(files)
    if wishes.yes:
        return chosen
    if person is None:
        raise OfferRefusedError(
            "the offer was refused, because nobody could be asked",
            hints=("run it in a terminal, or add --yes to take what the holder of the code offers",),
        )
    shown = offer if chosen is None else _part_of(offer, chosen)
    there = await receiver.unfinished_bytes() if chosen is None else 0
    picked = await person.accepts(shown, STANDARD_OUTPUT if wishes.stdout else out, there_bytes=there)
    if picked is None:
        return chosen
    if not picked:
        raise OfferRefusedError("you refused the offer; nothing was written")
    return picked if chosen is None else frozenset(sorted(chosen)[number] for number in picked)


def _part_of(offer: OfferReceived, chosen: frozenset[int]) -> OfferReceived:
    entries = tuple(offer.entries[number] for number in sorted(chosen))
    files = [entry for entry in entries if entry.kind is OfferedKind.FILE]
    return OfferReceived(entries, len(files), sum(entry.size_bytes or 0 for entry in files))


def _receive_line(ready: CodeReady, wiring: Wiring) -> ReceiveLine:
    code = ready.code.reveal()
    fallback = None if ready.peer is None else wiring.receive_command(code, ready.peer)
    return ReceiveLine(code, wiring.receive_command(code), fallback, ready.peers)
