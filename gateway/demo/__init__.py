"""The demonstration: one invented county with people, entries, matters, notices.

Only reads the files beside it. What belongs into which table is decided elsewhere.
"""

import csv
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """A node of the tree; parents stand before their children."""

    code: str  # area code 区号
    name: str
    kind: str  # county, centre, branch, office
    parent: str = ""
    contact: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    username: str
    name: str
    role: str  # clerk, director, approver
    organisation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member; `phone` (E.164) names them in the other files."""

    name: str
    organisation: str
    phone: str
    email: str
    qq: str
    joined_year: int
    mobile: bool  # 流动党员
    tags: tuple[str, ...]
    daily: bool  # subscribed to the daily Q&A on `preferred`
    preferred: str  # an address kind: phone, qq, email


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A knowledge entry. `article` is empty where the sample names none."""

    question: str
    answer: str
    matter: str
    keywords: tuple[str, ...]
    regulation: str
    article: str
    issued: int  # year in which the regulation's text was issued
    note: str  # what the centre has to check before it uses the entry
    sample: bool

    @property
    def basis(self) -> str:
        return self.regulation + self.article


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of an inquiry's timeline, `after` the moment of loading (negative).

    kind: received, registered, answered, asked, noted, member_wrote, transferred,
    extended, supervised, closed, rated, reopened.
    """

    after: timedelta
    kind: str
    text: str = ""
    by: str = ""  # username; empty: the member or the gateway
    subject: str = ""
    to: str = ""  # transferred: the organisation's code
    days: int = 0  # extended: working days
    rating: int | None = None  # rated: 1 satisfied to 3 dissatisfied


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A matter with its timeline. Without `member`, `address` is the sender."""

    state: str  # new, open, waiting, answered, closed
    channel: str  # sms, qq, qq_group, email, counter, phone
    organisation: str
    owner: str
    matter: str
    urgency: str  # normal, urgent
    steps: tuple[Step, ...]
    member: str = ""
    address: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    member: str
    rsvp: str  # yes, no; empty: none came
    attended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An activity notice; instants are relative to the moment of loading."""

    state: str  # finished, draft, submitted
    title: str
    organisation: str
    created_by: str
    rsvp: bool
    place: str
    texts: dict[str, str]  # sms, default, subject
    audience: dict[str, str]  # type: organisation (code) or tag (tag)
    created: timedelta
    event: timedelta
    sent: timedelta | None = None
    send: timedelta | None = None
    submitted_by: str = ""
    approved_by: str = ""
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canned:
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    organisations: tuple[Organisation, ...]
    staff: tuple[Staff, ...]
    members: tuple[Member, ...]
    entries: tuple[Entry, ...]
    inquiries: tuple[Inquiry, ...]
    notices: tuple[Notice, ...]
    canned: tuple[Canned, ...]


def load() -> DemoData:
    """Read every file. A wrong file is a defect: KeyError, TypeError, ValueError."""
    entries = _toml("entries")
    return DemoData(
        organisations=_rows(
            "organisations", "organisation", lambda row: Organisation(**row)
        ),
        staff=_rows("staff", "staff", lambda row: Staff(**row)),
        members=tuple(map(_member, csv.DictReader(_text("members.csv").splitlines()))),
        entries=tuple(_entry(row, entries["note"]) for row in entries["entry"]),
        inquiries=_rows("inquiries", "inquiry", _inquiry),
        notices=_rows("notices", "notice", _notice),
        canned=_rows("canned", "canned", lambda row: Canned(**row)),
    )


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(_text(f"{name}.toml"))


def _rows(file: str, key: str, make: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    return tuple(make(row) for row in _toml(file)[key])


def _member(row: dict[str, str]) -> Member:
    return Member(
        name=row["name"],
        organisation=row["organisation"],
        phone=row["phone"],
        email=row["email"],
        qq=row["qq"],
        joined_year=int(row["joined_year"]),
        mobile=_yes(row["mobile"]),
        tags=tuple(row["tags"].split(";")) if row["tags"] else (),
        daily=_yes(row["daily"]),
        preferred=row["preferred"],
    )


def _yes(word: str) -> bool:
    return {"yes": True, "no": False}[word]


def _entry(row: dict[str, Any], note: str) -> Entry:
    own = {**row, "keywords": tuple(row["keywords"])}
    return Entry(**own | {"note": note + row.get("note", "")})


def _inquiry(row: dict[str, Any]) -> Inquiry:
    steps = tuple(_step(step) for step in row["step"])
    return Inquiry(**{key: row[key] for key in row if key != "step"}, steps=steps)


def _step(row: dict[str, Any]) -> Step:
    rest = {key: row[key] for key in row if key != "at_hours"}
    return Step(**rest, after=timedelta(hours=row["at_hours"]))


def _notice(row: dict[str, Any]) -> Notice:
    fields = dict(map(_in_time, row.items()))
    fields["replies"] = tuple(Reply(**reply) for reply in fields.pop("reply", ()))
    return Notice(**fields)


def _in_time(item: tuple[str, Any]) -> tuple[str, Any]:
    """`sent_hours = -3` becomes `sent`, a timedelta; all else stays."""
    key, value = item
    if key.endswith("_hours"):
        return key.removesuffix("_hours"), timedelta(hours=value)
    return item
