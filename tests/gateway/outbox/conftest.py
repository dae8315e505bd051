"""One centre with two channels, its console, and a sender over a carrier in memory."""

from functools import partial

import pytest
from aiohttp import web

from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.outbox import pages
from gateway.outbox.sender import Sender
from gateway.web.app import build_app
from gateway.web.keys import COUNTS
from gateway.web.routes import add_routes
from tests.labs.centre import Centre
from tests.labs.recording import qq, sms
from tests.labs.streams import Carrier, new_sender


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([sms(), qq()])


@pytest.fixture
async def centre(core: Core, clock: ManualClock) -> Centre:
    return await Centre.open(core, clock)


@pytest.fixture
async def app(core: Core) -> web.Application:
    """The console with the pages of the channels."""
    app = build_app(core)
    add_routes(app, pages.ROUTES)
    app[COUNTS].append(partial(pages.count, core))
    return app


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
async def sender(core: Core) -> Sender:
    return await new_sender(core)
