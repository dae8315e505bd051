"""The API keeps what its own document says, whatever is sent to it."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.actors import Role
from tests.gateway.api.callers import Answered, Callers
from tests.gateway.api.schema_values import ANYTHING, allowed, spoilt
from tests.gateway.api.test_boundaries import ALL

NAMES = [one.handler.__name__ for one in ALL]
PATIENT = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)


@dataclass(frozen=True)
class Described:
    """One operation as the document describes it."""

    method: str
    path: str
    operation: Mapping[str, Any]
    definitions: Mapping[str, Any]

    def parameters(self, place: str) -> dict[str, Any]:
        return {
            one["name"]: one["schema"]
            for one in self.operation["parameters"]
            if one["in"] == place
        }

    @property
    def media(self) -> list[str]:
        return list(self.operation.get("requestBody", {"content": {}})["content"])

    def body(self) -> st.SearchStrategy[bytes | None]:
        """Good, half good and hopeless bodies."""
        if self.media != ["application/json"]:
            return st.none() | st.binary(max_size=200)
        content = self.operation["requestBody"]["content"]["application/json"]
        schema = content["schema"]
        values = st.one_of(
            allowed(schema, self.definitions),
            spoilt(schema, self.definitions),
            ANYTHING,
        )
        return values.map(_written) | st.binary(max_size=50)

    def query(self) -> st.SearchStrategy[dict[str, Any]]:
        wanted = self.parameters("query")
        known = st.fixed_dictionaries(
            {},
            optional={
                name: allowed(schema, self.definitions) | ANYTHING
                for name, schema in wanted.items()
            },
        )
        return known | st.dictionaries(st.text(min_size=1, max_size=5), ANYTHING)


def _written(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8")


def _filled(path: str, parameters: Mapping[str, str]) -> str:
    for name, value in parameters.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path.removeprefix("/api/v1")


def _query(values: Mapping[str, Any]) -> str:
    pairs = [
        f"{_quoted(name)}={_quoted(value)}"
        for name, value in values.items()
        if value is not None
    ]
    return f"?{'&'.join(pairs)}" if pairs else ""


def _quoted(value: Any) -> str:
    return quote(str(value).encode("utf-8", "replace"), safe="")


async def _document(callers: Callers) -> Mapping[str, Any]:
    answer = await callers.nobody().get("/openapi.json")
    assert answer.status == 200
    return answer.body  # type: ignore[no-any-return]


def _described(document: Mapping[str, Any]) -> Iterator[Described]:
    definitions = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield Described(method.upper(), path, operation, definitions)


def _holds(answer: Answered, one: Described) -> None:
    """Documented, never a 5xx, and a problem is a problem document."""
    assert answer.status < 500, answer.body
    said = one.operation["responses"].get(str(answer.status))
    assert said is not None, (answer.status, answer.body)
    media = answer.headers["Content-Type"].partition(";")[0]
    assert media in said["content"]
    if answer.status >= 400:
        assert set(answer.body) == {
            *("type", "title", "status", "code", "detail", "fields")
        }
        assert answer.code


async def _known(callers: Callers) -> dict[str, list[str]]:
    """Ids that exist, so that not everything ends in a 404."""
    member = await callers.member()
    inquiry = await callers.inquiry(member=member)
    clerk = await callers.caller(Role.ADMINISTRATOR)
    sent = await clerk.post(f"/inquiries/{inquiry.number}/replies", {"text": "好"})
    notice = await clerk.post(
        "/broadcasts",
        {
            "kind": "notice",
            "title": "通知",
            "texts": {"sms": "开会"},
            "audience": {"type": "list", "ids": [member.id]},
        },
    )
    assert (sent.status, notice.status) == (201, 201), notice.body
    return {
        "number": [inquiry.number],
        "id": [str(sent.body["delivery_id"]), str(notice.body["id"])],
    }


@dataclass(frozen=True)
class Attack:
    target: str
    headers: Mapping[str, str]
    body: bytes | None


def _attack(
    one: Described, known: Mapping[str, list[str]], data: st.DataObject
) -> Attack:
    path = {
        name: data.draw(
            st.sampled_from(known[name])
            | allowed(schema, {}).map(str)
            | st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
        )
        for name, schema in one.parameters("path").items()
    }
    # The client itself resolves dots: they name another path.
    path = {name: value.replace(".", "-") for name, value in path.items()}
    headers = {"Content_Type": data.draw(st.sampled_from(one.media or ["text/x"]))}
    if "Idempotency-Key" in one.parameters("header"):
        key = data.draw(st.sampled_from(["", "k", "same"]) | st.text("ab~", max_size=4))
        headers |= {"Idempotency_Key": key} if key else {}
    return Attack(
        target=_filled(one.path, path) + _query(data.draw(one.query())),
        headers=headers,
        body=data.draw(one.body()) if one.method == "POST" else None,
    )


@pytest.mark.parametrize("name", NAMES)
async def test_the_document_holds_under_attack(callers: Callers, name: str) -> None:
    document = await _document(callers)
    one = next(d for d in _described(document) if d.operation["operationId"] == name)
    known = await _known(callers)
    caller = await callers.caller(Role.ADMINISTRATOR)
    loop = asyncio.get_running_loop()

    @PATIENT
    @given(data=st.data())
    def attack(data: st.DataObject) -> None:
        made = _attack(one, known, data)
        work = caller.send(one.method, made.target, made.body, **made.headers)
        _holds(asyncio.run_coroutine_threadsafe(work, loop).result(60), one)

    await asyncio.to_thread(attack)


async def test_the_document_describes_every_operation(callers: Callers) -> None:
    document = await _document(callers)
    assert document["openapi"] == "3.1.0"
    found = {(d.method, d.path) for d in _described(document)}
    assert found == {(one.method, one.full_path) for one in ALL}
    for one in _described(document):
        assert one.operation["summary"]
        statuses = set(one.operation["responses"])
        assert {"400", "401", "403", "404", "422", "503"} <= statuses
        if one.method == "POST":
            assert {"413", "415"} <= statuses


async def test_every_reference_leads_somewhere(callers: Callers) -> None:
    document = await _document(callers)
    waiting: list[Any] = [document]
    found = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "$ref" in value:
                start, _, name = value["$ref"].rpartition("/")
                assert start == "#/components/schemas"
                assert name in document["components"]["schemas"]
                found += 1
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    assert found > 20


async def test_every_body_in_the_document_refuses_unknown_members(
    callers: Callers,
) -> None:
    for one in _described(await _document(callers)):
        content = one.operation.get("requestBody", {"content": {}})["content"]
        if "application/json" in content:
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert one.definitions[name]["additionalProperties"] is False
