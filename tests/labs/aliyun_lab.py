"""Plays Aliyun: checks the ACS3 signature by its own reading of the rules."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import SecretStr

from adapters import aliyun
from gateway.contract import Adapter
from tests.contract.labs import Case, Lab, LabEntry
from tests.labs.sms import Call, Record, SmsLab, context, raw_query

ZONE = ZoneInfo("Asia/Shanghai")
KEY_ID = "LTAI5tLabKey"
SECRET = "lab-access-key-secret"
AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256 Credential=(\w+),SignedHeaders=([a-z0-9;-]+),"
    r"Signature=([0-9a-f]{64})"
)
RECEIPT = {
    "phone_number": "13800138000",
    "send_time": "2026-11-21 09:30:00",
    "report_time": "2026-11-21 09:30:05",
    "success": True,
    "err_code": "DELIVERED",
    "err_msg": "用户接收成功",
    "sms_size": "1",
    "biz_id": "900619746936498440^0",
    "out_id": "message-0",
}
SAID = {
    "phone_number": "13800138000",
    "send_time": "2026-11-21 09:31:00",
    "content": "参加",
    "sign_name": "连心",
    "dest_code": "1069000012345",
    "sequence_id": 1234567890,
}


def signature(request: web.Request, names: Sequence[str], body: bytes) -> str:
    """Independent of the adapter: works on the request as it came in."""
    lines = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    # Decoded and encoded anew: a space may travel as + and is signed as %20.
    pairs = sorted(parse_qsl(raw_query(request), keep_blank_values=True))
    query = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in pairs)
    payload = hashlib.sha256(body).hexdigest()
    text = f"{request.method}\n{request.path}\n{query}\n{lines}\n"
    text += f"{';'.join(names)}\n{payload}"
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(text.encode()).hexdigest()
    return hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def signed(request: web.Request, body: bytes) -> bool:
    found = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if not found or found[1] != KEY_ID:
        return False
    names = found[2].split(";")
    # The gateway refuses a call in which one of its own headers is left unsigned.
    left_out = [
        name.lower()
        for name in request.headers
        if name.lower().startswith("x-acs-") and name.lower() not in names
    ]
    digest = request.headers.get("x-acs-content-sha256")
    return (
        not left_out
        and "host" in names
        and names == sorted(names)
        and digest == hashlib.sha256(body).hexdigest()
        and found[3] == signature(request, names, body)
    )


class AliyunDialect:
    code = "isv.MOBILE_NUMBER_ILLEGAL"
    retry_after: timedelta | None = timedelta(seconds=7)

    def read(self, request: web.Request, body: bytes) -> Call | None:
        if not signed(request, body):
            return None
        assert request.headers["x-acs-action"] == "SendSms"
        assert request.headers["x-acs-version"] == "2017-05-25"
        query = dict(parse_qsl(raw_query(request), strict_parsing=True))
        return Call(
            id=query["OutId"],
            number=query["PhoneNumbers"],
            sign_name=query["SignName"],
            template=query["TemplateCode"],
            text="".join(json.loads(query["TemplateParam"]).values()),
            authorization=request.headers["Authorization"],
            headers=dict(request.headers),
            query=raw_query(request),
            body=body,
        )

    def told(
        self,
        request: web.Request,
        body: bytes,
        records: Sequence[Record],
        odd: Mapping[str, object],
    ) -> web.Response | None:
        if request.headers.get("x-acs-action") != "QuerySendDetails":
            return None
        if not signed(request, body):
            return self.forged()
        asked = dict(parse_qsl(raw_query(request), strict_parsing=True))
        size, page = int(asked["PageSize"]), int(asked["CurrentPage"])
        assert 1 <= size <= 50
        found = [
            detail(one)
            for one in records
            if one.call.number == asked["PhoneNumber"]
            and f"{one.at.astimezone(ZONE):%Y%m%d}" == asked["SendDate"]
        ]
        shown = found[(page - 1) * size : page * size]
        details = {"SmsSendDetailDTO": shown}
        told = {"TotalCount": len(found), "SmsSendDetailDTOs": details}
        return answer("OK", **told | dict(odd))

    def accepted(self, call: Call) -> web.Response:
        return answer("OK", BizId=f"biz-{call.id}^0")

    def refused(self, code: str) -> web.Response:
        return answer(code)

    def forged(self) -> web.Response:
        return answer("SignatureDoesNotMatch", status=400)

    def adapter(self, endpoint: str, pushes_from: Sequence[str]) -> Adapter:
        return aliyun.build(settings(endpoint, pushes_from), context("aliyun"))

    def pushed(self, case: Case) -> Sequence[tuple[str, bytes]]:
        match case:
            case Case.UNMAPPED_STATUS:
                odd = RECEIPT | {"success": "perhaps", "err_code": "NEVER_HEARD_OF"}
                return [("report", rows(odd))]
            case Case.BROKEN:
                return [("report", rows(RECEIPT)[:-3])]
        return [("report", rows(RECEIPT)), ("reply", rows(SAID))]


def settings(
    endpoint: str, pushes_from: Sequence[str] = (), answer_within: float = 5
) -> aliyun.Settings:
    return aliyun.Settings.model_validate(
        {
            "access_key_id": KEY_ID,
            "access_key_secret": SecretStr(SECRET),
            "sign_name": "连心",
            "endpoint": endpoint,
            "push_addresses": pushes_from,
            "answer_within_seconds": answer_within,
        }
    )


def rows(*found: object) -> bytes:
    return json.dumps(found, ensure_ascii=False).encode()


def detail(one: Record) -> dict[str, object]:
    """https://help.aliyun.com/document_detail/419277.html"""
    codes = {"2": "MOBILE_IN_BLACK", "3": "DELIVERED"}
    at = f"{one.at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}"
    return {
        "PhoneNum": one.call.number,
        "SendStatus": int(one.end or "1"),
        "ErrCode": codes.get(one.end, ""),
        "TemplateCode": one.call.template,
        "Content": one.call.text,
        "SendDate": at,
        "ReceiveDate": at if one.end else "",
        "OutId": one.call.id,
    }


def answer(code: str, *, status: int = 200, **more: object) -> web.Response:
    body = {"Code": code, "Message": code, "RequestId": "F6B8-LAB"} | more
    return web.json_response(body, status=status)


def lab(_: Path) -> AbstractAsyncContextManager[Lab]:
    return SmsLab(AliyunDialect(), [SECRET])


ENTRY = LabEntry(
    open=lab,
    without={
        Case.UNSIGNED: "the provider documents no signature on its pushes; the hook "
        "route checks the token and FORGED the source network",
    },
)
