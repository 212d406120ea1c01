"""What every transport must do, on asyncio's loop and on uvloop."""

import sys

import pytest
from tallow_net.testing import TRANSPORT_CHECKS

from tests.net.transport.pairs import PAIRS, QUIC_PAIRS, plain_tcp, tls


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make_pair", PAIRS, ids=lambda make: make.__name__)
async def test_on_asyncio(make_pair, check):
    await check(make_pair)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist for Windows")
@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make_pair", [plain_tcp, tls, *QUIC_PAIRS], ids=lambda make: make.__name__)
def test_on_uvloop(make_pair, check):
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(check(make_pair))
