"""Whom a broadcast is for: reading and checking the description. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import addresses
from gateway.addresses import AddressError
from gateway.contract import Address, AddressKind
from gateway.errors import RequestError
from gateway.phrases import phrase, together

LONGEST_LIST = 20_000  # entries
_SHOWN_FAULTS = 5
_MEMBER_ID = re.compile(r"[0-9]{1,9}")
_LISTABLE = {"phone", "email", "qq", "wechat"}


@dataclass(frozen=True, slots=True)
class Subtree:
    """The members of an organisation, with those of its lower ones."""

    code: str
    with_subtree: bool = True


@dataclass(frozen=True, slots=True)
class Tagged:
    tag: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Members by id or by an address of theirs, which is then used first.

    `repeated` counts entries that named the same address or member again.
    """

    addresses: tuple[Address, ...] = ()
    ids: tuple[int, ...] = ()
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Everybody who wished for the daily Q&A, at the address of the wish."""


Audience = Subtree | Tagged | Listed | Subscribers


def parse(description: Mapping[str, Any]) -> Audience:
    """Raises RequestError; its `fields["audience"]` says what is wrong, in Chinese."""
    match description.get("type"):
        case "organisation":
            code = _text(description, "code", 32, "请选择一个组织")
            return Subtree(code, description.get("with_subtree", True) is not False)
        case "tag":
            return Tagged(_text(description, "tag", 32, "请选择一个标签"))
        case "members":
            return _listed((), _items(description, "ids"))
        case "list":
            entries = [
                *_items(description, "entries"),
                *_items(description, "phones"),
                *_items(description, "addresses"),
            ]
            return _listed(entries, _items(description, "ids"))
        case "subscribers":
            return Subscribers()
    raise _fault("请选择对象：一个组织、一个标签或一份名单")


def _text(
    description: Mapping[str, Any], key: str, longest: int, otherwise: str
) -> str:
    value = description.get(key)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= longest:
        raise _fault(otherwise)
    return value.strip()


def _items(description: Mapping[str, Any], key: str) -> list[Any]:
    value = description.get(key, [])
    if not isinstance(value, list | tuple):
        raise _fault(phrase("{key} 应当是一个列表", key=key))
    return list(value)


def from_lines(text: str) -> Mapping[str, Any]:
    """The description of what staff typed: one number, mail or member id a line."""
    lines = [line.strip() for line in re.split(r"[\n,，;；、]+", text)]
    return {"type": "list", "entries": [line for line in lines if line]}


def to_lines(description: Mapping[str, Any]) -> str:
    """What `from_lines` reads back, for the form."""
    entries = [*description.get("phones", ()), *description.get("addresses", ())]
    values = [one["value"] if isinstance(one, dict) else str(one) for one in entries]
    return "\n".join([*values, *map(str, description.get("ids", ()))])


def _listed(entries: Iterable[Any], ids: Iterable[Any]) -> Listed:
    found: list[Address] = []
    members: list[int] = []
    faults: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            if isinstance(entry, str) and _MEMBER_ID.fullmatch(entry):
                members.append(int(entry))
            else:
                found.append(_address(entry))
        except AddressError as error:
            faults.append(phrase("第{n}个：{why}", n=number, why=phrase(str(error))))
    members += [_member_id(one, faults) for one in ids]
    if faults:
        shown = faults[:_SHOWN_FAULTS]
        if len(faults) > _SHOWN_FAULTS:
            shown.append(phrase("共{n}处", n=len(faults)))
        raise _fault(together(shown))
    unique, unique_ids = tuple(dict.fromkeys(found)), tuple(dict.fromkeys(members))
    total = len(found) + len(members)
    kept = len(unique) + len(unique_ids)
    if not kept:
        raise _fault("名单是空的，请至少写一个手机号或党员编号")
    if kept > LONGEST_LIST:
        raise _fault(
            phrase(
                "名单最多{most}人，这里有{n}人，请改用组织或标签",
                most=LONGEST_LIST,
                n=kept,
            )
        )
    return Listed(unique, unique_ids, total - kept)


def _address(entry: Any) -> Address:
    if isinstance(entry, Mapping):
        kind, value = str(entry.get("kind", "")), str(entry.get("value", ""))
        if kind not in _LISTABLE:
            raise AddressError("kind", "kind 只能是 phone、email、qq 或 wechat")
        return addresses.parse(AddressKind(kind), value)
    text = str(entry)
    return addresses.email(text) if re.search("[@＠]", text) else addresses.phone(text)


def _member_id(value: Any, faults: list[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53:
        return value
    faults.append("党员编号应当是数字")
    return 0


def _fault(message: str) -> RequestError:
    return RequestError("audience", message, status=422, fields={"audience": message})


def describe(audience: Audience) -> dict[str, Any]:
    """The canonical description, as it is stored and hashed."""
    match audience:
        case Subtree(code, with_subtree):
            return {"type": "organisation", "code": code, "with_subtree": with_subtree}
        case Tagged(tag):
            return {"type": "tag", "tag": tag}
        case Listed(listed, ids, repeated):
            entries = [{"kind": a.kind.value, "value": a.value} for a in listed]
            return {
                "type": "list",
                "addresses": entries,
                "ids": list(ids),
                "repeated": repeated,
            }
        case Subscribers():
            return {"type": "subscribers"}
