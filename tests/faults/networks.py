"""Networks that lose, repeat, reorder, delay and swallow packets: two machines in namespaces with an emulated link."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.faults.catalogue import fault
from tests.faults.kit import TALLOW, UnusableError
from tests.netns.kit import Conditions, network, why_not

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.faults.kit import Run
    from tests.netns.kit import Link, Network

RATE = 60e6  # bits a second; the emulator then takes a small part of a core


@asynccontextmanager
async def linked(
    run: Run,
    conditions: Conditions,
    *,
    mib: int = 6,
    transports: Sequence[str] = ("auto", "tcp", "quic"),
    words: Sequence[str] = (),
) -> AsyncIterator[tuple[Network, Link]]:
    """A sender at 10.78.0.1 and a receiver at 10.78.0.2, with nothing else, and a transfer that has begun."""
    if (reason := why_not()) is not None:
        raise UnusableError(reason)
    run.make_source(mib)
    run.count_sockets = False
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        link = await net.emulate((a, "10.78.0.1/24"), (b, "10.78.0.2/24"), conditions, seed=run.result.seed)
        run.hosts |= {"sender": a, "receiver": b}
        transport = run.draw.choice(transports)
        run.result.note = transport
        words = ("--transport", transport, *words)
        run.sender = await run.spawn("sender", TALLOW, "send", "--json", *words, *run.paths)
        ready = await run.sender.until("code")
        assert ready is not None, run.sender.errors
        run.code = ready["code"]
        run.receiving = [*words, "--peer", "10.78.0.1:" + ready["peer"].rpartition(":")[2]]
        run.receiver = await run.receive()
        yield net, link


@fault("5 % of the packets are lost", gate=(1,))
async def loss(run: Run) -> None:
    run.must_arrive = True
    async with linked(run, Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300, loss=0.05), mib=2):
        await run.finish()


@fault("packets overtake each other and come twice")
async def reordering(run: Run) -> None:
    run.must_arrive = True
    way = Conditions(
        delay_s=0.01, jitter_s=0.01, rate_bits=RATE, queue_packets=300, reorder=0.2, duplicate=0.05
    )
    async with linked(run, way):
        await run.finish()


@fault("every packet takes 300 ms")
async def delay(run: Run) -> None:
    run.must_arrive = True
    async with linked(run, Conditions(delay_s=0.3, rate_bits=RATE, queue_packets=2000)):
        await run.finish()


@fault("packets above a size vanish in mid-transfer (MTU black hole)")
async def mtu_black_hole(run: Run) -> None:
    run.must_arrive = True
    async with linked(run, Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300), mib=16) as (_, link):
        await run.at_point(0.05, 0.6)
        mtu = run.draw.choice((1280, 1350, 1420))
        run.result.note += f", {mtu} bytes"
        await link.tell(f"mtu {mtu}")
        await run.finish()


@fault("packets above a size vanish from the start (MTU black hole)")
async def narrow_path(run: Run) -> None:
    run.must_arrive = True
    way = Conditions(
        delay_s=0.002, rate_bits=RATE, queue_packets=300, mtu=run.draw.choice((1280, 1350, 1420))
    )
    async with linked(run, way, mib=16):
        run.result.note += f", {way.mtu} bytes"
        await run.finish()


@fault("a box between forgets the connections: their packets vanish, new ones pass (half-open)")
async def forgotten(run: Run) -> None:
    run.must_arrive = True
    way = Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300)
    async with linked(run, way, mib=16, transports=("tcp",)) as (net, link):
        await run.at_point(0.05, 0.6)
        listed = await net.namespaces[1].run("ss", "-Htn", "state", "established")
        ports = {line.split()[2].rpartition(":")[2] for line in listed.out.splitlines()}
        assert ports, listed
        await link.tell("forget " + " ".join(sorted(ports)))
        await run.finish()


@fault("silence: every packet vanishes for some seconds")
async def silence(run: Run) -> None:
    run.must_arrive = True
    async with linked(run, Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300), mib=16) as (_, link):
        await run.at_point(0.05, 0.6)
        seconds = run.draw.uniform(0.5, 7)
        run.result.note += f", {seconds:.1f} s"
        await link.tell("down")
        await asyncio.sleep(seconds)
        await link.tell("up")
        await run.finish()


@fault("silence for good, both ways or one, until `--rejoin`'s limit; the same paths are sent again")
async def half_open(run: Run) -> None:
    way = Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300)
    async with linked(run, way, mib=16, words=("--rejoin", "20")) as (_, link):
        await run.at_point(0.05, 0.6)
        dark = run.draw.choice(("", "a ", "b "))
        run.result.note += {"": ", both ways", "a ": ", one way", "b ": ", the way back"}[dark]
        await link.tell(f"{dark}down")
        await run.finish()
        if (run.sender.outcome, run.receiver.outcome) != ("10 peer_left", "10 peer_left"):
            run.problem(f"it ended with {run.sender.outcome}, {run.receiver.outcome}")
    run.hosts.clear()
    await run.again()


@fault("the receiver's address changes in mid-transfer")
async def address_change(run: Run) -> None:
    run.must_arrive = True
    async with linked(run, Conditions(delay_s=0.002, rate_bits=RATE, queue_packets=300), mib=16) as (net, _):
        await run.at_point(0.05, 0.6)
        b = net.namespaces[1]
        # In this order: with the first address of a network the kernel takes the later ones away.
        b.ip("addr", "del", "10.78.0.2/24", "dev", "w0")
        b.ip("addr", "add", "10.78.0.3/24", "dev", "w0")
        await run.finish()
