"""A text message whose answer was lost is cleared up with its provider, by itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters import aliyun
from gateway import database as db
from gateway.actors import Role
from gateway.channels import ChannelSet, channel
from gateway.clock import ManualClock
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.outbox import overview, queries
from gateway.runtime import Runtime
from gateway.settings import Binding, ChannelCommon, Settings, Storage
from gateway.tables import Attempt, Outbound
from tests.console import organisation, staff
from tests.flows.conftest import nothing_today
from tests.labs import aliyun_lab
from tests.labs.aliyun_lab import SECRET, AliyunDialect
from tests.labs.process import until
from tests.labs.sms import NOW, Play, SmsLab, context

PATIENCE = 60.0
PHONE = "+8613800138000"


@pytest.fixture
def clock() -> ManualClock:
    """The provider's."""
    return ManualClock(NOW)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    storage = Storage(data_dir=tmp_path, database_url=database_url, reserve_mib=1)
    return Settings(storage=storage)


@pytest.fixture
async def lab() -> AsyncIterator[SmsLab]:
    async with SmsLab(AliyunDialect(), [SECRET]) as opened:
        yield opened


@pytest.fixture
async def channels(lab: SmsLab) -> ChannelSet:
    binding = Binding(template="SMS_1", variables={"text": "{{text}}"})
    common = ChannelCommon(adapter="aliyun", bindings={MessageKind.TEST: binding})
    adapter = aliyun.build(aliyun_lab.settings(lab.endpoint), context())
    return ChannelSet([channel("sms", adapter, common)])


@pytest.fixture
async def runtime(core: Core) -> AsyncIterator[Runtime]:
    made = Runtime(core, nothing_today, alone=not db.is_postgres())
    await made.start()
    yield made
    await made.drain()
    await made.stop()


async def test_a_lost_answer_is_cleared_up(
    core: Core, runtime: Runtime, lab: SmsLab
) -> None:
    """A-4: taken, and hung up on; asked, the provider has it."""
    actor = await staff(core, Role.ADMINISTRATOR, await organisation("清禾县"), "root")
    lab.play = Play.HANG_UP
    await overview.send_test(core, actor, "sms", PHONE, "您好")

    async def is_(state: str) -> bool:
        return (await Outbound.get()).state == state

    await until(lambda: is_("unknown"), PATIENCE)
    message = await Outbound.get()
    lab.play = Play.ACCEPT
    await queries.hurry(core, actor, message.id)
    await until(lambda: is_("accepted"), PATIENCE)
    assert (len(lab.calls), await Attempt.all().count()) == (1, 1)
