"""Every error this product raises on purpose.

GatewayError
├── SettingsError          at start only; lists every fault at once, then exit
├── RequestError           the caller's mistake: bad signature, bad payload, ...
│   └── NotFound           there is no such thing, or it is not yours to see
├── StorageUnavailable     nothing was stored; the provider has to push again
├── ReadTooSlow            a question that would hold up the database too long
└── DeliveryError          the provider conversation did not end in acceptance
    ├── PermanentFailure   refused, and would be refused again
    ├── TransientFailure   certainly not sent; safe to repeat
    └── OutcomeUnknown     perhaps sent; never repeated on our own account
"""

from datetime import timedelta


class GatewayError(Exception):
    """Root of the tree; `code` is stable and machine-readable."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class SettingsError(GatewayError):
    """Settings that can't be started with; `faults` names each file, key and mend."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("settings", "; ".join(faults))
        self.faults = faults


class RequestError(GatewayError):
    """What the caller sent can't be accepted; nothing was changed.

    `status` is the HTTP status that says so; `fields` maps a field of the request to
    what is wrong with it and how to mend it.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        status: int = 400,
        fields: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.status = status
        self.fields = fields or {}


class NotFound(RequestError):
    """No such object, or one outside the actor's subtree: both answer alike."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not_found", detail, status=404)


class StorageUnavailable(GatewayError):
    """The database did not commit; the provider must not hear "accepted".

    `code` tells why: busy, full, unreachable, rolled_back, not_stored.
    """


class ReadTooSlow(GatewayError):
    """A read was ended after the seconds it may take; a narrower one may do."""

    def __init__(self) -> None:
        super().__init__("read_too_slow")


class DeliveryError(GatewayError):
    """A send that did not end in acceptance. `detail` holds codes, never bodies."""


class PermanentFailure(DeliveryError):
    """Refused, and the same message would be refused again.

    `opted_out` is set where the provider's own blacklist says that this address
    refused our messages.
    """

    def __init__(self, code: str, detail: str = "", *, opted_out: bool = False) -> None:
        super().__init__(code, detail)
        self.opted_out = opted_out


class TransientFailure(DeliveryError):
    """Certainly not sent. `throttled` marks a rate refusal; that uses no attempt, nor
    does what is `free`: no fault of the message, and not of the rate either."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after: timedelta | None = None,
        throttled: bool = False,
        free: bool = False,
    ) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after
        self.throttled = throttled
        self.free = free or throttled


class OutcomeUnknown(DeliveryError):
    """Perhaps sent: silence, a lost connection, a success nobody can parse."""
