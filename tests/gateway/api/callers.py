"""Programs with tokens of every role in every place of the small county."""

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from gateway.actors import Actor, Role
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import transaction
from gateway.inquiries import register
from gateway.inquiries.register import NewMatter
from gateway.members import registry
from gateway.members.registry import Draft
from gateway.staff import tokens
from gateway.tables import ApiToken, Inquiry, Member
from tests.console import Client, Console

PHONE = "+8613800138000"


@dataclass(frozen=True, kw_only=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"].startswith("application/problem+json")
        assert self.body["status"] == self.status
        return str(self.body["code"])


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One program with one token; `token` empty: with none."""

    client: Client
    token: str

    async def send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        **headers: str,
    ) -> Answered:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            given.setdefault("Authorization", f"Bearer {self.token}")
        body = None if data is None else BytesIO(data)
        answer = await self.client.request(
            method, f"/api/v1{path}", data=body, headers=given
        )
        text = await answer.text()
        return Answered(
            status=answer.status,
            headers=dict(answer.headers),
            body=json.loads(text) if "json" in answer.content_type else text,
        )

    async def get(self, path: str) -> Answered:
        return await self.send("GET", path)

    async def post(self, path: str, body: Any = None, key: str = "") -> Answered:
        headers = {"Content_Type": "application/json"}
        if key:
            headers["Idempotency_Key"] = key
        data = None if body is None else json.dumps(body).encode()
        return await self.send("POST", path, data, **headers)


@dataclass(frozen=True, kw_only=True)
class Callers:
    console: Console
    core: Core

    def actor(self, name: str) -> Actor:
        return self.console.actors[name]

    async def caller(self, role: Role = Role.CLERK, where: str = "a") -> Caller:
        """A new token; `where` is county, a or b."""
        places = {
            "county": self.console.county,
            "a": self.console.centre_a,
            "b": self.console.centre_b,
        }
        value = await tokens.create(
            self.core,
            self.actor("administrator_county"),
            f"{role}-{where}-{await _tokens()}",
            role,
            places[where].id,
        )
        return Caller(client=self.console.client, token=value)

    def nobody(self, token: str = "") -> Caller:
        return Caller(client=self.console.client, token=token)

    async def member(
        self, where: str = "a", phone: str = PHONE, name: str = "江金凤"
    ) -> Member:
        actor = self.actor(f"clerk_{where}")
        address = Address(AddressKind.PHONE, phone)
        draft = Draft(name=name, organisation_id=actor.organisation_id)
        return await registry.add(self.core, actor, draft, [address])

    async def inquiry(
        self,
        where: str = "a",
        member: Member | None = None,
        text: str = "怎么转组织关系",
    ) -> Inquiry:
        actor = self.actor(f"clerk_{where}")
        new = NewMatter(
            source="counter",
            text=text,
            organisation_id=actor.organisation_id,
            member_id=None if member is None else member.id,
            address=Address(AddressKind.PHONE, PHONE),
        )
        async with transaction():
            return await register.by_staff(self.core, actor, new)


async def _tokens() -> int:
    return await ApiToken.all().count()
