"""Intake: what people say to the bot goes into the inbox, in private and in groups.

Answers do not come from here: they leave through the outbox like on any channel.
"""

from nonebot import on_message
from nonebot.adapters.onebot.v11 import Bot, MessageEvent, PrivateMessageEvent

from gateway.bots import bridge_of


async def spoken_to(bot: Bot, event: MessageEvent) -> bool:
    """In private always; in a group when the bot is called or one of its messages is
    replied to. nonebot looks for the call at both ends only; people put it anywhere."""
    if isinstance(event, PrivateMessageEvent) or event.to_me:
        return True
    return any(
        segment.type == "at" and str(segment.data.get("qq")) == bot.self_id
        for segment in event.original_message
    )


intake = on_message(rule=spoken_to, priority=50, block=True)


@intake.handle()
async def take(bot: Bot, event: MessageEvent) -> None:
    await bridge_of(bot).take(bot, event)
