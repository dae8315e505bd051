"""The standard texts that the product itself writes to members, and their values."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files

from gateway import wording
from gateway.contract import AddressKind
from gateway.errors import SettingsError

VARIANTS = {
    AddressKind.PHONE: "sms",
    AddressKind.EMAIL: "email",
    AddressKind.QQ: "qq",
    AddressKind.GROUP: "qq",
    AddressKind.WECHAT: "wechat",
}

# What staff may write in braces, and the name of the value that fills it.
FIELDS: Mapping[str, str] = {
    **{
        name: name
        for name in [
            "name",
            "number",
            "deadline",
            "centre",
            "answer",
            "outcome",
            "code",
            "question",
            "answer_text",
            "basis",
            "title",
            "options",
            "hours",
            "place",
            "time",
            "organisation",
            "text",
        ]
    },
    "姓名": "name",
    "单号": "number",
    "期限": "deadline",
    "中心": "centre",
    "答复": "answer",
    "结果": "outcome",
    "代码": "code",
    "问题": "question",
    "解答": "answer_text",
    "依据": "basis",
    "标题": "title",
    "选项": "options",
    "工作时间": "hours",
    "地点": "place",
    "时间": "time",
    "党组织": "organisation",
    "正文": "text",
}


def fill(text: str, values: Mapping[str, str]) -> str:
    """A wording with its values. Raises MissingValue or WordingError."""
    return wording.render(_parsed(text), values)


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[wording.Part, ...]:
    """A broadcast's text is parsed once, not for each of its recipients."""
    return wording.parse(text, FIELDS)


def variant(texts: Mapping[str, str], kind: AddressKind) -> str:
    """The wording of `texts` for one kind of address: its own, else the default."""
    return texts.get(VARIANTS.get(kind, "default")) or texts.get("default", "")


class Texts:
    """Standard texts of every language, read once from `templates/messages`."""

    def __init__(self, languages: Mapping[str, Mapping[str, Mapping[str, str]]]):
        self._languages = languages
        self._fields: dict[tuple[str, AddressKind, str], Sequence[str]] = {}

    def render(
        self,
        name: str,
        kind: AddressKind,
        values: Mapping[str, str],
        language: str = "zh",
    ) -> str:
        """The standard text `name` for an address of `kind`, `subject` aside."""
        texts = self._languages[language][name]
        return _lenient(variant(texts, kind), values).strip()

    def subject(
        self, name: str, values: Mapping[str, str], language: str = "zh"
    ) -> str:
        return _lenient(self._languages[language][name].get("subject", ""), values)

    def fields(
        self, name: str, kind: AddressKind, language: str = "zh"
    ) -> Sequence[str]:
        """What the text and its subject say of those they are for."""
        key = name, kind, language
        found = self._fields.get(key)
        if found is None:
            texts = self._languages[language][name]
            parts = (
                *_parsed_leniently(variant(texts, kind)),
                *_parsed_leniently(texts.get("subject", "")),
            )
            found = self._fields[key] = tuple(sorted(wording.fields_used(parts)))
        return found

    def variants(self, name: str, language: str = "zh") -> Mapping[str, str]:
        """The wordings themselves, to be frozen for many recipients."""
        return self._languages[language][name]


def _lenient(text: str, values: Mapping[str, str]) -> str:
    """Our own texts read well without a name; staff's texts get no such licence."""
    return wording.render(_parsed_leniently(text), values)


@lru_cache(maxsize=256)
def _parsed_leniently(text: str) -> tuple[wording.Part, ...]:
    return tuple(
        replace(part, default=part.default or "")
        if isinstance(part, wording.Placeholder)
        else part
        for part in wording.parse(text, FIELDS)
    )


def load() -> Texts:
    folder = files("templates") / "messages"
    languages = {}
    for language in ("zh", "en"):
        source = (folder / f"{language}.toml").read_text(encoding="utf-8")
        languages[language] = _checked(language, tomllib.loads(source))
    return Texts(languages)


def _checked(
    language: str, texts: dict[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    faults = []
    for name, variants in texts.items():
        for key, text in variants.items():
            try:
                wording.parse(text, FIELDS)
            except wording.WordingError as error:
                faults.append(f"messages/{language}.toml: {name}.{key}: {error}")
    if faults:
        raise SettingsError(faults)
    return texts
