"""One channel as its page shows it: connections, rate, breaker, answers, last errors,
what waits. From what its owner told: also where another process is the owner."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import addresses, nodes
from gateway import database as db
from gateway.channels import Channel
from gateway.contract import Address, AddressKind, Listens, Role
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.inquiries import words
from gateway.nodes import ALIVE
from gateway.outbox import self_test
from gateway.outbox.report import (
    MOVING,
    REACHED,
    STUCK,
    UNREACHABLE,
    Report,
    deaf,
    reports,
    why,
)
from gateway.phrases import phrase

_EVENTS = 1000  # the newest, of which errors are counted
_GROUPS = 10
WAITING = {  # by priority: see enqueue.PRIORITY
    0: "答复、回执和确认",
    5: "办结回访",
    10: "通知活动",
    20: "每日一答",
}
CODES = {
    UNREACHABLE: "联系不上对方",
    REACHED: "又联系上了",
    STUCK: "有消息等得太久",
    MOVING: "等的消息又发出了",
}
NOT_CONNECTED = "not_connected"
NO_RECEIVER = "no_receiver"  # messages leave, receipts and replies don't come
_MEND_LOGIN = (
    "请核对 settings.toml 里这个渠道的账号和密码，改好后重新启动；"
    "被拒后隔一到十五分钟才再试，免得账号被锁。"
)
LOGIN_REFUSED = "login_refused"  # with the carrier's code behind a colon
SELF_TEST = "self_test"
_DIGITS = re.compile(r"\+?\d{7,}")
_MAIL = re.compile(r"[\w.+-]+@[\w.-]+\w")


async def seen(core: Core, channel: Channel) -> dict[str, Any]:
    """The variables of templates/pages/partials/_channel_now.html."""
    told = (await reports()).get(channel.name, {})
    open_since, probe_at = told.get("open_since", 0), told.get("probe_at", 0)
    is_served = channel.name not in await unserved(core)
    return {
        "state": state(channel, told) if is_served else "down",
        "told": bool(told),
        "owner": await _owner(core, channel.name),
        # What a process held that is gone is closed, whatever it said last.
        "connections": [
            _connection(one if is_served else {**one, "state": "closed", "awaited": 0})
            for one in told.get("connections", ())
        ],
        "in_flight": told.get("in_flight", 0),
        "window": told.get("window", channel.capabilities.window),
        "rate": told.get("rate", 0.0),
        "allowed": told.get("allowed", 0.0),
        "ceiling": told.get("ceiling", channel.capabilities.rate_per_second),
        "trouble": phrase(in_words(told["trouble"])) if told.get("trouble") else "",
        "throttled": bool(told.get("throttled")),
        "blocked_until": _at(told.get("blocked_until")),
        "last_throttle": _at(told.get("last_throttle")),
        "open_since": _at(open_since),
        "deaf": _deaf(told),
        "outage": await outage(channel.name, told) if open_since else None,
        "probe_at": None if told.get("away") else _at(probe_at),
        "probing": bool(told.get("probing")),
        "answers": told.get("answers", 0),
        "median": told.get("median", 0.0),
        "p95": told.get("p95", 0.0),
        "share": channel.common.share,
        "lost": told.get("lost", 0),
        "errors": await _errors(channel.name),
        "waiting": await _waiting(channel.name),
        "waiting_since": _at(told.get("waiting_since")),
        "self_test": _self_test(told.get("self_test") or {}),
    }


@dataclass(frozen=True, slots=True)
class Outage:
    """Why nobody is reached: words, perhaps none. `refused`: somebody answered, and
    did not let us in."""

    why: str
    refused: bool

    @property
    def mend(self) -> str:
        return phrase(_MEND_LOGIN) if self.refused else ""


async def outage(name: str, told: Report) -> Outage:
    code = why(told)
    return Outage(said(code), bool(code) and code == await _last_refusal(name))


def _deaf(told: Report) -> dict[str, str] | None:
    code = deaf(told)
    return None if code is None else {"why": said(code)}


async def _last_refusal(name: str) -> str:
    """Of a login: the carrier's code."""
    found = await db.rows(
        "SELECT code FROM channel_events WHERE channel = ? AND code LIKE ? "
        "ORDER BY id DESC LIMIT 1",
        name,
        f"{LOGIN_REFUSED}:%",
    )
    return str(found[0]["code"]).partition(":")[2] if found else ""


def _self_test(told: Mapping[str, Any]) -> dict[str, Any]:
    if not told:
        return {}
    reason = phrase(words.reason(masked(told["reason"])))
    return {**told, "at": _at(told["at"]), "reason": reason}


def _at(micros: int | None) -> Any:
    return from_micros(micros) if micros else None


def _connection(one: Mapping[str, Any]) -> dict[str, Any]:
    share = one["awaited"] / one["window"] if one["window"] else 0.0
    return {
        "role": Role.BOTH,
        **one,
        "since": from_micros(one["since"]),
        "share": min(1.0, share),
        "last_error": phrase(words.reason(masked(one["last_error"]))),
    }


async def unserved(core: Core) -> frozenset[str]:
    """Channels whose last owner is gone and that no other process took over yet."""
    prefix = "channel:"
    free = await nodes.unowned(db.rows, core.clock.now())
    return frozenset(n.removeprefix(prefix) for n in free if n.startswith(prefix))


async def _owner(core: Core, name: str) -> str:
    """The process that has the channel's lease now, by its name; empty: none."""
    found = await db.rows(
        "SELECT n.id, n.name FROM leases l JOIN nodes n ON n.id = l.node_id "
        "WHERE l.name = ? AND n.stopped_at IS NULL AND n.seen_at >= ?",
        f"channel:{name}",
        to_micros(core.clock.now() - ALIVE),
    )
    return str(found[0]["name"] or found[0]["id"]) if found else ""


async def _errors(name: str) -> list[dict[str, Any]]:
    """The newest events, those of one code together, the newest first."""
    found = await db.rows(
        "SELECT code, detail, at FROM channel_events WHERE channel = ? "
        f"AND code NOT IN (?, ?) ORDER BY id DESC LIMIT {_EVENTS}",
        name,
        REACHED,
        MOVING,
    )
    groups: dict[str, dict[str, Any]] = {}
    for row in found:
        here = groups.setdefault(
            row["code"],
            {
                "code": row["code"],
                "words": phrase(in_words(row["code"])),
                "detail": said(row["detail"]),
                "number": 0,
                "at": from_micros(row["at"]),
            },
        )
        here["number"] += 1
    return list(groups.values())[:_GROUPS]


async def _waiting(name: str) -> list[dict[str, Any]]:
    found = await db.rows(
        "SELECT priority, SUM(n) AS n FROM (SELECT priority, COUNT(*) AS n FROM outbox "
        "WHERE channel = ? AND state = 'queued' GROUP BY priority UNION ALL "
        "SELECT priority, SUM(CASE WHEN journalled_to < first_id THEN people "
        "ELSE last_id - journalled_to END) AS n FROM chunks WHERE channel = ? "
        "AND state IN ('held', 'ready', 'leased') GROUP BY priority) x "
        "GROUP BY priority ORDER BY priority",
        name,
        name,
    )
    return [
        {"what": WAITING.get(row["priority"], ""), "number": int(row["n"])}
        for row in found
        if row["n"]
    ]


def in_words(code: str) -> str:
    return CODES.get(code) or words.reason(code)


def said(detail: str) -> str:
    """What stands behind a code: often another code, else the provider's words."""
    known = in_words(detail)
    return masked(detail) if known == detail else phrase(known)


def masked(text: str) -> str:
    """A provider's words without the addresses in them."""
    text = _MAIL.sub(lambda m: _mask(AddressKind.EMAIL, m[0]), text)
    return _DIGITS.sub(lambda m: _mask(AddressKind.PHONE, m[0]), text)


def _mask(kind: AddressKind, value: str) -> str:
    return addresses.mask(Address(kind, value))


def state(channel: Channel, report: Report) -> str:
    """ok, trouble (the last send or the self test failed, the rate was refused,
    something waits too long, or no receiver is connected) or down (nobody is reached
    there, or its own entry is closed). By what its owner told, wherever that is; before
    that by what this process knows."""
    found = ails(channel, report)
    if UNREACHABLE in found or NOT_CONNECTED in found:
        return "down"
    is_troubled = report.get("trouble", channel.trouble) or report.get("throttled")
    return "trouble" if found or is_troubled else "ok"


def ails(channel: Channel, report: Report) -> list[str]:
    """What keeps the channel from its work, as codes for those who watch it."""
    found = []
    if report.get("open_since"):
        found.append(UNREACHABLE)
    listening = report.get("listening", channel.listening)
    if isinstance(channel.adapter, Listens) and not listening:
        found.append(NOT_CONNECTED)
    if deaf(report) is not None:
        found.append(NO_RECEIVER)
    if report.get("waiting_since"):
        found.append(STUCK)
    if (report.get("self_test") or {}).get("verdict") in self_test.BAD:
        found.append(SELF_TEST)
    return found
