"""Nobody becomes somebody else by guessing, collecting or inventing."""

import re

from gateway.contract import Address, AddressKind
from gateway.members import codes
from gateway.tables import AddressRow, Inbound, Member, Outbound, PromptRow
from tests.labs.centre import PHONE, Centre

QQ = AddressKind.QQ
EMAIL = AddressKind.EMAIL


async def from_qq(centre: Centre, text: str, value: str = "10009") -> Inbound:
    return await centre.arrives(text, value, QQ, "QQ")


async def told_code() -> str:
    """What the telephone got last."""
    sent = await Outbound.filter(kind="phone").order_by("-id").first()
    assert sent is not None
    found = re.search("[0-9]{6}", sent.text)
    assert found is not None
    return found[0]


async def owner_of(kind: AddressKind, value: str) -> int | None:
    row = await AddressRow.get_or_none(kind=kind, value=value)
    return None if row is None else row.member_id


async def test_who_asked_binds_with_the_code(centre: Centre) -> None:
    await from_qq(centre, f"绑定 {PHONE}")
    await from_qq(centre, f"绑定 {await told_code()}")
    assert await owner_of(QQ, "10009") == centre.member.id


async def test_a_code_asked_for_elsewhere_opens_nothing(centre: Centre) -> None:
    await from_qq(centre, f"绑定 {PHONE}")
    message = await from_qq(centre, f"绑定 {await told_code()}", "66666")
    assert message.route == "bind_failed"
    assert await owner_of(QQ, "66666") is None


async def test_one_stranger_has_few_telephones_written_to(centre: Centre) -> None:
    for n in range(10):
        member = await Member.create(
            name="某", organisation=centre.branch_a, created_at=centre.clock.now()
        )
        await AddressRow.create(
            kind="phone",
            value=f"+86138111100{n:02}",
            member=member,
            verified_at=centre.clock.now(),
            created_at=centre.clock.now(),
        )
        await from_qq(centre, f"绑定 138111100{n:02}")
        centre.later(minutes=4)
    assert await Outbound.filter(kind="phone").count() == 5


async def test_who_asks_does_not_end_the_code_that_staff_gave(centre: Centre) -> None:
    code = await codes.issue(centre.core, centre.member.id)
    await from_qq(centre, f"绑定 {PHONE}", "66666")
    await from_qq(centre, f"绑定 {code}")
    assert await owner_of(QQ, "10009") == centre.member.id


async def test_invented_mail_senders_can_not_try_the_codes_of_staff(
    centre: Centre,
) -> None:
    code = await codes.issue(centre.core, centre.member.id)
    await centre.arrives(f"绑定 {code}", "x@example.org", EMAIL, "邮件")
    assert await owner_of(EMAIL, "x@example.org") is None
    assert await PromptRow.filter(closed_at__isnull=True).exists()


async def test_a_code_takes_no_address_from_its_member(centre: Centre) -> None:
    """A mail that only claims to come from a member can't hand the address over."""
    other = await Member.create(
        name="李四", organisation=centre.branch_a, created_at=centre.clock.now()
    )
    await centre.bind(QQ, "10009")
    code = await codes.issue(centre.core, other.id)
    message = await from_qq(centre, f"绑定 {code}")
    assert message.route == "bind_failed"
    assert await owner_of(QQ, "10009") == centre.member.id


async def test_six_guesses_in_an_hour_are_too_many(centre: Centre) -> None:
    code = await codes.issue(centre.core, centre.member.id)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for _ in range(5):
        await from_qq(centre, f"绑定 {wrong}")
    assert (await from_qq(centre, f"绑定 {code}")).route == "bind_failed"
    assert await codes.issued_since(
        centre.core, centre.member.id, Address(QQ, "10009"), codes.LASTS
    )
