"""What is in the database of one member: the addresses, inquiries and messages by which
an erasure reaches it, and the words that name it in texts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway import database as db
from gateway.actors import Actor
from gateway.database import Row
from gateway.errors import NotFound
from gateway.tables import Member

# The rows of somebody else who has the address now are not touched.
MINE = "({0}.member_id = ? OR ({0}.member_id IS NULL AND g.sure = 1))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Everything by which rows of a member are found."""

    member: Member
    addresses: Sequence[tuple[str, str, int]]  # kind, value, 1 where it is verified
    inquiries: Sequence[int]

    def given(self) -> tuple[str, list[Any]]:
        """The addresses as a table of a statement."""
        columns = {"kind": "TEXT", "value": "TEXT", "sure": "BIGINT"}
        return db.table(columns, self.addresses)


async def find(actor: Actor, member_id: int) -> Person:
    """Raises NotFound outside the subtree."""
    member = (
        await Member.filter(id=member_id, organisation__path__startswith=actor.path)
        .prefetch_related("organisation", "addresses")
        .first()
    )
    if member is None:
        raise NotFound
    known = [
        (a.kind, a.value, int(a.verified_at is not None)) for a in member.addresses
    ]
    # Codes that staff give by word of mouth are open at no address.
    person = Person(member=member, addresses=[*known, ("", "", 0)], inquiries=())
    return replace(person, inquiries=await _inquiries(person))


async def _inquiries(person: Person) -> list[int]:
    """The member's, and those written from its addresses before it was known."""
    given, values = person.given()
    found = await db.rows(
        "SELECT id FROM inquiries WHERE member_id = ? UNION SELECT i.id "
        f"FROM {given} AS g JOIN inquiries i ON i.kind = g.kind AND i.value = g.value "
        "WHERE i.member_id IS NULL AND g.sure = 1 ORDER BY id",
        person.member.id,
        *values,
    )
    return [row["id"] for row in found]


def words(person: Person, names: Iterable[str] = ()) -> list[str]:
    """What names the person in a text, longest first: one may be in another."""
    values = [value for _, value, _ in person.addresses]
    national = [value.removeprefix("+86") for value in values]
    found = {person.member.name, *names, *values, *national}
    return sorted((w for w in found if len(w) > 1), key=lambda w: (-len(w), w))


async def words_of_inquiries(person: Person) -> list[str]:
    """And what the person was called there, and wrote from."""
    found = await db.rows(
        "SELECT contact_name, value FROM inquiries WHERE id IN "
        f"({db.marks(len(person.inquiries)) or 'NULL'})",
        *person.inquiries,
    )
    return words(person, [word for row in found for word in row.values()])


async def messages(person: Person) -> list[int]:
    """Ids of the outbox, in their order: recipients of notices, what was said in the
    member's inquiries, and all else."""
    id = person.member.id
    given, values = person.given()
    mine = MINE.format("o")
    found = await db.rows(
        f"SELECT o.id FROM {given} AS g CROSS JOIN broadcasts b CROSS JOIN outbox o "
        "WHERE o.broadcast_id = b.id AND o.value = g.value AND o.kind = g.kind "
        f"AND {mine}",
        *values,
        id,
    )
    found += await db.rows(
        f"SELECT o.id FROM {given} AS g CROSS JOIN outbox o WHERE o.kind = g.kind "
        "AND o.value = g.value AND o.broadcast_id IS NULL AND o.inquiry_id IS NULL "
        f"AND o.inbound_id IS NULL AND {mine}",
        *values,
        id,
    )
    found += await db.rows(
        f"SELECT o.id FROM {given} AS g CROSS JOIN inbound i CROSS JOIN outbox o "
        "WHERE i.kind = g.kind AND i.value = g.value AND o.inbound_id = i.id "
        f"AND o.inquiry_id IS NULL AND {mine}",
        *values,
        id,
    )
    found += await db.rows(
        "SELECT o.id FROM inquiries i JOIN outbox o ON o.inquiry_id = i.id WHERE i.id "
        f"IN ({db.marks(len(person.inquiries)) or 'NULL'}) AND (o.member_id = ? "
        "OR (o.member_id IS NULL AND o.kind = i.kind AND o.value = i.value))",
        *person.inquiries,
        id,
    )
    return sorted({int(row["id"]) for row in found})


async def left(ids: Sequence[int]) -> set[int]:
    """Of these the recipients whose chunk's mark says that they have left."""
    if not ids:
        return set()
    given, values = db.table({"id": "BIGINT"}, [(id,) for id in ids])
    found = await db.rows(
        f"SELECT o.id FROM {given} AS g CROSS JOIN outbox o CROSS JOIN chunks c "
        "WHERE o.id = g.id AND o.state = 'planned' "
        "AND c.broadcast_id = o.broadcast_id AND c.channel = o.channel "
        "AND o.id BETWEEN c.first_id AND c.journalled_to",
        *values,
    )
    return {int(row["id"]) for row in found}


def waiting(found: Mapping[int, Row], left: set[int]) -> list[int]:
    """Those of which no byte has left."""
    return [
        id
        for id, row in found.items()
        if row["state"] == "queued" or (row["state"] == "planned" and id not in left)
    ]


def under_way(found: Mapping[int, Row], left: set[int]) -> list[int]:
    """Their receipt finds them by the address where their answer is lost."""
    return [
        id
        for id, row in found.items()
        if row["state"] in ("sending", "unknown") or id in left
    ]
