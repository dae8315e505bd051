"""Rendering: a long page leaves others their turns."""

import asyncio
from datetime import timedelta
from typing import Any

from gateway.clock import ManualClock
from gateway.core import Core
from gateway.web.pages import Pages


def _row(id: int, clock: ManualClock) -> dict[str, Any]:
    return {
        "id": id,
        "number": str(id),
        "unread": False,
        "who": "刘洪涛",
        "organisation": "第一党支部",
        "text": "请问党费怎么交",
        "channel": {"kind": "sms", "label": "短信"},
        "state": "new",
        "urgency": "normal",
        "matter_label": "党费",
        "owner": "",
        "changed_at": clock.now(),
        "deadline": {
            "at": clock.now() + timedelta(days=7),
            "text": "还剩 7 个工作日",
            "level": "calm",
            "provisional": False,
        },
    }


async def test_a_long_page_is_rendered_in_slices(
    core: Core, clock: ManualClock
) -> None:
    pages, turns = Pages(core), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    context = {
        "rows": [_row(id, clock) for id in range(2000)],
        "selected_number": "1999",
        "more": "",
        "filtered": False,
    }
    text = await pages.render("partials/_stream.html", "zh", context)
    beside.cancel()

    assert text.count('class="row"') == 2000
    assert text.count('aria-current="true"') == 1
    assert turns > 2
