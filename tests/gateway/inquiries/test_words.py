"""Codes in words for staff."""

from gateway.inquiries import words


def test_a_carriers_code_is_said_in_words_and_kept() -> None:
    assert words.reason("no_answer") == "渠道没有回话"
    assert words.reason("ESME_RINVDSTADR") == "号码无效 (ESME_RINVDSTADR)"
    assert words.reason("UNDELIV:001") == "没有送达 (UNDELIV:001)"
    assert words.reason("MK:0001") == "MK:0001"
    assert words.reason("") == ""
