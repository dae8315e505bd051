"""API tokens: made once, shown once, stored as a hash."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from gateway import audit
from gateway.actors import Action, Actor, Role
from gateway.core import Core
from gateway.database import (
    execute,
    from_micros,
    marks,
    rows,
    to_micros,
    transaction,
)
from gateway.errors import NotFound, RequestError
from gateway.organisations.tree import own
from gateway.tables import ApiToken

COMMAND_LINE = "command line"  # who acts where nobody is signed in
_TOUCH_EVERY = timedelta(minutes=1)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


async def create(
    core: Core, actor: Actor, name: str, role: Role, organisation_id: int
) -> str:
    """A new token for `role` in the subtree of an organisation the actor sees."""
    actor.require(Action.ADMINISTER)
    name = name.strip()
    if not 1 <= len(name) <= 64:
        raise _fault("name", "名称为1到64个字符")
    value = f"lx_{secrets.token_urlsafe(32)}"
    async with transaction():
        organisation = await own(actor, organisation_id)
        if await ApiToken.filter(name=name).exists():
            raise _fault("name", "已有同名的令牌，请换一个名称")
        token = await ApiToken.create(
            name=name,
            token_hash=_hash(value),
            role=role,
            organisation=organisation,
            created_at=core.clock.now(),
        )
        await audit.record(
            core.clock, actor, "token.created", f"token:{token.id}", role=role
        )
    return value


def _fault(field: str, text: str) -> RequestError:
    return RequestError("invalid", text, status=422, fields={field: text})


async def list_all(actor: Actor) -> Sequence[ApiToken]:
    """The newest first, those that were revoked last."""
    actor.require(Action.ADMINISTER)
    found = (
        await ApiToken.filter(organisation__path__startswith=actor.path)
        .prefetch_related("organisation")
        .order_by("-id")
    )
    return sorted(found, key=lambda one: one.revoked_at is not None)


async def makers(listed: Iterable[ApiToken]) -> Mapping[int, str]:
    """By the token's id who made it, as the audit tells."""
    objects = {f"token:{one.id}": one.id for one in listed}
    found = await rows(
        "SELECT object, actor FROM audit WHERE action = 'token.created' "
        f"AND object IN ({marks(len(objects)) or 'NULL'})",
        *objects,
    )
    return {objects[row["object"]]: row["actor"] for row in found}


async def revoke(core: Core, actor: Actor, token_id: int) -> None:
    actor.require(Action.ADMINISTER)
    async with transaction():
        token = await ApiToken.get_or_none(
            id=token_id, organisation__path__startswith=actor.path
        )
        if token is None:
            raise NotFound
        if token.revoked_at is None:
            token.revoked_at = core.clock.now()
            await token.save(update_fields=["revoked_at"])
            await audit.record(core.clock, actor, "token.revoked", f"token:{token_id}")


async def verify(core: Core, value: str, remote: str = "") -> Actor | None:
    """Whom a bearer token stands for; None where it is unknown or revoked."""
    found = await rows(
        """
        SELECT t.id, t.name, t.role, t.used_at, o.id AS organisation_id, o.path
        FROM api_tokens t JOIN organisations o ON o.id = t.organisation_id
        WHERE t.token_hash = ? AND t.revoked_at IS NULL
        """,
        _hash(value),
    )
    if not found:
        return None
    row, now = found[0], core.clock.now()
    if row["used_at"] is None or now - from_micros(row["used_at"]) >= _TOUCH_EVERY:
        await execute(
            "UPDATE api_tokens SET used_at = ? WHERE id = ?", to_micros(now), row["id"]
        )
    return Actor(
        name=f"api:{row['name']}",
        role=Role(row["role"]),
        organisation_id=row["organisation_id"],
        path=row["path"],
        remote=remote,
    )
