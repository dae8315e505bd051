"""The OpenAPI 3.1 document, assembled from the operations themselves. Pure."""

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api import idempotency
from gateway.api.problem import Problem

if TYPE_CHECKING:
    from gateway.api.operations import Operation

NUMBER = "[0-9]{8}-[0-9]{4,9}"  # of an inquiry
_INTRODUCTION = (
    "Every call carries `Authorization: Bearer TOKEN`; a token has a role and sees the "
    "subtree of one organisation. What lies outside answers 404, like what does not "
    "exist. Errors are problem details (RFC 9457) with a stable `code`. Instants are "
    "UTC. Lists are paged: repeat the call with `cursor` set to the `next` of the "
    "answer before, until it is null."
)
_PROBLEMS = {
    400: "The request can't be read: broken JSON, a bad cursor, a bad key.",
    401: "No valid bearer token.",
    403: "The token's role does not allow this.",
    404: "There is no such thing, or it is not yours to see.",
    409: "It can't be done now.",
    413: "The body is too large.",
    415: "The body has another media type.",
    422: "`fields` names each wrong field and how to mend it.",
    503: "Nothing was stored; try again.",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "id": {"type": "integer", "format": "int64", "minimum": 1},
    "number": {"type": "string", "pattern": f"^{NUMBER}$"},
}


def document(operations: Sequence["Operation"]) -> str:
    """The document as JSON text."""
    names, schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        described = _operation(one, names)
        paths.setdefault(one.full_path, {})[one.method.lower()] = described
    found = {
        "openapi": "3.1.0",
        "info": {"title": "Lianxin", "version": "1", "description": _INTRODUCTION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }
    return json.dumps(found, ensure_ascii=False)


Names = dict[type[BaseModel], dict[str, Any]]


def _schemas(operations: Iterable["Operation"]) -> tuple[Names, dict[str, Any]]:
    """References by model, and what they refer to."""
    models: dict[Any, str] = {Problem: "serialization"}
    for one in operations:
        models[one.answer] = "serialization"
        for given in (one.body, one.query):
            if given is not None:
                models[given] = "validation"
    wanted: Any = list(models.items())
    references, definitions = models_json_schema(
        wanted, ref_template="#/components/schemas/{model}"
    )
    names = {model: schema for (model, _), schema in references.items()}
    return names, definitions.get("$defs", {})  # type: ignore[return-value]


def _operation(one: "Operation", names: Names) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.handler.__name__,
        "summary": one.summary,
        "x-action": one.action.value,
        "parameters": _parameters(one),
        "responses": _responses(one, names),
    }
    if one.uploads:
        content = {kind: _upload(kind) for kind in one.uploads}
        described["requestBody"] = {"required": True, "content": content}
    elif one.body is not None:
        content = {"application/json": {"schema": names[one.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _upload(kind: str) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    if kind != "multipart/form-data":
        return {"schema": binary}
    properties = {"file": binary}
    return {
        "schema": {"type": "object", "properties": properties, "required": ["file"]}
    }


def _parameters(one: "Operation") -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in one.parameters
    ]
    if one.query is not None:
        found.extend(_query(one.query))
    if one.keyed:
        key = {
            "type": "string",
            "minLength": 1,
            "maxLength": idempotency.LONGEST_KEY,
            "pattern": "^[!-~]+$",
        }
        found.append(
            {
                "name": idempotency.HEADER,
                "in": "header",
                "description": "The same key with the same request takes effect once.",
                "schema": key,
            }
        )
    return found


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = []
    for name, described in schema["properties"].items():
        described = {key: v for key, v in described.items() if key != "title"}
        text = described.pop("description", "")
        found.append(
            {
                "name": name,
                "in": "query",
                "description": text,
                "schema": _inlined(described, definitions),
            }
        )
    return found


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Enumerations of a query stand where they are used; they are short."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return definitions[schema["$ref"].rpartition("/")[2]]
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _responses(one: "Operation", names: Names) -> dict[str, Any]:
    good: dict[str, Any] = {
        "description": HTTPStatus(one.status).phrase,
        "content": {"application/json": {"schema": names[one.answer]}},
    }
    if one.keyed:
        good["headers"] = {
            idempotency.REPLAYED: {
                "description": "`true`: the stored answer of the first request.",
                "schema": {"type": "string"},
            }
        }
    problem = {"application/problem+json": {"schema": names[Problem]}}
    found = {str(one.status): good}
    for status in _statuses(one):
        found[str(status)] = {"description": _said(one, status), "content": problem}
    return found


def _statuses(one: "Operation") -> list[int]:
    found = {400, 401, 403, 404, 422, 503}
    if one.method != "GET":
        found |= {413, 415}
    if one.conflicts or one.keyed:
        found.add(409)
    return sorted(found)


def _said(one: "Operation", status: int) -> str:
    if status != 409:
        return _PROBLEMS[status]
    codes = [*one.conflicts, *(["in_flight"] if one.keyed else [])]
    return f"{_PROBLEMS[409]} Codes: {', '.join(codes)}."
