import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import (
    AddressError,
    email,
    group,
    mask,
    mask_name,
    parse,
    phone,
    qq,
)
from gateway.contract import Address, AddressKind


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        "+8613800138000",
        "8613800138000",
        "008613800138000",
        "0086 138 0013 8000",
        "138-0013-8000",
        "１３８００１３８０００",
        "＋８６　１３８—００１３—８０００",
        "(+86) 138.0013.8000",
        "\u202d13800138000\u202c",  # as copied from a phone's contact list
        " 13800138000\t",
    ],
)
def test_a_mobile_number_in_every_spelling(text: str) -> None:
    assert phone(text) == Address(AddressKind.PHONE, "+8613800138000")


def test_a_number_abroad() -> None:
    assert phone("+49 1512 3456789").value == "+4915123456789"
    assert phone("(212) 555-0123", "US").value == "+12125550123"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "phone.empty"),
        (" - ", "phone.empty"),
        ("1380013800", "phone.unassigned"),
        ("138001", "phone.too_short"),
        ("138001380001", "phone.unassigned"),
        ("1" * 90, "phone.unreadable"),
        ("1800FLOWERS", "phone.characters"),
        ("13800138000 ext 5", "phone.characters"),
        ("13800138000;ext=5", "phone.characters"),
        ("13800138000\r\nBcc: x", "phone.characters"),
        ("一三八00138000", "phone.characters"),
        ("٠١٢٣", "phone.characters"),
        ("010-12345678", "phone.not_mobile"),
        ("11000138000", "phone.unassigned"),
        ("+999 13800138000", "phone.unreadable"),
        ("+", "phone.characters"),
        ("13800138000" + " " * 90, "phone.characters"),
    ],
)
def test_what_is_no_mobile_number(text: str, code: str) -> None:
    with pytest.raises(AddressError) as caught:
        phone(text)
    assert caught.value.code == code


def test_an_error_does_not_repeat_what_was_typed() -> None:
    with pytest.raises(AddressError) as caught:
        phone("138001380")
    assert "138001380" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zhang@example.org", "zhang@example.org"),
        (" Zhang.San+dues@EXAMPLE.Org ", "Zhang.San+dues@example.org"),
        ("ｚｈａｎｇ＠example．org", "zhang@example.org"),
        ("zhang@example。org", "zhang@example.org"),
        ("o'neil_{x}@a-b.xn--fiqs8s", "o'neil_{x}@a-b.xn--fiqs8s"),
        (f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.cn",) * 2,
    ],
)
def test_mailboxes(text: str, value: str) -> None:
    assert email(text) == Address(AddressKind.EMAIL, value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "email.no_at"),
        ("zhang", "email.no_at"),
        ("zhang@example.org\r\nBcc: x@example.org", "email.control"),
        ("zhang@example.org\n", "email.control"),
        ("zh\0ang@example.org", "email.control"),
        ("zh\u2028ang@example.org", "email.control"),
        ('"zhang san"@example.org', "email.local"),
        ("zhang san@example.org", "email.local"),
        ("张三 <zhang@example.org>", "email.local"),
        ("<zhang@example.org>", "email.local"),
        ("张三@example.org", "email.local"),
        (".zhang@example.org", "email.local"),
        ("zhang.@example.org", "email.local"),
        ("zh..ang@example.org", "email.local"),
        ("a@b@example.org", "email.local"),
        ("a,b@example.org", "email.local"),
        ("@example.org", "email.local"),
        ("zhang@[127.0.0.1]", "email.domain"),
        ("zhang@127.0.0.1", "email.domain"),
        ("zhang@localhost", "email.domain"),
        ("zhang@example.org.", "email.domain"),
        ("zhang@-a.org", "email.domain"),
        ("zhang@a_b.org", "email.domain"),
        ("zhang@例子.中国", "email.domain"),
        ("zhang@example.org, li@example.org", "email.local"),
        (f"{'a' * 65}@example.org", "email.too_long"),
        (f"a@{'b.' * 130}org", "email.too_long"),
    ],
)
def test_what_is_no_mailbox(text: str, code: str) -> None:
    with pytest.raises(AddressError) as caught:
        email(text)
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["12345", " １２３４５６７８９ ", "123456789012"])
def test_qq_numbers(text: str) -> None:
    assert qq(text).value.isascii()
    assert group(text).kind is AddressKind.GROUP


@pytest.mark.parametrize(
    "text", ["", "1234", "012345", "1234567890123", "12a45", "١٢٣٤٥", "12345\n6"]
)
def test_what_is_no_qq_number(text: str) -> None:
    with pytest.raises(AddressError, match="QQ号"):
        qq(text)
    with pytest.raises(AddressError, match="群号"):
        group(text)


@pytest.mark.parametrize("kind", [AddressKind.WECHAT, AddressKind.WEB])
def test_opaque_identifiers(kind: AddressKind) -> None:
    assert parse(kind, " oX_9-aB ").value == "oX_9-aB"
    for text in ("", "a b", "a\n", "x" * 129, "名"):
        with pytest.raises(AddressError):
            parse(kind, text)


@given(st.sampled_from(AddressKind), st.text())
def test_parse_answers_with_a_stable_normal_form_or_an_error(
    kind: AddressKind, text: str
) -> None:
    try:
        address = parse(kind, text)
    except AddressError:
        return
    assert address.value.isascii()
    assert parse(kind, address.value) == address


@pytest.mark.parametrize(
    ("kind", "value", "masked"),
    [
        (AddressKind.PHONE, "+8613800138000", "138****8000"),
        (AddressKind.PHONE, "+4915123456789", "+49****6789"),
        (AddressKind.PHONE, "+29012345", "+2****45"),
        (AddressKind.EMAIL, "zhang@example.org", "z***@example.org"),
        (AddressKind.QQ, "123456789", "12***89"),
        (AddressKind.GROUP, "12345", "1***5"),
        (AddressKind.WEB, "abc", "***"),
        (AddressKind.WECHAT, "oXabcdefg", "oX***fg"),
    ],
)
def test_masks(kind: AddressKind, value: str, masked: str) -> None:
    assert mask(Address(kind, value)) == masked


@given(st.sampled_from(AddressKind), st.text("0123456789+@ab", min_size=1))
def test_a_mask_hides_something(kind: AddressKind, value: str) -> None:
    assert "***" in mask(Address(kind, value))


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("张三丰", "张**"),
        ("张三", "张*"),
        (" 欧阳娜娜 ", "欧***"),
        ("买买提·吐尔逊", "买***"),
        ("张", "*"),
        ("", ""),
    ],
)
def test_name_masks(name: str, masked: str) -> None:
    assert mask_name(name) == masked
