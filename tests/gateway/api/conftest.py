"""The whole API on one phone channel, for programs of the small county."""

import pytest
from aiohttp import web

from broadcasts import api as broadcasts_api
from gateway.api import deliveries, inquiries, members
from gateway.api.operations import mount
from gateway.channels import ChannelSet
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.web.app import build_app
from tests.console import Console
from tests.gateway.api.callers import Callers
from tests.labs.recorder import Recorder, as_channel, recorder


@pytest.fixture
def sms() -> Recorder:
    return recorder(AddressKind.PHONE, segments=(70, 67))


@pytest.fixture
def channels(sms: Recorder) -> ChannelSet:
    return ChannelSet([as_channel("sms", sms)])


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    parts = (inquiries, members, deliveries, broadcasts_api)
    mount(app, (one for part in parts for one in part.OPERATIONS))
    return app


@pytest.fixture
async def callers(console: Console, core: Core) -> Callers:
    return Callers(console=console, core=core)
