"""What `tallow` says, word for word: whole commands with exit code, standard output and standard error.

The expected text of each case is a file in `transcripts/`. After a deliberate change of words, write them anew with
`TALLOW_WRITE_TRANSCRIPTS=1 pytest tests/e2e/test_transcripts.py` and read the difference before committing it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.terminals import Child
from tests.e2e.kit import RELAY, TALLOW, needs_programs

pytestmark = needs_programs

TRANSCRIPTS = Path(__file__).parent / "transcripts"
DEADLINE_S = 60
CODE = "4821-copper-lantern-tidy"
NOBODYS = "7350-copper-lantern-tidy"  # other tests announce CODE on this network at the same time

FILTERS = (
    (r'"peers":\[.*?\],"command"', '"peers":[ADDRESSES],"command"'),
    (r'"fingerprint":"[0-9a-f ]+"', '"fingerprint":"[FINGERPRINT]"'),
    (r'"seconds":[0-9.e-]+', '"seconds":[SECONDS]'),
    (r"sha256:[0-9a-f]{64}", "sha256:[HEX]"),
    (r"\b(?!(?:4821|7350)-(?:abacus|copper))[0-9]+-[a-z]+-[a-z]+-[a-z]+\b", "[CODE]"),
    (r"(?:[0-9]+\.){3}[0-9]+:[0-9]{4,5}\b", "[ADDRESS]"),
    (r"\[[0-9a-f]*:[0-9a-f:]+\]:[0-9]{4,5}\b", "[ADDRESS]"),
    (r"in [0-9.]+ s(?:, [0-9.]+ [KMG]?B/s)?, (direct|relay)", r"in [TIME], \1"),
    # How many addresses a machine has, and whether it is so busy that a wait is explained, differs.
    (r"^ *This machine is also .*\n", ""),
    (r"^ *Waiting for (?!the other side\. The code).*\n", ""),
)


class Place:
    """A folder to run commands in: `home` for Tallow, `work` to stand in, and names for what differs every time."""

    def __init__(self, folder):
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.children = []

    def environment(self, who="somebody", **more):
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TALLOW_", "COLUMNS"))
        }
        kept |= {
            "TALLOW_HOME": str(self.folder / f"home-{who}"),
            "COLUMNS": "80",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
        }
        return kept | more

    def run(self, *words, stdin="", environment=None):
        """Run one command to its end and return its transcript."""
        ended = subprocess.run(
            [TALLOW, *words],
            check=False,
            cwd=self.work,
            env=self.environment(**(environment or {})),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        text = transcript(words, ended.returncode, ended.stdout, ended.stderr)
        return text.replace(str(self.folder), "[FOLDER]")

    def start(self, *words, who="sender"):
        child = Running(words, self.work, self.environment(who))
        self.children.append(child)
        return child

    def told(self, words, exit_code, stdout, stderr):
        """Return the transcript of a transfer, with names for what differs every time."""
        text = transcript(words, exit_code, stdout, stderr)
        for pattern, name in FILTERS:
            text = re.sub(pattern, name, text, flags=re.MULTILINE)
        return text

    def close(self):
        for child in self.children:
            child.close()


class Running:
    """A command that runs beside others; its standard output can be waited for."""

    def __init__(self, words, folder, environment):
        self.words = words
        self.process = subprocess.Popen(
            [words[0] if Path(words[0]).is_absolute() else TALLOW, *words[Path(words[0]).is_absolute() :]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = ""
        self.err = ""
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        self._alarm = threading.Timer(DEADLINE_S, self.process.kill)
        self._alarm.start()

    def _read_errors(self):
        for line in self.process.stderr:
            self.err += line

    def line(self):
        """Return the next line of standard output; "" after the last. The alarm ends a wait that is too long."""
        line = self.process.stdout.readline()
        self.out += line
        return line.rstrip("\n")

    def end(self):
        while self.line():
            pass
        code = self.process.wait()
        self._errors.join(DEADLINE_S)
        return code

    def close(self):
        self._alarm.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._errors.join(DEADLINE_S)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.close()


def transcript(words, exit_code, stdout, stderr):
    command = " ".join(["$ tallow", *map(str, words)])
    return f"{command}\nexit code: {exit_code}\n{block('standard output', stdout)}{block('standard error', stderr)}"


def block(title, text):
    lines = text.removesuffix("\n").split("\n")
    return "".join([f"{title}:\n", *(f"    {line}".rstrip() + "\n" for line in lines)]) if text else ""


def compare(name, text):
    file = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("TALLOW_WRITE_TRANSCRIPTS") == "1":
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


ALONE = {
    "version": ["--version"],
    "help": ["--help"],
    "send-help": ["send", "--help"],
    "receive-help": ["receive", "--help"],
    "no-command": [],
    "no-such-command": ["sned"],
    "no-such-option": ["receive", "--trnsport", "tcp"],
    "no-path": ["send"],
    "missing-path": ["send", "no-such-file"],
    "missing-path-json": ["send", "--json", "no-such-file"],
    "no-such-transport": ["send", "--transport", "pigeon", "."],
    "relay-only-without-relay": ["send", "--relay-only", "."],
    "relay-only-and-direct-only": ["send", "--relay-only", "--direct-only", "."],
    "relay-only-and-peer": ["receive", "--relay-only", "--peer", "127.0.0.1:1", CODE],
    "encrypt-twice-without-relay": ["send", "--encrypt-twice", "."],
    "too-few-words": ["send", "--words", "2", "."],
    "own-code-too-short": ["send", "--code", "12:short", "."],
    "code-word-not-in-list": ["receive", "--peer", "127.0.0.1:1", "4821-copper-lantern-tydy"],
    "code-word-ambiguous": ["receive", "--peer", "127.0.0.1:1", "4821-copper-lantern-ti"],
    "code-without-words": ["receive", "--peer", "127.0.0.1:1", "4821"],
    "no-code": ["receive", "--peer", "127.0.0.1:1"],
    "nobody-on-this-network": ["receive", NOBODYS],
    "peer-without-port": ["receive", "--peer", "example.org", CODE],
    "nobody-listens": ["receive", "--transport", "tcp", "--peer", "127.0.0.1:1", CODE],
    "relay-address-without-sense": ["send", "--relay", "127.0.0.1:99999", "."],
    "no-relay-there-over-either": ["send", "--relay", "127.0.0.1:1", "."],
    "no-relay-there": ["send", "--transport", "tcp", "--relay", "127.0.0.1:1", "."],
    "verify-without-a-terminal": ["receive", "--verify", "--peer", "127.0.0.1:1", CODE],
    "verify-with-json": ["send", "--verify", "--json", "."],
}


@pytest.mark.parametrize("name", ALONE)
def test_a_command_alone_says_this(place, name):
    compare(name, place.run(*ALONE[name]))


def test_a_piped_code_is_refused_like_a_typed_one(place):
    compare(
        "piped-code", place.run("receive", "--peer", "127.0.0.1:1", stdin="4821-copper-lantern-tydy\nmore\n")
    )


def test_a_wrong_setting_is_named_with_its_file(place):
    (place.folder / "home-somebody").mkdir()
    (place.folder / "home-somebody" / "config.toml").write_text('relays = ["r.example"]\n')
    compare("wrong-setting", place.run("send", "."))


def test_a_home_that_is_no_folder_is_named(place):
    (place.folder / "home-somebody").write_text("")
    compare("home-is-a-file", place.run("send", "."))


def letter(place):
    (place.work / "letter.txt").write_text("Dear all\n" * 100)
    (place.work / ".profile").write_text("x")
    (place.work / "run.sh").write_text("#!/bin/sh\n")
    (place.work / "run.sh").chmod(0o755)
    return ["letter.txt", ".profile", "run.sh"]


def sending(place, *options):
    sender = place.start("send", "--transport", "tcp", *options, *letter(place))
    sender.line()
    command = sender.line().split()
    if "--relay" not in options:  # the line with the address: no name has to be found for it
        command = sender.line().split()
    assert command[:2] == ["tallow", "receive"]
    return sender, [word.strip("'") for word in command[1:]]


def both(place, sender, receiver):
    codes = receiver.end(), sender.end()
    told = [
        place.told(child.words, code, child.out, child.err)
        for child, code in zip((receiver, sender), codes, strict=True)
    ]
    return "\n".join(reversed(told))


def test_a_transfer_without_a_server_says_this(place):
    sender, command = sending(place)
    compare("direct", both(place, sender, place.start(*command, "--yes", "--out", "there", who="receiver")))
    assert (place.work / "there" / "letter.txt").read_text() == "Dear all\n" * 100


def test_a_quiet_transfer_says_this(place):
    sender, command = sending(place, "--quiet")
    compare("quiet", both(place, sender, place.start(*command, "-q", "-y", "-o", "there", who="receiver")))


def test_without_a_yes_and_without_a_terminal_the_offer_is_shown_and_refused(place):
    sender, command = sending(place)
    compare("refused", both(place, sender, place.start(*command, "--out", "there", who="receiver")))
    assert not list((place.work / "there").glob("*"))


def test_a_taken_name_says_this(place):
    sender, command = sending(place)
    (place.work / "there").mkdir()
    (place.work / "there" / "letter.txt").write_text("mine")
    compare("conflict", both(place, sender, place.start(*command, "--yes", "--out", "there", who="receiver")))
    assert (place.work / "there" / "letter.txt").read_text() == "mine"


def test_a_wrong_code_and_ctrl_c_say_this(place):
    sender, command = sending(place, "--code", CODE)
    wrong = place.start(*command[:-1], "4821-abacus-abdomen-abide", who="receiver")
    code = wrong.end()
    sender.process.send_signal(signal.SIGINT)
    told = place.told(sender.words, sender.end(), sender.out, sender.err)
    compare("wrong-code", told + "\n" + place.told(wrong.words, code, wrong.out, wrong.err))


def test_json_events_of_both_sides_are_these(place):
    sender, command = sending_json(place)
    receiver = place.start(*command, "--json", "--yes", "--out", "there", who="receiver")
    text = re.sub(r".*\"event\":\"(?:progress|tuned)\".*\n", "", both(place, sender, receiver))
    compare("json", text)


def sending_json(place):
    import json

    sender = place.start("send", "--json", "--transport", "tcp", *letter(place))
    event = json.loads(sender.line())
    return sender, ["receive", "--peer", event["peer"], event["code"]]


def test_a_transfer_through_a_relay_repeats_the_relay_that_was_given(place):
    import json

    relay = place.start(str(RELAY), "serve", "--listen", "127.0.0.1:0", "--json", who="relay")
    listening = json.loads(relay.line())
    address = f"{listening['listen']}#{listening['fingerprint']}"
    sender, command = sending(place, "--relay", address)
    receiver = place.start(*command, "--yes", "--out", "there", who="receiver")
    compare("relay", both(place, sender, receiver))
    relay.process.send_signal(signal.SIGTERM)
    assert relay.end() == 0


@pytest.mark.parametrize(("answer", "name"), [("y", "person-says-yes"), ("", "person-says-nothing")])
def test_a_person_at_a_terminal_sees_this(place, answer, name):
    sender, command = sending(place)
    arguments = [TALLOW, *command, "--out", "there"]
    with Child(arguments, environment=place.environment("receiver"), cwd=place.work) as child:
        child.until("s selects] ")
        child.type(f"{answer}\n")
        code = child.end()
    screen = "\n".join(line.rpartition("\r")[2] for line in child.screen.split("\n"))
    told = place.told((*command, "--out", "there"), code, "", screen).replace(
        "standard error:", "the terminal:"
    )
    compare(name, told + "\n" + place.told(sender.words, sender.end(), sender.out, sender.err))


def test_a_burned_code_says_this_to_both(place):
    sender, command = sending(place, "--code", CODE)
    for _ in range(3):
        last = place.start(*command[:-1], "4821-abacus-abdomen-abide", who="receiver")
        last.end()
    compare("burned", both(place, sender, last))
