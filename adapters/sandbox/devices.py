"""Who sits in the sandbox: the handsets, QQ accounts, groups and mailboxes on its page.

Kept in a file beside the ledger. Members who may be played come from the database.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from adapters.sandbox.records import Medium
from gateway.addresses import AddressError, parse
from gateway.contract import Address, AddressKind
from gateway.database import marks, rows
from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase
from gateway.text import clean

MAX_DEVICES = 24
MAX_NAME_LENGTH = 32


class DeviceKind(StrEnum):
    SMS = "sms"
    QQ = "qq"
    GROUP = "group"
    EMAIL = "email"

    @property
    def medium(self) -> Medium:
        return Medium.QQ if self is DeviceKind.GROUP else Medium(self.value)

    @property
    def address_kind(self) -> AddressKind:
        return AddressKind.PHONE if self is DeviceKind.SMS else AddressKind(self.value)


class Device(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern="^d[1-9][0-9]{0,8}$")
    kind: DeviceKind
    name: str  # of the person or group
    address: str

    @property
    def place(self) -> Address:
        return Address(self.kind.address_kind, self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A member who may be played."""

    name: str
    addresses: Mapping[AddressKind, str]


# Invented: for a database without members, and for somebody whom nobody knows.
STRANGER = Person(
    name="陌生人",
    addresses={
        AddressKind.PHONE: "+8619900009999",
        AddressKind.QQ: "990000999",
        AddressKind.EMAIL: "stranger@example.org",
    },
)
GROUP = Person(name="党员交流群", addresses={AddressKind.GROUP: "990000801"})

_DEVICES = TypeAdapter(list[Device])
_KINDS = (AddressKind.PHONE, AddressKind.QQ, AddressKind.EMAIL)


async def members(limit: int = 200) -> Sequence[Person]:
    """Members with their addresses, those with most ways to be reached first."""
    found = await rows(
        "SELECT m.id, m.name, a.kind, a.value FROM addresses a "
        "JOIN members m ON m.id = a.member_id "
        f"WHERE a.kind IN ({marks(len(_KINDS))}) ORDER BY m.id, a.id LIMIT ?",
        *(kind.value for kind in _KINDS),
        limit * len(_KINDS),
    )
    names: dict[int, str] = {}
    known: dict[int, dict[AddressKind, str]] = {}
    for row in found:
        names[row["id"]] = row["name"]
        known.setdefault(row["id"], {}).setdefault(
            AddressKind(row["kind"]), row["value"]
        )
    people = [Person(name=names[id], addresses=known[id]) for id in known]
    return sorted(people, key=lambda person: -len(person.addresses))[:limit]


class Devices:
    """The list, in the order in which the page shows it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._devices = _DEVICES.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            self._devices = []

    def __bool__(self) -> bool:
        return bool(self._devices)

    def all(self) -> Sequence[Device]:
        return tuple(self._devices)

    def get(self, id: str) -> Device:
        """Raises NotFound."""
        for device in self._devices:
            if device.id == id:
                return device
        raise NotFound("no such device")

    def furnish(self, people: Sequence[Person]) -> None:
        """The first devices: members with a handset, QQ, a group and a mailbox; and
        somebody whom nobody knows."""
        for kind in ("sms", "sms", "qq", "group", "email"):
            person = self._next(DeviceKind(kind), people)
            if person is not None:
                self._add_of(DeviceKind(kind), person)
        self._add_of(DeviceKind.SMS, STRANGER)

    def add_next(self, kind: DeviceKind, people: Sequence[Person]) -> Device:
        """A device of the next person who has none of this kind yet."""
        person = self._next(kind, people)
        if person is None:
            words = "名册里没有更多可用的人，请自己填写号码或地址"
            raise RequestError("nobody_left", words, fields={"address": words})
        return self._add_of(kind, person)

    def _next(self, kind: DeviceKind, people: Sequence[Person]) -> Person | None:
        taken = {one.address for one in self._devices if one.kind is kind}
        for person in (*people, GROUP, STRANGER):
            address = person.addresses.get(kind.address_kind)
            if address is not None and address not in taken:
                return person
        return None

    def _add_of(self, kind: DeviceKind, person: Person) -> Device:
        return self.add(kind, person.addresses[kind.address_kind], person.name)

    def add(
        self, kind: DeviceKind, address: str, name: str, people: Sequence[Person] = ()
    ) -> Device:
        """Without a name the owner of the address lends theirs, if among `people`.

        Raises RequestError that says what is wrong with the address.
        """
        try:
            place = parse(kind.address_kind, address)
        except AddressError as error:
            raise RequestError(
                error.code, str(error), fields={"address": str(error)}
            ) from error
        for device in self._devices:
            if device.place == place:
                return device
        if len(self._devices) >= MAX_DEVICES:
            words = phrase("最多 {n} 台，请先移走一台", n=MAX_DEVICES)
            raise RequestError("too_many_devices", words)
        last = max((int(device.id[1:]) for device in self._devices), default=0)
        device = Device(
            id=f"d{last + 1}",
            kind=kind,
            name=clean(name).strip()[:MAX_NAME_LENGTH] or _owner(place, people),
            address=place.value,
        )
        self._save([*self._devices, device])
        return device

    def remove(self, id: str) -> None:
        """What was said there stays in the ledger."""
        gone = self.get(id)
        self._save([device for device in self._devices if device != gone])

    def _save(self, devices: list[Device]) -> None:
        new = self._path.with_suffix(".new")
        new.write_bytes(_DEVICES.dump_json(devices, indent=1))
        os.replace(new, self._path)
        self._devices = devices


def _owner(place: Address, people: Sequence[Person]) -> str:
    owners = (
        one.name for one in people if one.addresses.get(place.kind) == place.value
    )
    return next(owners, "")
