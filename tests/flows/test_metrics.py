"""The numbers of /metrics move with the messages."""

from pytest_aiohttp import AiohttpClient

from gateway.errors import OutcomeUnknown, TransientFailure
from gateway.inquiries import work
from gateway.web.app import build_app
from tests.console import Client
from tests.flows.conftest import Centre

JIANGUO = "+8619900000001"


async def numbers(client: Client) -> dict[str, float]:
    text = await (await client.get("/metrics")).text()
    lines = [one.rpartition(" ") for one in text.splitlines() if one[:1] != "#"]
    return {name: float(value) for name, _, value in lines}


async def test_messages_are_counted(
    centre: Centre, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(build_app(centre.core))
    text = centre.phones.text(JIANGUO, "党费怎么交？")
    await centre.receive("sms", text)
    await centre.receive("sms", text)  # the provider pushes it again
    centre.phones.answers[JIANGUO] = OutcomeUnknown("silence")
    inquiry = await centre.newest()
    await work.answer(centre.core, centre.clerk, inquiry.number, "每月交到支部。")
    await centre.work()
    centre.phones.answers[JIANGUO] = TransientFailure("refused_connection")
    await work.answer(centre.core, centre.clerk, inquiry.number, "每月十日前。")
    await centre.work()
    await centre.receive("sms", centre.phones.receipt(centre.phones.sent[0]))

    found = await numbers(client)
    outbound = 'lianxin_outbound_total{channel="sms",state="'
    assert found['lianxin_inbound_total{channel="sms"}'] == 1
    assert found[outbound + 'accepted"}'] == 1
    assert found[outbound + 'delivered"}'] == 1
    assert found[outbound + 'unknown"}'] == 1
    assert outbound + 'queued"}' not in found
    assert found['lianxin_queue{channel="sms"}'] == 1
    assert found['lianxin_queue{channel="qq"}'] == 0
