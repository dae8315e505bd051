"""The links below a list: one page on and back, both ends, back to where it stands."""

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.web.paging import pager


@pytest.mark.parametrize(
    ("start", "starts"),
    [
        (0, (None, None, 50, 2000)),
        (50, (None, 0, 100, 2000)),
        (1000, (0, 950, 1050, 2000)),
        (1950, (0, 1900, 2000, None)),
        (2000, (0, 1950, None, None)),
    ],
)
def test_both_ends_are_one_click_away(
    start: int, starts: tuple[int | None, ...]
) -> None:
    request = make_mocked_request("GET", "/list?q=x&from=7&lang=en")
    found = pager(request, start, 50 if start < 2000 else 1, 2001, 50, "#people")
    assert found is not None
    assert [found[name] for name in ("begin", "previous", "next", "end")] == [
        None if one is None else f"/list?q=x&from={one}#people" for one in starts
    ]


def test_a_list_in_sight_needs_no_links() -> None:
    assert pager(make_mocked_request("GET", "/list"), 0, 50, 50, 50) is None
