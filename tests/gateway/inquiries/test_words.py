"""Codes in words for staff."""

import pytest

from gateway.inquiries import words


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
