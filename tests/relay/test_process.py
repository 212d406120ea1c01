"""The command: its first line, its exit codes, its log, its end, and its size under abuse."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Join,
    Leave,
    LeaveReason,
    Ready,
    Restarting,
    Side,
    Waiting,
)
from tallow_net.transport.interface import TransportChoice
from tallow_relay.cli import VERSION, parse_listen
from tallow_relay.forward import Outcome
from tallow_relay.rooms import room_id_of

from tests.relay.process_kit import process, run
from tests.relay.relay_kit import BOTH, LEGS, QUIC, TCP, client, paired, receive_all, receive_exactly

MIB = 1 << 20


async def test_the_first_line_names_address_and_key(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay, client(relay.port) as one:
        assert set(relay.listening) == {"schema", "event", "listen", "fingerprint"}
        assert (relay.listening["schema"], relay.listening["event"]) == (1, "listening")
        assert relay.listening["listen"] == f"127.0.0.1:{relay.port}"
        assert one.transport.peer_spki is not None
        assert relay.listening["fingerprint"] == f"sha256:{one.transport.peer_spki.hex()}"


async def test_both_transports_answer_on_one_number(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay:
        for choice in BOTH:
            async with client(relay.port, choice) as one:
                assert await one.join(os.urandom(32), Side.A) == Waiting()


async def test_the_key_survives_a_restart(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as first:
        await first.end()
    async with process(tmp_path / "state") as second:
        assert second.listening["fingerprint"] == first.listening["fingerprint"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sends_who_waits_away_and_exits_0(tmp_path: Path, number: int) -> None:
    async with (
        process(tmp_path / "state") as relay,
        client(relay.port) as one,
        client(relay.port, QUIC) as two,
    ):
        await one.join(os.urandom(32), Side.A)
        await two.join(os.urandom(32), Side.A)
        end = asyncio.create_task(relay.end(number))
        assert isinstance(await one.hear(), Restarting)
        assert isinstance(await two.hear(), Restarting)
        await one.transport.close()
        await two.transport.close()
        assert await end == 0
        assert [line["event"] for line in relay.log][-2:] == ["stopping", "stopped"]


async def test_a_pair_ends_its_transfer_within_the_grace(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay, paired(relay.port) as (a, b):
        await a.transport.send(b"first")
        assert await receive_exactly(b.transport, 5) == b"first"
        end = asyncio.create_task(relay.end())
        with pytest.raises(ConnectionError):
            await until_refused(relay.port)
        await a.transport.send(b"second")
        assert await receive_exactly(b.transport, 6) == b"second"
        await a.transport.finish()
        await b.transport.finish()
        assert await receive_all(b.transport) == b""
        await a.transport.close()
        assert await end == 0


async def until_refused(port: int) -> None:
    """Connect until nobody listens: refused, or reset where the listener closed in between."""
    async with asyncio.timeout(10):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_the_grace_of_a_stuck_pair_is_the_configured_one(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("shutdown_grace_s = 0\n")
    async with process(tmp_path / "state", "--config", str(tmp_path / "relay.toml")) as relay:
        async with paired(relay.port) as (a, b):
            end = asyncio.create_task(relay.end())
            assert (await a.is_over(), await b.is_over()) == (True, True)
        assert await end == 0
        assert {"room_closed", "stopped"} <= {line["event"] for line in relay.log}


async def test_a_second_signal_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay, paired(relay.port) as (a, b):
        relay.child.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionError):
            await until_refused(relay.port)
        end = asyncio.create_task(relay.end())
        assert (await a.is_over(), await b.is_over()) == (True, True)
        assert await end == 0


async def test_the_log_tells_of_rooms_by_a_random_number_and_of_nobody(tmp_path: Path) -> None:
    lease = b"\x77" * 16
    async with process(tmp_path / "state") as relay:
        async with client(relay.port) as a, client(relay.port) as b, client(relay.port) as other:
            await a.say(Allocate(1, lease))
            allocated = await a.hear()
            assert isinstance(allocated, Allocated)
            room = room_id_of(allocated.nameplate)
            await a.join(room, Side.A, lease=lease)
            await b.join(room, Side.B)
            await a.hear()
            await a.say(Ready())
            await b.say(Ready())
            await a.transport.send(bytes(1000))
            assert await receive_exactly(b.transport, 1000) == bytes(1000)
            await other.say(Leave(room, lease, LeaveReason.SPENT))
            await other.hear()
            await a.transport.close()
            await b.transport.close()
            addresses = [str(one.welcome.address) for one in (a, b) if one.welcome is not None]
        await relay.end()
    rooms = [line for line in relay.log if "room" in line]
    assert [line["event"] for line in rooms] == ["room_created", "room_paired", "room_closed"]
    assert len({line["room"] for line in rooms}) == 1
    assert (rooms[-1]["bytes"], rooms[-1]["outcome"]) == (1000, "finished")
    text = relay.raw_log.decode()
    secrets = [room.hex(), lease.hex(), "127.0.0.1", *(name.rpartition(":")[2] for name in addresses)]
    numbers = re.sub(r'"(room|time)":("[^"]*"|\d+)', "", text)  # random numbers and times hold any digits
    assert [secret for secret in [*secrets, allocated.nameplate] if secret in numbers] == []
    assert {"schema", "event", "level", "time"} <= set(relay.log[0])


async def test_an_unknown_client_s_words_are_not_logged(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay:
        async with client(relay.port) as one:
            await one.frames.write(b"\x00\x02my secret words")
            await one.hear()
        await relay.end()
    assert b"secret" not in relay.raw_log
    assert "internal_error" not in {line["event"] for line in relay.log}


async def test_300_silent_and_garbage_connections_leave_it_small_and_serving(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay:
        async with client(relay.port) as one:
            await one.join(os.urandom(32), Side.A)
        before = relay.resident_kib()
        crowd = [await asyncio.open_connection("127.0.0.1", relay.port) for _ in range(300)]
        for _, writer in crowd[::3]:
            writer.write(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        for _, writer in crowd[1::3]:
            writer.write(os.urandom(2000))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
            for _ in range(300):
                garbage.sendto(os.urandom(1200), ("127.0.0.1", relay.port))
        async with paired(relay.port, (QUIC, TCP)) as (a, b):
            await a.transport.send(b"served")
            assert await receive_exactly(b.transport, 6) == b"served"
        assert relay.resident_kib() - before < 64 * 1024
        for _, writer in crowd:
            writer.transport.abort()
        assert await relay.end() == 0
    assert "internal_error" not in {line["event"] for line in relay.log}


@pytest.mark.parametrize("choices", LEGS)
@pytest.mark.parametrize("stopped_s", [3, pytest.param(30, marks=pytest.mark.slow)])
async def test_a_receiver_that_stops_costs_the_relay_less_than_32_mb(
    tmp_path: Path, choices: tuple[TransportChoice, TransportChoice], stopped_s: int
) -> None:
    async with process(tmp_path / "state") as relay, paired(relay.port, choices) as (a, b):
        await a.transport.send(bytes(MIB))
        await receive_exactly(b.transport, MIB)
        before = relay.resident_kib()
        sent = MIB

        async def send() -> None:
            nonlocal sent
            while True:
                await a.transport.send(bytes(64 * 1024))
                sent += 64 * 1024

        sender = asyncio.create_task(send())
        await asyncio.wait({sender}, timeout=stopped_s)
        assert not sender.done()
        assert relay.resident_kib() - before < 32 * 1024
        await receive_exactly(b.transport, sent - MIB)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


async def test_the_version_is_said_fast() -> None:
    assert await run("--version") == (0, f"tallow-relay {VERSION}\n", "")


async def test_a_port_that_is_in_use_is_said_with_hints(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay:
        code, out, err = await run(
            "serve", "--listen", f"127.0.0.1:{relay.port}", "--state", str(tmp_path / "state")
        )
    assert (code, out) == (1, "")
    assert re.match(r"tallow-relay: error: 127\.0\.0\.1:\d+ cannot be listened on: .*in use", err)
    assert "hint: " in err


async def test_a_wrong_configuration_is_said_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("conections = 5\n")
    code, out, err = await run(
        "serve", "--config", str(tmp_path / "relay.toml"), "--state", str(tmp_path / "s")
    )
    assert (code, out) == (2, "")
    assert "there is no setting 'conections'" in err
    assert not (tmp_path / "s").exists()


async def test_without_json_the_line_is_for_people_and_tallow_home_has_the_state(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("tallow-relay"), "serve", "--listen", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ) | {"TALLOW_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert child.stdout is not None
    async with asyncio.timeout(20):
        line = (await child.stdout.readline()).decode()
        child.terminate()
        _, log = await child.communicate()
    assert re.fullmatch(
        r"tallow-relay \S+ listens on 127\.0\.0\.1:\d+ \(UDP and TCP\), key sha256:[0-9a-f]{64}\n", line
    )
    assert (tmp_path / "home" / "relay" / "relay.pem").exists()
    assert b"stopped" in log
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("relay.example", ("relay.example", 443)),
        (":8443", ("", 8443)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::]", ("::", 443)),
    ],
)
def test_a_place_to_listen_is_read(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text) == place


@pytest.mark.parametrize("text", ["h:65536", "h:x", "::1:443", "h:-1", "h:", "h:²"])
def test_a_place_that_cannot_be_read_is_refused(text: str) -> None:
    import argparse

    with pytest.raises(argparse.ArgumentTypeError):
        parse_listen(text)


def test_the_package_s_version_is_the_command_s() -> None:
    from importlib.metadata import version

    assert version("tallow-relay") == VERSION


def test_exported_members() -> None:
    import tallow_relay

    assert sorted(tallow_relay.__all__) == [
        "ConfigError", "ListenError", "RelayConfig", "RelayError", "RelayServer", "StateError", "open_state",
    ]  # fmt: skip
    assert all(hasattr(tallow_relay, name) for name in tallow_relay.__all__)


async def test_a_join_of_the_wrong_shape_ends_only_its_own_connection(tmp_path: Path) -> None:
    async with process(tmp_path / "state") as relay, client(relay.port) as good, client(relay.port) as bad:
        await good.join(b"\x05" * 32, Side.A)
        answer = await bad.refusal(Join(1, (b"\x05" * 32,), Side.B))
        assert answer.name == "bad_request"
        async with client(relay.port) as third:
            assert isinstance(await third.join(b"\x05" * 32, Side.B), Ready)
        await relay.end()
        assert json.dumps(relay.log).count("internal_error") == 0


async def test_the_program_in_the_readme_runs(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2] / "packages" / "tallow-relay" / "README.md"
    example = readme.read_text().partition("```python\n")[2].partition("```")[0]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        "-c",
        example,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    async with asyncio.timeout(20):
        line = (await child.stdout.readline()).decode()
        child.kill()
        await child.communicate()
    assert re.fullmatch(r"\(\('127\.0\.0\.1', \d+\),\)\n", line)


def test_the_operators_document_names_every_outcome_and_event() -> None:
    root = Path(__file__).parents[2]
    document = (root / "docs" / "relay-operations.md").read_text()
    sources = "".join(path.read_text() for path in (root / "packages/tallow-relay/src").rglob("*.py"))
    events = set(re.findall(r'event\(\s*"([a-z_]+)"', sources))
    words = events | {outcome.value for outcome in Outcome} - {"internal"}
    assert {word for word in words if f"`{word}`" not in document} == set()
