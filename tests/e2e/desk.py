"""Desk: a folder with something to send, and real terminals that stand in it."""

from __future__ import annotations

import os
import shlex

from tests.cli.terminals import Child
from tests.e2e.kit import TALLOW

__all__ = ["Desk", "said"]


class Desk:
    """A folder and the terminals in it; whoever sends and whoever receives has a home of their own."""

    def __init__(self, folder):
        self.folder, self.there = folder, folder / "there"
        self.terminals = []

    def run(self, *words, who):
        plain = {name: "" for name in os.environ if name.startswith("TALLOW_")}
        environment = {**plain, "TALLOW_HOME": str(self.folder / f"home-{who}"), "LC_ALL": "C.UTF-8"}
        child = Child([TALLOW, *words], environment=environment, cwd=self.folder)
        self.terminals.append(child)
        return child

    def pair(self, *sending, receiving=()):
        """Start a sender, and the receiver by the last line that it prints for one."""
        sender = self.run("send", *sending, who="sender")
        shown = sender.until("Ctrl-C ends the wait.")
        commands = [
            words for line in shown.split("\n") if (words := line.strip()).startswith("tallow receive ")
        ]
        words = shlex.split(commands[-1])[1:]
        return sender, self.run(*words, "--out", "there", *receiving, who="receiver")

    def close(self):
        for terminal in self.terminals:
            terminal.__exit__()


def said(terminal):
    """What stands on the screen, line by line, each as it was drawn last."""
    return [line.rpartition("\r")[2].rstrip() for line in terminal.screen.split("\n")]
