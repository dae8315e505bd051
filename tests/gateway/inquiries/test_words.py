"""Codes in words for staff."""

import re

import pytest

from gateway.inquiries import words
from tests.labs.process import PROJECT


def test_a_carriers_code_is_said_in_words_and_kept() -> None:
    assert words.reason("no_answer") == "渠道没有回话"
    assert words.reason("ESME_RINVDSTADR") == "号码无效 (ESME_RINVDSTADR)"
    assert words.reason("UNDELIV:001") == "没有送达 (UNDELIV:001)"
    assert words.reason("login_refused:9") == "登录被拒绝 (login_refused:9)"
    assert words.reason("smtp_550") == "邮件服务器拒收 (smtp_550)"
    assert words.reason("smtp_421") == "邮件服务器暂时不收 (smtp_421)"
    assert words.reason("smtp_reply") == "看不懂邮件服务器的回话"
    assert words.reason("MK:0001") == "MK:0001"
    assert words.reason("") == ""


@pytest.mark.parametrize(
    "code", ["expired", "opted_out", "unsubscribed", "frequency_cap", "quiet_hours"]
)
def test_what_the_gate_decides_is_said_in_words(code: str) -> None:
    assert words.reason(code) != code


OUTCOMES = re.compile(
    r"(?:OutcomeUnknown|TransientFailure)\(\s*\"([a-z_]+)\"|\"unknown\",\s*\"(?!unknown)([a-z_]+)\""
)


def test_no_code_of_ours_for_what_is_in_doubt_is_shown_bare() -> None:
    """What staff have to decide on is said in words, whoever made it unknown."""
    found = set[str]()
    for folder in ("adapters", "gateway/outbox"):
        for file in (PROJECT / folder).rglob("*.py"):
            if "simulator" not in file.parts:
                found |= {"".join(one) for one in OUTCOMES.findall(file.read_text())}
    assert {"no_answer", "not_settled", "process_ended"} <= found
    assert {code for code in found if words.reason(code) == code} == set()
