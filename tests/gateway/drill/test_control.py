"""The known-bad designs: a checker that never fails is not trusted."""

from pathlib import Path

import pytest

from gateway.drill.checker import Verdict
from gateway.drill.control import WINDOW, control

pytestmark = pytest.mark.slow
KILLS = 4


async def run(folder: Path, design: str) -> Verdict:
    return await control(folder, design, KILLS, 2500, 12371)


async def test_the_losses_of_pop_before_send_are_found(tmp_path: Path) -> None:
    found = await run(tmp_path, "pop")
    assert found.lost > KILLS
    assert found.doubled == 0
    assert not found.holds


async def test_the_doubles_of_resend_after_restart_are_found(tmp_path: Path) -> None:
    found = await run(tmp_path, "resend")
    assert found.doubled > KILLS
    assert found.lost == 0
    assert not found.holds


async def test_mark_at_claim_is_found_to_be_too_coarse(tmp_path: Path) -> None:
    found = await run(tmp_path, "claim")
    assert (found.lost, found.doubled) == (0, 0)
    assert found.unknown_per_kill > WINDOW
    assert any("its window is 32" in reason for reason in found.reasons)


async def test_the_same_program_with_the_right_design_passes(tmp_path: Path) -> None:
    found = await run(tmp_path, "window")
    assert found.holds, found.reasons
    assert 0 < found.unknown_at_kills <= WINDOW * KILLS
    assert found.really_sent > 0
