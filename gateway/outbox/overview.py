"""The channels as the console shows them: state, numbers, abilities, last error."""

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any

from gateway import addresses, audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.channels import Channel, Reach, Route, refusal
from gateway.contract import (
    Address,
    AddressKind,
    Capabilities,
    MessageKind,
    Queries,
    Receives,
)
from gateway.core import Core
from gateway.database import from_micros, rows, to_micros
from gateway.errors import NotFound, RequestError
from gateway.inquiries import words
from gateway.outbox import journal
from gateway.outbox.account import in_words, outage, said, state, unserved
from gateway.outbox.enqueue import Draft, enqueue
from gateway.outbox.report import (
    MOVING,
    REACHED,
    STUCK,
    UNREACHABLE,
    Report,
    reports,
)
from gateway.phrases import phrase
from gateway.web.hooks import hook_path

EXAMPLES: Mapping[AddressKind, str] = {
    AddressKind.PHONE: "13800138000",
    AddressKind.EMAIL: "name@example.org",
    AddressKind.QQ: "12345678",
    AddressKind.GROUP: "12345678",
}
PUSHES = ("report", "reply")  # what SMS providers push: receipts, and replies
_TESTS_SHOWN = 3
_MEND = "请检查 settings.toml 里的账号和网络；渠道恢复后会自动接着发。"
_NEXT = "下一条发成后自动变回正常；如果一直这样，请检查 settings.toml 里的账号和网络。"
_UNSERVED = "暂时没有进程负责这个渠道，消息在排队。"
_LOOK = "请管理员查看“运行状态”。"
_THROTTLED = "对方要求放慢，已自动降低发送速度，之后逐步恢复。"


async def cards(core: Core, actor: Actor, say: Any) -> list[dict[str, Any]]:
    """The `channels` of templates/pages/partials/_channel_cards.html."""
    since = to_micros(_midnight(core))
    unknown, received, told = await _unknown(), await _received(since), await reports()
    free = await unserved(core)
    return [
        {
            **await _card(
                core, actor, one, told.get(one.name, {}), say, one.name in free
            ),
            "unknown": unknown.get(one.name, 0),
            "received_today": received.get(one.name, 0),
        }
        for one in core.channels
    ]


def _midnight(core: Core) -> datetime:
    zone = core.settings.centre.timezone
    return datetime.combine(core.clock.now().astimezone(zone).date(), time.min, zone)


async def _unknown() -> Mapping[str, int]:
    found = await rows(
        "SELECT channel, COUNT(*) AS n FROM outbox WHERE state = 'unknown' "
        "GROUP BY channel"
    )
    return {row["channel"]: int(row["n"]) for row in found}


async def _received(since: int) -> Mapping[str, int]:
    found = await rows(
        "SELECT channel, COUNT(*) AS n FROM inbound WHERE id > COALESCE((SELECT id "
        "FROM inbound WHERE received_at < ? ORDER BY id DESC LIMIT 1), 0) "
        "GROUP BY channel",
        since,
    )
    return {row["channel"]: int(row["n"]) for row in found}


async def _card(
    core: Core,
    actor: Actor,
    channel: Channel,
    told: Report,
    say: Any,
    is_unserved: bool,
) -> dict[str, Any]:
    kind = first_kind(channel)
    is_today = told.get("day") == _midnight(core).date().isoformat()
    last = told.get("last_success")
    return {
        "name": channel.name,
        "label": channel.label,
        "kind": kind,
        "adapter": channel.common.adapter,
        "state": "down" if is_unserved else state(channel, told),
        "waiting": await journal.queued(channel.name),
        "sent_today": told.get("sent", 0) if is_today else 0,
        "failed_today": told.get("failed", 0) if is_today else 0,
        "last_success": from_micros(last) if last else None,
        "last_error": _unserved(told, say)
        if is_unserved
        else await _last_error(channel, told, say),
        "abilities": abilities(channel, say),
        "to_example": EXAMPLES.get(kind, ""),
        "pushes": _pushes(core, actor, channel),
        "tests": await _tests(channel, say),
    }


def first_kind(channel: Channel) -> AddressKind:
    kinds = channel.capabilities.address_kinds
    return next(kind for kind in AddressKind if kind in kinds)


def _unserved(told: Report, say: Any) -> dict[str, Any]:
    at = from_micros(told.get("at", 0))
    return {"at": at, "text": say(_UNSERVED), "mend": say(_LOOK)}


async def _last_error(
    channel: Channel, told: Report, say: Any
) -> dict[str, Any] | None:
    """Why the account is in trouble, while it is: not why one number was refused."""
    now = state(channel, told)
    if now == "ok":
        return None
    if now == "trouble" and told.get("throttled"):
        at = from_micros(told["last_throttle"])
        return {"at": at, "text": say(_THROTTLED), "mend": ""}
    event = await _event(channel.name, told)
    if event is None:
        return None
    what, why = in_words(event["code"]), said(event["detail"])
    mend = _NEXT if now == "trouble" and told.get("trouble") else _MEND
    if told.get("open_since"):
        here = await outage(channel.name, told)
        what, why = in_words(UNREACHABLE), here.why
        if here.refused:
            what, mend = "对方拒绝登录", here.mend
    text = phrase("{channel}：{why}", channel=phrase(what), why=phrase(why))
    return {
        "at": from_micros(event["at"]),
        "text": say(text if why else what),
        "mend": say(mend),
    }


def _cause(told: Report) -> str | None:
    """The code of what ails the account; None: its owner didn't say."""
    if told.get("open_since"):
        return UNREACHABLE
    return told.get("trouble") or (STUCK if told.get("waiting_since") else None)


async def _event(name: str, told: Report) -> db.Row | None:
    """The newest event of what ails the account, else the newest that was bad news."""
    found = await rows(
        "SELECT code, detail, at FROM channel_events WHERE channel = ? "
        "AND code = COALESCE(?, code) AND code NOT IN (?, ?) ORDER BY id DESC LIMIT 1",
        name,
        _cause(told),
        REACHED,
        MOVING,
    )
    return found[0] if found else None


def abilities(channel: Channel, say: Any) -> list[str]:
    """What the channel can do, in words."""
    limits = channel.capabilities
    return [say(what, **values) for what, values in _abilities(channel, limits)]


def _abilities(
    channel: Channel, limits: Capabilities
) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    found.append(("可以主动发送" if limits.proactive else "只能回复来信", {}))
    if limits.reply_window is not None:
        minutes = limits.reply_window.total_seconds() / 60
        found.append(("{n} 分钟内可回复", {"n": round(minutes)}))
    if limits.replies_per_message is not None:
        found.append(("每条来信可回复 {n} 次", {"n": limits.replies_per_message}))
    if not limits.free_text:
        found.append(("只发审核过的模板", {}))
        bound = "、".join(kind.value for kind in channel.common.bindings)
        found.append(("已绑定模板：{kinds}", {"kinds": bound or "—"}))
    found.append(("有送达回执" if limits.delivery_receipts else "没有送达回执", {}))
    if isinstance(channel.adapter, Queries):
        found.append(("没有回话的可以查询", {}))
    found.append(("最长 {n}", {"n": limits.max_length}))
    found.append(("每秒 {n} 条", {"n": f"{limits.rate_per_second:g}"}))
    return found


def _pushes(core: Core, actor: Actor, channel: Channel) -> list[str]:
    """What has to be entered at the provider; administrators only: it is a secret."""
    if not actor.may(Action.ADMINISTER) or not isinstance(channel.adapter, Receives):
        return []
    base = core.settings.server.public_url.rstrip("/")
    return [base + hook_path(core, channel.name, path) for path in PUSHES]


async def _tests(channel: Channel, say: Any) -> list[dict[str, Any]]:
    """The newest test messages, with what became of them."""
    found = await rows(
        "SELECT kind, value, state, reason, changed_at FROM outbox "
        "WHERE channel = ? AND message_kind = 'test' ORDER BY id DESC LIMIT ?",
        channel.name,
        _TESTS_SHOWN,
    )
    return [
        {
            "to": addresses.mask(_address(row["kind"], row["value"])),
            "state": row["state"],
            "reason": say(words.reason(row["reason"])),
            "at": from_micros(row["changed_at"]),
        }
        for row in found
    ]


def _address(kind: str, value: str) -> Address:
    return Address(AddressKind(kind), value)


async def send_test(core: Core, actor: Actor, name: str, to: str, text: str) -> None:
    """One message of kind TEST on this very channel; the card shows its fate."""
    actor.require(Action.ADMINISTER)
    channel = core.channels.get(name)
    if channel is None:
        raise NotFound("channel")
    if not text.strip():
        raise RequestError(
            "empty", "请写上内容", status=422, fields={"text": "请写上内容"}
        )
    address = _parsed(channel, to)
    reach = Reach(address=address, channel=name)
    code = refusal(channel, MessageKind.TEST, reach, core.clock.now())
    if code is not None:
        raise RequestError(
            code, "这个渠道现在不能发测试：只能回复来信，或没有绑定测试模板", status=409
        )
    draft = Draft(kind=MessageKind.TEST, text=text.strip()[:500])
    async with db.transaction():
        row = await enqueue(core, draft, Route(channel, reach, ()))
        await audit.record(
            core.clock,
            actor,
            "channel.tested",
            f"channel:{name}",
            outbox=None if row is None else row.id,
        )
    core.wakeups.wake(f"sender:{name}")
    core.hub.publish("channel", name)


def _parsed(channel: Channel, to: str) -> Address:
    problem = ""
    for kind in AddressKind:
        if channel.serves(kind):
            try:
                return addresses.parse(kind, to)
            except addresses.AddressError as error:
                problem = problem or str(error)
    raise RequestError("address", problem, status=422, fields={"to": problem})
