"""The seven kinds of matter (requirements A1), and a first guess at one. Pure."""

from collections.abc import Mapping
from enum import StrEnum


class Matter(StrEnum):
    STUDY = "study"
    MEMBERSHIP = "membership"
    DUES = "dues"
    DUTIES_RIGHTS = "duties_rights"
    PARTY_BUILDING = "party_building"
    HARDSHIP = "hardship"
    SUGGESTIONS = "suggestions"


class Urgency(StrEnum):
    NORMAL = "normal"
    URGENT = "urgent"


NAMES: Mapping[Matter, str] = {
    Matter.STUDY: "学习贯彻党章和政策",
    Matter.MEMBERSHIP: "组织关系、组织生活和党籍党龄",
    Matter.DUES: "党费收缴使用和管理",
    Matter.DUTIES_RIGHTS: "党员义务和权利",
    Matter.PARTY_BUILDING: "其他党建工作",
    Matter.HARDSHIP: "特殊困难求助",
    Matter.SUGGESTIONS: "意见建议",
}

# The first kind of which a word occurs; from the narrow to the broad.
_WORDS: tuple[tuple[Matter, tuple[str, ...]], ...] = (
    (Matter.DUES, ("党费",)),
    (Matter.HARDSHIP, ("困难", "求助", "救助", "慰问", "住院", "大病", "生活补助")),
    (Matter.SUGGESTIONS, ("建议", "意见", "希望能", "投诉", "反映")),
    (
        Matter.MEMBERSHIP,
        (
            "组织关系",
            "转正",
            "预备",
            "党龄",
            "党籍",
            "介绍信",
            "转接",
            "转到",
            "流动党员",
            "组织生活",
            "三会一课",
            "主题党日",
            "档案",
        ),
    ),
    (Matter.DUTIES_RIGHTS, ("义务", "权利", "申诉", "选举权", "表决", "退党")),
    (Matter.STUDY, ("学习", "党章", "文件精神", "党课", "教育培训", "条例")),
)
_URGENT = ("急", "马上", "今天就", "今天下午", "截止", "来不及", "病危", "出事")


def guess(text: str) -> Matter:
    """The kind a text speaks of first; a person corrects it."""
    for matter, words in _WORDS:
        if any(word in text for word in words):
            return matter
    return Matter.PARTY_BUILDING


def guess_urgency(text: str) -> Urgency:
    return Urgency.URGENT if any(word in text for word in _URGENT) else Urgency.NORMAL
