"""Errors, headers, forms and routes: nothing a caller sends makes a 5xx."""

import json
from io import BytesIO

import pytest
from aiohttp import web
from tortoise.exceptions import IntegrityError

from gateway.actors import Action
from gateway.errors import RequestError, StorageUnavailable
from gateway.web import routes
from gateway.web.routes import Entry, Route, add_routes, page, public
from tests.console import Console


async def test_pages_carry_the_security_headers(console: Console) -> None:
    answer = await console.client.get("/login")
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers


async def test_an_unknown_page_is_an_html_404(console: Console) -> None:
    answer = await console.client.get("/nowhere")
    assert answer.status == 404
    assert answer.content_type == "text/html"


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/hooks/x/y/z"])
async def test_programs_get_problem_details(console: Console, path: str) -> None:
    answer = await console.client.get(path)
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
    assert (await answer.json(content_type=None))["code"] == "not_found"


def test_a_route_without_a_declared_action_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        Route(
            method="GET",
            path="/x",
            entry=Entry.SESSION,
            action=None,
            handler=_never,
        )


async def _never(request: web.Request) -> web.StreamResponse:
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("x", "说明", fields={"a": "b"}), 400),
        (RequestError("x", status=409), 409),
        (StorageUnavailable("x"), 503),
        (IntegrityError("secret detail"), 409),
        (ValueError("secret detail"), 500),
    ],
)
async def test_errors_become_answers(
    app: web.Application, aiohttp_client, error: Exception, status: int
) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        raise error

    add_routes(app, (public("GET", "/api/fail", fail), public("GET", "/fail", fail)))
    client = await aiohttp_client(app)
    for path in ("/api/fail", "/fail"):
        answer = await client.get(path)
        text = await answer.text()
        assert answer.status == status
        assert "secret detail" not in text
    problem = json.loads(await (await client.get("/api/fail")).text())
    assert problem["fields"] == getattr(error, "fields", {})


BAD_BODIES = [
    ("application/x-www-form-urlencoded", b"username=%ff%fe&password=x"),
    ("application/x-www-form-urlencoded", b"username=\xff&password=x"),
    ("application/x-www-form-urlencoded", b"username=a%00b&password=x"),
    ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 5000)),
    ("application/x-www-form-urlencoded", b"username=" + b"x" * 300_000),
    ("multipart/form-data", b"no boundary"),
    ("multipart/form-data; boundary=b", b"--b\r\nno end"),
    ("multipart/form-data; boundary=b", b"x--b--"),
    ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n" * 200_000 + b"--b--"),
    ("multipart/form-data; boundary=" + "b" * 500, b""),
    ("application/json", b'{"username": "x"}'),
    ("text/plain", b"username=x"),
    ("nonsense", b"\x00\x01"),
]


@pytest.mark.parametrize(("content_type", "body"), BAD_BODIES)
async def test_a_broken_form_is_a_4xx(
    console: Console, content_type: str, body: bytes
) -> None:
    answer = await console.client.post(
        "/login", data=BytesIO(body), headers={"Content-Type": content_type}
    )
    assert 400 <= answer.status < 500, answer.status


@pytest.mark.parametrize(
    "path",
    [
        "/login?next=%00",
        "/login?lang=%00&x=1",
        "/static/%00",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static/../../etc/passwd",
        "/o/" + "9" * 5000,
        "/o/%ff%fe",
        "/login?x=%ed%a0%80",
    ],
)
async def test_a_strange_path_is_never_a_5xx(console: Console, path: str) -> None:
    answer = await console.client.get(path)
    assert answer.status < 500
    assert "root:" not in await answer.text()


async def test_a_body_over_the_limit_is_a_413(console: Console) -> None:
    body = b"username=" + b"x" * (5 * 1024 * 1024)
    answer = await console.client.post(
        "/login",
        data=BytesIO(body),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status == 413


async def test_static_files_are_revalidated(console: Console) -> None:
    for name in ("console.css", "htmx.min.js", "sse.js"):
        first = await console.client.get(f"/static/{name}")
        assert first.status == 200
        etag = first.headers["ETag"]
        again = await console.client.get(
            f"/static/{name}", headers={"If-None-Match": etag}
        )
        assert again.status == 304


async def test_health_and_metrics(console: Console) -> None:
    health = await (await console.client.get("/healthz")).json()
    assert health == {"status": "ok", "parts": {"database": True}, "channels": {}}
    metrics = await (await console.client.get("/metrics")).text()
    assert 'lianxin_http_requests_total{method="GET",route="/healthz"' in metrics


async def test_every_route_says_who_may_call_it(app: web.Application) -> None:
    mounted = {
        (route.method, route.resource.canonical if route.resource else "")
        for route in app.router.routes()
        if route.method != "HEAD"
    }
    declared = {(r.method, r.path) for r in app[routes.ROUTES]}
    assert len(mounted) == len(declared)
    assert page("GET", "/x", _never, Action.READ).action is Action.READ  # type: ignore[arg-type]
