"""A-11, G-6: who can't be told the text is known beforehand, and exactly those."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broadcasts import approval, audience, check, notices, plan
from broadcasts.plan import Plan
from broadcasts.stage import staged
from gateway import database as db
from gateway.channels import ChannelSet
from gateway.contract import AddressKind, TextEncoding
from gateway.core import Core
from gateway.settings import Binding
from gateway.tables import Member
from tests.broadcasts.county import County, phone
from tests.labs.process import PROJECT
from tests.labs.recorder import as_channel, recorder

ODD = [
    *("", " ", "\u3000", "藏\u202e字", "零\u200b宽", "【括号】", "长" * 40, "长" * 41),
    *(
        "阿依古丽·买买提",
        "𠮷野",
        "é",
        "e\u0301",
        "a" * 64,
        "名\n字",
        "{{姓名}}",
        "\\d",
        "]",
    ),
    *(
        "ﾊﾝｶｸ",
        "\ufeff前",
        "尾\ufff9",
        "名😀字",
        "\U000e0041",
        "-",
        "^",
        "二〇〇",
        "（小）",
    ),
]
LETTERS = st.sampled_from(
    "张王李赵一鿿㐀䶿·（）09azAZ-^]\\ \u3000\u200b\u202e\ufeff【】𠮷😀é\n\t'\"%_{}[?*"
)


async def planned(county: County, texts: Mapping[str, str], **values: str) -> Plan:
    found = await notices.draft_plan(
        county.core,
        audience.parse({"type": "organisation", "code": "0801"}),
        county.north.id,
        county.north.path,
        title=values.get("title", "通知"),
        texts=texts,
        event_at=None,
        place=values.get("place", ""),
    )
    return found


async def told_apart(core: Core, found: Plan) -> tuple[dict[Any, str], dict[Any, str]]:
    """Who is bad and why: as the check says, and as rendering every text says."""
    async with staged(found) as people:
        number = await check.check(core, people)
        bad = await check.first_bad(people, 10_000)
        assert len(bad) == number
        names = plan.fields(core, found)
        every = {}
        for row in await people.rows(
            f"SELECT * FROM {people.people} WHERE channel IS NOT NULL"
        ):
            outbound = check.as_outbound(found, names, row)
            if (one := check.fault_of(core, found, outbound)) is not None:
                every[row["member_id"], row["channel"]] = one.code
    return {(one.member_id, one.channel): one.code for one in bad}, every


async def named(county: County, names: list[str]) -> None:
    for number, name in enumerate(names):
        ways = [("phone", phone(number))]
        if number % 3 == 0:
            ways = [("email", f"m{number}@example.org")]
        await county.member(name, *ways)


TEXTS = (
    {"sms": "{{姓名}}同志您好"},
    {"sms": "{{姓名}}同志，{{姓名}}", "subject": "{{姓名}}"},
    {"sms": "{{姓名}}", "default": "不写名字"},
    {"sms": '{{ 姓名 | default "同志" }}您好', "email": "{{姓名}}（{{党组织}}）"},
    {"sms": "{{地点}}见", "email": "{{姓名}}"},
    {"sms": "请看【通知】{{姓名}}", "email": "藏\u202e字"},
    {"sms": "字" * 440 + "{{姓名}}"},
    {"sms": "{{党组织}}", "subject": "{{地点}}"},
)


@pytest.mark.parametrize("texts", TEXTS)
async def test_the_statement_and_the_rendering_agree(
    core: Core, county: County, texts: dict[str, str]
) -> None:
    await named(county, ODD)
    checked, rendered = await told_apart(core, await planned(county, texts))
    assert checked == rendered
    assert rendered or "default" in str(texts)


@pytest.mark.parametrize(
    ("encoding", "longest"), [(TextEncoding.UTF8, 60), (TextEncoding.UCS2, 20)]
)
async def test_they_agree_on_approved_templates_too(
    core: Core, county: County, encoding: TextEncoding, longest: int
) -> None:
    wanted = {"who": "{{姓名}}", "all": "{{正文}}，{{正文}}", "at": "{{党组织}}"}
    limits = recorder(
        AddressKind.PHONE, encoding=encoding, max_length=longest, free_text=False
    )
    binding = Binding(template="T1", variables=wanted)
    core.channels = ChannelSet(
        [as_channel("sms", limits, bindings={"notice": binding})]
    )
    for number, name in enumerate([*ODD, *("长" * n for n in range(1, 20))]):
        await county.member(name, ("phone", phone(number)))
    checked, rendered = await told_apart(
        core, await planned(county, {"sms": "{{姓名}}同志"})
    )
    assert checked == rendered
    assert rendered


@given(
    names=st.lists(
        st.text(
            LETTERS | st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
        ),
        min_size=1,
        max_size=20,
    ),
    longest=st.integers(1, 30),
)
@example(names=["张三", "长" * 21, "a"], longest=24)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_they_agree_on_any_name(
    core: Core, county: County, names: list[str], longest: int
) -> None:
    limits = recorder(AddressKind.PHONE, max_length=longest, segments=(70, 67))
    core.channels = ChannelSet([as_channel("sms", limits, signature="【北】")])
    await db.execute("DELETE FROM addresses")
    await db.execute("DELETE FROM members")
    await db.execute("UPDATE organisations SET name = ?", names[0])
    for number, name in enumerate(names):
        await county.member(name, ("phone", phone(number)))
    texts = {"sms": "{{姓名}}、{{姓名}}（{{党组织}}）"}
    checked, rendered = await told_apart(core, await planned(county, texts))
    assert checked == rendered


async def test_a_nul_in_a_name_is_found_where_a_store_takes_it(
    core: Core, county: County
) -> None:
    """SQLite's own functions on texts end at a NUL."""
    member = await county.member("张三", ("phone", phone(1)))
    if db.is_postgres():
        return
    await Member.filter(id=member.id).update(name="张\0\u202e三")
    checked, rendered = await told_apart(
        core, await planned(county, {"sms": "{{姓名}}同志"})
    )
    assert checked == rendered == {(member.id, "sms"): "invisible"}


async def test_an_address_of_seventy_thousand_characters_harms_nobody_else(
    core: Core, county: County
) -> None:
    """A-11: the bad ones are named, all others are as good as before."""
    await county.crowd(5)
    long = await county.member("张三", ("phone", phone(9)))
    if db.is_postgres():
        await db.execute("ALTER TABLE members ALTER name TYPE TEXT")
    await db.execute("UPDATE members SET name = ? WHERE id = ?", "长" * 70_000, long.id)
    checked, rendered = await told_apart(
        core, await planned(county, {"sms": "{{姓名}}同志"})
    )
    assert checked == rendered == {(long.id, "sms"): "bad_text"}


def test_why_somebody_cannot_be_told_is_said_in_words() -> None:
    said = (PROJECT / "gateway/outbox/admit.py").read_text("utf-8")
    codes = set(re.findall(r'NotSayable\("([a-z_]+)"', said))
    assert (
        {"bad_text", "value_missing", "too_long"}
        <= codes
        <= approval.BAD_REASONS.keys()
    )
