"""One centre with two channels, attacked by strangers."""

import pytest

from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.core import Core
from tests.labs.centre import Centre
from tests.labs.recording import qq, sms


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([sms(), qq()])


@pytest.fixture
async def centre(core: Core, clock: ManualClock) -> Centre:
    return await Centre.open(core, clock)
