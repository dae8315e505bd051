"""Messages routed by the batch come to the same as those routed one by one."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import database as db
from gateway import tokens
from gateway.actors import Role
from gateway.channels import ChannelSet
from gateway.contract import Address, AddressKind, InboundMessage
from gateway.core import Core
from gateway.inbox.router import Router
from gateway.inbox.store import store
from gateway.tables import (
    AddressRow,
    Attempt,
    Inbound,
    Member,
    OptOutRow,
    Outbound,
    PromptRow,
)
from tests.console import organisation, staff
from tests.labs.centre import nothing_today
from tests.labs.matters import registered
from tests.labs.outgoing import queued
from tests.labs.recording import qq, recording, sms

PEOPLE = (
    ("phone", "+8613800138000"),  # the first member's, so is the next
    ("qq", "12345678"),
    ("email", "a@example.org"),
    ("phone", "+8613800138001"),  # the second member's, who prefers QQ
    ("qq", "22345678"),
    ("phone", "+8613900139000"),  # nobody's
    ("phone", "+8613900139001"),  # claimed by the second member, not verified
)
CHANNELS = {"phone": "短信", "qq": "QQ", "email": "邮件"}
NUMBERS = ("20261101-0001", "20261101-0002", "20261101-0003", "20261120-0001")
TEXTS = (
    *(
        "1",
        "2",
        "3",
        "满意",
        "不满意",
        "参加",
        "不参加",
        "A1 1",
        "C1 2",
        "A1 3",
        "取消",
    ),
    *("TD", "退订", "退订 我想问党费", "恢复接收", "帮助", "进度", "订阅", "停订"),
    *("每日一答", "绑定", "绑定123456", "谢谢", "请问党费怎么交？", "急：病危求助"),
    *("再补充一点", "7", "", *NUMBERS, " ".join(NUMBERS[:2]), "关于20261101-0001，急"),
)
OWNED = (
    *("inbound", "inquiry_events", "inquiries", "outbox", "prompts", "opt_outs"),
    *("addresses", "members", "staff", "organisations", "subscriptions", "counters"),
    *("attempts",),
)

messages = st.lists(
    st.fixed_dictionaries(
        {
            "who": st.integers(0, len(PEOPLE) - 1),
            "text": st.sampled_from(TEXTS),
            "automatic": st.sampled_from([False] * 9 + [True]),
            "display_name": st.sampled_from(["", "", "小张"]),
            "subject": st.sampled_from(["", "", "有一事相问"]),
            "sent": st.sampled_from([None, -30, 60 * 26, 60 * 60]),  # minutes ago
            "group": st.sampled_from([False] * 9 + [True]),
            "token": st.sampled_from([0, 0, 0, 1, 2]),
            "quotes": st.sampled_from([0, 0, 0, 1, 2]),
        }
    ),
    min_size=1,
    max_size=14,
)
inquiries = st.lists(
    st.fixed_dictionaries(
        {
            "who": st.integers(0, len(PEOPLE) - 1),
            "state": st.sampled_from(["new", "open", "waiting", "answered", "closed"]),
            "days": st.sampled_from([0, 3, 20, 40]),  # since it changed
            "owner": st.sampled_from([None, 1, 2]),
            "rated": st.booleans(),  # asked for a rating
        }
    ),
    max_size=3,
)
worlds = st.fixed_dictionaries(
    {
        "inquiries": inquiries,
        "asked": st.lists(st.integers(0, len(PEOPLE) - 1), max_size=3),
        "refused": st.lists(st.integers(0, len(PEOPLE) - 1), max_size=2),
        "clerks": st.integers(0, 3),
        "busy": st.integers(0, 12),  # messages of the first person before
    }
)
NOTHING: dict[str, Any] = {
    **{name: [] for name in ("inquiries", "asked", "refused")},
    **dict.fromkeys(("clerks", "busy"), 0),
}


HELP: dict[str, Any] = {
    **dict.fromkeys(("who", "token", "quotes"), 0),
    **dict.fromkeys(("display_name", "subject"), ""),
    **dict.fromkeys(("automatic", "group"), False),
    "text": "帮助",
    "sent": None,
}


@pytest.fixture(params=["plain", "counting"])
def channels(request: pytest.FixtureRequest) -> ChannelSet:
    """Channels as most are; and one that allows two replies to a message."""
    more: dict[str, Any] = {}
    if request.param == "counting":
        more = {
            "proactive": False,
            "reply_window": timedelta(hours=1),
            "replies_per_message": 2,
        }
    mail = recording("邮件", {AddressKind.EMAIL}, subject=True)
    return ChannelSet([sms(), qq(**more), mail])


forty = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@forty
@given(world=worlds, arrived=messages)
async def test_a_batch_comes_to_the_same_as_one_by_one(
    core: Core, world: dict[str, Any], arrived: list[dict[str, Any]]
) -> None:
    expected = await one_by_one(core, world, arrived)
    await begin(core, world, arrived)
    with capture_logs() as logs:
        await route_the_rest(Router(core, nothing_today))
    assert logs == []
    found = await outcome(core)
    for name, rows in expected.items():
        assert found[name] == rows, name


@forty
@given(world=worlds, arrived=messages)
@example(world={**NOTHING, "busy": 8}, arrived=[HELP] * 4)  # too many to answer
async def test_what_is_routed_as_it_arrives_comes_to_the_same(
    core: Core, world: dict[str, Any], arrived: list[dict[str, Any]]
) -> None:
    expected = await one_by_one(core, world, arrived)
    await begin(core, world, [])
    router = Router(core, nothing_today)
    events = [event(core, *one) for one in enumerate(arrived)]
    with capture_logs() as logs:
        found = await core.commits.run(lambda: store(core, events, router.route))
        assert found.routed is not None
        assert found.routed.count + found.routed.left == len(arrived)
        await route_the_rest(router)
    assert logs == []
    assert await outcome(core) == expected


async def one_by_one(
    core: Core, world: dict[str, Any], arrived: Sequence[dict[str, Any]]
) -> dict[str, list[db.Row]]:
    """What comes of it that way, which all others are compared with."""
    await begin(core, world, arrived)
    await Router(core, nothing_today).one_by_one()
    return await outcome(core)


async def route_the_rest(router: Router) -> None:
    while await router.step():
        pass


async def begin(
    core: Core, world: dict[str, Any], arrived: Sequence[dict[str, Any]]
) -> None:
    """The same small county, and the messages stored, not yet routed."""
    await emptied()
    now = core.clock.now()
    county = await organisation("清禾县", kind="county")
    centre = await organisation("甲中心", county)
    branch = await organisation("甲支部", centre, "branch")
    for number in range(world["clerks"]):
        await staff(core, Role.CLERK, (county, centre, centre)[number], f"c{number}")
    for name, preferred in (("张三", ""), ("李四", "qq")):
        await Member.create(
            name=name, organisation=branch, preferred_kind=preferred, created_at=now
        )
    await addresses(now)
    await questions(now, world)
    for place, wanted in enumerate(world["inquiries"]):
        await inquiry(now, place, wanted, world["clerks"])
    for number in range(world["busy"]):
        await message(core, now, number - 100, {"text": "早", "state": "ignored"})
    for number, wanted in enumerate(arrived):
        await message(core, now, number, wanted)


async def emptied() -> None:
    if db.is_postgres():
        await db.execute(f"TRUNCATE {', '.join(OWNED)} RESTART IDENTITY CASCADE")
        return
    await db.execute("UPDATE organisations SET parent_id = NULL")
    for table in OWNED:
        await db.execute(f"DELETE FROM {table}")
    await db.execute("DELETE FROM sqlite_sequence")


def member_of(who: int) -> int | None:
    return (1, 1, 1, 2, 2, None, 2)[who]


async def addresses(now: datetime) -> None:
    for who, (kind, value) in enumerate(PEOPLE):
        if who != 5:
            await AddressRow.create(
                kind=kind,
                value=value,
                member_id=member_of(who),
                verified_at=None if who == 6 else now,
                created_at=now,
            )


async def questions(now: datetime, world: dict[str, Any]) -> None:
    later = now + timedelta(days=3)
    for place, who in enumerate(world["asked"]):
        kind, value = PEOPLE[who]
        await PromptRow.create(
            kind=kind,
            value=value,
            prompt="rsvp",
            code=tokens.short_code(place),
            broadcast_id=place + 1,
            data={"title": "主题党日"},
            opened_at=now,
            expires_at=later,
        )
    await PromptRow.create(
        kind="",
        value="",
        prompt="binding",
        code="123456",
        member_id=2,
        opened_at=now,
        expires_at=later,
    )
    for who in world["refused"]:
        kind, value = PEOPLE[who]
        verified = None if who == 6 else member_of(who)
        await OptOutRow.create(
            kind=kind, value=value, member_id=verified, how="page", at=now
        )


async def inquiry(
    now: datetime, place: int, wanted: dict[str, Any], clerks: int
) -> None:
    kind, value = PEOPLE[wanted["who"]]
    at = now - timedelta(days=wanted["days"])
    owner = wanted["owner"]
    made = await registered(
        2,
        at,
        number=NUMBERS[place],
        member_id=None if wanted["who"] == 6 else member_of(wanted["who"]),
        owner_id=owner if owner is not None and owner <= clerks else None,
        source="message",
        channel=CHANNELS[kind],
        kind=kind,
        value=value,
        contact_name="某人",
        state=wanted["state"],
        deadline_at=at + timedelta(days=10),
        closed_at=at if wanted["state"] == "closed" else None,
    )
    sent = await queued(
        at,
        message_kind="receipt",
        inquiry_id=made.id,
        channel=CHANNELS[kind],
        kind=kind,
        value=value,
        text="回执",
        state="accepted",
        provider_id=f"sent-{made.id}",
    )
    await Attempt.create(
        outbound_id=sent.id,
        number=1,
        channel=CHANNELS[kind],
        kind=kind,
        value=value,
        node_id=1,
        journalled_at=now,
        outcome="accepted",
    )
    if wanted["rated"]:
        await PromptRow.create(
            kind=kind,
            value=value,
            prompt="rating",
            code=tokens.short_code(place + 4),
            inquiry_id=made.id,
            opened_at=at,
            expires_at=now + timedelta(days=1),
        )


def event(
    core: Core, number: int, wanted: dict[str, Any]
) -> tuple[str, InboundMessage]:
    """What `message` stores, before it is stored."""
    kind, value = PEOPLE[wanted["who"]]
    ago, token, quoted = wanted["sent"], wanted["token"], wanted["quotes"]
    group = wanted["group"] and kind == "qq"
    sent_at = core.clock.now() - timedelta(minutes=ago or 0)
    key = core.keys.derive("inquiry")
    return CHANNELS[kind], InboundMessage(
        key=f"key{number}",
        sender=Address(AddressKind(kind), value),
        conversation=Address(AddressKind.GROUP, "777777") if group else None,
        text=wanted["text"],
        raw=b"",
        subject=wanted["subject"],
        provider_id=f"theirs-{number}" if kind != "phone" else "",
        answers_to=[f"sent-{quoted}"] if quoted else [],
        reply_token=tokens.sign(key, "inquiry", token) if token else "",
        display_name=wanted["display_name"],
        automatic=wanted["automatic"],
        sent_at=None if ago is None else sent_at,
    )


async def message(
    core: Core, now: datetime, number: int, wanted: dict[str, Any]
) -> None:
    kind, value = PEOPLE[wanted.get("who", 0)]
    sent, group = wanted.get("sent"), wanted.get("group", False) and kind == "qq"
    token = wanted.get("token", 0)
    quoted, key = wanted.get("quotes", 0), core.keys.derive("inquiry")
    await Inbound.create(
        channel=CHANNELS[kind],
        key=f"key{number}",
        kind=kind,
        value=value,
        conversation_kind="group" if group else "",
        conversation_value="777777" if group else "",
        text=wanted["text"],
        subject=wanted.get("subject", ""),
        provider_id=f"theirs-{number}" if kind != "phone" else "",
        answers_to=[f"sent-{quoted}"] if quoted else [],
        reply_token=tokens.sign(key, "inquiry", token) if token else "",
        display_name=wanted.get("display_name", ""),
        automatic=wanted.get("automatic", False),
        payload=b"",
        sent_at=None if sent is None else now - timedelta(minutes=sent),
        received_at=now,
        state=wanted.get("state", "stored"),
    )


async def outcome(core: Core) -> dict[str, list[db.Row]]:
    """All tables, with rows named by what doesn't depend on the order of storing."""
    numbers = {
        row["id"]: row["number"] for row in await db.rows("SELECT * FROM inquiries")
    }
    found = {}
    for table, order in (
        ("inbound", "id"),
        ("inquiries", "number"),
        ("prompts", "id"),
        ("opt_outs", "id"),
        ("addresses", "kind, value"),
        ("subscriptions", "kind, value"),
    ):
        found[table] = await db.rows(f"SELECT * FROM {table} ORDER BY {order}")
    found["counters"] = await db.rows(
        "SELECT * FROM counters WHERE value > 0 ORDER BY name"
    )
    found["outbox"] = await db.rows(
        "SELECT * FROM outbox ORDER BY COALESCE(inbound_id, 0), dedupe_key, id"
    )
    found["events"] = await db.rows(
        "SELECT e.*, o.text AS letter FROM inquiry_events e JOIN inquiries i ON "
        "i.id = e.inquiry_id LEFT JOIN outbox o ON o.id = e.outbound_id "
        "ORDER BY i.number, e.id"
    )
    for row in (row for rows in found.values() for row in rows):
        _anonymous(core, row, numbers)
    return found


def _anonymous(core: Core, row: db.Row, numbers: dict[int, str]) -> None:
    """Without ids that only say when a row was stored."""
    if {"dedupe_key", "letter", "number", "how", "verified_how"} & row.keys():
        row.pop("id", None)
    row.pop("outbound_id", None)
    if row.get("inquiry_id") is not None:
        row["inquiry_id"] = numbers[row["inquiry_id"]]
    if row.get("route") in ("several_open", "several_numbers"):
        ids = row["route_detail"].split(",")
        row["route_detail"] = [numbers[int(one)] for one in ids]
    if "extras" in row:
        extras = json.loads(row["extras"])
        if token := extras.get("reply_token"):
            id = tokens.verify(core.keys.derive("inquiry"), "inquiry", token)
            extras["reply_token"] = numbers[id or 0]
        row["extras"] = extras


@pytest.mark.parametrize("channels", ["plain"], indirect=True)
async def test_more_than_a_statement_takes_keep_their_order(core: Core) -> None:
    """Six hundred people, twice each: one matter a person, with two lines in order."""
    await begin(core, {**NOTHING, "clerks": 1}, [])
    now, people = core.clock.now(), [f"+86138{n:08}" for n in range(600)]
    await Inbound.bulk_create(
        Inbound(
            channel="短信",
            key=f"{word}{value}",
            kind="phone",
            value=value,
            text=word,
            payload=b"",
            received_at=now,
        )
        for word in ("请问党费怎么交？", "再补充一点")
        for value in people
    )
    assert await Router(core, nothing_today).step() == 1200
    found = await db.rows(
        "SELECT i.value, e.kind, e.text FROM inquiries i "
        "JOIN inquiry_events e ON e.inquiry_id = i.id "
        "WHERE e.inbound_id IS NOT NULL ORDER BY i.value, e.id"
    )
    assert [tuple(row.values()) for row in found] == [
        line
        for value in people
        for line in (
            (value, "received", "请问党费怎么交？"),
            (value, "message_in", "再补充一点"),
        )
    ]
    assert await Outbound.filter(message_kind="receipt").count() == 600
    assert await AddressRow.filter(value__in=people).count() == 600


async def test_who_wrote_last_is_kept_where_it_decides(
    core: Core, channels: ChannelSet
) -> None:
    await begin(core, NOTHING, [{"who": 0, "text": "您好"}, {"who": 1, "text": "您好"}])
    assert await Router(core, nothing_today).step() == 2
    kept = await AddressRow.filter(last_inbound_at__isnull=False)
    answering = [one for one in channels if not one.capabilities.proactive]
    assert [row.kind for row in kept] == ["qq"] * len(answering)
