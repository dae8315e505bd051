"""Takes the pictures of the README anew: `python docs/screenshots/take.py`.

A demonstration centre starts in an empty folder; a member and staff talk in it.
"""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Locator, Page, expect

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.labs import walker  # noqa: E402

LARGEST_BYTES = 300_000
SANDBOX = (1440, 960)
QUESTION = "老师好，我十月份换了单位，工资变了，党费从什么时候按新工资交？"
ANSWER = (
    "庄诗琪同志，您好！从领取新工资的当月起，按新的标准交。"
    "请把变动的月份告诉支部组织委员，由支部重新核定，多退少补。"
)
THANKS = "明白了，谢谢！十月的已经按原来的交了，补交要跑一趟吗？"
SUBJECT = "转正申请书"
MAIL = "我在外地出差，预备期下月满，转正申请书可以先寄到支部吗？"
STRANGER = "请问怎样申请入党？"
NOTICE = walker.Notice(
    title="冬季送学上门志愿活动",
    branch="080101",
    sms="{{姓名}}同志，周六上午九点在社区活动室集合，给老党员送学上门。"
    "参加回1，请假回2。拒收请回复R",
    rsvp=True,
)


async def take(page: Page, name: str) -> None:
    file = HERE / f"{name}.png"
    await page.evaluate(
        "document.querySelector('.toasts').replaceChildren();"
        "document.activeElement.blur(); scrollTo(0, 0)"
    )
    await page.screenshot(path=file, animations="disabled", caret="hide")
    size = file.stat().st_size
    if size > LARGEST_BYTES:
        raise SystemExit(f"{file.name} has {size} bytes, {LARGEST_BYTES} are allowed")


async def talk(desk: Page, handset: Locator) -> None:
    """One matter asked about, answered, and asked about again."""
    await walker.say(handset, QUESTION)
    await expect(walker.heard(handset, walker.NUMBER)).to_be_visible()
    await walker.open_matter(desk, await walker.number_in(handset))
    await walker.answer(desk, ANSWER)
    await expect(walker.bubble(desk, ANSWER)).to_contain_text("已送达")
    await walker.say(handset, THANKS)
    await expect(walker.bubble(desk, THANKS)).to_be_visible()


async def invite(walk: walker.Walk, handset: Locator, chat: Locator) -> Page:
    """A notice that everybody has, with two answers."""
    desk = await walk.staff(walker.DIRECTOR)
    approver = await walk.staff(walker.APPROVER)
    await walker.draft(desk, NOTICE)
    await expect(desk.locator("#preview .say").first).to_be_visible()
    await walker.press(desk, "提请批准")
    await walker.release(desk, approver)
    counted = desk.locator("#progress")
    for place, total in ((handset, "参加 1"), (chat, "参加 2")):
        await expect(walker.heard(place, "送学上门")).to_be_visible()
        await walker.say(place, "参加")
        await expect(counted).to_contain_text(total)
    await desk.reload()
    return desk


async def pictures(walk: walker.Walk) -> None:
    sandbox, desk = await walk.sandbox(SANDBOX), await walk.staff(walker.CLERK)
    volunteer = await walker.device(sandbox, "sms", "+8619900000011")
    _, handset, chat, group, mailbox, stranger, _ = [
        sandbox.locator(f"#device-d{number}") for number in range(1, 8)
    ]
    await walker.say(stranger, STRANGER)
    await expect(walker.heard(stranger, walker.NUMBER)).to_be_visible()
    await walker.say(mailbox, MAIL, subject=SUBJECT)
    await expect(walker.heard(mailbox, walker.NUMBER)).to_be_visible()
    await talk(desk, handset)
    await take(desk, "desk")
    phone = await walk.staff(walker.CLERK, walker.PHONE)
    await walker.row(phone, QUESTION).click()
    await expect(walker.bubble(phone, THANKS)).to_be_visible()
    await take(phone, "phone")
    await take(await invite(walk, volunteer, chat), "broadcast")
    await group.get_by_label("机器人").uncheck()
    await walker.say(group, "周六一起去，我开车带大家。")
    await take(sandbox, "sandbox")


async def main() -> None:
    with TemporaryDirectory() as folder:
        async with walker.opened_house(Path(folder)) as house:
            walk = walker.Walk(house)
            await pictures(walk)
            await walk.leave()


if __name__ == "__main__":
    asyncio.run(main())
