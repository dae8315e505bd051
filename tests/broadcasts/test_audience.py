"""Descriptions of audiences: what is read, what is refused and how it is said."""

from typing import Any

import pytest

from broadcasts.audience import (
    LONGEST_LIST,
    Listed,
    Subtree,
    Tagged,
    describe,
    from_lines,
    parse,
    to_lines,
)
from gateway.contract import Address, AddressKind
from gateway.errors import RequestError


def test_each_type_is_read_and_described() -> None:
    organisation = {"type": "organisation", "code": "0801", "with_subtree": False}
    assert parse(organisation) == Subtree("0801", False)
    assert describe(parse(organisation)) == organisation
    assert parse({"type": "organisation", "code": " 0801 "}) == Subtree("0801")
    assert parse({"type": "tag", "tag": "流动党员"}) == Tagged("流动党员")
    assert parse({"type": "members", "ids": [3, 1, 3]}) == Listed((), (3, 1), 1)


def test_one_number_in_many_forms_is_one_number() -> None:
    """A-15"""
    found = parse(
        {
            "type": "list",
            "phones": ["13800138000", "+86 138-0013-8000", "１３８００１３８０００"],
            "addresses": [{"kind": "email", "value": "a@Example.org"}],
        }
    )
    assert found == Listed(
        (
            Address(AddressKind.PHONE, "+8613800138000"),
            Address(AddressKind.EMAIL, "a@example.org"),
        ),
        (),
        2,
    )
    assert parse(describe(found)) == Listed(found.addresses, (), 0)


def test_lines_hold_numbers_mails_and_ids() -> None:
    description = from_lines("13800138000\n17，a@example.org；\n\n 42 ")
    found = parse(description)
    assert isinstance(found, Listed)
    assert [a.kind for a in found.addresses] == [AddressKind.PHONE, AddressKind.EMAIL]
    assert found.ids == (17, 42)
    assert parse(from_lines(to_lines(describe(found)))) == found


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ({}, "请选择对象"),
        ({"type": "everybody"}, "请选择对象"),
        ({"type": "organisation"}, "请选择一个组织"),
        ({"type": "organisation", "code": 7}, "请选择一个组织"),
        ({"type": "tag", "tag": "x" * 40}, "请选择一个标签"),
        ({"type": "list", "phones": "13800138000"}, "phones 应当是一个列表"),
        ({"type": "list"}, "名单是空的"),
        ({"type": "list", "phones": ["13800138000", "1380013800"]}, "第2个"),
        ({"type": "list", "addresses": [{"kind": "group", "value": "12345"}]}, "kind"),
        ({"type": "members", "ids": ["x"]}, "党员编号应当是数字"),
        ({"type": "members", "ids": [2**60]}, "党员编号应当是数字"),
        ({"type": "members", "ids": range(LONGEST_LIST + 2)}, "ids 应当是一个列表"),
        ({"type": "members", "ids": list(range(1, LONGEST_LIST + 2))}, "名单最多"),
        ({"type": "list", "phones": [f"x{n}" for n in range(9)]}, "共9处"),
    ],
)
def test_what_is_wrong_is_said(description: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(description)
    assert says in refused.value.fields["audience"]
    assert refused.value.status == 422
