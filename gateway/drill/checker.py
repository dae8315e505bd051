"""The verdict: what peers, database and journal say together. Pure.

Addresses are the common key: within a drill nobody is meant twice by one broadcast,
so a person who got more than the database has messages for got one twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.drill.ledgers import Acknowledged, Arrived, Fact, Refused
from gateway.status import OutboundState

_O = OutboundState
CLAIMED = frozenset({_O.ACCEPTED, _O.DELIVERED, _O.READ})  # certainly sent, it says
REFUSED = frozenset({_O.FAILED, _O.DEAD})
PENDING = frozenset({_O.PLANNED, _O.QUEUED, _O.SENDING})
NAMED = 10
HONOURED_WITHIN = 1.0  # seconds: what was journalled before an opt-out may still land
Place = tuple[str, str]  # channel, address


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the outbox, and whether its intent was written down."""

    id: int
    channel: str
    address: str
    state: OutboundState
    journalled: bool = True
    broadcast_id: int | None = None

    @property
    def place(self) -> Place:
        return self.channel, self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One kill, and what was journalled and unanswered at that very moment."""

    at: float
    open: Mapping[str, frozenset[int]]  # message ids by channel


@dataclass(frozen=True, slots=True)
class Barred:
    """From this instant on nobody may write to this address unasked (A-16): its member
    refused, or was erased."""

    channel: str
    address: str
    at: float
    erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is counted; each field has a source of its own."""

    facts: Sequence[Fact]  # the peers' ledgers
    messages: Sequence[Message]  # the database
    planned: int  # people, as the audit says
    inbound: Mapping[str, int]  # key -> how often it is stored
    kills: Sequence[Kill] = ()
    windows: Mapping[str, int] = field(default_factory=dict)
    barred: Sequence[Barred] = ()
    unmatched: int = 0  # receipts that found no message
    deviations: Sequence[str] = ()  # of the recount


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The figures of a drill. `reasons` is empty where every promise was kept."""

    kills: int
    kills_under_load: int  # something of a broadcast was journalled and unanswered
    kills_by_channel: Mapping[str, int]  # the same: something of it on this channel
    planned: int
    messages: int
    arrived: int
    refused: int
    states: Mapping[str, int]
    lost: int
    doubled: int
    unknown_at_kills: int
    unknown_per_kill: float  # of those under load
    really_sent: int  # of those unknown at kills
    unknown_left: int
    unknown_left_really_sent: int
    really_sent_left: Mapping[str, int]  # the same by channel
    inbound_acknowledged: int
    inbound_lost: int
    inbound_doubled: int
    receipts_unmatched: int
    opted_out: int
    erased: int
    after_opt_out: int  # or after an erasure
    reasons: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.reasons


@dataclass(slots=True)
class _Books:
    """Each place's messages by what they claim."""

    claimed: Counter[Place] = field(default_factory=Counter)
    refused: Counter[Place] = field(default_factory=Counter)
    unknown: Counter[Place] = field(default_factory=Counter)
    pending: Counter[Place] = field(default_factory=Counter)


def judge(given: Evidence) -> Verdict:
    arrived, refused = _by_place(given.facts)
    books = _books(given.messages)
    lost = _lost(given, books, arrived, refused)
    doubled = _doubled(books, arrived, refused)
    open_ids = {id for kill in given.kills for ids in kill.open.values() for id in ids}
    open_places = [one.place for one in given.messages if one.id in open_ids]
    unknown = [one for one in given.messages if one.state is _O.UNKNOWN]
    acknowledged = [one for one in given.facts if isinstance(one, Acknowledged)]
    keys = {one.key for one in acknowledged}
    inbound_lost = sorted(key for key in keys if not given.inbound.get(key))
    inbound_doubled = sorted(key for key, n in given.inbound.items() if n > 1)
    barred = _after_opt_out(given)
    met = _met(given)
    under_load = sum(map(bool, met))
    reasons = [
        *_told("lost", lost),
        *_told("doubled", doubled),
        *_too_many(given),
        *_sums(given),
        *_told("acknowledged inbound lost", inbound_lost),
        *_told("inbound doubled", inbound_doubled),
        *_told("sent after an opt-out or an erasure", barred),
        *given.deviations,
    ]
    states = Counter(one.state.value for one in given.messages)
    return Verdict(
        kills=len(given.kills),
        kills_under_load=under_load,
        kills_by_channel=dict(Counter(name for names in met for name in names)),
        planned=given.planned,
        messages=len(given.messages),
        arrived=arrived.total(),
        refused=refused.total(),
        states=dict(sorted(states.items())),
        lost=len(lost),
        doubled=len(doubled),
        unknown_at_kills=len(open_ids),
        unknown_per_kill=round(len(open_ids) / max(under_load, 1), 1),
        really_sent=sum(place in arrived for place in open_places),
        unknown_left=len(unknown),
        unknown_left_really_sent=sum(one.place in arrived for one in unknown),
        really_sent_left=dict(
            Counter(one.channel for one in unknown if one.place in arrived)
        ),
        inbound_acknowledged=len(keys),
        inbound_lost=len(inbound_lost),
        inbound_doubled=len(inbound_doubled),
        receipts_unmatched=given.unmatched,
        opted_out=len({one.address for one in given.barred if not one.erased}),
        erased=len({one.address for one in given.barred if one.erased}),
        after_opt_out=len(barred),
        reasons=reasons,
    )


def _met(given: Evidence) -> list[frozenset[str]]:
    """On which channels each kill met messages of a broadcast. Answers to people leave
    also while it stands still, and what an earlier kill has met is no work of this
    life."""
    fresh = {one.id for one in given.messages if one.broadcast_id is not None}
    found = []
    for kill in given.kills:
        found.append(frozenset(c for c, ids in kill.open.items() if ids & fresh))
        fresh.difference_update(*kill.open.values())
    return found


def _by_place(facts: Iterable[Fact]) -> tuple[Counter[Place], Counter[Place]]:
    arrived: Counter[Place] = Counter()
    refused: Counter[Place] = Counter()
    for fact in facts:
        if isinstance(fact, Arrived):
            arrived[fact.channel, fact.address] += 1
        elif isinstance(fact, Refused):
            refused[fact.channel, fact.address] += 1
    return arrived, refused


def _books(messages: Iterable[Message]) -> _Books:
    books = _Books()
    for one in messages:
        if one.state in CLAIMED:
            books.claimed[one.place] += 1
        elif one.state in REFUSED:
            books.refused[one.place] += 1
        elif one.state is _O.UNKNOWN:
            books.unknown[one.place] += 1
        elif one.state in PENDING:
            books.pending[one.place] += 1
    return books


def _lost(
    given: Evidence,
    books: _Books,
    arrived: Counter[Place],
    refused: Counter[Place],
) -> list[str]:
    """Whom nobody wrote to although the books are closed: said to be sent, or left
    in a state that nothing will ever take it out of."""
    found = [
        f"{channel} {address}"
        for (channel, address), n in (books.claimed - arrived).items()
        for _ in range(n)
    ]
    spare = arrived - books.claimed
    stuck = books.pending - spare
    found += [f"{c} {a} (never left)" for (c, a), n in stuck.items() for _ in range(n)]
    denied = books.refused - refused - spare
    found += [f"{c} {a} (not refused)" for (c, a), n in denied.items()]
    rows = sum(one.broadcast_id is not None for one in given.messages)
    missing = max(given.planned - rows, 0)
    return sorted(found) + ["a planned recipient without a row"] * missing


def _doubled(
    books: _Books, arrived: Counter[Place], refused: Counter[Place]
) -> list[str]:
    """Messages that arrived beyond those which may have arrived once each. One that
    the peer refused has not: its row can't excuse an arrival."""
    reached_then_failed = books.refused - refused
    once = books.claimed + books.unknown + books.pending + reached_then_failed
    return sorted(
        f"{channel} {address}"
        for (channel, address), n in (arrived - once).items()
        for _ in range(n)
    )


def _too_many(given: Evidence) -> list[str]:
    """More in doubt than a window: marked too early, so that unsent ones are too."""
    found = []
    for number, kill in enumerate(given.kills, start=1):
        for channel, ids in kill.open.items():
            window = given.windows.get(channel)
            if window is not None and len(ids) > window:
                found.append(
                    f"kill {number}: {len(ids)} in doubt on {channel}, "
                    f"its window is {window}"
                )
    return found[:NAMED]


def _sums(given: Evidence) -> list[str]:
    """Every row in one state; those sent have an intent; nothing is open any more."""
    rows = sum(one.broadcast_id is not None for one in given.messages)
    found = []
    if rows != given.planned:
        found.append(f"{given.planned} planned, {rows} in all states")
    left = [f"message {m.id} ({m.state})" for m in given.messages if m.state in PENDING]
    found += _told("neither sent nor unknown", left)
    bare = [
        f"message {one.id}"
        for one in given.messages
        if one.state in CLAIMED and not one.journalled
    ]
    return found + _told("sent without an intent", bare)


def _after_opt_out(given: Evidence) -> list[str]:
    since = {(one.channel, one.address): one.at for one in given.barred}
    return sorted(
        f"{fact.channel} {fact.address}"
        for fact in given.facts
        if isinstance(fact, Arrived)
        and fact.at > since.get((fact.channel, fact.address), fact.at) + HONOURED_WITHIN
    )


def _told(what: str, found: Sequence[str]) -> list[str]:
    if not found:
        return []
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"{len(found)} {what}: {', '.join(found[:NAMED])}{more}"]
