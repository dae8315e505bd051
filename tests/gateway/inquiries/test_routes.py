"""By which channel an answer leaves, and why not by another."""

from datetime import timedelta

import pytest

from gateway.channels import ChannelSet
from gateway.contract import AddressKind
from gateway.errors import RequestError
from gateway.inquiries import view, work
from gateway.status import InquiryState
from gateway.tables import InquiryEvent, Outbound
from tests.labs.centre import Centre, named
from tests.labs.recording import qq, recorder, sms, windowed


def say(text: str, /, **values: object) -> str:
    return text.format(**values) if values else text


class TestTemplatesOnly:
    @pytest.fixture
    def channels(self) -> ChannelSet:
        return ChannelSet([sms(free_text=False), qq()])

    async def test_the_answer_takes_the_next_channel_and_says_why(
        self, centre: Centre
    ) -> None:
        await centre.bind(AddressKind.QQ, "12345678")
        await centre.arrives("请问党费怎么交？")
        inquiry = await centre.inquiry()
        found = await view.way(centre.core, inquiry, say)
        assert found is not None
        assert found["channel"]["label"] == "QQ"
        assert found["reason"] == "短信只能发审核过的模板，改走QQ"
        sent = await work.answer(centre.core, centre.clerk, inquiry.number, "每月交")
        assert sent.channel == "QQ"
        event = await InquiryEvent.get(outbound_id=sent.id)
        assert event.data["refusals"] == ["短信:template_only"]

    async def test_without_another_channel_nothing_is_stored(
        self, centre: Centre
    ) -> None:
        await centre.arrives("请问党费怎么交？")
        inquiry = await centre.inquiry()
        assert await view.way(centre.core, inquiry, say) is None
        with pytest.raises(RequestError) as refused:
            await work.answer(centre.core, centre.clerk, inquiry.number, "每月交")
        assert refused.value.code == "no_channel"
        assert (await centre.inquiry()).state == InquiryState.NEW
        assert await Outbound.all().count() == 0
        await work.tell_by_hand(centre.core, centre.clerk, inquiry.number, "电话说了")
        assert (await centre.inquiry()).state == InquiryState.ANSWERED


class TestReplyWindow:
    @pytest.fixture
    def channels(self) -> ChannelSet:
        return ChannelSet([windowed(), sms()])

    async def test_a_window_that_closes_while_it_waits_reroutes(
        self, centre: Centre
    ) -> None:
        await centre.bind(AddressKind.QQ, "12345678")
        await centre.arrives("在吗", "12345678", AddressKind.QQ, "QQ")
        number = (await centre.inquiry()).number
        sent = await work.answer(
            centre.core, centre.clerk, number, "在", hold=timedelta(hours=2)
        )
        assert sent.channel == "QQ"
        centre.later(hours=3)
        await centre.sends("QQ")
        await centre.sends("短信")
        after = await Outbound.get(id=sent.id)
        assert (after.channel, after.state) == ("短信", "accepted")
        assert recorder(named(centre.core, "短信")).texts[-1].startswith("在")
