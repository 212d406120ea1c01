"""Appendix A of docs/protocol.md: made from tests/vectors/handshake_1.json, and read back from the document.

`python -m tests.docs.worked_example` writes it anew after the vector changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap

from tests.docs.markdown import PROTOCOL, ROOT

VECTOR = ROOT / "tests" / "vectors" / "handshake_1.json"
HEADING = "## Appendix A: worked example"
LONGEST_BYTES = 280
"""A longer value stands as its SHA-256."""

INTRODUCTION = f"""{HEADING}

One handshake with every random value fixed, a further connection, and one record. Made from
`tests/vectors/handshake_1.json`, which holds every value whole; `tests/docs/test_protocol_worked_example.py`
reads the block below and reproduces it.

All values are hexadecimal, but for those that end in `_text` (text) or `_number` (decimal). A value of more than
{LONGEST_BYTES} bytes stands as `sha256 of N bytes:` and that hash.

- `kem_seed_a` is A's KEM key pair: ML-KEM's d || z (64 bytes, FIPS 203), then the X25519 scalar (32). It gives ek of
  Hello. `ciphertext` is ct of core, which holds randomness of B; A's seed opens it.
- `capabilities_a_text` and `capabilities_b_text` are the lists in Hello and core, in this order.
- `frames` are frame bodies, without their length.
- `connection_N_secret_d` and `secret_d` are secret_0 of the sending side d (section 9.1).
- `connection_2` is opened by A: its r_o and r_a are those of Attach and Ack, not those of the SAS.
- `first_record_of_a` is an Offer as control message 1 with ack 0 on connection 0, record 0 of side A: the message, the
  plaintext, and the whole frame with its length. (In a session Auth has number 1; its signatures differ at each signing.)
"""


def vector() -> dict[str, dict[str, str | int]]:
    """Return the vector as it stands in its file."""
    values: dict[str, dict[str, str | int]] = json.loads(VECTOR.read_text(encoding="utf-8"))
    return values


def shown(name: str, value: str | int) -> str:
    """Return a value as the appendix shows it."""
    if name.endswith(("_text", "_number")) or len(str(value)) <= 2 * LONGEST_BYTES:
        return str(value)
    data = bytes.fromhex(str(value))
    return f"sha256 of {len(data)} bytes: {hashlib.sha256(data).hexdigest()}"


def render() -> str:
    """Return the appendix, heading included."""
    lines = [INTRODUCTION, "```"]
    for section, values in vector().items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            text = shown(name, value)
            if len(text) <= 80 or " " in text:
                lines.append(f"{name} = {text}")
            else:
                lines += [f"{name} =", *textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="  ")]
        lines.append("")
    lines[-1] = "```"
    return "\n".join(lines) + "\n"


def read() -> dict[str, dict[str, str]]:
    """Return the values of the document's appendix by section and name."""
    text = PROTOCOL.read_text(encoding="utf-8")
    block = text[text.index(HEADING) :].split("```")[1]
    sections: dict[str, dict[str, str]] = {}
    section = name = ""
    for line in block.strip().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            sections[section] = {}
        elif line.startswith("  "):
            sections[section][name] += line.strip()
        elif line:
            name, _, value = line.partition(" =")
            sections[section][name] = value.strip()
    return sections


def write() -> None:
    """Put the appendix at the end of the document."""
    text = PROTOCOL.read_text(encoding="utf-8")
    PROTOCOL.write_text(text[: text.index(HEADING)] + render(), encoding="utf-8")


if __name__ == "__main__":
    write()
