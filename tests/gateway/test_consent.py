import time as stopwatch
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.consent import (
    OPT_IN_WORDS,
    OPT_OUT_WORDS,
    QuietHours,
    Strength,
    is_opt_in,
    opt_out_prefix,
    opt_out_strength,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize("word", sorted(OPT_OUT_WORDS))
@pytest.mark.parametrize(
    "form", ["{}", " {} ", "{}。", "{}!", "“{}”", "【{}】", "{}\r\n", "\ufeff{}", "{}…"]
)
def test_the_whole_message_is_an_opt_out_word(word: str, form: str) -> None:
    assert opt_out_strength(form.format(word))
    assert opt_out_strength(form.format(word.lower()))


@pytest.mark.parametrize("text", ["ＴＤ", "ｔｄ", "Stop", "０００0", "ｕnsubscribe"])
def test_width_and_case_do_not_matter(text: str) -> None:
    assert opt_out_strength(text) is Strength.CERTAIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "。",
        "我不想退订",
        "怎么退订",
        "退订？",
        "退订报纸怎么办",
        "退订 我想问",
        "TDX",
        "取消退订",
        "00000",
        "1",
        "Y",
        "退订" * 30,
    ],
)
def test_a_word_inside_a_message_refuses_nothing(text: str) -> None:
    assert opt_out_strength(text) is None


@pytest.mark.parametrize(
    ("text", "strength"),
    [
        ("TD", Strength.CERTAIN),
        ("退订", Strength.CERTAIN),
        ("0000", Strength.CERTAIN),
        ("R", Strength.AMBIGUOUS),
        ("t", Strength.AMBIGUOUS),
        ("Ｎ。", Strength.AMBIGUOUS),
        ("取消", Strength.AMBIGUOUS),
        ("你好", None),
    ],
)
def test_what_may_also_answer_a_prompt_is_ambiguous(
    text: str, strength: Strength | None
) -> None:
    assert opt_out_strength(text) is strength


def test_a_centre_may_set_its_own_words() -> None:
    assert opt_out_strength("ｔ退", words=["T退"])
    assert opt_out_strength("TD", words=["T退"]) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("退订 我想问党费怎么交", "我想问党费怎么交"),
        ("退订，我想问", "我想问"),
        ("td\n我想问\n第二行", "我想问\n第二行"),
        (" ＴＤ。　我想问 ", "我想问"),
        ("退订 Ａ", "Ａ"),
        ("退订", None),
        ("退订 。", None),
        ("退订报纸怎么办", None),
        ("退订？我没有订", None),
        ("N 我想问", None),
        ("取消 报名", None),
        ("我想问 退订", None),
        ("", None),
    ],
)
def test_an_opt_out_with_an_inquiry_behind_it(text: str, rest: str | None) -> None:
    assert opt_out_prefix(text) == rest


@given(st.text())
def test_no_text_is_both_an_opt_out_and_one_with_a_rest(text: str) -> None:
    assert opt_out_prefix(text) is None or opt_out_strength(text) is None


@pytest.mark.parametrize("text", ["e" + "\u0301\u0316" * 32_000, " " * 65_536 + "x"])
def test_a_hostile_text_costs_nothing(text: str) -> None:
    begin = stopwatch.process_time()
    assert opt_out_strength(text) is None
    assert opt_out_prefix(text) is None
    assert stopwatch.process_time() - begin < 1


@pytest.mark.parametrize("word", [*sorted(OPT_IN_WORDS), "ｓｔａｒｔ", "恢复接收！"])
def test_opt_in_words(word: str) -> None:
    assert is_opt_in(word)
    assert opt_out_strength(word) is None


@pytest.mark.parametrize("word", ["退订", "订阅", "STARTED", "什么时候恢复接收", ""])
def test_what_is_no_opt_in(word: str) -> None:
    assert not is_opt_in(word)


def local(text: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("at", "allowed"),
    [
        ("2026-11-20T08:00", "2026-11-20T08:00"),
        ("2026-11-20T07:59:59.999999", "2026-11-20T08:00"),
        ("2026-11-20T20:59:59.999999", "2026-11-20T20:59:59.999999"),
        ("2026-11-20T21:00", "2026-11-21T08:00"),
        ("2026-11-20T23:59", "2026-11-21T08:00"),
        ("2026-11-21T00:00", "2026-11-21T08:00"),
        ("2026-12-31T22:00", "2027-01-01T08:00"),
    ],
)
def test_quiet_hours_over_midnight(at: str, allowed: str) -> None:
    hours = QuietHours()
    assert hours.next_allowed(local(at), SHANGHAI) == local(allowed)
    assert hours.is_quiet(local(at), SHANGHAI) is (at != allowed)


def test_quiet_hours_within_a_day() -> None:
    noon = QuietHours(start=time(12), end=time(14))
    assert not noon.is_quiet(local("2026-11-20T11:59"), SHANGHAI)
    assert not noon.is_quiet(local("2026-11-20T14:00"), SHANGHAI)
    rest = noon.next_allowed(local("2026-11-20T12:00"), SHANGHAI)
    assert rest == local("2026-11-20T14:00")


@given(st.datetimes(timezones=st.just(UTC)), st.times())
def test_equal_borders_mean_never(at: datetime, border: time) -> None:
    assert not QuietHours(start=border, end=border).is_quiet(at, SHANGHAI)


def test_an_end_that_summer_time_skips_or_doubles() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = QuietHours(start=time(21), end=time(2, 30))
    skipped = hours.next_allowed(local("2026-03-29T01:59", berlin), berlin)
    assert skipped == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 3:30 there
    again = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 2:15 there, second time
    assert hours.next_allowed(again, berlin) == again + timedelta(minutes=15)


@given(
    st.timedeltas(timedelta(0), timedelta(days=365)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "Australia/Lord_Howe"]),
)
def test_what_is_put_off_is_allowed_within_a_day(
    since: timedelta, start: time, end: time, zone: str
) -> None:
    hours, timezone = QuietHours(start=start, end=end), ZoneInfo(zone)
    at = datetime(2026, 1, 1, tzinfo=UTC) + since
    allowed = hours.next_allowed(at, timezone)
    assert not hours.is_quiet(allowed, timezone)
    assert at <= allowed <= at + timedelta(hours=26)
