"""A centre on a clock that stands still: texts come in, steps are taken by hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from gateway.actors import Actor, Role
from gateway.channels import Channel
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, Event, InboundMessage
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.inbox.router import Router
from gateway.outbox.sender import Sender
from gateway.tables import AddressRow, Inbound, Inquiry, Member, Node, Organisation
from tests.console import organisation, staff

PHONE = "+8613800138000"
_KEYS = count(1)


async def nothing_today() -> None:
    return None


@dataclass(slots=True, kw_only=True)
class Centre:
    core: Core
    clock: ManualClock
    county: Organisation
    centre_a: Organisation
    branch_a: Organisation
    centre_b: Organisation
    clerk: Actor
    director: Actor
    other: Actor  # a clerk of the other centre
    member: Member
    inbox: Inbox
    router: Router

    @classmethod
    async def open(cls, core: Core, clock: ManualClock) -> "Centre":
        county = await organisation("清禾县", kind="county")
        centre_a = await organisation("甲中心", county)
        branch_a = await organisation("甲支部", centre_a, "branch")
        centre_b = await organisation("乙中心", county)
        node = await Node.create(started_at=clock.now(), seen_at=clock.now())
        core.node_id = node.id
        member = await Member.create(
            name="张三", organisation=branch_a, created_at=clock.now()
        )
        made = cls(
            core=core,
            clock=clock,
            county=county,
            centre_a=centre_a,
            branch_a=branch_a,
            centre_b=centre_b,
            clerk=await staff(core, Role.CLERK, centre_a, "clerk"),
            director=await staff(core, Role.DIRECTOR, centre_a, "director"),
            other=await staff(core, Role.CLERK, centre_b, "other"),
            member=member,
            inbox=Inbox(core),
            router=Router(core, nothing_today),
        )
        await made.bind(AddressKind.PHONE, PHONE)
        return made

    async def bind(self, kind: AddressKind, value: str) -> AddressRow:
        """A verified address of the member."""
        return await AddressRow.create(
            kind=kind,
            value=value,
            member=self.member,
            verified_at=self.clock.now(),
            created_at=self.clock.now(),
        )

    async def arrives(
        self,
        text: str,
        value: str = PHONE,
        kind: AddressKind = AddressKind.PHONE,
        channel: str = "短信",
        **more: Any,
    ) -> Inbound:
        """A text comes in, is stored and routed; as it stands then."""
        key = more.pop("key", f"key-{next(_KEYS)}")
        event = InboundMessage(
            key=key, sender=Address(kind, value), text=text, raw=text.encode(), **more
        )
        await self.takes(channel, [event])
        await self.router.step()
        return await Inbound.get(channel=channel, key=key)

    async def takes(self, channel: str, events: Sequence[Event]) -> None:
        """These are stored; return after the commit."""
        delivery = asyncio.ensure_future(self.inbox.accept(channel, events))
        await asyncio.sleep(0)
        await self.inbox.commit()
        await delivery

    async def sends(self, channel: str) -> None:
        """Everything due on this channel leaves and is settled."""
        made = self.core.channels.get(channel)
        assert made is not None
        sender = Sender(self.core, made)
        while await sender.step():
            await sender.answers()
        await sender.stop(5)

    def later(self, **by: float) -> None:
        self.clock.advance(timedelta(**by))

    async def inquiry(self) -> Inquiry:
        """The newest one."""
        found = await Inquiry.all().order_by("-id").first()
        assert found is not None
        return found


def named(core: Core, name: str) -> Channel:
    found = core.channels.get(name)
    assert found is not None
    return found
