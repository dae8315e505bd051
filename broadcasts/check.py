"""Whether every recipient can be told the text, known before anything starts (A-11).

Rendering 2.5 million texts one by one takes minutes. They differ only in a name and an
organisation, so most are proved good by a statement: values of plain characters, short
enough that the text keeps every limit. Whatever that can't prove is rendered.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from broadcasts.plan import OWN, Plan, Sql, Way, fields
from broadcasts.stage import Stage
from gateway import database as db
from gateway import wording
from gateway.channels import Channel
from gateway.contract import TextEncoding
from gateway.core import Core
from gateway.database import Row, is_postgres
from gateway.outbox.admit import NotSayable, message
from gateway.text import length, visible
from gateway.texts import FIELDS, variant
from gateway.wording import MAX_OUTPUT, Part, check_text

BATCH = 2_000  # rows rendered between two looks at the loop
# One UTF-16 unit each, at most three bytes; neither blank, hidden nor 【】.
PLAIN = "0-9A-Za-z·（）㐀-䶿一-鿿"
_BYTES = 3


@dataclass(frozen=True, slots=True)
class Bad:
    """A recipient to whom the text can't be said; `code` says why."""

    n: int  # of its row in the stage
    member_id: int | None
    kind: str
    channel: str
    code: str
    detail: str = ""


async def check(core: Core, stage: Stage) -> int:
    """Say every recipient's text to nobody, as the sender would. Those who can't be
    told stand in the stage's table `bad`; how many they are."""
    plan = stage.plan
    doubtful, names = _doubtful(core, plan), fields(core, plan)
    after, number = 0, 0
    while True:
        rows = await stage.rows(
            f"SELECT s.* FROM {stage.people} s WHERE s.n > ? AND s.channel IS NOT NULL "
            f"AND {doubtful.text} ORDER BY s.n LIMIT {BATCH}",
            after,
            *doubtful.values,
        )
        said = ((row["n"], as_outbound(plan, names, row)) for row in rows)
        found = [fault_of(core, plan, row, n) for n, row in said]
        bad = [one for one in found if one is not None]
        await _keep(stage, bad)
        number += len(bad)
        if len(rows) < BATCH:
            return number
        after = rows[-1]["n"]


async def _keep(stage: Stage, bad: Sequence[Bad]) -> None:
    if not bad:
        return
    columns = {"n": "BIGINT", "code": "TEXT", "detail": "TEXT"}
    given, values = db.table(columns, [(b.n, b.code, b.detail) for b in bad])
    await stage.run(
        f"INSERT INTO {stage.bad} (n, code, detail) "
        f"SELECT g.n, g.code, g.detail FROM {given} AS g",
        *values,
    )


async def first_bad(stage: Stage, limit: int) -> list[Bad]:
    found = await stage.rows(
        "SELECT b.n, s.member_id, s.kind, s.channel, b.code, b.detail "
        f"FROM {stage.bad} b JOIN {stage.people} s ON s.n = b.n "
        f"ORDER BY b.n LIMIT {int(limit)}"
    )
    return [Bad(**row) for row in found]


def fault_of(core: Core, plan: Plan, row: Row, n: int = 0) -> Bad | None:
    """What is wrong with one row of the outbox, said as its channel says it."""
    channel = core.channels.get(row["channel"])
    if channel is None:
        return _bad(row, n, "no_channel")
    try:
        said = message(channel, row, {0: plan.texts})
    except NotSayable as error:
        return _bad(row, n, error.code, error.detail)
    problems = check_text(said.text, channel.capabilities, channel.common.signature)
    if problems:
        return _bad(row, n, problems[0].code, problems[0].message)
    return None


def _bad(row: Row, n: int, code: str, detail: str = "") -> Bad:
    return Bad(n, row["member_id"], row["kind"], row["channel"], code, detail)


def as_outbound(plan: Plan, names: Collection[str], row: Row) -> Row:
    """A row of the stage as the row of the outbox that it becomes; `names` are the
    fields that its texts use."""
    values = {**plan.values, **{name: row[name] for name in OWN}}
    return {
        "id": 0,
        "message_kind": plan.kind.value,
        "channel": row["channel"],
        "kind": row["kind"],
        "value": row["value"],
        "member_id": row["member_id"],
        "text": None,
        "content_id": 0,
        "variables": {f: values[f] for f in names if f in values},
        "extras": {},
    }


def _doubtful(core: Core, plan: Plan) -> Sql:
    """The condition on a row of the stage that it is not proved good."""
    cases = [Sql("NOT (CASE")]
    for way in plan.ways:
        good = _good(core, plan, way)
        cases.append(
            Sql(" WHEN s.channel = ? AND s.kind = ? THEN ", (way.channel, way.kind))
            + (f"COALESCE({good}, {_FALSE})" if good else _FALSE)
        )
    cases.append(Sql(f" WHEN 1 = 0 THEN {_FALSE} ELSE {_FALSE} END)"))
    whole = Sql("")
    for case in cases:
        whole += case
    return whole


_FALSE = "(1 = 0)"


@dataclass(frozen=True, slots=True)
class _Shape:
    """A wording with all values put in but a recipient's own: what always stands
    there, and how often each own value comes."""

    always: str
    uses: Counter[str]


def _shape(parts: Iterable[Part], values: Mapping[str, str]) -> _Shape | None:
    """None where a value is missing for everybody."""
    always: list[str] = []
    uses: Counter[str] = Counter()
    for part in parts:
        if isinstance(part, str):
            always.append(part)
        elif part.field in OWN:
            uses[part.field] += 1
        elif values.get(part.field):
            always.append(str(values[part.field]))
        elif part.default is not None:
            always.append(part.default)
        else:
            return None
    return _Shape("".join(always), uses)


def _good(core: Core, plan: Plan, way: Way) -> str:
    """A condition that proves a row of this way good; empty where there is none."""
    channel = core.channels.get(way.channel)
    if channel is None:
        return ""
    said = _shape(wording.parse(variant(plan.texts, way.kind), FIELDS), plan.values)
    if said is None or not _may_be_said(said, channel):
        return ""
    others = _others(plan, channel, said)
    if others is None:
        return ""
    return _within(said, channel, others)


def _may_be_said(said: _Shape, channel: Channel) -> bool:
    """Whether what stands in every text is no obstacle."""
    text = said.always
    brackets = channel.capabilities.segments is not None and {"【", "】"} & set(text)
    return bool(text.strip() or said.uses) and not brackets and visible(text) == text


def _others(plan: Plan, channel: Channel, said: _Shape) -> list[_Shape] | None:
    """What is filled in besides the text: the subject, a template's variables."""
    found = [_shape(wording.parse(plan.texts["subject"], FIELDS), plan.values)]
    if not channel.capabilities.free_text:
        binding = channel.binding(plan.kind)
        if binding is None:
            return None
        for wanted in binding.variables.values():
            parts = wording.parse(wanted, FIELDS)
            texts = sum(getattr(part, "field", "") == "text" for part in parts)
            one = _shape(parts, {"text": "\N{BULLET}", **plan.values})
            if one is not None and texts:
                uses = Counter({f: n * texts for f, n in said.uses.items()})
                one = _Shape(one.always + said.always * texts, one.uses + uses)
            found.append(one)
    shapes = [one for one in found if one is not None]
    return shapes if len(shapes) == len(found) else None


def _within(said: _Shape, channel: Channel, others: Sequence[_Shape]) -> str:
    limits = channel.capabilities
    fixed = length(channel.common.signature + said.always, limits.encoding)
    unit = 1 if limits.encoding is TextEncoding.UCS2 else _BYTES
    rooms = [(said.uses, unit, limits.max_length - fixed)]
    rooms += [(s.uses, 1, MAX_OUTPUT - len(s.always)) for s in (said, *others)]
    if any(room < 0 for _, _, room in rooms):
        return ""
    used = sorted({name for uses, _, _ in rooms for name in uses})
    conditions = [_plain(f"s.{name}") for name in used]
    for uses, unit, room in rooms:
        if uses:
            sizes = (f"{n * unit} * length(s.{name})" for name, n in uses.items())
            conditions.append(f"{' + '.join(sizes)} <= {room}")
    return " AND ".join(conditions) or "(1 = 1)"


def _plain(column: str) -> str:
    if is_postgres():
        return f"{column} ~ '^[{PLAIN}]+$'"
    # SQLite's GLOB ends at a NUL.
    return (
        f"({column} NOT GLOB '*[^{PLAIN}]*' AND length({column}) > 0 "
        f"AND instr({column}, char(0)) = 0)"
    )
