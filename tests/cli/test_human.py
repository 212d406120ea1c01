"""The screen for people: what is copied on standard output, the rest on standard error."""

from __future__ import annotations

import pytest
from tallow_cli.errors import Failure, OutputClosedError
from tallow_cli.output.human import Screen
from tallow_cli.output.interface import ReceiveLine, Sink
from tallow_net import PeerText
from tallow_protocol import (
    Connected,
    PathInUse,
    PathKind,
    RelayBack,
    RelayTrouble,
    Resumed,
    TransferDone,
    TransferProgress,
    TransferStarted,
    VerificationNeeded,
    Warned,
    WrongCode,
)

from tests.cli.support import file_entry, offer_of, sinks

LINE = ReceiveLine(
    "4821-a-b-c",
    "tallow receive 4821-a-b-c",
    "tallow receive --peer 10.0.0.5:4000 4821-a-b-c",
    ("10.0.0.5:4000", "[fd00::1]:4000"),
)


def screen_of(*, terminal=False, sending=True, quiet=False, width=100):
    out, err, stdout, stderr = sinks(terminal=terminal)
    screen = Screen(stdout, stderr, sending=sending, quiet=quiet, width=lambda: width, height=lambda: 24)
    return out, err, screen


def test_standard_output_holds_the_code_and_the_command_and_nothing_else():
    out, err, screen = screen_of()
    screen.code_ready(LINE)
    screen.show(Connected(PathKind.DIRECT_TCP), 0.0)
    assert out.getvalue().splitlines() == [LINE.code, LINE.command, LINE.fallback]
    assert "[fd00::1]" in err.getvalue()


def test_with_a_relay_there_is_one_command_alone():
    out, err, screen = screen_of()
    screen.code_ready(ReceiveLine("4821-a-b-c", "tallow receive 4821-a-b-c", None, ()))
    assert out.getvalue().splitlines() == ["4821-a-b-c", "tallow receive 4821-a-b-c"]
    assert "If that" not in err.getvalue()


def test_quiet_leaves_the_code_and_errors():
    out, err, screen = screen_of(quiet=True, terminal=True)
    screen.code_ready(LINE)
    screen.show(Connected(PathKind.DIRECT_TCP), 0.0)
    screen.show(TransferStarted(1, 10), 0.0)
    screen.show(TransferProgress(5, 10, 0, 1), 0.5)
    screen.show(TransferDone(1, 10, 1.0), 1.0)
    assert err.getvalue() == ""
    screen.failed(Failure("no_space", "the disk is full", ("make room",)))
    assert out.getvalue().splitlines() == [LINE.code, LINE.command, LINE.fallback]
    assert err.getvalue() == "tallow: error: the disk is full\nhint: make room\n"


def test_a_wrong_code_is_said_at_once_with_the_tries_left():
    _out, err, screen = screen_of()
    screen.show(WrongCode(2), 0.0)
    screen.show(WrongCode(1), 0.0)
    screen.show(WrongCode(0), 0.0)
    assert err.getvalue().splitlines() == [
        "Wrong code, or tampering: somebody tried, 2 tries are left. Still waiting.",
        "Wrong code, or tampering: somebody tried, 1 try is left. Still waiting.",
        "Wrong code, or tampering: that was the last try, the code is burned.",
    ]


def test_a_receiver_that_searches_is_told_that_somebody_else_may_have_answered():
    _out, err, screen = screen_of(sending=False)
    screen.show(WrongCode(2), 0.0)
    assert err.getvalue() == (
        "Wrong code, or somebody else answered: 2 tries are left. Still looking for the sender.\n"
    )


def test_a_wait_is_explained_after_two_seconds_and_once():
    _out, err, screen = screen_of()
    screen.waiting("for the relay r:443", 10.0)
    screen.tick(11.9)
    assert err.getvalue() == ""
    screen.tick(12.0)
    screen.tick(13.0)
    assert err.getvalue() == "Waiting for the relay r:443.\n"


def test_a_wait_that_ended_is_not_explained():
    _out, err, screen = screen_of()
    screen.waiting("for the offer", 0.0)
    screen.waiting(None, 1.0)
    screen.tick(9.0)
    assert err.getvalue() == ""


def test_without_a_terminal_there_is_a_line_at_the_start_and_at_the_end_and_no_bar():
    _out, err, screen = screen_of(sending=False)
    screen.show(Connected(PathKind.RELAY_TCP), 0.0)
    screen.show(TransferStarted(3, 12_400_000), 0.0)
    screen.show(TransferProgress(6_000_000, 12_400_000, 1, 3), 0.5)
    screen.tick(0.9)
    screen.show(TransferDone(3, 12_400_000, 0.8), 1.0)
    assert err.getvalue().splitlines() == [
        "Connected through the relay over TCP, sealed from end to end.",
        "Receiving 3 files, 12.4 MB.",
        "Received 3 files, 12.4 MB in 0.8 s, 15.5 MB/s, relay-tcp. All verified.",
    ]
    assert "\r" not in err.getvalue()


def test_on_a_terminal_the_bar_is_drawn_over_itself_and_gone_at_the_end():
    _out, err, screen = screen_of(terminal=True, width=60)
    screen.show(Connected(PathKind.DIRECT_TCP), 0.0)
    screen.show(TransferStarted(1, 1000), 0.0)
    screen.show(TransferProgress(500, 1000, 0, 1), 1.0)
    bar = err.getvalue().rpartition("\r")[2]
    assert bar.startswith(" 50%")
    screen.show(TransferDone(1, 1000, 1.0), 1.5)
    assert err.getvalue().endswith(
        f"\r{'':{len(bar)}}\rSent 1 file, 1.0 KB in 1.0 s, direct-tcp. All verified.\n"
    )


def test_a_change_of_path_is_said_once_and_the_bar_goes_on_below_it():
    _out, err, screen = screen_of(terminal=True)
    screen.show(Connected(PathKind.RELAY_QUIC), 0.0)
    screen.show(TransferStarted(1, 400_000_000), 0.0)
    screen.show(PathInUse(PathKind.RELAY_QUIC, plain=False, connections=1), 0.0)
    screen.show(TransferProgress(100_000_000, 400_000_000, 0, 1), 1.0)
    assert "relay-quic 100 MB/s" in err.getvalue().rpartition("\r")[2]
    screen.show(PathInUse(PathKind.DIRECT_TCP, plain=True, connections=2), 1.01)
    screen.show(PathInUse(PathKind.DIRECT_TCP, plain=True, connections=2), 1.02)
    screen.show(TransferProgress(200_000_000, 400_000_000, 0, 1), 1.03)
    shown = err.getvalue()
    assert shown.count("The data goes directly over TCP now, on 2 connections.\n") == 1
    last = shown.rpartition("connections.\n")[2]
    assert "direct-tcp x2 194 MB/s" in last
    screen.show(TransferDone(1, 400_000_000, 2.0), 2.0)
    assert err.getvalue().endswith("200 MB/s, relay-quic, then direct-tcp. All verified.\n")


def test_a_path_that_is_the_connections_own_is_not_said_again():
    _out, err, screen = screen_of()
    screen.show(Connected(PathKind.DIRECT_TCP), 0.0)
    screen.show(TransferStarted(1, 10), 0.0)
    screen.show(PathInUse(PathKind.DIRECT_TCP, plain=True, connections=1), 0.0)
    assert "The data goes" not in err.getvalue()


def test_the_end_names_the_paths_that_carried_data_and_not_the_one_of_the_handshake():
    _out, err, screen = screen_of()
    screen.show(Connected(PathKind.RELAY_TCP), 0.0)
    screen.show(TransferStarted(1, 10), 0.0)
    screen.show(PathInUse(PathKind.DIRECT_QUIC, plain=False, connections=1), 0.0)
    screen.show(TransferDone(1, 10, 0.5), 1.0)
    assert err.getvalue().splitlines()[1:] == [
        "Sending 1 file, 10 B.",
        "The data goes directly over QUIC now.",
        "Sent 1 file, 10 B in 0.5 s, direct-quic. All verified.",
    ]


def test_a_relay_that_goes_away_is_said_once_however_many_tries_it_takes_and_again_when_it_is_back():
    _out, err, screen = screen_of()
    for _ in range(2):
        screen.show(RelayTrouble(0.5), 0.0)
        screen.show(RelayTrouble(1.5), 1.0)
        screen.show(RelayBack(), 3.0)
    assert err.getvalue().splitlines() == 2 * [
        "The relay went away; trying again until it is back. The code stays the same.",
        "The relay is back. Waiting there as before.",
    ]


def test_a_shorter_bar_covers_the_longer_one_before_it():
    _out, err, screen = screen_of(terminal=True)
    screen.show(TransferStarted(1, 1_000_000), 0.0)
    screen.show(TransferProgress(500_000, 1_000_000, 0, 1), 1.0)
    screen.show(TransferProgress(1_000_000, 1_000_000, 1, 1), 2.0)
    first, second = err.getvalue().split("\r")[1:]
    assert len(second.rstrip()) < len(first)
    assert len(second) == len(first)


def test_the_error_of_ctrl_c_covers_what_the_terminal_echoes():
    _out, err, screen = screen_of(terminal=True)
    screen.failed(Failure("interrupted", "interrupted", ()))
    assert err.getvalue() == "\rtallow: error: interrupted\n"


def test_an_error_in_the_middle_leaves_the_bar_and_starts_a_line_of_its_own():
    _out, err, screen = screen_of(terminal=True, width=60)
    screen.show(TransferStarted(1, 1000), 0.0)
    screen.show(TransferProgress(500, 1000, 0, 1), 1.0)
    screen.close(1.2)
    screen.failed(Failure("peer_left", "the other side went away", ()))
    assert err.getvalue().splitlines()[-1] == "tallow: error: the other side went away"


def test_a_bar_is_redrawn_ten_times_a_second_at_most():
    _out, err, screen = screen_of(terminal=True)
    screen.show(TransferStarted(1, 1000), 0.0)
    for step in range(100):
        screen.show(TransferProgress(step, 1000, 0, 1), 1.0 + step * 0.001)
    assert err.getvalue().count("\r") == 1


def test_files_that_follow_the_last_byte_do_not_redraw_the_bar_each():
    _out, err, screen = screen_of(terminal=True)
    screen.show(TransferStarted(100, 0), 0.0)
    for done in range(100):
        screen.show(TransferProgress(0, 0, done, 100), 1.0 + done * 0.0001)
    assert err.getvalue().count("\r") == 1
    screen.show(TransferProgress(0, 0, 100, 100), 1.02)
    assert err.getvalue().count("\r") == 2


def test_no_color_and_dumb_terminals_get_plain_digits(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    _out, err, screen = screen_of(terminal=True)
    screen.show(VerificationNeeded("12345678", must_confirm=True), 0.0)
    assert err.getvalue() == "Compare these digits with the other side:  1234 5678\n"
    monkeypatch.delenv("NO_COLOR")
    _out, err, screen = screen_of(terminal=True)
    screen.show(VerificationNeeded("12345678", must_confirm=True), 0.0)
    assert "\x1b[1m1234 5678\x1b[0m" in err.getvalue()


def test_the_offer_is_shown_even_when_quiet_because_a_yes_needs_it():
    _out, err, screen = screen_of(quiet=True)
    shortened = screen.offer(offer_of(file_entry("a")))
    assert "a" in err.getvalue()
    assert not shortened


def test_a_warning_cannot_drive_the_terminal():
    _out, err, screen = screen_of()
    screen.show(Warned(PeerText("left out \x1b[31mpipe")), 0.0)
    assert err.getvalue() == "tallow: warning: left out pipe\n"


class Broken:
    encoding = "ascii"
    closed = False

    def isatty(self):
        return False

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise AssertionError

    def fileno(self):
        raise OSError


def test_a_reader_that_went_away_ends_the_command_on_standard_output_and_nothing_on_standard_error():
    with pytest.raises(OutputClosedError):
        Sink(Broken(), forgiving=False).line("x")
    Sink(Broken(), forgiving=True).line("x")


def test_a_stream_that_was_closed_before_the_start_takes_everything_silently():
    Sink(None, forgiving=False).line("x")


def test_letters_that_the_stream_lacks_are_written_as_escapes():
    out, _err, stdout, _stderr = sinks()
    out.encoding = "ascii"
    stdout.line("\u65e5 \udc80")
    assert out.getvalue() == "\\u65e5 \\udc80\n"


def test_how_much_of_the_offer_is_taken_is_said_where_it_is_not_all():
    _out, err, screen = screen_of(sending=False)
    screen.show(offer_of(file_entry("a", 3), file_entry("b", 4)), 0.0)
    screen.show(TransferStarted(1, 4), 0.0)
    assert err.getvalue().splitlines()[-1] == "Receiving 1 of 2 files, 4 B."


def test_what_is_there_already_is_no_resuming_and_does_not_count_for_the_rate():
    _out, err, screen = screen_of(sending=False)
    screen.show(TransferStarted(1, 10_000_000), 0.0)
    screen.show(Resumed(10_000_000, 10_000_000, PeerText("film")), 0.0)
    assert err.getvalue().splitlines()[-1] == "film is here already."
    screen.show(Resumed(8_000_000, 10_000_000, PeerText("film")), 0.0)
    assert err.getvalue().splitlines()[-1] == "Resuming film at 80 %."
    screen.show(TransferDone(1, 10_000_000, 1.0), 1.0)
    assert "10.0 MB in 1.0 s, 2.0 MB/s" in err.getvalue().splitlines()[-1]


def test_a_list_that_was_asked_for_is_whole_and_on_standard_output():
    out, err, stdout, stderr = sinks()
    screen = Screen(stdout, stderr, sending=True, data=True, height=lambda: 24)
    screen.show(offer_of(*(file_entry(f"f{number}", 1) for number in range(100))), 0.0)
    assert len(out.getvalue().splitlines()) == 101
    assert err.getvalue() == ""
