"""Writes docs/protocol-states.md from the table of states."""

from pathlib import Path

from tallow_protocol.core.state import states_document

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol-states.md"

if __name__ == "__main__":
    DOCUMENT.write_text(states_document(), encoding="utf-8")
