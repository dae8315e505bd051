"""Three channels in memory and the small county they serve."""

from datetime import timedelta

import pytest

from gateway.channels import ChannelSet
from gateway.contract import AddressKind
from gateway.core import Core
from tests.broadcasts.county import County, build
from tests.labs.recorder import Recorder, as_channel, recorder


@pytest.fixture
def sms() -> Recorder:
    return recorder(AddressKind.PHONE, segments=(70, 67))


@pytest.fixture
def qq() -> Recorder:
    """Only answers, two days long."""
    return recorder(
        AddressKind.QQ,
        max_length=2000,
        proactive=False,
        reply_window=timedelta(days=2),
    )


@pytest.fixture
def mail() -> Recorder:
    return recorder(AddressKind.EMAIL, max_length=20_000, subject=True)


@pytest.fixture
def channels(sms: Recorder, qq: Recorder, mail: Recorder) -> ChannelSet:
    return ChannelSet(
        [
            as_channel("sms", sms, signature="【北区中心】", price_fen=4.5),
            as_channel("qq", qq),
            as_channel("mail", mail),
        ]
    )


@pytest.fixture
async def county(core: Core) -> County:
    return await build(core)
