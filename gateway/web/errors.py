"""Every fault becomes an answer here: a page for people, RFC 9457 for programs."""

import json
import random
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import structlog
from aiohttp import web
from tortoise.exceptions import IntegrityError

from gateway.errors import (
    GatewayError,
    ReadTooSlow,
    RequestError,
    StorageUnavailable,
)
from gateway.postgres import AWAY
from gateway.web.keys import REQUEST_ID
from gateway.web.pages import render, text, toast_header
from gateway.web.routes import SAFE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()

_PAGES = {
    400: ("内容有误", "请检查填写的内容后重试。"),
    401: ("需要登录", "请重新登录后继续。"),
    403: (
        "没有权限",
        "您的角色没有这项权限，或者页面已过期。请刷新后重试，仍然不行请联系管理员。",
    ),
    404: ("没有这个页面", "它可能已被删除，或者不在您的权限范围内。"),
    405: ("不支持的操作", "请从页面上的按钮或链接进入。"),
    409: ("情况已经变化", "别人刚刚处理过，请刷新页面查看最新状态。"),
    413: ("内容太大", "请减小文件或缩短内容后重试。"),
    415: ("不支持的格式", "请换一种格式后重试。"),
    422: ("内容有误", "请检查填写的内容后重试。"),
    429: ("操作太频繁", "请稍等片刻再试。"),
    503: ("暂时无法保存", "内容没有保存，请稍后重试。"),
    504: ("查询时间太长", "请缩小范围（例如日期、单位）后重试。"),
    500: ("系统出错", "我们已记录这次错误。内容未必已保存，请检查后重试。"),
}
_AWAY = "数据库暂时连不上"
_LATER = "请稍后再看，恢复后一切照旧。"
# Lost on its way there, a change may have been made all the same.
_IN_DOUBT = "请稍后重试。刚才填写的内容未必已保存，重试之前请先检查。"
# What these would tell an outsider is told by their title alone.
_SILENT = frozenset({401, 403, 404, 500, 503, 504})


@web.middleware
async def answer_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: numbers the request, turns every exception into an answer."""
    # No secret, and asking the system for one is a good part of a short answer.
    request[REQUEST_ID] = f"{random.getrandbits(64):016x}"
    try:
        return await handler(request)
    except web.HTTPException as answer:
        if answer.status < 400:
            raise
        return await _answer(
            request,
            RequestError(_code(answer.status), status=answer.status),
            {
                name: value
                for name, value in answer.headers.items()
                if name in ("Allow", "HX-Redirect")
            },
        )
    except RequestError as error:
        return await _answer(request, error)
    except IntegrityError:
        # Somebody else was faster: the same name, code or address.
        log.warning(
            "request.conflict",
            request_id=request[REQUEST_ID],
            route=_route(request),
        )
        return await _answer(request, RequestError("conflict", status=409))
    except StorageUnavailable as error:
        log.error("storage.unavailable", request_id=request[REQUEST_ID])
        return await _answer(request, error, {"Retry-After": "5"}, status=503)
    except AWAY as error:
        log.error(
            "database.away",
            request_id=request[REQUEST_ID],
            route=_route(request),
            error=type(error).__name__,
        )
        away = GatewayError("database_away")
        return await _answer(request, away, {"Retry-After": "5"}, status=503)
    except ReadTooSlow as error:
        log.warning(
            "read.too_slow", request_id=request[REQUEST_ID], route=_route(request)
        )
        return await _answer(request, error, status=504)
    except Exception as error:
        log.exception(
            "request.failed",
            request_id=request[REQUEST_ID],
            route=_route(request),
            error=type(error).__name__,
        )
        return await _answer(request, GatewayError("internal"), status=500)


def _route(request: web.Request) -> str:
    """The route's pattern: paths themselves may hold personal data."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def _code(status: int) -> str:
    return re.sub("[^a-z]+", "_", HTTPStatus(status).phrase.lower())


async def _answer(
    request: web.Request,
    error: GatewayError,
    headers: dict[str, str] | None = None,
    status: int = 0,
) -> web.StreamResponse:
    status = status or (error.status if isinstance(error, RequestError) else 500)
    if request.path.startswith(("/api/", "/hooks/")):
        response = problem(error, status)
    elif request.headers.get("HX-Request") == "true":
        words = _words(request, error, status)
        response = web.Response(
            status=status, headers=toast_header(": ".join(words), "bad")
        )
    else:
        title, detail = _words(request, error, status)
        response = await render(
            request,
            "error.html",
            status=status,
            title=title,
            text=detail,
            reference=request[REQUEST_ID],
        )
    response.headers.update(headers or {})
    return response


def _words(request: web.Request, error: GatewayError, status: int) -> tuple[str, str]:
    title, detail = _PAGES.get(status, _PAGES[500 if status >= 500 else 400])
    if error.code == "database_away":
        title, detail = _AWAY, _LATER if request.method in SAFE else _IN_DOUBT
    said = error.detail if status not in _SILENT else ""
    return text(request, title), text(request, said or detail)


def problem(error: GatewayError, status: int) -> web.Response:
    """RFC 9457 problem details; `code` is stable, `fields` names what to mend."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": "" if status in (404, 500) else error.detail,
        "fields": error.fields if isinstance(error, RequestError) else {},
    }
    response = web.Response(
        text=json.dumps(body, ensure_ascii=False),
        status=status,
        content_type="application/problem+json",
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
