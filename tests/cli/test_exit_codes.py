"""Every error has an exit code, and the documents say which."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from tallow_cli.errors import CliError
from tallow_cli.exit_codes import EXIT_CODES, ExitCode, exit_code_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def descendants(base: type) -> set[type]:
    found = {base}
    for child in base.__subclasses__():
        found |= descendants(child)
    return found


def every_error(package: str, base: str) -> set[type]:
    """Return all subclasses of a package's base error, after importing every module of it."""
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return descendants(getattr(importlib.import_module(f"{package}.errors"), base))


@pytest.mark.parametrize(
    ("package", "base"),
    [
        ("tallow_crypto", "CryptoError"),
        ("tallow_net", "NetError"),
        ("tallow_protocol", "ProtocolError"),
        ("tallow_store", "StoreError"),
    ],
)
def test_every_error_of_every_package_has_an_exit_code(package, base):
    without = {error.__name__ for error in every_error(package, base) if error.code not in EXIT_CODES}
    assert without == set()


def test_every_error_of_the_command_line_has_an_exit_code():
    without = {error.__name__ for error in descendants(CliError) if error.code not in EXIT_CODES}
    assert without == set()


def test_every_code_that_a_relay_may_answer_has_an_exit_code():
    from tallow_net.signaling import ErrorCode

    assert [code.name.lower() for code in ErrorCode if code.name.lower() not in EXIT_CODES] == []


def test_a_code_outside_the_table_is_an_internal_error():
    assert exit_code_of("never heard of") is ExitCode.INTERNAL


def test_the_documented_table_is_the_table():
    rows = re.findall(r"^\| (\d+) \| [^|]* \| ([^|]*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    documented = {int(number): set(re.findall(r"`([a-z_]+)`", codes)) for number, codes in rows}
    actual = {int(number): {code for code, of in EXIT_CODES.items() if of is number} for number in ExitCode}
    assert documented == actual
