"""A small invented county: two centres, members with addresses of many kinds."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from broadcasts import approval, notices
from broadcasts.content import Draft
from broadcasts.tables import Broadcast
from gateway.actors import Actor, Role
from gateway.core import Core
from gateway.tables import AddressRow, Member, MemberTag, Organisation, Subscription

TEXT = "{{姓名}}同志，周五开会。参加回1，不参加回2。拒收请回复R"


@dataclass
class County:
    core: Core
    county: Organisation
    north: Organisation
    branch: Organisation
    south: Organisation
    clerk: Actor
    director: Actor
    second: Actor
    head: Actor  # of the whole county
    stranger: Actor  # director of the other centre
    members: list[Member] = field(default_factory=list)

    async def member(
        self,
        name: str,
        *addresses: tuple[str, str],
        organisation: Organisation | None = None,
        preferred: str = "",
        tags: tuple[str, ...] = (),
        verified: bool = True,
    ) -> Member:
        now = self.core.clock.now()
        member = await Member.create(
            name=name,
            organisation=organisation or self.branch,
            preferred_kind=preferred,
            created_at=now,
        )
        for kind, value in addresses:
            await AddressRow.create(
                kind=kind,
                value=value,
                member=member,
                verified_at=now if verified else None,
                created_at=now,
            )
        for tag in tags:
            await MemberTag.create(member=member, tag=tag)
        self.members.append(member)
        return member

    async def crowd(self, count: int, first: int = 0) -> None:
        """Members with one mobile number each."""
        for number in range(first, first + count):
            await self.member(f"党员{number}", ("phone", phone(number)))

    async def subscribe(self, kind: str, value: str, member: int | None = None) -> None:
        await Subscription.create(
            kind=kind,
            value=value,
            member_id=member,
            how="staff",
            at=self.core.clock.now(),
        )

    def draft(self, **changes: Any) -> Draft:
        values: dict[str, Any] = {
            "title": "主题党日",
            "texts": {"sms": TEXT},
            "audience": {"type": "organisation", "code": "0801"},
            "rsvp": True,
            "event_at": self.core.clock.now() + timedelta(days=3),
        }
        return Draft(**(values | changes))

    async def approved(self, **changes: Any) -> Broadcast:
        broadcast = await notices.create(self.core, self.clerk, self.draft(**changes))
        broadcast = await approval.submit(
            self.core, self.clerk, broadcast.id, confirmed=True
        )
        return await approval.approve(
            self.core,
            self.director,
            broadcast.id,
            notices.digest(broadcast),
            confirmed=True,
        )


def phone(number: int) -> str:
    return f"+86138{number:08d}"


async def _organisation(
    code: str, name: str, kind: str, parent: Organisation | None
) -> Organisation:
    found = await Organisation.create(code=code, name=name, kind=kind, parent=parent)
    found.path = f"{parent.path if parent else '/'}{found.id}/"
    await found.save()
    return found


def _actor(name: str, role: Role, organisation: Organisation, staff_id: int) -> Actor:
    return Actor(
        name=name,
        role=role,
        organisation_id=organisation.id,
        path=organisation.path,
        staff_id=staff_id,
    )


async def build(core: Core) -> County:
    county = await _organisation("08", "清禾县", "county", None)
    north = await _organisation("0801", "北区中心", "centre", county)
    branch = await _organisation("080101", "柳汀支部", "branch", north)
    south = await _organisation("0802", "南区中心", "centre", county)
    return County(
        core=core,
        county=county,
        north=north,
        branch=branch,
        south=south,
        clerk=_actor("楚经办", Role.CLERK, north, 1),
        director=_actor("岑主任", Role.DIRECTOR, north, 2),
        second=_actor("贺主任", Role.DIRECTOR, north, 3),
        head=_actor("曲主任", Role.DIRECTOR, county, 4),
        stranger=_actor("单主任", Role.DIRECTOR, south, 5),
    )
