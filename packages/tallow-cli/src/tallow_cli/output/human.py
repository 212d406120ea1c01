"""The screen for people: standard output holds what is copied, standard error all the rest."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from tallow_protocol import (
    Connected,
    OfferReceived,
    PathInUse,
    PeerIdentified,
    Rejoined,
    Rejoining,
    RelayBack,
    RelayTrouble,
    Resumed,
    ServerNotice,
    TextReceived,
    TransferDone,
    TransferProgress,
    TransferStarted,
    VerificationNeeded,
    Warned,
    WrongCode,
)

from tallow_cli.output import offer, routes, sizes
from tallow_cli.output.away import Away
from tallow_cli.output.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol import Event, PathKind

    from tallow_cli.errors import Failure
    from tallow_cli.output.interface import ReceiveLine, Sink

__all__ = ["Screen"]

_WAIT_S = 2.0
"""A wait that lasts longer than this is explained."""

_REDRAW_S = 0.1

_RATED_BYTES = 1_000_000
"""A smaller transfer's rate says more about the handshake than about the path."""

_DEFAULT_PAGE = 24


class Screen:
    """Shows one transfer.

    `sending` decides the words, `quiet` leaves only what must be read, `asks` says that somebody will be asked about
    the offer, which is then shown with the question; where it is `data`, it is what was asked for: listed whole, on
    standard output.
    """

    def __init__(
        self,
        stdout: Sink,
        stderr: Sink,
        *,
        sending: bool,
        quiet: bool = False,
        asks: bool = False,
        data: bool = False,
        width: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
        height: Callable[[], int] = lambda: shutil.get_terminal_size((80, _DEFAULT_PAGE)).lines,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._sending = sending
        self._quiet = quiet
        self._asks = asks
        self._data = data
        self._offered_files: int | None = None
        self._there_bytes = 0
        self._width = width
        self._height = height
        self._bold = (
            stderr.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )
        self._said: tuple[PathKind, int] | None = None
        self._relay_away = False
        self._away: Away | None = None
        self._connected_over = ""
        self._carried: list[str] = []
        self._bar: ProgressBar | None = None
        self._drawn = 0
        self._next_draw = float("-inf")
        self._wait: tuple[str, float] | None = None
        # The code is shown by code_ready().
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            WrongCode: self._wrong_code,
            Connected: self._connected,
            PathInUse: self._path_in_use,
            PeerIdentified: self._identified,
            VerificationNeeded: self._verify,
            OfferReceived: self._offered,
            TransferStarted: self._started,
            Resumed: self._resumed,
            TransferProgress: self._progress,
            TextReceived: self._text,
            TransferDone: self._done,
            Rejoining: self._rejoining,
            Rejoined: self._rejoined,
            RelayTrouble: self._relay_trouble,
            RelayBack: self._relay_back,
            ServerNotice: self._notice,
            Warned: self._warned,
        }

    @property
    def page(self) -> int:
        """Return how many entries of an offer fit on the screen together with the question."""
        return max(10, self._height() - 4)

    def code_ready(self, receive: ReceiveLine) -> None:
        """Print the code and the command for the other side, each plain on a line of standard output."""
        self.say("The code for this transfer:")
        self._stdout.line(receive.code)
        self.say("On the other side, run:")
        self._stdout.line(receive.command)
        if receive.fallback is not None:
            self.say("If that does not find this machine:")
            self._stdout.line(receive.fallback)
        if len(receive.peers) > 1:
            hosts = [peer.rpartition(":")[0] for peer in receive.peers[1:]]
            self.say(
                f"This machine is also {', '.join(hosts)}, if it is not reached under the first address."
            )
        self.say("Waiting for the other side. The code works once; Ctrl-C ends the wait.")

    def show(self, event: Event, now: float) -> None:
        """Show one event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, now)

    def offer(self, received: OfferReceived) -> bool:
        """Show an offer, also where quiet; return whether entries were only counted."""
        text = offer.summary(received, self.page)
        for line in text.lines:
            self.insist(line)
        return text.shortened

    def waiting(self, for_what: str | None, now: float) -> None:
        """Note what is waited for from `now` on, or that nothing is."""
        self._wait = None if for_what is None else (for_what, now)

    def tick(self, now: float) -> None:
        """Explain a wait that has become long; redraw the bar."""
        if self._wait is not None and now - self._wait[1] >= _WAIT_S:
            self.say(f"Waiting {self._wait[0]}.")
            self._wait = None
        if self._bar is not None or self._away is not None:
            self._draw(now)

    def looked(self) -> None:
        """Say what became of an offer that was only looked at."""
        self.say("Nothing was received, and the code is used up: ask the sender for a new one to take it.")

    def failed(self, failure: Failure) -> None:
        """Show the error that ends the command, and what to do next."""
        self._end_bar()
        if failure.code == "interrupted" and self._stderr.is_terminal:
            self._stderr.write("\r")  # over the ^C that the terminal has written
        for line in failure.lines():
            self._stderr.line(line)

    def close(self, now: float) -> None:
        """End an open bar, as it was drawn last."""
        del now
        self._end_bar()

    def say(self, line: str) -> None:
        """Show a line that quiet leaves out."""
        if not self._quiet:
            self.insist(line)

    def insist(self, line: str) -> None:
        """Show a line always."""
        self._erase_bar()
        self._stderr.line(line)

    def _connected(self, event: Connected, _now: float) -> None:
        way = routes.way(event.path)
        self._said = event.path, 1
        self._connected_over = event.path.value
        self.say(f"Connected {way}, sealed from end to end.")

    def _path_in_use(self, event: PathInUse, _now: float) -> None:
        self._carried.append(event.path.value)
        if self._bar is not None:
            self._bar.path = routes.label(event.path, event.connections)
        if self._said != (event.path, event.connections):
            self._said = event.path, event.connections
            self.say(routes.change(event.path, event.connections))
            self._next_draw = float("-inf")

    def _identified(self, event: PeerIdentified, _now: float) -> None:
        if event.known is not None:
            self.say(f"The other side is {event.known}.")

    def _wrong_code(self, event: WrongCode, _now: float) -> None:
        if event.left == 0:
            self.insist("Wrong code, or tampering: that was the last try, the code is burned.")
            return
        tries = "1 try is" if event.left == 1 else f"{event.left} tries are"
        if not self._sending:  # a search of the network met somebody who may not be the sender
            self.insist(f"Wrong code, or somebody else answered: {tries} left. Still looking for the sender.")
            return
        self.insist(f"Wrong code, or tampering: somebody tried, {tries} left. Still waiting.")

    def _verify(self, event: VerificationNeeded, _now: float) -> None:
        digits = self._strong(f"{event.digits[:4]} {event.digits[4:]}")
        self.insist(f"Compare these digits with the other side:  {digits}")

    def _relay_trouble(self, _event: RelayTrouble, _now: float) -> None:
        if not self._relay_away:  # it comes with every try
            self._relay_away = True
            self.say("The relay went away; trying again until it is back. The code stays the same.")

    def _relay_back(self, _event: RelayBack, _now: float) -> None:
        self._relay_away = False
        self.say("The relay is back. Waiting there as before.")

    def _rejoining(self, event: Rejoining, now: float) -> None:
        first, self._away = self._away is None, Away(event, now)
        if self._quiet or not self._stderr.is_terminal:
            if first:
                self.say(self._away.line(now))
        else:
            self._draw(now)

    def _rejoined(self, event: Rejoined, _now: float) -> None:
        self._away = None
        self.say(f"Connected again ({routes.way(event.path)}); going on where it stopped.")

    def _notice(self, event: ServerNotice, _now: float) -> None:
        self.say(f"The relay says: {event.text}")

    def _warned(self, event: Warned, _now: float) -> None:
        self.insist(f"tallow: warning: {event.text}")

    def _offered(self, event: OfferReceived, _now: float) -> None:
        self._offered_files = event.files
        if self._data:
            for line in offer.whole(event):
                self._stdout.line(line)
        elif not self._asks and not self._quiet:
            self.offer(event)

    def _started(self, event: TransferStarted, now: float) -> None:
        number = sizes.count(event.files, "file")
        if self._offered_files is not None and event.files < self._offered_files:
            number = f"{event.files:,} of {sizes.count(self._offered_files, 'file')}"
        amount = number if event.bytes is None else f"{number}, {sizes.size(event.bytes)}"
        self.say(f"{'Sending' if self._sending else 'Receiving'} {amount}.")
        if self._stderr.is_terminal and not self._quiet:
            self._bar = ProgressBar(event.bytes, self._carried[-1] if self._carried else "", now)

    def _resumed(self, event: Resumed, now: float) -> None:
        self._there_bytes = event.bytes
        percent = f"{100 * event.bytes // event.total} %"
        where = "on the other side" if self._sending else "here"
        if event.bytes == event.total:
            self.say(f"{'All of it' if event.path is None else event.path} is {where} already.")
        elif event.path is not None:
            self.say(f"Resuming {event.path} at {percent}.")
        else:
            there = f"{sizes.size(event.bytes)} of {sizes.size(event.total)}"
            self.say(f"Resuming at {percent}: {there} are {where} already.")
        if self._bar is not None:
            self._bar.resume(event.bytes, now)

    def _progress(self, event: TransferProgress, now: float) -> None:
        if self._bar is None:
            return
        self._bar.total = event.total
        self._bar.update(event.bytes, now)
        if now >= self._next_draw or event.complete:
            self._draw(now)

    def _text(self, event: TextReceived, _now: float) -> None:
        self._erase_bar()
        self._bar = None
        for line in event.lines:
            self._stdout.line(line)

    def _done(self, event: TransferDone, _now: float) -> None:
        self._erase_bar()
        self._bar = None
        verb = "Sent" if self._sending else "Received"
        took = f"{verb} {_amount(event.files, event.bytes)} in {sizes.duration(event.seconds)}"
        moved = event.bytes - self._there_bytes
        speed = sizes.rate(moved / event.seconds) if event.seconds > 0 and moved >= _RATED_BYTES else ""
        self.say(
            f"{', '.join(part for part in (took, speed, routes.journey(self._carried or [self._connected_over])) if part)}. All verified."
        )

    def _draw(self, now: float) -> None:
        self._next_draw = now + _REDRAW_S
        width = max(1, self._width())
        if self._away is not None and self._stderr.is_terminal and not self._quiet:
            line = self._away.line(now)[: width - 1]
        elif self._bar is not None:
            line = self._bar.line(now, width)
        else:
            return
        # Padded over the last line and no further: what the terminal echoes, ^C say, then stays on this line.
        self._stderr.write(f"\r{line:<{self._drawn}}")
        self._drawn = len(line)

    def _erase_bar(self) -> None:
        if self._drawn:
            self._stderr.write(f"\r{'':{self._drawn}}\r")
            self._drawn = 0

    def _end_bar(self) -> None:
        if self._drawn:
            self._stderr.write("\n")
        self._drawn = 0
        self._bar = None

    def _strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._bold else text


def _amount(files: int, size_bytes: int) -> str:
    return f"{sizes.count(files, 'file')}, {sizes.size(size_bytes)}"
