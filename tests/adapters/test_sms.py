"""What both SMS channels share: numbers, endpoints, the meaning of refusal codes."""

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from adapters import aliyun, tencent
from adapters._http import Answer
from adapters._sms import CAPABILITIES, Endpoint, Means, e164, meaning, refusal
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure


@pytest.mark.parametrize(
    ("number", "country_code", "expected"),
    [
        ("13800138000", "", "+8613800138000"),
        ("+8613800138000", "", "+8613800138000"),
        ("008613800138000", "", "+8613800138000"),
        ("8613800138000", "", "+8613800138000"),
        ("13800138000", "86", "+8613800138000"),
        ("85251234567", "", "+85251234567"),
        ("51234567", "852", "+85251234567"),
        (" 13800138000 ", "+86", "+8613800138000"),
        ("1380013****", "", None),
        ("１３８００１３８０００", "", None),
        ("", "", None),
        ("10086", "", None),
        ("12345678901234567", "", None),
        ("13800138000", "x", None),
        ("13800138000", "²", None),
    ],
)
def test_numbers_as_providers_write_them(
    number: str, country_code: str, expected: str | None
) -> None:
    assert e164(number, country_code) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://dysmsapi.aliyuncs.com", "https://dysmsapi.aliyuncs.com"),
        ("https://dysmsapi.aliyuncs.com/", "https://dysmsapi.aliyuncs.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_endpoints(value: str, expected: str) -> None:
    assert TypeAdapter(Endpoint).validate_python(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "http://dysmsapi.aliyuncs.com",
        "https://host/path",
        "https://host/?a=b",
        "https://user@host",
        "ftp://host",
        "dysmsapi.aliyuncs.com",
        "https://host:port",
        "",
    ],
)
def test_endpoints_that_settings_refuse(value: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        TypeAdapter(Endpoint).validate_python(value)


def test_an_unknown_setting_is_refused_and_the_secret_is_not_shown() -> None:
    given = {
        "access_key_id": "id",
        "access_key_secret": SecretStr("very secret"),
        "sign_name": "连心",
    }
    assert "very secret" not in repr(aliyun.Settings.model_validate(given))
    with pytest.raises(ValidationError):
        aliyun.Settings.model_validate(given | {"regoin": "x"})
    with pytest.raises(ValidationError):
        aliyun.Settings.model_validate(given | {"push_addresses": ["10.0.0.1/8"]})


def test_the_app_id_is_a_number_and_the_region_has_a_default() -> None:
    given = {
        "secret_id": "id",
        "secret_key": SecretStr("s"),
        "sdk_app_id": "1400006666",
        "sign_name": "连心",
    }
    assert tencent.Settings.model_validate(given).region == "ap-guangzhou"
    with pytest.raises(ValidationError):
        tencent.Settings.model_validate(given | {"sdk_app_id": "app"})


def test_what_policy_reads() -> None:
    assert CAPABILITIES.segments == (70, 67)
    assert not CAPABILITIES.free_text


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        (Means.REFUSED, PermanentFailure),
        (Means.OPTED_OUT, PermanentFailure),
        (Means.TOO_FAST, TransientFailure),
        (Means.USED_UP, TransientFailure),
        (Means.ACCOUNT, TransientFailure),
        (Means.UNCLEAR, OutcomeUnknown),
    ],
)
def test_each_meaning(means: Means, expected: type) -> None:
    found = meaning("code", means)
    assert type(found) is expected
    assert found.code == "code"
    assert getattr(found, "opted_out", False) == (means is Means.OPTED_OUT)
    throttled = {Means.TOO_FAST, Means.USED_UP}
    assert getattr(found, "throttled", False) == (means in throttled)


CODES = {"known": Means.UNCLEAR, "no": Means.REFUSED}


@pytest.mark.parametrize(
    ("answer", "code", "expected", "said"),
    [
        (Answer(200), "no", PermanentFailure, "no"),
        (Answer(400), "no", PermanentFailure, "no"),
        (Answer(503), "no", PermanentFailure, "no"),
        (Answer(200), "known", OutcomeUnknown, "known"),
        (Answer(200), "new.Code", PermanentFailure, "unmapped:new.Code"),
        (Answer(400), "new.Code", PermanentFailure, "unmapped:new.Code"),
        (Answer(500), "new.Code", OutcomeUnknown, "http_500"),
        (Answer(302), "new.Code", OutcomeUnknown, "http_302"),
        (Answer(429), "no", TransientFailure, "http_429"),
        (Answer(200), None, OutcomeUnknown, "unreadable_answer"),
        (Answer(200), {"a": 1}, OutcomeUnknown, "unreadable_answer"),
        (Answer(200), "", OutcomeUnknown, "unreadable_answer"),
        (Answer(404), None, PermanentFailure, "http_404"),
        (Answer(200), "a\n\x1b[31m" + "b" * 99, PermanentFailure, None),
    ],
)
def test_an_answer_that_is_no_acceptance(
    answer: Answer, code: object, expected: type, said: str | None
) -> None:
    found = refusal(answer, code, CODES)
    assert type(found) is expected
    assert found.code.isprintable()
    assert len(found.code) < 80
    assert said in {None, found.code}


@pytest.mark.parametrize("codes", [aliyun.CODES, tencent.CODES])
def test_the_tables_know_each_kind_of_refusal(codes: dict[str, Means]) -> None:
    # AGAIN is what carriers say of themselves (SMPP, CMPP).
    assert set(codes.values()) == set(Means) - {Means.AGAIN}
