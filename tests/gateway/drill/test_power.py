"""D-1: what was told before the power was cut is on the disk; the control is caught."""

from pathlib import Path

import pytest

from gateway.drill import power

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if lacking := power.missing():
        pytest.skip(lacking)
    return tmp_path


async def test_what_was_told_survives_a_power_cut(folder: Path) -> None:  # D-1
    try:
        found = await power.power(folder, 5, 4000, 12371, ("smpp", "smtp"))
    except power.NotAllowed as error:
        pytest.skip(str(error))
    assert [one.missing for one in found.pictures] == [[]] * 5
    assert all(one.whole for one in found.pictures)
    assert found.pictures[-1].told > 0
    assert found.verdict.holds, found.verdict.reasons  # started from the last one
    assert found.holds
    assert found.verdict.inbound_acknowledged > 0
    assert found.verdict.arrived > 1000


async def test_a_careless_writer_is_found_to_lose_what_it_told(folder: Path) -> None:
    try:
        # It may have been about to write its pages out: then it gets another chance.
        found = await power.control(folder, 30, 12371)
    except power.NotAllowed as error:
        pytest.skip(str(error))
    assert found[-1].missing
