"""A gateway of one county, moved by hand: nothing happens until `Centre.work`."""

import asyncio
from dataclasses import dataclass

import pytest

from gateway.actors import Actor, Role
from gateway.channels import ChannelSet, channel
from gateway.contract import Event
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.inbox.router import Router
from gateway.outbox.sender import Sender
from gateway.settings import ChannelCommon
from gateway.tables import AddressRow, Inquiry, Member, Organisation, Staff
from tests.labs.phones import CHAT, MAIL, Phones


async def nothing_today() -> None:
    return None


@dataclass(slots=True)
class Centre:
    """The gateway with its handsets, and the people who work there."""

    core: Core
    phones: Phones
    chats: Phones
    mails: Phones
    inbox: Inbox
    router: Router
    senders: list[Sender]
    clerk: Actor
    director: Actor
    stranger: Actor  # works in another centre
    county: Actor  # sees everything

    async def receive(self, channel: str, *events: Event) -> None:
        """Push, commit, route: what happens before anybody looks."""
        accepting = asyncio.create_task(self.inbox.accept(channel, events))
        await asyncio.sleep(0)
        await self.inbox.commit()
        await accepting
        await self.work()

    async def work(self) -> None:
        """Route and send until nothing moves."""
        moved = 1
        while moved:
            moved = await self.router.step()
            for sender in self.senders:
                moved += await step(sender)

    async def newest(self) -> Inquiry:
        found = await Inquiry.all().order_by("-id").first()
        assert found is not None
        return found


async def step(sender: Sender) -> int:
    """One round of a sender, with the answers to what it sent."""
    moved = await sender.step()
    await sender.answers()
    return moved


@pytest.fixture
def phones() -> Phones:
    return Phones()


@pytest.fixture
def chats() -> Phones:
    return Phones(capabilities=CHAT)


@pytest.fixture
def mails() -> Phones:
    return Phones(capabilities=MAIL)


@pytest.fixture
def channels(phones: Phones, chats: Phones, mails: Phones) -> ChannelSet:
    common = ChannelCommon(adapter="sandbox")
    accounts = {"sms": phones, "qq": chats, "mail": mails}
    return ChannelSet(channel(n, one, common) for n, one in accounts.items())


@pytest.fixture
async def centre(core: Core, phones: Phones, chats: Phones, mails: Phones) -> Centre:
    county = await organisation("080", "清禾县", "county", None)
    home = await organisation("0801", "禾苑街道党员服务中心", "centre", county)
    other = await organisation("0802", "柳汀镇党员服务中心", "centre", county)
    branch = await organisation("08010101", "禾苑社区党支部", "branch", home)
    now = core.clock.now()
    for name, phone, qq in (
        ("欧阳建国", "+8619900000001", "9900000001"),
        ("谢庆云", "+8619900000002", ""),
    ):
        member = await Member.create(name=name, organisation=branch, created_at=now)
        for kind, value in (("phone", phone), ("qq", qq)):
            if value:
                await AddressRow.create(
                    kind=kind,
                    value=value,
                    member=member,
                    verified_at=now,
                    created_at=now,
                )
    return Centre(
        core=core,
        phones=phones,
        chats=chats,
        mails=mails,
        inbox=Inbox(core),
        router=Router(core, nothing_today),
        senders=[Sender(core, one) for one in core.channels],
        clerk=await person(core, "wangli", Role.CLERK, home),
        director=await person(core, "luowenlan", Role.DIRECTOR, home),
        stranger=await person(core, "quxiaohe", Role.CLERK, other),
        county=await person(core, "cenruogu", Role.CLERK, county),
    )


async def organisation(
    code: str, name: str, kind: str, parent: Organisation | None
) -> Organisation:
    made = await Organisation.create(code=code, name=name, kind=kind, parent=parent)
    made.path = f"{parent.path if parent else '/'}{made.id}/"
    await made.save()
    return made


async def person(
    core: Core, username: str, role: Role, organisation: Organisation
) -> Actor:
    staff = await Staff.create(
        username=username,
        name=username,
        role=role,
        organisation=organisation,
        password_hash="",
        created_at=core.clock.now(),
    )
    return Actor(
        name=username,
        role=role,
        organisation_id=organisation.id,
        path=organisation.path,
        staff_id=staff.id,
    )
