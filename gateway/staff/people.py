"""Accounts of the people who work here, and signing in."""

import re
from collections.abc import Sequence

from gateway import audit
from gateway.actors import GATEWAY, Action, Actor, Role
from gateway.core import Core
from gateway.database import transaction
from gateway.errors import NotFound, RequestError
from gateway.organisations.tree import own
from gateway.phrases import together
from gateway.staff import passwords, sessions
from gateway.staff.passwords import Hasher
from gateway.staff.throttle import delay
from gateway.tables import Organisation, Staff

FIRST_USERNAME = "admin"
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,63}")


async def first_administrator(core: Core) -> str | None:
    """On the first start: an administrator of everything, and the one-time password.

    None where there are staff already. A top organisation is made if there is none.
    """
    password = passwords.one_time()
    hash = passwords.argon2().hash(password)
    async with transaction():
        if await Staff.exists():
            return None
        staff = await Staff.create(
            username=FIRST_USERNAME,
            name="管理员",
            role=Role.ADMINISTRATOR,
            organisation=await _top(core),
            password_hash=hash,
            language=core.settings.centre.language,
            created_at=core.clock.now(),
        )
        await audit.record(core.clock, GATEWAY, "staff.created", f"staff:{staff.id}")
    return password


async def _top(core: Core) -> Organisation:
    found = await Organisation.all().order_by("path").first()
    if found is not None:
        return found
    top = await Organisation.create(
        code="0", name=core.settings.centre.name, kind="county"
    )
    top.path = f"/{top.id}/"
    await top.save(update_fields=["path"])
    return top


async def create_staff(
    core: Core,
    hasher: Hasher,
    actor: Actor,
    *,
    username: str,
    name: str,
    role: str,
    organisation_id: int,
) -> str:
    """A new account; its one-time password, which is shown once."""
    actor.require(Action.ADMINISTER)
    await _check(username, name, role)
    password = passwords.one_time()
    hash = await hasher.hash(password)
    async with transaction():
        organisation = await own(actor, organisation_id)
        staff = await Staff.create(
            username=username,
            name=name,
            role=role,
            organisation=organisation,
            password_hash=hash,
            language=core.settings.centre.language,
            created_at=core.clock.now(),
        )
        await audit.record(
            core.clock,
            actor,
            "staff.created",
            f"staff:{staff.id}",
            path=organisation.path,
            role=role,
        )
    return password


async def _check(username: str, name: str, role: str) -> None:
    faults = {}
    if not _USERNAME.fullmatch(username):
        faults["username"] = "用户名为2到64个英文字母、数字、点、横线"
    elif await Staff.filter(username=username).exists():
        faults["username"] = "已有这个用户名，请换一个"
    if not 1 <= len(name) <= 64:
        faults["name"] = "姓名为1到64个字"
    if role not in set(Role):
        faults["role"] = "请选择角色"
    if faults:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )


async def list_staff(actor: Actor) -> Sequence[Staff]:
    """Everybody in the actor's subtree."""
    actor.require(Action.ADMINISTER)
    return (
        await Staff.filter(organisation__path__startswith=actor.path)
        .prefetch_related("organisation")
        .order_by("id")
    )


async def find(actor: Actor, staff_id: int) -> Staff:
    """NotFound for anybody outside the actor's subtree."""
    found = await Staff.get_or_none(
        id=staff_id, organisation__path__startswith=actor.path
    )
    if found is None:
        raise NotFound
    return found


async def reset_password(
    core: Core, hasher: Hasher, actor: Actor, staff_id: int
) -> tuple[str, str]:
    """Username and a new one-time password; every session of the person ends."""
    actor.require(Action.ADMINISTER)
    staff = await _other(actor, staff_id)
    password = passwords.one_time()
    hash = await hasher.hash(password)
    async with transaction():
        staff.password_hash = hash
        staff.must_change_password = True
        staff.failures, staff.locked_until = 0, None
        await staff.save()
        await sessions.end_all(staff_id)
        await audit.record(
            core.clock, actor, "staff.password_reset", f"staff:{staff_id}"
        )
    return staff.username, password


async def set_active(core: Core, actor: Actor, staff_id: int, active: bool) -> None:
    """Stop or restore an account; stopping ends its sessions at once."""
    actor.require(Action.ADMINISTER)
    async with transaction():
        staff = await _other(actor, staff_id)
        staff.active = active
        await staff.save(update_fields=["active"])
        if not active:
            await sessions.end_all(staff_id)
        act = "staff.restored" if active else "staff.stopped"
        await audit.record(core.clock, actor, act, f"staff:{staff_id}")


async def _other(actor: Actor, staff_id: int) -> Staff:
    staff = await find(actor, staff_id)
    if staff.id == actor.staff_id:
        raise RequestError("own_account", "不能对自己的账户这样做", status=409)
    return staff


async def change_password(
    core: Core,
    hasher: Hasher,
    actor: Actor,
    session_id: int,
    *,
    old: str | None,
    new: str,
    repeat: str,
) -> None:
    """One's own password. `old` None: only while a one-time password is in force.
    Other sessions of the person end."""
    staff = await Staff.get(id=actor.staff_id)
    if old is None and not staff.must_change_password:
        raise RequestError("forbidden", status=403)
    if old is not None and not await hasher.verify(old, staff.password_hash):
        raise _fault("old", "现在的密码不对")
    if new != repeat:
        raise _fault("repeat", "两次输入的不一样")
    passwords.refuse_weak(new, staff.username)
    if await hasher.verify(new, staff.password_hash):
        raise _fault("password", "新密码不能和现在的一样")
    hash = await hasher.hash(new)
    async with transaction():
        staff.password_hash = hash
        staff.must_change_password = False
        await staff.save(update_fields=["password_hash", "must_change_password"])
        await sessions.end_all(staff.id, but=session_id)
        await audit.record(
            core.clock, actor, "staff.password_changed", f"staff:{staff.id}"
        )


def _fault(field: str, text: str) -> RequestError:
    return RequestError("invalid", text, status=422, fields={field: text})


async def set_language(actor: Actor, language: str) -> None:
    await Staff.filter(id=actor.staff_id).update(language=language)


async def sign_in(
    core: Core,
    hasher: Hasher,
    username: str,
    password: str,
    remote: str,
    known_device: int | None,
) -> tuple[str, int] | None:
    """Value of a new session's cookie and the person's id; None for any reason why not.

    Unknown names, wrong passwords, stopped and resting accounts take the same time. An
    account that rests after failures opens only on `known_device`, a browser on which
    this very person signed in before: strangers can't lock people out.
    """
    staff = await Staff.get_or_none(username=username, active=True)
    resting = staff is not None and _rests(core, staff, known_device)
    hash = None if staff is None or resting else staff.password_hash
    right = await hasher.verify(password, hash)
    if staff is None or resting or not right:
        await _note_failure(core, staff, remote, counts=not resting)
        return None
    old_hash, new_hash = staff.password_hash, staff.password_hash
    if hasher.outdated(old_hash):
        new_hash = await hasher.hash(password)
    async with transaction():
        staff = await Staff.filter(id=staff.id).select_for_update().get()
        # Many guesses at once are checked one after another: what happened to the
        # account since this one began counts for it too.
        unchanged = staff.active and staff.password_hash == old_hash
        if not unchanged or _rests(core, staff, known_device):
            await _record(core, staff, "staff.sign_in_failed", remote)
            return None
        staff.failures, staff.locked_until = 0, None
        staff.seen_at, staff.password_hash = core.clock.now(), new_hash
        await staff.save(
            update_fields=["failures", "locked_until", "seen_at", "password_hash"]
        )
        cookie = await sessions.start(core, staff.id, remote)
        await _record(core, staff, "staff.signed_in", remote)
    return cookie, staff.id


def _rests(core: Core, staff: Staff, known_device: int | None) -> bool:
    return (
        staff.locked_until is not None
        and staff.locked_until > core.clock.now()
        and known_device != staff.id
    )


async def _note_failure(
    core: Core, known: Staff | None, remote: str, *, counts: bool
) -> None:
    """Writes for unknown names too: otherwise they would be answered sooner."""
    async with transaction():
        if known is None:
            await audit.record(
                core.clock, GATEWAY, "staff.sign_in_failed", "staff:0", remote=remote
            )
            return
        staff = await Staff.filter(id=known.id).select_for_update().get()
        if counts:
            staff.failures = min(staff.failures + 1, 1_000_000)
            staff.locked_until = core.clock.now() + delay(staff.failures)
            await staff.save(update_fields=["failures", "locked_until"])
        await _record(core, staff, "staff.sign_in_failed", remote)


async def _record(core: Core, staff: Staff, act: str, remote: str) -> None:
    organisation = await Organisation.get(id=staff.organisation_id)
    actor = Actor(
        name=staff.name,
        role=Role(staff.role),
        organisation_id=organisation.id,
        path=organisation.path,
        staff_id=staff.id,
    )
    await audit.record(core.clock, actor, act, f"staff:{staff.id}", remote=remote)


async def sign_out(core: Core, actor: Actor, session_id: int) -> None:
    async with transaction():
        await sessions.end(session_id)
        await audit.record(
            core.clock, actor, "staff.signed_out", f"staff:{actor.staff_id}"
        )


async def nobody_signed_in_yet() -> bool:
    return not await Staff.filter(seen_at__isnull=False).exists()
