"""Commands: a message that is exactly a command word is meant for the bot, also in a
group where nobody called it.

It is handed on in one canonical form. What a command does is the gateway's business,
the same on every channel.
"""

import re
import unicodedata

from nonebot import on_message
from nonebot.adapters.onebot.v11 import Bot, MessageEvent
from nonebot.typing import T_State

from gateway.bots import bridge_of

FORMS = {
    "帮助": ("帮助", "菜单"),
    "订阅": ("订阅", "订阅每日一答"),
    "停订": ("停订", "停订每日一答"),
    "退订": ("退订",),
    "今日一答": ("今日一答", "每日一答", "今日问答"),
    "进度": ("进度", "查进度", "查询进度"),
}
WORDS = {word: form for form, words in FORMS.items() for word in words}
# With a code or a number to bind, or alone: then the gateway asks for it.
BINDING = re.compile(r"绑定(?:[ :]*(\+?[0-9A-Za-z][0-9A-Za-z -]{2,30}))?")
LONGEST = 40


def canonical(text: str) -> str | None:
    """The command in its one form; None for everything else."""
    if len(text) > LONGEST:
        return None
    plain = unicodedata.normalize("NFKC", text).strip().lstrip("/#").strip()
    if (binding := BINDING.fullmatch(plain)) is not None:
        return f"绑定 {binding[1] or ''}".strip()
    return WORDS.get(plain)


async def is_command(event: MessageEvent, state: T_State) -> bool:
    if any(segment.type != "text" for segment in event.message):
        return False
    state["command"] = canonical(event.get_plaintext())
    return state["command"] is not None


command = on_message(rule=is_command, priority=10, block=True)


@command.handle()
async def take(bot: Bot, event: MessageEvent, state: T_State) -> None:
    await bridge_of(bot).take(bot, event, state["command"])
