"""The bot accounts this gateway serves, and who may speak for one. Pure."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One bot account. Everything is keyed on this `self_id`, which comes from the
    settings, and never on what an event claims."""

    channel: str
    self_id: str
    token: str = field(repr=False)
    groups: frozenset[str] = frozenset()  # the groups it serves; others are ignored
    ws_url: str = ""  # where to dial (forward); empty: the peer dials us (reverse)
    api_timeout: timedelta = timedelta(seconds=30)


def by_token(accounts: Iterable[Account], authorization: str) -> list[Account]:
    """The accounts whose token an `Authorization: Bearer` header carries.

    Every account is compared, in constant time, whatever the others gave: how long
    it takes tells nothing.
    """
    scheme, _, token = authorization.strip().partition(" ")
    given = token.strip().encode("utf-8", "surrogateescape")
    bearer = scheme.lower() == "bearer"
    return [
        account
        for account in accounts
        if hmac.compare_digest(account.token.encode(), given) and bearer
    ]
