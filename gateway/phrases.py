"""Words for people that have values in them, so that pages can translate them later."""

from collections.abc import Callable, Iterable, Mapping
from functools import reduce


class Phrase(str):
    """Reads as its Chinese everywhere; keeps the words apart from the values."""

    words: str
    values: Mapping[str, object]

    def __str__(self) -> str:
        # So that the text of an exception is still a phrase.
        return self


def phrase(words: str, **values: object) -> Phrase:
    """`words` with each `{name}` filled in; values of ours are phrases themselves.

    Without values it marks any text as words of ours, which pages then translate.
    """
    if isinstance(words, Phrase):
        return words
    found = Phrase(words.format(**values) if values else words)
    found.words, found.values = words, values
    return found


def translated(text: str, look_up: Callable[[str], str]) -> str:
    """`text` with its words, and those of its values, replaced by `look_up`'s."""
    if not isinstance(text, Phrase):
        return look_up(text)
    values = {
        name: translated(value, look_up) if isinstance(value, Phrase) else value
        for name, value in text.values.items()
    }
    said = look_up(text.words)
    return said.format(**values) if values else said


def together(texts: Iterable[str]) -> str:
    """Several faults as one text."""
    return reduce(
        lambda one, more: phrase("{one}；{more}", one=one, more=more),
        map(phrase, texts),
    )
