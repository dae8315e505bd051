from gateway import audit
from gateway.actors import GATEWAY
from gateway.core import Core
from gateway.database import execute, rows, transaction


async def _record(core: Core, *objects: str) -> None:
    for name in objects:
        async with transaction():
            await audit.record(core.clock, GATEWAY, "thing.changed", name, reason="换")


async def test_an_untouched_chain_is_whole(core: Core) -> None:
    await _record(core, "thing:1", "thing:2", "thing:3")
    assert await audit.check(rows) == (3, [])


async def test_a_changed_entry_is_found(core: Core) -> None:
    await _record(core, "thing:1", "thing:2", "thing:3")
    await execute("UPDATE audit SET object = ? WHERE object = ?", "thing:9", "thing:2")
    _, broken = await audit.check(rows)
    assert len(broken) == 1


async def test_a_removed_entry_is_found(core: Core) -> None:
    await _record(core, "thing:1", "thing:2", "thing:3")
    await execute("DELETE FROM audit WHERE object = ?", "thing:2")
    _, broken = await audit.check(rows)
    assert len(broken) == 1


async def test_an_act_rolled_back_leaves_no_entry(core: Core) -> None:
    try:
        async with transaction():
            await audit.record(core.clock, GATEWAY, "thing.changed", "thing:1")
            raise ValueError
    except ValueError:
        pass
    assert await rows("SELECT id FROM audit") == []
