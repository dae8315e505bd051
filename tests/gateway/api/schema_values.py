"""Values that a schema of our OpenAPI document allows, and some that it doesn't."""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Values = st.SearchStrategy[Any]

ANYTHING: Values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["\x00", "0", "-1", "{{", "{{姓名}}", "' OR 1=1 --", "１"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def allowed(schema: Schema, definitions: Mapping[str, Schema]) -> Values:
    """What the document says a caller may send."""
    if "$ref" in schema:
        return allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return st.one_of([allowed(one, definitions) for one in schema[union]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    make: Mapping[str, Callable[[], Values]] = {
        "object": lambda: _object(schema, definitions),
        "array": lambda: st.lists(
            allowed(schema["items"], definitions),
            max_size=min(schema.get("maxItems", 3), 3),
        ),
        "string": lambda: _text(schema),
        "integer": lambda: st.integers(
            schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
        ),
        "boolean": st.booleans,
        "null": st.none,
    }
    return make[schema["type"]]()


def _object(schema: Schema, definitions: Mapping[str, Schema]) -> Values:
    members = {
        name: allowed(one, definitions) for name, one in schema["properties"].items()
    }
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: one for name, one in members.items() if name in required},
        optional={name: one for name, one in members.items() if name not in required},
    )


def _text(schema: Schema) -> Values:
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat())
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(
        st.characters(codec="utf-8", exclude_characters="\x00"),
        min_size=schema.get("minLength", 0),
        max_size=min(schema.get("maxLength", 40), 40),
    )


def spoilt(schema: Schema, definitions: Mapping[str, Schema]) -> Values:
    """A good value of which one member is something else, or one more."""
    if "$ref" in schema:
        return spoilt(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    names = st.sampled_from(list(schema.get("properties", {"": {}})))
    return st.builds(
        lambda good, name, bad: {**good, name: bad},
        allowed(schema, definitions),
        names | st.text(max_size=8),
        ANYTHING,
    )
