"""A relay, or a network before it, that drops, delays, truncates, reorders or flips bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.faults.catalogue import fault
from tests.faults.kit import MIB
from tests.faults.middle import KINDS, Sabotage

if TYPE_CHECKING:
    from tests.faults.kit import Run

# What a transport cannot do by itself: TCP's checksum and TLS's record order exclude them; a hostile middle does them.
MIB_8 = 8 * MIB


async def spoiled(run: Run, kinds: tuple[str, ...] = KINDS, *, direct: bool = False, **options: Any) -> None:
    plan = Sabotage.drawn(run.draw, MIB_8, kinds, data_up=not direct)
    run.result.note = str(plan)
    await run.start(sabotage=plan, direct=direct, **options)
    await run.finish(hopeless=True)
    if not plan.done:
        run.did_not_bite("the transfer was over before the bytes to spoil came")


@fault("bytes are spoiled below everything, on a direct connection", gate=(1,))
async def spoiled_direct(run: Run) -> None:
    await spoiled(run, direct=True)


@fault(
    "bytes are spoiled between a side and the relay: below its TLS, or on plain data connections", gate=(1,)
)
async def spoiled_leg(run: Run) -> None:
    await spoiled(run)


@fault("a relay spoils what its TLS carries: signaling, handshake, control or data", gate=(1,))
async def spoiled_by_relay(run: Run) -> None:
    await spoiled(run, tls=True, words=("--transport", "tcp"))


@fault("all connections are cut at once, and new ones are taken", gate=(1,))
async def cut(run: Run) -> None:
    direct = run.draw.random() < 0.5
    run.result.note = "direct" if direct else "through a relay"
    await run.start(direct=direct)
    await run.at_point()
    await run.middles[0].drop_all()
    await run.finish()


@fault("all connections are cut, and for some seconds there is no way")
async def outage(run: Run) -> None:
    import asyncio

    direct = run.draw.random() < 0.5
    seconds = run.draw.uniform(0.5, 12)
    run.result.note = f"{'direct' if direct else 'through a relay'}, {seconds:.1f} s"
    await run.start(direct=direct)
    await run.at_point()
    run.middles[0].dark = True
    await run.middles[0].drop_all()
    await asyncio.sleep(seconds)
    run.middles[0].dark = False
    await run.finish()
