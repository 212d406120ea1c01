"""A stranger on the network who answers under a nameplate's name without knowing the words; argument: the nameplate.

It does all that a listening sender does, so the receiver spends a guess on it.
"""

import asyncio
import sys

from tallow_net.discovery import announce
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_protocol.aio.routes import ListeningRoute
from tallow_protocol.code import Code, lan_name_of
from tallow_protocol.core.budget import GuessBudget


async def main(nameplate):
    code = Code.parse(f"{nameplate}-abacus-abdomen-abide")
    listener = await listen("0.0.0.0", 0, tcp=TransportKind.TCP, quic=False, certificate=None)
    route = ListeningRoute(listener, code, GuessBudget(), lambda event: None)
    announcement = await announce(lan_name_of(nameplate), listener.port)
    print("answering", flush=True)
    try:
        await route.next()
    finally:
        await route.close()
        await announcement.close()


asyncio.run(main(sys.argv[1]))
