"""A small county and browsers for its staff, for tests of pages.

/1/ county ── /1/2/ centre A ── /1/2/3/ branch of A
          └── /1/4/ centre B
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient
from multidict import MultiDict
from pytest_aiohttp import AiohttpClient

from gateway.actors import Actor, Role
from gateway.core import Core
from gateway.staff import passwords
from gateway.tables import Organisation, Staff
from gateway.web.keys import CORE

Client = TestClient[web.Request, web.Application]
PASSWORD = "白日依山尽 黄河入海流 鹳雀"
# Made once: hashing for every person of every test would take longer than the tests.
HASH = passwords.argon2().hash(passwords.normal(PASSWORD))


async def organisation(
    name: str, parent: Organisation | None = None, kind: str = "centre"
) -> Organisation:
    found = await Organisation.create(
        name=name, code=f"c{await Organisation.all().count()}", kind=kind, parent=parent
    )
    found.path = f"{parent.path if parent else '/'}{found.id}/"
    await found.save()
    return found


async def staff(core: Core, role: Role, place: Organisation, username: str) -> Actor:
    """A person with `PASSWORD`."""
    person = await Staff.create(
        username=username,
        name=f"同志{username}",
        role=role,
        organisation=place,
        password_hash=HASH,
        must_change_password=False,
        created_at=core.clock.now(),
    )
    return Actor(
        name=person.name,
        role=role,
        organisation_id=place.id,
        path=place.path,
        staff_id=person.id,
    )


@dataclass(slots=True, kw_only=True)
class Browser:
    """One signed-in browser. `post` carries the form token, as our pages do."""

    client: Client
    csrf: str

    async def get(self, path: str, **more: Any) -> ClientResponse:
        return await self.client.get(path, allow_redirects=False, **more)

    async def post(
        self,
        path: str,
        data: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
        **more: Any,
    ) -> ClientResponse:
        fields = MultiDict(data)  # a list of pairs may have a name more than once
        fields.setdefault("csrf", self.csrf)
        return await self.client.post(path, data=fields, allow_redirects=False, **more)


@dataclass(slots=True, kw_only=True)
class Console:
    """The running application, its county, and one person of every role in each
    place: `clerk_a`, `administrator_county`, ..."""

    app: web.Application
    client: Client  # nobody is signed in here
    aiohttp_client: AiohttpClient
    county: Organisation
    centre_a: Organisation
    branch_a: Organisation
    centre_b: Organisation
    actors: dict[str, Actor] = field(default_factory=dict)

    @classmethod
    async def open(
        cls, app: web.Application, aiohttp_client: AiohttpClient
    ) -> "Console":
        core = app[CORE]
        county = await organisation("清禾县", kind="county")
        centre_a = await organisation("甲中心", county)
        branch_a = await organisation("甲支部", centre_a, "branch")
        centre_b = await organisation("乙中心", county)
        actors = {}
        for place, where in (("county", county), ("a", centre_a), ("b", centre_b)):
            for role in Role:
                name = f"{role}_{place}"
                actors[name] = await staff(core, role, where, name)
        return cls(
            app=app,
            client=await aiohttp_client(app),
            aiohttp_client=aiohttp_client,
            county=county,
            centre_a=centre_a,
            branch_a=branch_a,
            centre_b=centre_b,
            actors=actors,
        )

    async def browser(self, username: str) -> Browser:
        """Sign `username` in, in a browser of its own."""
        client = await self.fresh_client()
        answer = await client.post(
            "/login",
            data={"username": username, "password": PASSWORD},
            allow_redirects=False,
        )
        assert answer.status == 303, await answer.text()
        return Browser(client=client, csrf=await csrf(client))

    async def fresh_client(self) -> Client:
        # Cookies for an address instead of a name are kept by an unsafe jar only.
        return await self.aiohttp_client(
            self.client.server, cookie_jar=CookieJar(unsafe=True)
        )


async def csrf(client: Client, path: str = "/account") -> str:
    """The form token of a signed-in browser, read off a page."""
    answer = await client.get(path)
    found = re.search(r'name="csrf" content="([^"]+)"', await answer.text())
    assert found, answer.status
    return found[1]
