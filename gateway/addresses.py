"""Normal forms of addresses, and how much of them may be shown.

Messages of `AddressError` say what is wrong, never what was typed: they end up in
import reports and logs.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType, ValidationResult

from gateway.contract import Address, AddressKind

LONGEST_ADDRESS = 254  # characters of any kind; RFC 5321 4.5.3.1.3 has no longer mail
_MOBILE = {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}
# RFC 5321 dot-atom without the characters that shells, headers and lists trip over.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OPAQUE = re.compile(r"[A-Za-z0-9_.:@-]{1,128}")
_QQ_NUMBER = re.compile(r"[1-9][0-9]{4,11}")
# Full-width ASCII and the ideographic full stop, as Chinese input methods type them.
_HALF_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {
    0x3000: " ",
    0x3002: ".",
}


class AddressError(ValueError):
    """`code` is stable; `str()` says in Chinese what is wrong and how to mend it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def phone(text: str, region: str = "CN") -> Address:
    """A mobile number in E.164, as people write it (`138 0013-8000`, `0086…`).

    `region` is where a number without country code belongs.
    """
    digits = _dial_string(text)
    try:
        number = phonenumbers.parse(digits, region)
    except NumberParseException as error:
        raise AddressError(
            "phone.unreadable", "电话号码无法识别，请填写11位手机号码"
        ) from error
    _check_length(number)
    if not phonenumbers.is_valid_number(number):
        raise AddressError(
            "phone.unassigned", "没有这样的号码，请核对号段和位数（手机号码应为11位）"
        )
    if phonenumbers.number_type(number) not in _MOBILE:
        raise AddressError(
            "phone.not_mobile", "这不是手机号码，收不到短信，请改填手机号码"
        )
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return Address(AddressKind.PHONE, e164)


def _dial_string(text: str) -> str:
    kept = "".join(c for c in _half_width(text) if not _separates(c))
    if not kept:
        raise AddressError("phone.empty", "没有填写手机号码")
    if not re.fullmatch(r"\+?[0-9]+", kept, re.ASCII):
        raise AddressError("phone.characters", "手机号码里有数字以外的字符，请只填数字")
    return kept


def _half_width(text: str) -> str:
    """NFKC, but nothing for what is too long to be a number of any kind."""
    return unicodedata.normalize("NFKC", text) if len(text) <= 100 else "…"


def _separates(character: str) -> bool:
    """Blanks, dashes of every kind, brackets, dots, invisible marks."""
    return (
        unicodedata.category(character) in {"Pd", "Zs", "Cf"} or character in "().·\t"
    )


def _check_length(number: phonenumbers.PhoneNumber) -> None:
    match phonenumbers.is_possible_number_with_reason(number):
        case ValidationResult.TOO_SHORT | ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
            raise AddressError(
                "phone.too_short", "手机号码位数不够，请核对（应为11位）"
            )
        case ValidationResult.TOO_LONG | ValidationResult.INVALID_LENGTH:
            raise AddressError("phone.length", "手机号码位数不对，请核对（应为11位）")
        case ValidationResult.INVALID_COUNTRY_CODE:
            raise AddressError("phone.country", "国家或地区代码不存在，请核对")


def email(text: str) -> Address:
    """A plain mailbox: ASCII dot-atom, `@`, a host name in at least two labels.

    Stricter than RFC 5321 by choice: no quoted local part, no address literal, no
    comment, no display name. The local part keeps its case.
    """
    if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", text):
        raise AddressError("email.control", "邮箱地址里有换行或控制字符，请重新填写")
    local, at, domain = text.translate(_HALF_WIDTH).strip().rpartition("@")
    if not at:
        raise AddressError("email.no_at", "邮箱地址里没有@")
    domain = domain.lower()
    if len(local) > 64 or len(local) + 1 + len(domain) > LONGEST_ADDRESS:
        raise AddressError(
            "email.too_long", "邮箱地址太长（最多254个字符，@前最多64个）"
        )
    if not _LOCAL_PART.fullmatch(local):
        raise AddressError(
            "email.local",
            "@前只能用英文字母、数字和 . _ - + 等符号，点不能连用或在两端",
        )
    if not _is_host_name(domain):
        raise AddressError("email.domain", "@后不是正确的域名，例如 example.org")
    return Address(AddressKind.EMAIL, f"{local}@{domain}")


def _is_host_name(domain: str) -> bool:
    labels = domain.split(".")
    return (
        len(labels) >= 2
        and all(map(_LABEL.fullmatch, labels))
        and not labels[-1].isdigit()
    )


def qq(text: str) -> Address:
    """A QQ number: 5 to 12 digits, the first not zero."""
    return _numbered(AddressKind.QQ, text, "qq", "QQ号应为5到12位数字，不以0开头")


def group(text: str) -> Address:
    """The number of a QQ group, of the same form as a QQ number."""
    return _numbered(AddressKind.GROUP, text, "group", "群号应为5到12位数字，不以0开头")


def _numbered(kind: AddressKind, text: str, code: str, message: str) -> Address:
    value = _half_width(text).strip()
    if not _QQ_NUMBER.fullmatch(value):
        raise AddressError(f"{code}.number", message)
    return Address(kind, value)


def wechat(text: str) -> Address:
    """The identifier WeChat gives a follower; letters matter by case."""
    return _opaque(AddressKind.WECHAT, text)


def web(text: str) -> Address:
    """The identifier of a visitor of our own pages."""
    return _opaque(AddressKind.WEB, text)


def _opaque(kind: AddressKind, text: str) -> Address:
    value = text.strip(" ")
    if not _OPAQUE.fullmatch(value):
        raise AddressError(f"{kind}.identifier", "标识只能用英文字母、数字和 _ - . : @")
    return Address(kind, value)


_PARSERS: Mapping[AddressKind, Callable[[str], Address]] = {
    AddressKind.PHONE: phone,
    AddressKind.EMAIL: email,
    AddressKind.QQ: qq,
    AddressKind.GROUP: group,
    AddressKind.WECHAT: wechat,
    AddressKind.WEB: web,
}


def parse(kind: AddressKind, text: str) -> Address:
    """The normal form of `text` as an address of `kind`; raises AddressError."""
    return _PARSERS[kind](text)


ERASED = "erased:"
"""Begins what stands for the address of somebody who was erased; no address does."""


def mask(address: Address) -> str:
    """Enough to recognise an address one knows: 138****8000, z***@example.org."""
    if address.value.startswith(ERASED):
        return "***"
    match address.kind:
        case AddressKind.PHONE:
            return _mask_phone(address.value)
        case AddressKind.EMAIL:
            local, _, domain = address.value.rpartition("@")
            return f"{local[:1]}***@{domain}"
        case _:
            return _mask_middle(address.value)


def _mask_phone(number: str) -> str:
    national = number.removeprefix("+86")
    if len(national) < 10:
        return f"{national[:2]}****{national[-2:]}"
    return f"{national[:3]}****{national[-4:]}"


def _mask_middle(value: str) -> str:
    shown = min((len(value) - 1) // 4, 2)
    return f"{value[:shown]}***{value[len(value) - shown :]}"


def mask_name(name: str) -> str:
    """张三丰 becomes 张**; beyond three stars the length is not told."""
    name = name.strip()
    return name[:1] + "*" * min(len(name) - 1, 3) if len(name) > 1 else "*" * len(name)
