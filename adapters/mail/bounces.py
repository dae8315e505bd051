"""Delivery status notifications (RFC 3464) to delivery receipts. Pure.

A report counts only if its signed bounce address, or without such addresses the
returned Message-ID, names a message of ours; all others are ordinary, automatic mail.
"""

import email
from collections.abc import Iterator
from email.message import Message

from adapters.mail.addresses import Mailbox, message_ids, normalise
from adapters.mail.charset import decode_header
from gateway.contract import Address, AddressKind, DeliveryReceipt, ReceiptState

_STATES = {"failed": ReceiptState.FAILED, "delivered": ReceiptState.DELIVERED}


def receipts(
    mail: Message, key: str, mailbox: Mailbox, token: str
) -> list[DeliveryReceipt]:
    """One receipt for each recipient named; empty if this is no report about ours."""
    status = _part(mail, "message/delivery-status")
    if status is None:
        return []
    signed = mailbox.bounced(token)
    returned = _returned_id(mail)
    reference = signed or mailbox.own_id(returned)
    if not reference or (mailbox.bounce_addresses and not signed):
        return []
    return [
        _receipt(group, f"{key}-{index}", reference, mailbox)
        for index, group in enumerate(_recipients(status))
    ]


def bounced_in_prose(key: str, reference: str, mailbox: Mailbox) -> DeliveryReceipt:
    """A failure that only the signed address tells: the text is a provider's prose."""
    return DeliveryReceipt(
        key=key,
        provider_id=mailbox.message_id(reference),
        state=ReceiptState.FAILED,
        raw=b"",
        reference=reference,
        code="bounce",
    )


def _part(mail: Message, content_type: str) -> Message | None:
    """The first such part directly inside a multipart mail."""
    children = mail.get_payload()
    if mail.get_content_maintype() != "multipart" or not isinstance(children, list):
        return None
    for child in children:
        if isinstance(child, Message) and child.get_content_type() == content_type:
            return child
    return None


def _recipients(status: Message) -> Iterator[Message]:
    """Groups of the report that speak of a recipient (RFC 3464 section 2.3)."""
    groups = status.get_payload()
    if isinstance(groups, list):
        for group in groups:
            if isinstance(group, Message) and group["action"]:
                yield group


def _receipt(
    group: Message, key: str, reference: str, mailbox: Mailbox
) -> DeliveryReceipt:
    action = decode_header(str(group["action"])).lower()
    status = decode_header(str(group["status"] or ""))
    return DeliveryReceipt(
        key=key,
        provider_id=mailbox.message_id(reference),
        state=_STATES.get(action, ReceiptState.UNKNOWN),
        raw=b"",
        reference=reference,
        code=f"{action} {status}".strip()[:60],
        address=_address(group["original-recipient"] or group["final-recipient"]),
    )


def _address(field: object) -> Address | None:
    """From `rfc822; a@b` (RFC 3464 section 2.3.2)."""
    value = decode_header(str(field or "")).rpartition(";")[2].strip().strip("<>")
    address = normalise(value)
    return Address(AddressKind.EMAIL, address) if address else None


def _returned_id(mail: Message) -> str:
    """The Message-ID in the returned mail or its headers."""
    whole = _part(mail, "message/rfc822")
    if whole is not None:
        inner = whole.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return _message_id(first) if isinstance(first, Message) else ""
    headers = _part(mail, "text/rfc822-headers")
    data = headers.get_payload(decode=True) if headers is not None else None
    return (
        _message_id(email.message_from_bytes(data)) if isinstance(data, bytes) else ""
    )


def _message_id(mail: Message) -> str:
    found = message_ids(str(mail["message-id"] or ""))
    return found[0] if found else ""
