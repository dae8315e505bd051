"""Receipts that come by the wrong account's connection."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from adapters.smpp.simulator import Behaviour
from gateway import database as db
from gateway.core import Core
from gateway.tables import Outbound
from tests.labs.outgoing import queued
from tests.labs.owned import owned
from tests.labs.process import until
from tests.labs.smpp_lab import SYSTEM_ID, SmppLab, opened, receipt

PATIENCE = 60.0
ONE, OTHER = "one", "other"
EACH = 10
FAR = 500  # ids of the first account that the second one does not use


async def send_each(core: Core, name: str, first: int) -> None:
    for n in range(first, first + EACH):
        value = f"+861380013{n:04}"
        await queued(core.clock.now(), channel=name, value=value)
    core.wakeups.wake(f"sender:{name}")


async def states(name: str) -> Counter[str]:
    found = await Outbound.filter(channel=name).values_list("state", flat=True)
    return Counter(str(one) for one in found)


async def come_to(name: str, **wanted: int) -> None:
    async def so() -> bool:
        return await states(name) == wanted

    await until(so, PATIENCE)


async def brought(by: SmppLab, word: str, messages: Sequence[Outbound]) -> None:
    """Receipts of these, one by one stored before the next is looked at."""
    before = await stored()
    items = [
        receipt(one.provider_id, word, number=one.value.removeprefix("+"))
        for one in messages
    ]
    by.centre.deliver(SYSTEM_ID, items)

    async def all_stored() -> bool:
        return await stored() == before + len(messages)

    await until(all_stored, PATIENCE)


async def stored() -> int:
    [row] = await db.rows("SELECT COUNT(*) AS n FROM receipts")
    return int(row["n"])


async def of(name: str) -> list[Outbound]:
    return await Outbound.filter(channel=name).order_by("id")


async def test_a_receipt_by_another_accounts_connection_means_nothing(
    core: Core, tmp_path: Path
) -> None:
    """C-5: neither by an id that only the other account gave, nor by one that both
    gave, nor for a number of whose message nobody knows there."""
    quiet = Behaviour(receipts=False)
    async with AsyncExitStack() as stack:
        labs = {
            name: await stack.enter_async_context(opened(tmp_path, quiet))
            for name in (ONE, OTHER)
        }
        for name, lab in labs.items():
            await stack.enter_async_context(owned(core, name, lab.port, tmp_path))
        await send_each(core, ONE, 0)
        await send_each(core, OTHER, 1000)
        for name in labs:
            await come_to(name, accepted=EACH)
        mine, theirs = await of(ONE), await of(OTHER)
        assert {m.provider_id for m in mine} == {t.provider_id for t in theirs}

        await brought(labs[OTHER], "UNDELIV", theirs)
        assert await states(ONE) == {"accepted": EACH}
        assert await states(OTHER) == {"failed": EACH}
        await brought(labs[ONE], "DELIVRD", mine)
        assert await states(ONE) == {"delivered": EACH}
        assert await states(OTHER) == {"failed": EACH}

        labs[ONE].centre._id = FAR
        await send_each(core, ONE, 2000)
        await come_to(ONE, delivered=EACH, accepted=EACH)
        later = (await of(ONE))[EACH:]
        await brought(labs[OTHER], "DELIVRD", later)
        assert await states(ONE) == {"delivered": EACH, "accepted": EACH}

        labs[ONE].centre.behave(Behaviour(receipts=False, lose_share=1.0))
        await send_each(core, ONE, 3000)
        await come_to(ONE, delivered=EACH, accepted=EACH, unknown=EACH)
        doubted = (await of(ONE))[2 * EACH :]
        for n, one in enumerate(doubted):
            one.provider_id = f"{FAR + EACH + 1 + n:010}"
        await brought(labs[OTHER], "DELIVRD", doubted)
        assert await states(ONE) == {
            "delivered": EACH,
            "accepted": EACH,
            "unknown": EACH,
        }
        await brought(labs[ONE], "DELIVRD", [*later, *doubted])
        assert await states(ONE) == {"delivered": 3 * EACH}
        assert await states(OTHER) == {"failed": EACH}
