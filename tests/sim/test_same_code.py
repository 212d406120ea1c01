"""The worlds run the modules that the commands run, from the same files, and most of their lines."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.sim.covered import ROOT

SHOW = """
import sys, json
wanted = ("tallow_protocol.core", "tallow_protocol.disk", "tallow_relay.", "tallow_net.relay.", "tallow_net.framing")
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if name.startswith(wanted)}))
"""
COMMANDS = """
import tallow_cli.commands.send, tallow_cli.commands.receive, tallow_relay.server, tallow_protocol.api.sender
import tallow_protocol.aio.sources, tallow_protocol.core.receiver, tallow_protocol.disk.output, tallow_protocol.disk.scan
tallow_protocol.api.sender._load_session()
"""
NOT_IN_A_WORLD = {
    "tallow_net.relay.events",  # what the shell around SignalingClient tells
}


def imported(code: str) -> dict[str, str]:
    command = [sys.executable, "-c", code + SHOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_worlds_and_commands_run_the_same_modules() -> None:
    commands, worlds = imported(COMMANDS), imported("import tests.sim.scenario")
    assert commands.keys() - worlds.keys() == NOT_IN_A_WORLD
    assert {name: file for name, file in commands.items() if name in worlds} == {
        name: file for name, file in worlds.items() if name in commands
    }
