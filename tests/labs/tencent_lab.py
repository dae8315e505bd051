"""Plays Tencent Cloud: checks the TC3 signature by its own reading of the rules."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from pydantic import SecretStr

from adapters import tencent
from gateway.contract import Adapter
from tests.contract.labs import Case, Lab, LabEntry
from tests.labs.sms import Call, Record, SmsLab, context

SECRET_ID = "AKIDLabKey"
SECRET = "lab-secret-key"
AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(\w+)/([0-9-]{10})/(\w+)/tc3_request, "
    r"SignedHeaders=([a-z;-]+), Signature=([0-9a-f]{64})"
)
RECEIPT = {
    "user_receive_time": "2026-11-21 09:30:05",
    "nationcode": "86",
    "mobile": "13800138000",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "用户短信送达成功",
    "sid": "2019:5932431142108345",
    "ext": "message-0",
}
SAID = {
    "extend": "01",
    "mobile": "13800138000",
    "nationcode": "86",
    "sign": "连心",
    "text": "参加",
    "time": 1795225860,
}


def signed(request: web.Request, body: bytes) -> bool:
    found = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if not found or found[1] != SECRET_ID:
        return False
    _, day, service, names, given = found.groups()
    stamp = request.headers["X-TC-Timestamp"]
    if f"{datetime.fromtimestamp(int(stamp), UTC):%Y-%m-%d}" != day:
        return False
    lines = "".join(f"{n}:{request.headers[n]}\n" for n in names.split(";"))
    text = f"{request.method}\n{request.path}\n{request.query_string}\n{lines}\n{names}"
    text += "\n" + hashlib.sha256(body).hexdigest()
    digest = hashlib.sha256(text.encode()).hexdigest()
    to_sign = f"TC3-HMAC-SHA256\n{stamp}\n{day}/{service}/tc3_request\n{digest}"
    secret = b"TC3" + SECRET.encode()
    for part in (day, service, "tc3_request", to_sign):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    return given == secret.hex() and {"content-type", "host"} <= set(names.split(";"))


class TencentDialect:
    code = "InvalidParameterValue.IncorrectPhoneNumber"
    retry_after: timedelta | None = timedelta(seconds=7)

    def read(self, request: web.Request, body: bytes) -> Call | None:
        if not signed(request, body):
            return None
        assert request.headers["X-TC-Action"] == "SendSms"
        assert request.headers["X-TC-Version"] == "2021-01-11"
        asked = json.loads(body)
        [number] = asked["PhoneNumberSet"]
        return Call(
            id=asked["SessionContext"],
            number=number,
            sign_name=asked["SignName"],
            template=asked["TemplateId"],
            text="".join(asked["TemplateParamSet"]),
            authorization=request.headers["Authorization"],
            headers=dict(request.headers),
            query=request.query_string,
            body=body,
        )

    def told(
        self,
        request: web.Request,
        body: bytes,
        records: Sequence[Record],
        odd: Mapping[str, object],
    ) -> web.Response | None:
        if request.headers.get("X-TC-Action") != "PullSmsSendStatusByPhoneNumber":
            return None
        if not signed(request, body):
            return self.forged()
        asked = json.loads(body)
        assert (asked["Offset"], asked["SmsSdkAppId"]) == (0, "1400006666")
        found = [
            end(one)
            for one in records
            if one.end
            and one.call.number == asked["PhoneNumber"]
            and one.at.timestamp() >= asked["BeginTime"]
        ]
        told: dict[str, object] = {
            "PullSmsSendStatusSet": found[: asked["Limit"]],
            "RequestId": "lab",
        }
        return web.json_response({"Response": told | dict(odd)})

    def accepted(self, call: Call) -> web.Response:
        return statuses(status("Ok", call.number, f"serial-{call.id}", call.id))

    def refused(self, code: str) -> web.Response:
        return statuses(status(code, "+8613800138000", "", ""))

    def forged(self) -> web.Response:
        return error("AuthFailure.SignatureFailure")

    def adapter(self, endpoint: str, pushes_from: Sequence[str]) -> Adapter:
        return tencent.build(settings(endpoint, pushes_from), context("tencent"))

    def pushed(self, case: Case) -> Sequence[tuple[str, bytes]]:
        match case:
            case Case.UNMAPPED_STATUS:
                return [("report", dumped([RECEIPT | {"report_status": "PERHAPS"}]))]
            case Case.BROKEN:
                return [("report", dumped([RECEIPT])[:-3])]
        return [("report", dumped([RECEIPT])), ("reply", dumped(SAID))]


def settings(
    endpoint: str, pushes_from: Sequence[str] = (), answer_within: float = 5
) -> tencent.Settings:
    return tencent.Settings.model_validate(
        {
            "secret_id": SECRET_ID,
            "secret_key": SecretStr(SECRET),
            "sdk_app_id": "1400006666",
            "sign_name": "连心",
            "endpoint": endpoint,
            "push_addresses": pushes_from,
            "answer_within_seconds": answer_within,
        }
    )


def dumped(found: object) -> bytes:
    return json.dumps(found, ensure_ascii=False).encode()


def status(code: str, number: str, serial: str, session: str) -> dict[str, object]:
    return {
        "SerialNo": serial,
        "PhoneNumber": number,
        "Fee": 1,
        "SessionContext": session,
        "Code": code,
        "Message": code,
        "IsoCode": "CN",
    }


def end(one: Record) -> dict[str, object]:
    """https://cloud.tencent.com/document/product/382/55976"""
    return {
        "UserReceiveTime": int(one.at.timestamp()) + 5,
        "CountryCode": "86",
        "SubscriberNumber": one.call.number.removeprefix("+86"),
        "PhoneNumber": one.call.number,
        "SerialNo": f"serial-{one.call.id}",
        "ReportStatus": one.end,
        "Description": "DELIVRD" if one.end == "SUCCESS" else "UNDELIV",
        "SessionContext": one.call.id,
    }


def statuses(*found: dict[str, object]) -> web.Response:
    body = {"Response": {"SendStatusSet": list(found), "RequestId": "a0aabda6-lab"}}
    return web.json_response(body)


def error(code: str) -> web.Response:
    body = {"Response": {"Error": {"Code": code, "Message": code}, "RequestId": "lab"}}
    return web.json_response(body)


def lab(_: Path) -> AbstractAsyncContextManager[Lab]:
    return SmsLab(TencentDialect(), [SECRET])


ENTRY = LabEntry(
    open=lab,
    without={
        Case.UNSIGNED: "the provider documents no signature on its pushes; the hook "
        "route checks the token and FORGED the source network",
    },
)
