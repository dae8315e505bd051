"""New matters go to whom of the clerks has least to do."""

from datetime import timedelta

from gateway.actors import Actor, Role
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.inquiries.busy import KEPT_SECONDS, Busy, OpenInquiries
from gateway.tables import Organisation, Staff
from tests.console import organisation, staff
from tests.labs.matters import registered


async def given(centre: Organisation, inquiries: OpenInquiries, count: int) -> str:
    """The names of those who get so many matters, one after the other."""
    names = {one.id: one.username for one in await Staff.all()}
    busy = await Busy.of([centre.id], inquiries)
    return "".join(names.get(busy.give(centre.id) or 0, "-") for _ in range(count))


async def opened(core: Core, centre: Organisation, owner: Actor, count: int) -> None:
    for _ in range(count):
        await registered(centre.id, core.clock.now(), owner_id=owner.staff_id)


async def test_who_has_least_gets_the_next(core: Core, clock: ManualClock) -> None:
    """Counted on while giving, also from batch to batch; and anew after a while."""
    centre = await organisation("甲中心")
    a = await staff(core, Role.CLERK, centre, "a")
    b = await staff(core, Role.CLERK, centre, "b")
    await opened(core, centre, a, 2)
    inquiries = OpenInquiries(clock)
    assert await given(centre, inquiries, 3) == "bba"
    await opened(core, centre, b, 9)  # what was given, and seven more
    assert await given(centre, inquiries, 2) == "ba"
    clock.advance(timedelta(seconds=KEPT_SECONDS))
    assert await given(centre, inquiries, 8) == "a" * 8


async def test_who_left_gets_nothing_from_then_on(
    core: Core, clock: ManualClock
) -> None:
    centre = await organisation("甲中心")
    a = await staff(core, Role.CLERK, centre, "a")
    inquiries = OpenInquiries(clock)
    assert await given(centre, inquiries, 1) == "a"
    await Staff.filter(id=a.staff_id).update(active=False)
    assert await given(centre, inquiries, 1) == "-"
    await staff(core, Role.CLERK, centre, "b")
    assert await given(centre, inquiries, 1) == "b"
