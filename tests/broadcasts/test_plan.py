"""Who is reached, at which address, and who is left out with what reason."""

import json
from collections.abc import Mapping
from datetime import timedelta

from broadcasts import audience, notices, plan, preview, recipients, running, stage
from broadcasts.plan import Plan
from broadcasts.stage import Group, LeftOut, staged
from broadcasts.tables import Broadcast
from gateway.channels import ChannelSet
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import Row
from gateway.members import consent
from gateway.tables import AddressRow, Content, Member, Outbound
from tests.broadcasts.county import County, phone
from tests.labs.recorder import Recorder, as_channel, drain


async def planned(county: County, description: Mapping[str, object]) -> Plan:
    return await notices.draft_plan(
        county.core,
        audience.parse(description),
        county.north.id,
        county.north.path,
        title="通知",
        texts={"sms": "{{姓名}}（{{党组织}}）"},
        event_at=None,
        place="",
    )


async def groups(found: Plan) -> list[Group]:
    async with staged(found) as people:
        return await stage.groups(people)


async def left_out(found: Plan) -> list[LeftOut]:
    async with staged(found) as people:
        return await stage.left_out(people)


async def everybody(found: Plan) -> list[Row]:
    """Whom something reaches, in the order of sending."""
    async with staged(found) as people:
        return await people.rows(
            f"SELECT * FROM {people.people} WHERE channel IS NOT NULL ORDER BY n"
        )


async def mixed(county: County) -> None:
    """Twenty members: preferences, no addresses, unverified ones, mail only."""
    await county.crowd(8)
    for number in range(8, 12):
        both = (("phone", phone(number)), ("email", f"m{number}@example.org"))
        await county.member(f"党员{number}", *both, preferred="email")
    await county.member("只有邮箱", ("email", "only@example.org"))
    await county.member("没有地址一")
    await county.member("没有地址二")
    await county.member("没有核实", ("phone", phone(50)), verified=False)
    await county.member("只有QQ", ("qq", "10001"))
    await county.member("QQ刚来过", ("qq", "10002"), ("phone", phone(51)))
    await county.member("中心的", ("phone", phone(52)), organisation=county.north)
    await county.member("别处的", ("phone", phone(53)), organisation=county.south)
    await AddressRow.filter(value="10002").update(
        last_inbound_at=county.core.clock.now() - timedelta(hours=3)
    )


async def test_everybody_is_reached_or_named(core: Core, county: County) -> None:
    await mixed(county)
    found = await planned(county, {"type": "organisation", "code": "0801"})
    reached = {(g.channel, g.people) for g in await groups(found)}
    assert reached == {("sms", 9), ("mail", 5), ("qq", 1)}
    left = {one.reason: one.count for one in await left_out(found)}
    assert left == {"no_address": 2, "unverified": 1, "no_channel": 1}
    assert sum(n for _, n in reached) + sum(left.values()) == 19  # 20, one elsewhere


async def test_without_the_subtree_only_its_own(core: Core, county: County) -> None:
    await mixed(county)
    own = {"type": "organisation", "code": "0801", "with_subtree": False}
    async with staged(await planned(county, own)) as people:
        assert people.reached == 1


async def test_a_tag_stops_at_the_border(core: Core, county: County) -> None:
    await county.member("本中心", ("phone", phone(1)), tags=("流动党员",))
    await county.member("没有标签", ("phone", phone(2)))
    await county.member(
        "别处", ("phone", phone(3)), organisation=county.south, tags=("流动党员",)
    )
    found = await planned(county, {"type": "tag", "tag": "流动党员"})
    assert [g.people for g in await groups(found)] == [1]


async def test_a_list_reaches_each_once_at_the_listed_address(
    core: Core, county: County
) -> None:
    """A-15"""
    two = (("phone", phone(1)), ("phone", phone(2)), ("email", "one@example.org"))
    one = await county.member("一人三址", *two, preferred="email")
    other = await county.member("按编号", ("phone", phone(3)))
    await county.member("别处", ("phone", phone(4)), organisation=county.south)
    description = {
        "type": "list",
        "phones": [phone(2), phone(1), phone(4), phone(99)],
        "ids": [one.id, other.id, 424242],
    }
    found = await planned(county, description)
    rows = await everybody(found)
    assert [(r["member_id"], r["value"]) for r in rows] == [
        (one.id, phone(1)),
        (other.id, phone(3)),
    ]
    # Another branch's number and nobody's number answer alike.
    [left] = await left_out(found)
    assert (left.reason, left.count) == ("unknown_address", 3)
    assert set(left.masked) == {"138****0004", "138****0099", "编号424242"}


async def test_without_channels_everybody_is_left_out(
    core: Core, county: County
) -> None:
    await county.crowd(2)
    core.channels = ChannelSet()
    found = await planned(county, {"type": "organisation", "code": "0801"})
    assert await groups(found) == []
    assert [(o.reason, o.count) for o in await left_out(found)] == [("no_channel", 2)]


async def test_ways_follow_the_gate(core: Core, county: County, qq: Recorder) -> None:
    ways = {w.channel: w for w in plan.ways_now(core, MessageKind.NOTICE)}
    assert ways["sms"].since is None
    since = ways["qq"].since
    assert since is not None
    order = [w.channel for w in sorted(ways.values(), key=lambda w: w.position)]
    assert order == ["qq", "sms", "mail"]


async def test_a_run_begins_where_the_largest_share_is(
    core: Core, county: County, sms: Recorder
) -> None:
    shares = {"sms": None, "small": 40, "large": 60}
    core.channels = ChannelSet(as_channel(n, sms, share=s) for n, s in shares.items())
    ways = plan.ways_now(core, MessageKind.NOTICE)
    order = [w.channel for w in sorted(ways, key=lambda w: w.position)]
    assert order == ["large", "small", "sms"]


async def test_frozen_rows_carry_just_their_values(core: Core, county: County) -> None:
    await county.member('引号"和{{花括号}}', ("phone", phone(1)))
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    row = await Outbound.get(broadcast_id=broadcast.id)
    assert row.text is None
    assert row.variables == {"name": '引号"和{{花括号}}', "title": "主题党日"}
    assert (row.state, row.dedupe_key) == ("planned", None)
    content = await Content.get(id=row.content_id)
    assert json.loads(json.dumps(content.texts))["subject"] == "{{title}}"


async def test_a_long_mail_address_is_no_obstacle(
    core: Core, county: County, mail: Recorder
) -> None:
    address = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.org"
    await county.member("长地址", ("email", address))
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    assert mail.to == [address]
    assert mail.sent[0].subject == "主题党日"


async def test_the_preview_tells_cost_people_and_who_has_opted_out(
    core: Core, county: County
) -> None:
    await mixed(county)
    await consent.opt_out(
        core, Address(AddressKind.PHONE, phone(0)), how="word", evidence="R"
    )
    found, faults = await preview.of_draft(core, county.clerk, county.draft())
    assert faults == {}
    assert (found.people, found.opted_out, found.unreachable) == (14, 1, 4)
    sms = next(way for way in found.ways if way.channel == "sms")
    assert len(sms.samples) == 3
    assert sms.samples[0].text.startswith("【北区中心】党员0同志")
    assert (sms.segments, sms.people, sms.price_fen) == (1, 8, 36.0)
    assert found.price_fen == 36.0
    assert not found.hints


async def test_a_preview_of_half_a_draft_says_what_is_missing(
    core: Core, county: County
) -> None:
    await county.crowd(2)
    draft = county.draft(title="", texts={"sms": "{{姓}}"})
    found, faults = await preview.of_draft(core, county.clerk, draft)
    assert set(faults) == {"title", "sms"}
    assert found.people == 2
    nobody, faults = await preview.of_draft(
        core, county.clerk, county.draft(audience={"type": "tag"})
    )
    assert "audience" in faults
    assert nobody.people == 0
    bare, _ = await preview.of_draft(
        core, county.clerk, county.draft(texts={"sms": "开会"})
    )
    assert len(bare.hints) == 2


async def test_the_left_out_stay_with_the_broadcast(core: Core, county: County) -> None:
    await mixed(county)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    found = await Broadcast.get(id=broadcast.id)
    assert found.planned == 15
    assert {one["reason"]: one["count"] for one in found.left_out} == {
        "no_address": 2,
        "unverified": 1,
        "no_channel": 1,
    }
    assert set(recipients.LEFT_OUT) >= {one["reason"] for one in found.left_out}


async def test_everybody_of_a_long_list_is_staged_in_order(
    core: Core, county: County
) -> None:
    now = core.clock.now()
    count = 1_007
    await Member.bulk_create(
        [
            Member(name=f"党员{n}", organisation=county.branch, created_at=now)
            for n in range(count)
        ]
    )
    members = await Member.all().order_by("id")
    # Every third has no address.
    await AddressRow.bulk_create(
        [
            AddressRow(
                kind="phone",
                value=phone(n),
                member=member,
                verified_at=now,
                created_at=now,
            )
            for n, member in enumerate(members)
            if n % 3
        ]
    )
    found = await planned(county, {"type": "organisation", "code": "0801"})
    rows = await everybody(found)
    wanted = [member.id for n, member in enumerate(members) if n % 3]
    assert [row["member_id"] for row in rows] == wanted
    assert [one.count for one in await left_out(found)] == [count - len(wanted)]
