"""A-2, A-3: a bounded sample of the crash points; `run.py drill points` tries all."""

from pathlib import Path

import pytest

from gateway.drill.points import missing, points

pytestmark = pytest.mark.slow


async def test_each_of_some_crash_points_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    if lacking := missing():
        pytest.skip(lacking)
    found = await points(tmp_path, ("fdatasync", "write"), 4, ("smpp",), step=3)
    assert found.verdict.holds, found.verdict.reasons
    assert sum(found.hit.values()) >= 4
    assert (found.verdict.lost, found.verdict.doubled) == (0, 0)
