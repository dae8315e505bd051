"""Who we are and which message it is: time stamps, authenticators, message ids."""

import hashlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from adapters.cmpp.pdus import Version

# The carrier's clocks, wherever the centre is.
CARRIER_ZONE = ZoneInfo("Asia/Shanghai")


def timestamp(local: datetime) -> str:
    """MMDDHHMMSS, ten digits, of the carrier's wall clock (8.4.1.1)."""
    return local.strftime("%m%d%H%M%S")


def authenticator_source(source_addr: str, secret: str, timestamp: str) -> bytes:
    """MD5 over Source_Addr, nine zero octets, secret and time (8.4.1.1)."""
    plain = source_addr.encode() + bytes(9) + secret.encode() + timestamp.encode()
    return hashlib.md5(plain, usedforsecurity=False).digest()


def authenticator_ismg(
    status: int, source: bytes, secret: str, version: Version
) -> bytes:
    """MD5 over Status, AuthenticatorSource and secret (8.4.1.2).

    The clause doesn't say with how many octets Status goes in; ours are those of the
    field itself. Gateways differ, so nobody should insist on it.
    """
    plain = status.to_bytes(4 if version.wide else 1, "big") + source + secret.encode()
    return hashlib.md5(plain, usedforsecurity=False).digest()


def compose_msg_id(local: datetime, gateway: int, number: int) -> int:
    """Month, day, hour, minute, second, gateway code, counter (8.4.3.2)."""
    value = local.month
    for part, bits in (
        (local.day, 5),
        (local.hour, 5),
        (local.minute, 6),
        (local.second, 6),
        (gateway, 22),
        (number, 16),
    ):
        value = value << bits | part & (1 << bits) - 1
    return value


def time_of(msg_id: int, now: datetime) -> datetime | None:
    """When the gateway made this id, by its own clock; None where it doesn't say.

    An id has no year: the latest that is not after `now` (and a day for clocks that
    differ).
    """
    month, day, hour, minute, second = (
        msg_id >> shift & (1 << bits) - 1
        for shift, bits in ((60, 4), (55, 5), (50, 5), (44, 6), (38, 6))
    )
    latest = now.astimezone(CARRIER_ZONE) + timedelta(days=1)
    for year in (latest.year, latest.year - 1):
        try:
            at = datetime(year, month, day, hour, minute, second, tzinfo=CARRIER_ZONE)
        except ValueError:
            continue  # 29 February, or no date at all
        if at <= latest:
            return at.astimezone(UTC)
    return None
