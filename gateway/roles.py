"""What one process of a cluster is for."""

from enum import StrEnum

from gateway.errors import SettingsError


class Role(StrEnum):
    """A process may have any of them; together they are the gateway."""

    WEB = "web"  # pages, API, provider pushes, and routing of what was stored
    BOTS = "bots"  # channels whose bots dial in: their sockets, and what they send
    SENDER = "sender"  # all other channels: sending, and their own entries
    SCHEDULER = "scheduler"  # scheduled notices, the daily Q&A, ends of broadcasts


EVERY = frozenset(Role)


def parse(text: str, *, splits: bool) -> frozenset[Role]:
    """`web,sender` as roles; `splits` says whether the database takes several
    processes. Raises SettingsError with what to write instead."""
    names = [name for name in text.replace(" ", "").split(",") if name]
    unknown = [name for name in names if name not in set(Role)]
    if unknown or not names:
        known = ", ".join(Role)
        raise SettingsError([f"--roles {text}: expected some of: {known}"])
    roles = frozenset(Role(name) for name in names)
    if roles != EVERY and not splits:
        mend = "leave --roles away, or use PostgreSQL (DATABASE_URL)"
        raise SettingsError([f"--roles {text}: on SQLite one process does all: {mend}"])
    return roles


def named(roles: frozenset[Role]) -> str:
    """In the order of their definition."""
    return ",".join(role for role in Role if role in roles)
