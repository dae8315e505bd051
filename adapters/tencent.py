"""Tencent Cloud short messages (腾讯云短信), API version 2021-01-11.

Out: SendSms, one signed POST for each message, and PullSmsSendStatusByPhoneNumber where
its answer was lost. In: pushes of receipts (短信下发状态通知) and replies (短信回复).
docs/channels/tencent.md tells how to connect an account.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

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
    read_object,
    unix_time,
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
    OutboundMessage,
    Outcome,
    RawRequest,
    ReceiptState,
    Received,
)
from gateway.errors import NotFound, OutcomeUnknown, PermanentFailure
from gateway.settings import Secret


class Settings(SmsSettings):
    secret_id: str = Field(min_length=1)
    secret_key: Secret
    sdk_app_id: str = Field(pattern="^[0-9]+$")
    region: str = Field("ap-guangzhou", pattern="^[a-z0-9-]+$")
    endpoint: Endpoint = "https://sms.tencentcloudapi.com"


# https://cloud.tencent.com/document/api/382/59177 and, for the codes of every product,
# https://cloud.tencent.com/document/api/382/52075
CODES: Mapping[str, Means] = {
    # The number, the text or the template of this message.
    "FailedOperation.ContainSensitiveWord": Means.REFUSED,
    "FailedOperation.FailResolvePacket": Means.REFUSED,
    "FailedOperation.JsonParseFail": Means.REFUSED,
    "FailedOperation.PhoneNumberParseFail": Means.REFUSED,
    "FailedOperation.SignatureIncorrectOrUnapproved": Means.REFUSED,
    "FailedOperation.TemplateIncorrectOrUnapproved": Means.REFUSED,
    "FailedOperation.TemplateParamSetNotMatchApprovedTemplate": Means.REFUSED,
    "FailedOperation.TemplateUnapprovedOrNotExist": Means.REFUSED,
    "FailedOperation.TemplateIdNotExist": Means.REFUSED,
    "InternalError.JsonParseFail": Means.REFUSED,
    "InvalidParameter": Means.REFUSED,
    "InvalidParameter.DirtyWordFound": Means.REFUSED,
    "InvalidParameter.InvalidParameters": Means.REFUSED,
    "InvalidParameterValue": Means.REFUSED,
    "InvalidParameterValue.ContentLengthLimit": Means.REFUSED,
    "InvalidParameterValue.IncorrectPhoneNumber": Means.REFUSED,
    "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter": Means.REFUSED,
    "InvalidParameterValue.TemplateParameterFormatError": Means.REFUSED,
    "InvalidParameterValue.TemplateParameterLengthLimit": Means.REFUSED,
    "InvalidParameterValue.TemplateWithDirtyWords": Means.REFUSED,
    "InvalidParameterValue.UnsupportedTemplateVariable": Means.REFUSED,
    "LimitExceeded.PhoneNumberCountLimit": Means.REFUSED,
    "LimitExceeded.AppCountryOrRegionInBlacklist": Means.REFUSED,
    "MissingParameter": Means.REFUSED,
    "MissingParameter.EmptyPhoneNumberSet": Means.REFUSED,
    "UnsupportedOperation": Means.REFUSED,
    "UnsupportedOperation.ChineseMainlandTemplateToGlobalPhone": Means.REFUSED,
    "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber": Means.REFUSED,
    "UnsupportedOperation.ContainDomesticPhoneNumber": Means.REFUSED,
    "UnsupportedOperation.GlobalTemplateToChineseMainlandPhone": Means.REFUSED,
    "UnsupportedOperation.UnsupportedRegion": Means.REFUSED,
    # Unsubscribed, or on a carrier's do-not-disturb list.
    "FailedOperation.PhoneNumberInBlacklist": Means.OPTED_OUT,
    # Calls a second.
    "LimitExceeded.GlobalSmsSendingRateLimit": Means.TOO_FAST,
    "RequestLimitExceeded": Means.TOO_FAST,
    "RequestLimitExceeded.GlobalRegionUinLimitExceeded": Means.TOO_FAST,
    "RequestLimitExceeded.IPLimitExceeded": Means.TOO_FAST,
    # Allowances: a number's by 30 seconds, hour and day, the account's by day.
    # Marketing texts leave between 8 and 22 o'clock only.
    "FailedOperation.MarketingSendTimeConstraint": Means.USED_UP,
    "LimitExceeded": Means.USED_UP,
    "LimitExceeded.AppCountryOrRegionDailyLimit": Means.USED_UP,
    "LimitExceeded.AppDailyLimit": Means.USED_UP,
    "LimitExceeded.AppGlobalDailyLimit": Means.USED_UP,
    "LimitExceeded.AppMainlandChinaDailyLimit": Means.USED_UP,
    "LimitExceeded.DailyLimit": Means.USED_UP,
    "LimitExceeded.DeliveryFrequencyLimit": Means.USED_UP,
    "LimitExceeded.PhoneNumberDailyLimit": Means.USED_UP,
    "LimitExceeded.PhoneNumberOneHourLimit": Means.USED_UP,
    "LimitExceeded.PhoneNumberSameContentDailyLimit": Means.USED_UP,
    "LimitExceeded.PhoneNumberThirtySecondLimit": Means.USED_UP,
    # Money, keys, rights and the clock.
    "FailedOperation.InsufficientBalanceInSmsPackage": Means.ACCOUNT,
    "FailedOperation.MissingSignatureList": Means.ACCOUNT,
    "FailedOperation.MissingTemplateList": Means.ACCOUNT,
    "InternalError.RequestTimeException": Means.ACCOUNT,
    "InternalError.SigFieldMissing": Means.ACCOUNT,
    "InternalError.SigVerificationFail": Means.ACCOUNT,
    "InvalidParameter.AppidAndBizId": Means.ACCOUNT,
    "InvalidParameterValue.SdkAppIdNotExist": Means.ACCOUNT,
    "UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny": Means.ACCOUNT,
    "UnauthorizedOperation.RequestIpNotInWhitelist": Means.ACCOUNT,
    "UnauthorizedOperation.RequestPermissionDeny": Means.ACCOUNT,
    "UnauthorizedOperation.SdkAppIdIsDisabled": Means.ACCOUNT,
    "UnauthorizedOperation.ServiceSuspendDueToArrears": Means.ACCOUNT,
    "UnauthorizedOperation.SmsSdkAppIdVerifyFail": Means.ACCOUNT,
    "AuthFailure.InvalidAuthorization": Means.ACCOUNT,
    "AuthFailure.InvalidSecretId": Means.ACCOUNT,
    "AuthFailure.SecretIdNotFound": Means.ACCOUNT,
    "AuthFailure.SignatureExpire": Means.ACCOUNT,
    "AuthFailure.SignatureFailure": Means.ACCOUNT,
    "AuthFailure.UnauthorizedOperation": Means.ACCOUNT,
    # Time-outs and faults behind the front door: the message may be on its way.
    "FailedOperation.OtherError": Means.UNCLEAR,
    "FailedOperation.ParametersOtherError": Means.UNCLEAR,
    "InternalError": Means.UNCLEAR,
    "InternalError.OtherError": Means.UNCLEAR,
    "InternalError.ParseBackendResponseFail": Means.UNCLEAR,
    "InternalError.SendAndRecvFail": Means.UNCLEAR,
    "InternalError.Timeout": Means.UNCLEAR,
    "InternalError.UnknownError": Means.UNCLEAR,
}

# https://cloud.tencent.com/document/api/382/59178
STATES: Mapping[str, ReceiptState] = {
    "SUCCESS": ReceiptState.DELIVERED,
    "FAIL": ReceiptState.FAILED,
}
MOST_RECORDS = 100  # in an answer about one number
REPLY = b'{"result":0,"errmsg":"OK"}'


class Tencent:
    """One application of one account. Sends may run side by side."""

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
                return Received(read_object(request.body, self._reply), REPLY)
        raise NotFound("pushes go to report or reply")

    def _receipt(self, row: Row, raw: bytes) -> DeliveryReceipt:
        """https://cloud.tencent.com/document/api/382/59178; `ext` is the
        SessionContext of the send."""
        provider_id, reference = word(row, "sid"), word(row, "ext")
        if not provider_id and not reference:
            raise BadRow("sid", "missing, and no ext either")
        number, received = word(row, "mobile"), word(row, "user_receive_time")
        status, code = word(row, "report_status"), word(row, "errmsg")
        address = e164(number, word(row, "nationcode"))
        return DeliveryReceipt(
            key=key(
                *("report", provider_id, reference, number, status, code, received),
                at=received,
            ),
            provider_id=provider_id,
            reference=reference,
            state=STATES.get(status, ReceiptState.UNKNOWN),
            code=code or status or "missing",
            address=Address(AddressKind.PHONE, address) if address else None,
            at=local_time(received, BEIJING),
            # Receipts carry the carriers' own words, of which no list names those
            # that mean a blacklist: only the send answer tells.
            opted_out=CODES.get(code) is Means.OPTED_OUT,
            raw=raw,
        )

    def _reply(self, row: Row, raw: bytes) -> InboundMessage:
        """https://cloud.tencent.com/document/product/382/68704

        There is no id: the same words within one second are one message.
        """
        number = word(row, "mobile", needed=True)
        nation = word(row, "nationcode")
        sender = e164(number, nation)
        if sender is None:
            raise BadRow("mobile", "expected a telephone number")
        content, notes = written(row, "text")
        sent, to = word(row, "time"), word(row, "extend")
        return InboundMessage(
            key=key("reply", sent, nation, number, to, str(row["text"]), at=sent),
            sender=Address(AddressKind.PHONE, sender),
            text=content,
            raw=raw,
            sent_at=unix_time(sent),
            to=to,
            notes=notes,
        )

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return await send_each(batch, self._send_one)

    async def _send_one(self, message: OutboundMessage) -> Outcome:
        if message.template is None:
            return PermanentFailure("template_required")
        settings = self._settings
        asked = {
            "PhoneNumberSet": [message.to.value],
            "SmsSdkAppId": settings.sdk_app_id,
            "SignName": settings.sign_name,
            "TemplateId": message.template.code,
            "TemplateParamSet": list(message.template.variables.values()),
            "SessionContext": message.id,
        }
        return outcome(await self._call("SendSms", asked))

    async def query(self, message: DoubtfulMessage) -> Found:
        """https://cloud.tencent.com/document/product/382/55976

        By number, of the last seven days. It tells of messages that have an end only:
        that one isn't there says nothing.
        """
        begin = message.journalled_at - CLOCKS_DIFFER
        asked = {
            "BeginTime": int(begin.timestamp()),
            "Offset": 0,
            "Limit": MOST_RECORDS,
            "PhoneNumber": message.to.value,
            "SmsSdkAppId": self._settings.sdk_app_id,
        }
        found = ends(await self._call("PullSmsSendStatusByPhoneNumber", asked))
        mine = [row for row in found if row.get("SessionContext") == message.id]
        try:
            told = [_end(row) for row in mine]
        except BadRow as bad:
            raise OutcomeUnknown("unreadable_answer", bad.field) from None
        return max(told, key=lambda one: one[0])[1] if told else None

    async def _call(self, action: str, asked: Mapping[str, object]) -> Answer:
        settings = self._settings
        host = authority(URL(settings.endpoint))
        body = json.dumps(asked).encode()
        now = self._context.clock.now()
        headers = {
            "Host": host,
            "Content-Type": CONTENT_TYPE,
            "X-TC-Action": action,
            "X-TC-Version": "2021-01-11",
            "X-TC-Region": settings.region,
            "X-TC-Timestamp": str(int(now.timestamp())),
            "Authorization": authorization(
                settings.secret_id,
                settings.secret_key.get_secret_value(),
                host,
                body,
                at=now,
            ),
        }
        url = URL(settings.endpoint)
        return await self._http.post(url, headers=headers, body=body)

    async def close(self) -> None:
        await self._http.close()


def build(settings: Settings, context: ChannelContext) -> Tencent:
    return Tencent(settings, context)


def outcome(answer: Answer) -> Outcome:
    """https://cloud.tencent.com/document/api/382/55981

    A refusal stands in `Error` for the whole call, or in the status of the number.
    """
    response = _object(said(answer).get("Response"))
    error = _object(response.get("Error"))
    if error:
        return refusal(answer, error.get("Code"), CODES)
    statuses = response.get("SendStatusSet")
    if not isinstance(statuses, list) or len(statuses) != 1:
        return refusal(answer, None, CODES)
    status = _object(statuses[0])
    if answer.status == 200 and status.get("Code") == "Ok":
        serial = status.get("SerialNo")
        if isinstance(serial, str) and serial:
            return Accepted((serial,))
        return OutcomeUnknown("unreadable_answer", "no SerialNo")
    return refusal(answer, status.get("Code"), CODES)


def ends(answer: Answer) -> Sequence[Row]:
    """What an answer of PullSmsSendStatusByPhoneNumber tells; raises DeliveryError
    where it is none."""
    response = _object(said(answer).get("Response"))
    rows = response.get("PullSmsSendStatusSet")
    if answer.status != 200 or "Error" in response:
        raise refusal(answer, _object(response.get("Error")).get("Code"), CODES)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OutcomeUnknown("unreadable_answer", "PullSmsSendStatusSet")
    return rows


def _end(row: Row) -> tuple[int, Ended]:
    """And when it was, in Unix seconds."""
    received = word(row, "UserReceiveTime", needed=True)
    if not (received.isascii() and received.isdigit()):
        raise BadRow("UserReceiveTime", "expected seconds")
    status, code = word(row, "ReportStatus"), word(row, "Description")
    state = STATES.get(status, ReceiptState.UNKNOWN)
    refused = CODES.get(code) is Means.OPTED_OUT
    return int(received), Ended(state=state, code=code or status, opted_out=refused)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


# Signing, alike for all products: https://cloud.tencent.com/document/api/306/57449
ALGORITHM = "TC3-HMAC-SHA256"
CONTENT_TYPE = "application/json"
SIGNED = "content-type;host"


def authorization(
    secret_id: str, secret: str, host: str, body: bytes, *, at: datetime
) -> str:
    """The Authorization header of a JSON POST to /; `at` is UTC and the same second
    as X-TC-Timestamp."""
    day = f"{at:%Y-%m-%d}"
    request = (
        f"POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\n\n{SIGNED}\n"
        f"{hashlib.sha256(body).hexdigest()}"
    )
    scope = f"{day}/sms/tc3_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{int(at.timestamp())}\n{scope}\n{digest}"
    signing_key = f"TC3{secret}".encode()
    for part in (day, "sms", "tc3_request", to_sign):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    return (
        f"{ALGORITHM} Credential={secret_id}/{scope}, "
        f"SignedHeaders={SIGNED}, Signature={signing_key.hex()}"
    )
