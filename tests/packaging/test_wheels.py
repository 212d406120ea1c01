"""Each built wheel installs and runs alone in an empty environment, with just the dependencies that it declares."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import zipfile
from email.parser import HeaderParser

import pytest

from tests.packaging.conftest import ROOT

# What of the workspace comes along, and what must never come, directly or through another.
COMES_ALONG = {
    "tallow-crypto": set(),
    "tallow-net": {"tallow-crypto"},
    "tallow-store": {"tallow-crypto"},
    "tallow-relay": {"tallow-crypto", "tallow-net"},
    "tallow-protocol": {"tallow-crypto", "tallow-net"},
    "tallow-cli": {"tallow-crypto", "tallow-net", "tallow-protocol", "tallow-store"},
}
STAYS_OUT = {
    "tallow-crypto": {"aioquic", "cbor2", "platformdirs", "rich", "typer", "uvloop"},
    "tallow-net": {"platformdirs", "rich", "typer", "zstandard"},
    "tallow-store": {"aioquic", "cbor2", "rich", "typer", "uvloop", "zstandard"},
    "tallow-relay": {"rich", "typer", "tomli-w", "zstandard"},
    "tallow-protocol": {"platformdirs", "rich", "tomli-w", "typer"},
    "tallow-cli": {"click", "kyber-py", "pydantic"},
}

# The public names of a package, and every module of it that needs no extra, can be imported.
IMPORTS = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for name in package.__all__:
    getattr(package, name)
needs_extra = ("tallow_net.transport.quic_qh3",)
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith((".testing", ".__main__")) and module.name not in needs_extra:
        importlib.import_module(module.name)
"""


def wheel_of(wheels, package):
    (wheel,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
    return wheel


@pytest.fixture
def installed(request, wheels, empty_environment):
    """The environment with one package, whose name is the fixture's parameter."""
    empty_environment.install(
        "--constraint", wheels / "workspace.txt", "--constraint", ROOT / "constraints.txt", request.param
    )
    return empty_environment


def test_every_package_of_the_workspace_is_tested_here():
    packages = {path.name for path in (ROOT / "packages").iterdir()}

    assert packages == set(COMES_ALONG) == set(STAYS_OUT)


@pytest.mark.parametrize(
    ("installed", "package"), [(package, package) for package in COMES_ALONG], indirect=["installed"]
)
def test_a_wheel_installs_and_runs_alone(installed, package):
    distributions = installed.distributions()

    assert {name for name in distributions if name.startswith("tallow-")} == {package} | COMES_ALONG[package]
    assert distributions.isdisjoint(STAYS_OUT[package])
    installed.check()
    installed.run("python", "-I", "-W", "error", "-c", IMPORTS, package.replace("-", "_"))
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    for command in project.get("scripts", {}):
        assert installed.run(command, "--version") == f"{command} {project['version']}\n"


@pytest.mark.parametrize("package", COMES_ALONG)
def test_a_wheel_holds_every_file_of_its_package(wheels, package):
    source = ROOT / "packages" / package / "src"
    files = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    with zipfile.ZipFile(wheel_of(wheels, package)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}

    assert names == files
    assert f"{package.replace('-', '_')}/py.typed" in names


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("tallow-cli", "tallow_cli/events.schema.json"),
        ("tallow-protocol", "tallow_protocol/data/eff_large_wordlist.txt"),
        ("tallow-protocol", "tallow_protocol/data/eff_large_wordlist.NOTICE.txt"),
        ("tallow-store", "tallow_store/schema/0001_initial.sql"),
        ("tallow-store", "tallow_store/schema/0002_resume.sql"),
    ],
)
def test_a_wheel_holds_the_data_that_its_code_reads(wheels, package, file):
    with zipfile.ZipFile(wheel_of(wheels, package)) as wheel:
        assert wheel.read(file) == (ROOT / "packages" / package / "src" / file).read_bytes()


@pytest.mark.parametrize("package", COMES_ALONG)
def test_a_wheel_says_what_it_is(wheels, package):
    with zipfile.ZipFile(wheel_of(wheels, package)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(name).decode())
        licence = wheel.read(name.replace("METADATA", "licenses/LICENSE"))

    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload().startswith(f"# {package}\n")
    # Every dependency has a lower and an upper bound, and none is a place on the machine that built it.
    for requirement in metadata.get_all("Requires-Dist"):
        assert re.match(r"[\w.-]+(\[[\w,-]+\])? ?[<>=.,\d]*<[\d.]+", requirement), requirement
        assert ">=" in requirement, requirement
        assert "@" not in requirement, requirement


@pytest.mark.parametrize("installed", ["tallow-cli"], indirect=True)
def test_the_installed_command_line_carries_a_file(installed, tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text("sealed\n")
    environment = {"PATH": "/usr/bin:/bin", "TALLOW_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        [installed.folder / "bin" / "tallow", "send", "--json", file],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as sender:
        try:
            code = json.loads(sender.stdout.readline())
            port = code["peer"].rpartition(":")[2]
            installed.run(
                "tallow",
                "receive",
                "--yes",
                "--out",
                tmp_path / "in",
                "--peer",
                f"127.0.0.1:{port}",
                code["code"],
            )
            assert sender.wait(timeout=30) == 0
        finally:
            sender.kill()

    assert (tmp_path / "in" / "letter.txt").read_text() == "sealed\n"
