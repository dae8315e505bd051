"""The gateway of a drill that does not come up says why, at once."""

import socket
from pathlib import Path

import aiohttp
import pytest

from gateway.drill.peers import Manners, peers
from gateway.drill.processes import NotStarted
from gateway.drill.site import Api, prepared

pytestmark = pytest.mark.slow


async def test_a_busy_port_is_told(tmp_path: Path) -> None:
    manners = Manners(people=1, inbound=0)
    async with (
        peers(tmp_path, ("sandbox",), manners) as met,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
    ):
        site = await prepared(tmp_path, "", met, 1)
        try:
            with socket.create_server(("127.0.0.1", site.port)):
                await site.start()
                with pytest.raises(NotStarted, match="address already in use"):
                    await Api(site, session).answers()
        finally:
            await site.close()
