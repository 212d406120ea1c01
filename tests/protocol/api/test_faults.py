"""A fault of our own, or of this machine, ends a transfer with one error: nobody waits for what never comes."""

import asyncio
from pathlib import Path
from unittest import mock

import pytest
from tallow_crypto import ProviderMissingError
from tallow_net import RelayAddress, Side, signaling
from tallow_net.limits import PLAIN_FRAME_BYTES
from tallow_net.signaling import Join
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.negotiate import connect_direct
from tallow_protocol import (
    CodeReady,
    InternalError,
    Receiver,
    Sender,
    TransferOptions,
    UnsupportedSystemError,
)
from tallow_protocol.aio import routes
from tallow_protocol.aio.links import LinkRunner
from tallow_protocol.core.jobs import Job

from tests.protocol.api.running import DIRECT, accepting, receive, sender

RELAYED = TransferOptions(relays=(RelayAddress("127.0.0.1", 1),))


def no_ml_kem() -> mock._patch:
    missing = ProviderMissingError("this OpenSSL has no ML-KEM")
    return mock.patch("tallow_crypto.kem.default_provider", side_effect=missing)


@pytest.mark.parametrize("options", [DIRECT, RELAYED])
async def test_a_sender_without_ml_kem_tells_no_code(tmp_path: Path, options: TransferOptions) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    events = []
    with no_ml_kem():
        async with asyncio.timeout(20), Sender([path], options=options) as transfer:
            with pytest.raises(UnsupportedSystemError):
                events.append(await anext(transfer))
    assert events == []


async def test_a_receiver_without_ml_kem_dials_nobody(tmp_path: Path) -> None:
    peer = "127.0.0.1:1"
    with no_ml_kem(), mock.patch("tallow_net.transport.negotiate.connect_direct") as dialled:
        async with asyncio.timeout(20), Receiver("4821-copper-lantern-tidy", tmp_path, peer=peer) as transfer:
            with pytest.raises(UnsupportedSystemError):
                await anext(transfer)
    dialled.assert_not_called()


async def test_a_fault_while_somebody_knocks_ends_the_waiting(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")

    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    async with asyncio.timeout(20), Sender([path], options=DIRECT) as transfer:
        ready = await anext(transfer)
        assert isinstance(ready, CodeReady)
        with mock.patch.object(routes, "agree_as_sender", broken):
            port = int(ready.peer.rpartition(":")[2])
            knock = await connect_direct("127.0.0.1", port, choice=TransportChoice.TCP, timeout_s=5)
            frames = FrameStream(knock, limit=PLAIN_FRAME_BYTES)
            await frames.write(signaling.encode(Join(1, (ready.code.room_id,), Side.B)))
            with pytest.raises(InternalError, match="KeyError"):
                await anext(transfer)
            await knock.close()


async def test_a_fault_in_a_connections_task_ends_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1_000_000)

    def broken(_: LinkRunner) -> None:
        raise KeyError("a bug")

    with mock.patch.object(LinkRunner, "_plan", broken):
        async with sender(path, options=DIRECT) as (a, ready, task):
            b = await receive(ready, tmp_path / "out", react=accepting)
            await task
    assert {a.outcome, b.outcome} == {"internal"}


def test_a_fault_in_a_job_is_its_error_and_not_the_threads_end() -> None:
    def broken() -> None:
        raise KeyError("a bug")

    job = Job(broken, lambda _job, _now: None)
    job.run()
    assert isinstance(job.error, InternalError)
    assert isinstance(job.error.__cause__, KeyError)
