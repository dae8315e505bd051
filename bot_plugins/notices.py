"""Notices: what happens to the bot itself. Thrown out of a group, muted, logged out:
staff have to know. New friends and other members' coming and going are not taken.
"""

from nonebot import on_metaevent, on_notice
from nonebot.adapters.onebot.v11 import (
    Bot,
    GroupBanNoticeEvent,
    GroupDecreaseNoticeEvent,
    HeartbeatMetaEvent,
    NoticeEvent,
)

from gateway.bots import bridge_of

EVERYBODY = 0  # the `user_id` of a ban on the whole group


async def about_the_bot(event: NoticeEvent) -> bool:
    if isinstance(event, GroupDecreaseNoticeEvent):
        return event.is_tome()
    if isinstance(event, GroupBanNoticeEvent):
        return event.sub_type == "ban" and (
            event.is_tome() or event.user_id == EVERYBODY
        )
    return event.notice_type == "bot_offline"


async def logged_out(event: HeartbeatMetaEvent) -> bool:
    return not event.status.online


notice = on_notice(rule=about_the_bot, priority=10, block=True)
heartbeat = on_metaevent(rule=logged_out, priority=10, block=True)


@notice.handle()
async def take_notice(bot: Bot, event: NoticeEvent) -> None:
    await bridge_of(bot).take(bot, event)


@heartbeat.handle()
async def take_heartbeat(bot: Bot, event: HeartbeatMetaEvent) -> None:
    await bridge_of(bot).take(bot, event)
