"""Aliyun short messages (阿里云短信服务), API version 2017-05-25.

Out: SendSms, one signed POST for each message, and QuerySendDetails where its answer
was lost. In: pushes of receipts (SmsReport) and replies (SmsUp).
docs/channels/aliyun.md tells how to connect an account.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from pydantic import Field
from yarl import URL

from adapters._http import Answer, Http, authority
from adapters._push import (
    BadRow,
    Row,
    check_source,
    key,
    local_time,
    read_array,
    word,
    written,
)
from adapters._sms import (
    BEIJING,
    CAPABILITIES,
    CLOCKS_DIFFER,
    Endpoint,
    Means,
    SmsSettings,
    e164,
    refusal,
    said,
    send_each,
)
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    ChannelContext,
    DeliveryReceipt,
    DoubtfulMessage,
    Ended,
    Found,
    InboundMessage,
    NotTaken,
    OutboundMessage,
    Outcome,
    RawRequest,
    ReceiptState,
    Received,
)
from gateway.errors import NotFound, OutcomeUnknown, PermanentFailure
from gateway.settings import Secret


class Settings(SmsSettings):
    access_key_id: str = Field(min_length=1)
    access_key_secret: Secret
    endpoint: Endpoint = "https://dysmsapi.aliyuncs.com"


# https://help.aliyun.com/document_detail/101346.html
CODES: Mapping[str, Means] = {
    # The number, the text or the template of this message.
    "isv.MOBILE_NUMBER_ILLEGAL": Means.REFUSED,
    "isv.MOBILE_COUNT_OVER_LIMIT": Means.REFUSED,
    "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": Means.REFUSED,
    "isv.SMS_TEMPLATE_ILLEGAL": Means.REFUSED,
    "isv.SMS_SIGNATURE_ILLEGAL": Means.REFUSED,
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": Means.REFUSED,
    "isv.SMS_SIGN_ILLEGAL": Means.REFUSED,
    "isv.SIGN_STATE_ILLEGAL": Means.REFUSED,
    "isv.SIGN_NAME_ILLEGAL": Means.REFUSED,
    "isv.EXTEND_CODE_ERROR": Means.REFUSED,
    "isv.TEMPLATE_MISSING_PARAMETERS": Means.REFUSED,
    "isv.TEMPLATE_PARAMS_ILLEGAL": Means.REFUSED,
    "isv.INVALID_PARAMETERS": Means.REFUSED,
    "isv.INVALID_JSON_PARAM": Means.REFUSED,
    "isv.PARAM_LENGTH_LIMIT": Means.REFUSED,
    "isv.PARAM_NOT_SUPPORT_URL": Means.REFUSED,
    "isv.SMS_CONTENT_ILLEGAL": Means.REFUSED,
    "isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE": Means.REFUSED,
    "isv.UNSUPPORTED_CONTENT": Means.REFUSED,
    "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT": Means.REFUSED,
    "isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL": Means.REFUSED,
    "isv.SMS_TEST_NUMBER_LIMIT": Means.REFUSED,
    # The number has unsubscribed or complained; it can't be taken off the list.
    "isv.BLACK_KEY_CONTROL_LIMIT": Means.OPTED_OUT,
    "isv.CUSTOMER_REFUSED": Means.OPTED_OUT,
    # Allowances: a number's by hour and day, the account's by day and month.
    "isv.BUSINESS_LIMIT_CONTROL": Means.USED_UP,
    "isv.DAY_LIMIT_CONTROL": Means.USED_UP,
    "isv.MONTH_LIMIT_CONTROL": Means.USED_UP,
    # Money, rights and the state of the account.
    "isv.AMOUNT_NOT_ENOUGH": Means.ACCOUNT,
    "isv.OUT_OF_SERVICE": Means.ACCOUNT,
    "isv.PRODUCT_UN_SUBSCRIPT": Means.ACCOUNT,
    "isv.PRODUCT_UNSUBSCRIBE": Means.ACCOUNT,
    "isv.ACCOUNT_NOT_EXISTS": Means.ACCOUNT,
    "isv.ACCOUNT_ABNORMAL": Means.ACCOUNT,
    "isv.SECURITY_FROZEN_ACCOUNT": Means.ACCOUNT,
    "isv.DENY_IP_RANGE": Means.ACCOUNT,
    "isp.RAM_PERMISSION_DENY": Means.ACCOUNT,
    "SignatureDoesNotMatch": Means.ACCOUNT,
    "InvalidAccessKeyId.NotFound": Means.ACCOUNT,
    "InvalidTimeStamp.Expired": Means.ACCOUNT,
    # "Call again" is the advice, but nothing says that the message was not sent, and
    # the platform does not drop repeats: the receipt decides.
    "isp.SYSTEM_ERROR": Means.UNCLEAR,
    "isp.GATEWAY_ERROR": Means.UNCLEAR,
    # A nonce that was seen before belongs to a request that was taken.
    "SignatureNonceUsed": Means.UNCLEAR,
    # https://developer.aliyun.com/ask/635553, https://developer.aliyun.com/ask/128391
    "Throttling": Means.TOO_FAST,
    "Throttling.User": Means.TOO_FAST,
    "Throttling.Api": Means.TOO_FAST,
}

# Receipt codes, https://help.aliyun.com/document_detail/101347.html: the number is on
# the carrier's or our signature's blacklist; the person has unsubscribed.
OPTED_OUT = frozenset(
    {
        "MOBILE_IN_BLACK",
        "USER_REJECT",
        *(code for code, means in CODES.items() if means is Means.OPTED_OUT),
    }
)
# Same page: no receipt of the carrier yet, or one that the carrier can't explain.
UNDECIDED = frozenset({"REQUEST_SUCCESS", "SP_UNKNOWN_ERROR"})

# QuerySendDetails: SendStatus, of which 1 is "waiting for the carrier's receipt". Pages
# hold 50 records at most; nobody gets so many messages a day as these.
SENT = {"2": ReceiptState.FAILED, "3": ReceiptState.DELIVERED}
PAGE, MOST_PAGES = 50, 20

# Any numeric code will do: https://help.aliyun.com/document_detail/101867.html
REPLY = '{"code":0,"msg":"接收成功"}'.encode()


class Aliyun:
    """One account. Sends are independent of each other and may run side by side."""

    def __init__(self, settings: Settings, context: ChannelContext) -> None:
        self.capabilities = CAPABILITIES
        self._settings = settings
        self._context = context
        self._http = Http(context.clock, answer_within=settings.answer_within)

    def receive(self, request: RawRequest) -> Received:
        check_source(request, self._settings.push_addresses)
        match request.path.strip("/"):
            case "report":
                return Received(read_array(request.body, self._receipt), REPLY)
            case "reply":
                return Received(read_array(request.body, self._reply), REPLY)
        raise NotFound("pushes go to report or reply")

    def _receipt(self, row: Row, raw: bytes) -> DeliveryReceipt:
        """https://help.aliyun.com/document_detail/101867.html"""
        provider_id, reference = word(row, "biz_id"), word(row, "out_id")
        if not provider_id and not reference:
            raise BadRow("biz_id", "missing, and no out_id either")
        number, reported = word(row, "phone_number"), word(row, "report_time")
        code = word(row, "err_code")
        address = e164(number)
        state = _state(row.get("success"), code)
        return DeliveryReceipt(
            key=key(
                *("report", provider_id, reference, number, state, code, reported),
                at=reported,
            ),
            provider_id=provider_id,
            reference=reference,
            state=state,
            code=code or f"success={row.get('success')!r}"[:64],
            address=Address(AddressKind.PHONE, address) if address else None,
            at=local_time(reported, BEIJING),
            opted_out=state is ReceiptState.FAILED and code in OPTED_OUT,
            raw=raw,
        )

    def _reply(self, row: Row, raw: bytes) -> InboundMessage:
        """https://help.aliyun.com/knowledge_detail/60127.html

        Sequence numbers may come round again: day and text are part of the key.
        """
        number = word(row, "phone_number", needed=True)
        sender = e164(number)
        if sender is None:
            raise BadRow("phone_number", "expected a telephone number")
        content, notes = written(row, "content")
        sent, sequence = word(row, "send_time"), word(row, "sequence_id")
        to = word(row, "dest_code")
        when = sent.partition(" ")[0] if sequence else sent
        return InboundMessage(
            key=key(
                *("reply", sequence, when, number, to, str(row["content"])),
                at=when + sequence,
            ),
            sender=Address(AddressKind.PHONE, sender),
            text=content,
            raw=raw,
            sent_at=local_time(sent, BEIJING),
            provider_id=sequence,
            to=to,
            notes=notes,
        )

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return await send_each(batch, self._send_one)

    async def _send_one(self, message: OutboundMessage) -> Outcome:
        if message.template is None:
            return PermanentFailure("template_required")
        parameters = {
            "OutId": message.id,
            "PhoneNumbers": _recipient(message.to.value),
            "SignName": self._settings.sign_name,
            "TemplateCode": message.template.code,
            "TemplateParam": json.dumps(dict(message.template.variables)),
        }
        return outcome(await self._call("SendSms", parameters))

    async def query(self, message: DoubtfulMessage) -> Found:
        """https://help.aliyun.com/document_detail/419277.html

        By number and day, of the last 30 days; what they took is there from the start.
        """
        begin = message.journalled_at - CLOCKS_DIFFER
        end = message.journalled_at + CLOCKS_DIFFER
        days = {f"{at.astimezone(BEIJING):%Y%m%d}" for at in (begin, end)}
        mine = list[Row]()
        try:
            for day in sorted(days):
                mine += await self._records(day, message)
            return _newest(mine, begin)
        except BadRow as bad:
            raise OutcomeUnknown("unreadable_answer", bad.field) from None

    async def _records(self, day: str, message: DoubtfulMessage) -> Sequence[Row]:
        mine, read = list[Row](), 0
        for page in range(1, MOST_PAGES + 1):
            parameters = {
                "PhoneNumber": _recipient(message.to.value),
                "SendDate": day,
                "PageSize": str(PAGE),
                "CurrentPage": str(page),
            }
            rows, total = details(await self._call("QuerySendDetails", parameters))
            mine += [row for row in rows if word(row, "OutId") == message.id]
            read += len(rows)
            if read >= total:
                return mine
            if not rows:
                raise OutcomeUnknown("incomplete_answer")
        raise OutcomeUnknown("too_many_records")

    async def _call(self, action: str, parameters: Mapping[str, str]) -> Answer:
        settings = self._settings
        url = URL(settings.endpoint)
        query = canonical_query(parameters)
        headers = headers_to_sign(
            action,
            authority(url),
            at=self._context.clock.now(),
            nonce=secrets.token_hex(16),
        )
        headers["Authorization"] = authorization(
            settings.access_key_id,
            settings.access_key_secret.get_secret_value(),
            query,
            headers,
        )
        target = URL(f"{settings.endpoint}/?{query}", encoded=True)
        return await self._http.post(target, headers=headers)

    async def close(self) -> None:
        await self._http.close()


def build(settings: Settings, context: ChannelContext) -> Aliyun:
    return Aliyun(settings, context)


def outcome(answer: Answer) -> Outcome:
    """https://help.aliyun.com/document_detail/419273.html"""
    told = said(answer)
    if answer.status == 200 and told.get("Code") == "OK":
        provider_id = told.get("BizId")
        if isinstance(provider_id, str) and provider_id:
            return Accepted((provider_id,))
        return OutcomeUnknown("unreadable_answer", "no BizId")
    return refusal(answer, told.get("Code"), CODES)


def details(answer: Answer) -> tuple[Sequence[Row], int]:
    """The records on a page of QuerySendDetails, and how many there are on all pages.
    Raises DeliveryError or BadRow where it is no such answer."""
    told = said(answer)
    if answer.status != 200 or told.get("Code") != "OK":
        raise refusal(answer, told.get("Code"), CODES)
    found = told.get("SmsSendDetailDTOs")
    rows = found.get("SmsSendDetailDTO") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadRow("SmsSendDetailDTOs", "expected a list of objects")
    total = word(told, "TotalCount", needed=True)
    if not (total.isascii() and total.isdigit()):
        raise BadRow("TotalCount", "expected a number")
    return rows, int(total)


def _newest(mine: Sequence[Row], begin: datetime) -> Found:
    """Of a message's records those of its last attempt; one that is too early for it,
    by their clock, proves nothing."""
    sent = [(_sent_at(row), row) for row in mine]
    late = [one for one in sent if one[0] >= begin]
    if not late:
        return None if mine else NotTaken()
    _, row = max(late, key=lambda one: one[0])
    state, code = SENT.get(word(row, "SendStatus")), word(row, "ErrCode")
    if state is None or code in UNDECIDED:
        return Accepted(())
    refused = state is ReceiptState.FAILED and code in OPTED_OUT
    return Ended(state=state, code=code, opted_out=refused)


def _sent_at(row: Row) -> datetime:
    at = local_time(word(row, "SendDate"), BEIJING)
    if at is None:
        raise BadRow("SendDate", "expected a time")
    return at


def _state(success: object, code: str) -> ReceiptState:
    if code in UNDECIDED:
        return ReceiptState.UNKNOWN
    if success is True or success == "true":
        return ReceiptState.DELIVERED
    if success is False or success == "false":
        return ReceiptState.FAILED
    return ReceiptState.UNKNOWN


def _recipient(number: str) -> str:
    """Mainland numbers bare, others with country code, neither with a plus."""
    return number.removeprefix("+86") if number.startswith("+86") else number[1:]


# Signing, https://help.aliyun.com/document_detail/2593177.html
ALGORITHM = "ACS3-HMAC-SHA256"
EMPTY_BODY = hashlib.sha256(b"").hexdigest()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Sorted and percent-encoded as signed; goes into the address unchanged."""
    return "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}"
        for name, value in sorted(parameters.items())
    )


def headers_to_sign(
    action: str, host: str, *, at: datetime, nonce: str
) -> dict[str, str]:
    return {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": EMPTY_BODY,
        "x-acs-date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": nonce,
        "x-acs-version": "2017-05-25",
    }


def authorization(
    key_id: str, secret: str, query: str, headers: Mapping[str, str]
) -> str:
    """The Authorization header of a POST to / without a body; signs every header
    given, whose names are lower-case."""
    names = sorted(headers)
    signed = ";".join(names)
    lines = [f"{name}:{headers[name].strip()}" for name in names]
    request = "\n".join(["POST", "/", query, *lines, "", signed, EMPTY_BODY])
    digest = hashlib.sha256(request.encode()).hexdigest()
    signature = hmac.digest(
        secret.encode(), f"{ALGORITHM}\n{digest}".encode(), "sha256"
    ).hex()
    return (
        f"{ALGORITHM} Credential={key_id},SignedHeaders={signed},Signature={signature}"
    )
