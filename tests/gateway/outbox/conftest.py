"""One centre with two channels; and a sender over a carrier in memory."""

import pytest

from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.outbox.sender import Sender
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
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
async def sender(core: Core) -> Sender:
    return await new_sender(core)
