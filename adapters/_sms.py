"""What the HTTP SMS providers have in common when we write: limits, settings, numbers
and what a refusal code stands for. Their dialects are in aliyun.py and tencent.py.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum, StrEnum, auto
from typing import Annotated
from zoneinfo import ZoneInfo

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from yarl import URL

from adapters._http import Answer, failure
from gateway.contract import (
    AddressKind,
    Capabilities,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from gateway.settings import Network

# Both providers tell times of the clock in Beijing, wherever a centre is.
BEIJING = ZoneInfo("Asia/Shanghai")
# Theirs and ours: calls are signed with a time, and refused beyond 15 minutes.
CLOCKS_DIFFER = timedelta(minutes=20)

CAPABILITIES = Capabilities(
    address_kinds=frozenset({AddressKind.PHONE}),
    encoding=TextEncoding.UCS2,
    # Billed by characters, Latin ones too; the signature counts.
    # https://help.aliyun.com/document_detail/414224.htm
    max_length=500,
    segments=(70, 67),
    delivery_receipts=True,
    free_text=False,
    # One recipient a call: every message has variables and an id of its own, and one
    # answer then speaks of one message only. Keep-alive makes up for the calls.
    batch_size=1,
    window=16,
    rate_per_second=50.0,
)

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def _endpoint(value: str) -> str:
    try:
        url = URL(value)
    except ValueError:
        raise ValueError("expected an address such as https://host") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("expected an address such as https://host")
    if url.scheme == "http" and url.host not in _LOOPBACK:
        raise ValueError("expected https: keys and numbers travel on it")
    if url.path not in {"", "/"} or url.query_string or url.fragment or url.user:
        raise ValueError("expected scheme, host and port only, without a path")
    return str(url.origin())


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class SmsSettings(BaseModel):
    """Keys that both providers' sections have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sign_name: str = Field(min_length=1, max_length=50)  # approved, without 【】
    push_addresses: tuple[Network, ...] = ()  # empty: pushes from anywhere
    answer_within_seconds: float = Field(20, gt=0, le=60)

    @property
    def answer_within(self) -> timedelta:
        return timedelta(seconds=self.answer_within_seconds)


class Means(Enum):
    """What a documented refusal code says about the message."""

    REFUSED = auto()  # this message, again and again
    OPTED_OUT = auto()  # the number refuses us: provider's or carrier's blacklist
    TOO_FAST = auto()  # calls a second
    USED_UP = auto()  # a daily, hourly or per-number allowance
    AGAIN = auto()  # not sent, for a passing reason of theirs
    ACCOUNT = auto()  # money, keys, rights: nothing goes out until staff mend it
    UNCLEAR = auto()  # broke inside the provider, perhaps after it was sent


class CodeMeaning(StrEnum):
    """What staff say in settings.toml about a code of their carrier's own."""

    REFUSED = "refused"
    OPTED_OUT = "opted_out"
    THROTTLED = "throttled"
    AGAIN = "again"
    ACCOUNT = "account"
    UNKNOWN = "unknown"


MEANS: Mapping[CodeMeaning, Means] = {
    CodeMeaning.REFUSED: Means.REFUSED,
    CodeMeaning.OPTED_OUT: Means.OPTED_OUT,
    CodeMeaning.THROTTLED: Means.TOO_FAST,
    CodeMeaning.AGAIN: Means.AGAIN,
    CodeMeaning.ACCOUNT: Means.ACCOUNT,
    CodeMeaning.UNKNOWN: Means.UNCLEAR,
}

ALLOWANCE_PAUSE = timedelta(hours=1)
ACCOUNT_PAUSE = timedelta(minutes=10)


def meaning(code: str, means: Means) -> DeliveryError:
    match means:
        case Means.REFUSED:
            return PermanentFailure(code)
        case Means.OPTED_OUT:
            return PermanentFailure(code, opted_out=True)
        case Means.TOO_FAST:
            return TransientFailure(code, throttled=True)
        case Means.USED_UP:
            return TransientFailure(code, retry_after=ALLOWANCE_PAUSE, throttled=True)
        case Means.AGAIN:
            return TransientFailure(code)
        case Means.ACCOUNT:
            return TransientFailure(code, retry_after=ACCOUNT_PAUSE)
        case Means.UNCLEAR:
            return OutcomeUnknown(code)


def said(answer: Answer) -> Mapping[str, object]:
    """The JSON object of an answer; empty where there is none."""
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def refusal(answer: Answer, code: object, codes: Mapping[str, Means]) -> DeliveryError:
    """An answer that is not an acceptance, by its code where there is one.

    An error answer below 500 with a code outside the table was refused for certain:
    permanent, marked `unmapped:` so that staff see that the table needs a line.
    """
    ended = failure(answer)
    if answer.status == 429 and ended is not None:
        return ended
    if not isinstance(code, str) or not code:
        return ended or OutcomeUnknown("unreadable_answer")
    if code in codes:
        return meaning(code, codes[code])
    if isinstance(ended, OutcomeUnknown):
        return ended
    return PermanentFailure("unmapped:" + "".join(filter(str.isprintable, code))[:64])


SendOne = Callable[[OutboundMessage], Awaitable[Outcome]]


async def send_each(
    batch: Sequence[OutboundMessage], send_one: SendOne
) -> dict[str, Outcome]:
    """Send one after another; a failure concerns its own message only."""
    outcomes: dict[str, Outcome] = {}
    for message in batch:
        try:
            outcomes[message.id] = await send_one(message)
        except DeliveryError as error:
            outcomes[message.id] = error
    return outcomes


# Without 179, which begins carriers' prefixes, too.
_MAINLAND_MOBILE = re.compile("861(?:[3-689][0-9]|7[0-8])[0-9]{8}")


def e164(number: str, country_code: str = "") -> str | None:
    """A provider's way to write a number in our form; None where it is none.

    Without a country code eleven digits from 13 to 19 are a mainland mobile, anything
    else begins with its country code.
    """
    digits = number.strip().removeprefix("+").removeprefix("00")
    if country_code:
        digits = country_code.removeprefix("+") + digits
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        return None
    if len(digits) == 11 and not country_code and "13" <= digits[:2] <= "19":
        digits = "86" + digits
    if _MAINLAND_MOBILE.fullmatch(digits):
        return "+" + digits  # nearly all of ours; the library takes 30 times as long
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
