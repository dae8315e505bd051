"""Parts on the shelf: B-9, with a clock that is moved by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.carrier import udh
from adapters.carrier.codec import Delivery, Segment
from adapters.carrier.shelf import Shelf
from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from gateway.clock import ManualClock
from gateway.errors import StorageUnavailable
from tests.labs.carrier import context
from tests.labs.smpp_lab import settings

NOW = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
HOLD = timedelta(minutes=10)


class Shop:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        about = context("smpp", folder, clock=self.clock)
        self.codec = SmppCodec(settings(2775), about)
        self.path = folder / "parts.sqlite3"
        self.shelf = Shelf(self.path, self.codec, self.clock, HOLD)

    def part(
        self, number: int, total: int, body: bytes | str, *, coding: int = 8
    ) -> Segment:
        data = body if isinstance(body, bytes) else body.encode("utf-16-be")
        place = udh.Concatenation(7, total, number)
        data = udh.header(place, wide=False) + data
        fields = b"\0\1\x018613800138000\0\0\x0110690000\0\x40\0\0\0\0\0\0%c\0%c%b"
        frame = pdu.frame(pdu.DELIVER_SM, 1, fields % (coding, len(data), data))
        found = self.codec.decode(frame)
        assert isinstance(found, Delivery)
        assert isinstance(found.content, Segment)
        return found.content

    def texts(self, *parts: Segment) -> list[str]:
        joined = self.shelf.put(parts) if parts else self.shelf.due()
        self.shelf.handed_on(joined)
        return [one.event.text for one in joined]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_character_cut_by_another_s_splitter_is_whole_again(shop: Shop) -> None:
    data = "党😀员".encode("utf-16-be")
    assert shop.texts(shop.part(1, 2, data[:4]), shop.part(2, 2, data[4:])) == [
        "党😀员"
    ]
    shop.shelf.close()


def test_an_escape_cut_from_its_character_is_whole_again(shop: Shop) -> None:
    parts = [shop.part(1, 2, b"5 \x1b", coding=0), shop.part(2, 2, b"\x65", coding=0)]
    assert shop.texts(*parts) == ["5 €"]
    shop.shelf.close()


def test_parts_of_two_codings(shop: Shop) -> None:
    parts = [shop.part(1, 2, b"Hello ", coding=0), shop.part(2, 2, "党员")]
    assert shop.texts(*parts) == ["Hello 党员"]
    shop.shelf.close()


def test_what_misses_a_part_is_shown_after_the_hold_and_joined_later(
    shop: Shop,
) -> None:
    """B-9"""
    assert shop.texts(shop.part(1, 3, "一"), shop.part(3, 3, "三")) == []
    shop.clock.advance(HOLD - timedelta(seconds=1))
    assert shop.texts() == []
    shop.clock.advance(timedelta(seconds=1))
    [incomplete] = shop.shelf.due()
    assert incomplete.event.text == "一…三"
    assert incomplete.event.notes == ("incomplete",)
    shop.shelf.handed_on([incomplete])
    assert shop.texts() == []
    [whole] = shop.shelf.put([shop.part(2, 3, "二")])
    assert whole.event.text == "一二三"
    assert whole.event.key != incomplete.event.key
    shop.shelf.close()


def test_gaps_at_both_ends(shop: Shop) -> None:
    shop.shelf.put([shop.part(2, 4, "二")])
    shop.clock.advance(HOLD)
    assert shop.texts() == ["…二…"]
    shop.shelf.close()


def test_what_was_not_handed_on_comes_again_with_its_key(shop: Shop) -> None:
    """A crash between the shelf and the commit."""
    [first] = shop.shelf.put([shop.part(1, 2, "一"), shop.part(2, 2, "二")])
    shop.shelf.close()
    shop.clock.advance(timedelta(minutes=1))
    again = Shelf(shop.path, shop.codec, shop.clock, HOLD)
    [second] = again.due()
    assert second == first
    again.close()


def test_a_repeated_part_is_nothing_new(shop: Shop) -> None:
    assert shop.texts(shop.part(1, 2, "一"), shop.part(2, 2, "二")) == ["一二"]
    shop.clock.advance(timedelta(minutes=5))
    assert shop.texts(shop.part(1, 2, "一"), shop.part(2, 2, "二")) == []
    shop.shelf.close()


def test_another_message_with_the_same_reference_is_another(shop: Shop) -> None:
    """A-18, coming in: a telephone that always counts 7"""
    assert shop.texts(shop.part(1, 2, "一"), shop.part(2, 2, "二")) == ["一二"]
    assert shop.texts(shop.part(1, 2, "三"), shop.part(2, 2, "四")) == ["三四"]
    shop.shelf.close()


def test_the_same_words_much_later_are_said_again(shop: Shop) -> None:
    parts = [shop.part(1, 2, "一"), shop.part(2, 2, "二")]
    [first] = shop.shelf.put(parts)
    shop.shelf.handed_on([first])
    shop.clock.advance(3 * HOLD)
    [second] = shop.shelf.put(parts)
    assert second.event.text == first.event.text
    assert second.event.key != first.event.key
    shop.shelf.handed_on([second])
    shop.shelf.close()


def test_a_disk_that_fails_says_so(tmp_path: Path, shop: Shop) -> None:
    shelf = Shelf(tmp_path / "none" / "parts", shop.codec, shop.clock, HOLD)
    with pytest.raises(StorageUnavailable):
        shelf.put([shop.part(1, 2, "一")])
    assert shelf.due() == []


def test_senders_do_not_mix(shop: Shop) -> None:
    other = replace(shop.part(2, 2, "二"), group="8613900139000:10690000:7:2")
    assert shop.texts(shop.part(1, 2, "一"), other) == []
    shop.shelf.close()
