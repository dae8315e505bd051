from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.sandbox.history import REMEMBERED_MESSAGES, History
from adapters.sandbox.records import Medium, Pushed, Said
from gateway.contract import Address, AddressKind

AT = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
ZHANG = Address(AddressKind.QQ, "10001")
LI = Address(AddressKind.QQ, "10002")
GROUP = Address(AddressKind.GROUP, "10001")  # the same number as a person's


def said(number: int, sender: Address = ZHANG, group: Address | None = None) -> Said:
    return Said(
        at=AT + timedelta(seconds=number),
        medium=Medium.QQ,
        provider_id=f"p{number}",
        sender=sender,
        conversation=group,
        text=f"第{number}句",
    )


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "ledger.jsonl")
    yield opened
    opened.close()


def test_each_place_has_its_own_conversation(history: History) -> None:
    for one in (said(1), said(2, LI), said(3, ZHANG, GROUP), said(4)):
        history.append(one)
    assert history.at(Medium.QQ, ZHANG) == (said(1), said(4))
    assert history.at(Medium.QQ, LI) == (said(2, LI),)
    assert history.at(Medium.QQ, GROUP) == (said(3, ZHANG, GROUP),)
    assert history.at(Medium.EMAIL, ZHANG) == ()
    assert history.places(Medium.QQ, 2) == (ZHANG, GROUP)


def test_unheard_is_what_nobody_acknowledged(history: History, tmp_path: Path) -> None:
    history.append(said(1))
    history.append(said(2))
    history.append(said(3).model_copy(update={"heard": False}))
    history.append(Pushed(at=AT, medium=Medium.QQ, provider_id="p1"))
    assert history.is_settled(said(1))
    again = History(tmp_path / "ledger.jsonl")
    assert again.unheard(Medium.QQ) == [said(2)]
    again.close()


def test_the_oldest_is_forgotten_everywhere(history: History) -> None:
    history.append(said(-1, LI))
    history.append(Pushed(at=AT, medium=Medium.QQ, provider_id="p-1"))
    for number in range(REMEMBERED_MESSAGES):
        history.append(said(number))
    assert history.at(Medium.QQ, LI) == ()
    assert history.find("p-1") is None
    assert not history.is_settled(said(-1, LI))
    assert history.places(Medium.QQ, 9) == (ZHANG,)
    assert len(history.at(Medium.QQ, ZHANG)) == REMEMBERED_MESSAGES
