"""QQ by OneBot V11: one bot account, private and group messages.

Through a personal QQ client (NapCat, Lagrange): docs/channels/qq.md says how to
connect one and what it risks.
"""

import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from nonebot.adapters.onebot.v11 import (
    ActionFailed,
    GroupBanNoticeEvent,
    GroupDecreaseNoticeEvent,
    GroupMessageEvent,
    HeartbeatMetaEvent,
    Message,
    MessageEvent,
    MessageSegment,
    NoticeEvent,
)
from nonebot.adapters.onebot.v11 import Event as OneBotEvent
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from gateway.bots import MIN_TOKEN_LENGTH, Account, BotBridge, Heard, LineTrouble
from gateway.contract import (
    Accept,
    Accepted,
    Adapter,
    Address,
    AddressKind,
    Capabilities,
    ChannelContext,
    ChannelTrouble,
    Event,
    InboundMessage,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    SettingsError,
    TransientFailure,
)
from gateway.settings import Secret
from gateway.text import clean

NUMBER = re.compile(r"[1-9][0-9]{4,11}")


class Settings(BaseModel):
    """`[channels.NAME]` with `adapter = "onebot"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    self_id: str  # the bot's QQ number
    access_token: Secret
    mode: Literal["reverse", "forward"] = "reverse"
    ws_url: str = ""  # forward: the client's WebSocket server
    groups: tuple[str, ...] = ()  # numbers of the groups it serves
    api_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), le=timedelta(minutes=2)
    )

    @field_validator("self_id", "groups", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, list | tuple):
            return tuple(cls._numbers_as_text(item) for item in value)
        return value

    @field_validator("self_id", "groups")
    @classmethod
    def _numbers(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for number in (value,) if isinstance(value, str) else value:
            if not NUMBER.fullmatch(number):
                raise ValueError(f"{number!r} is not a QQ or group number: digits only")
        return value

    @field_validator("access_token")
    @classmethod
    def _long_token(cls, value: Secret) -> Secret:
        token = value.get_secret_value()
        if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or " " in token:
            raise ValueError(
                f"needs at least {MIN_TOKEN_LENGTH} ASCII characters without spaces; "
                "set the same token in the QQ client"
            )
        return value

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if self.mode == "forward" and not self.ws_url.startswith(("ws://", "wss://")):
            raise ValueError("ws_url: forward mode needs a ws:// or wss:// address")
        if self.mode == "reverse" and self.ws_url:
            raise ValueError('ws_url: only with mode = "forward"; leave it out')
        return self


CAPABILITIES = Capabilities(
    address_kinds=frozenset({AddressKind.QQ, AddressKind.GROUP}),
    encoding=TextEncoding.UTF8,
    # mirai's API names 4500 characters as the most that one message carries
    # (github.com/mamoe/mirai/issues/2289); counted in bytes here to be safe.
    max_length=4500,
    proactive=True,
    rate_per_second=1.0,  # quicker accounts are soon restricted by Tencent
    window=1,
)

MAX_NAME_LENGTH = 64
MAX_IMAGE_NOTES = 9

# Refused, and would be refused again.
PERMANENT_RETCODES = {
    # OneBot 11, communication/ws.md: HTTP 400, 401, 403, 404 carried over.
    1400: "bad_request",
    1401: "unauthorized",
    1403: "forbidden",
    1404: "no_such_action",
    # CoolQ HTTP API 4.15, table of retcode, kept by its successors.
    100: "bad_parameter",
    102: "no_permission",
    103: "operation_refused",
}
# Certainly not sent (same table): credentials expired, worker pool not up.
TRANSIENT_RETCODES = {104: "credentials_expired", 201: "not_ready"}

# go-cqhttp answers 100 with this word for "perhaps restricted", also for messages
# that did arrive (github.com/Mrs4s/go-cqhttp/issues/382).
DOUBTFUL_WORD = "SEND_MSG_API_ERROR"

# NapCat puts QQ's own result into the text of retcode 200 or 1200, say 110 for removed
# from the group (github.com/NapNeko/NapCatQQ/issues/600). Its "Timeout: NTEvent" in
# the same place may have been sent (issues/932) and stays unknown.
QQ_REFUSAL = re.compile(r'EventChecker Failed.*?"result":\s*(-?[0-9]+)', re.DOTALL)

SEGMENT_WORDS = {
    "face": "[表情]",
    "mface": "[表情]",
    "image": "[图片]",
    "record": "[语音]",
    "video": "[视频]",
    "file": "[文件]",
    "json": "[卡片]",
    "xml": "[卡片]",
    "share": "[链接]",
    "location": "[位置]",
    "forward": "[聊天记录]",
    "contact": "[名片]",
    "poke": "[戳一戳]",
}


class OneBotChannel:
    """One account; the socket belongs to the bridge."""

    capabilities = CAPABILITIES

    def __init__(self, account: Account, bots: BotBridge) -> None:
        self._account = account
        self._bots = bots

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return {message.id: await self._send_one(message) for message in batch}

    async def _send_one(self, message: OutboundMessage) -> Outcome:
        try:
            action, params = self._call(message)
            data = await self._bots.call(self._account.self_id, action, **params)
        except ActionFailed as failed:
            return refusal(failed.info)
        except DeliveryError as error:
            return error
        message_id = data.get("message_id") if isinstance(data, dict) else None
        if not isinstance(message_id, int | str) or message_id == "":
            return OutcomeUnknown("no_message_id")
        return Accepted((str(message_id),))

    def _call(self, message: OutboundMessage) -> tuple[str, dict[str, Any]]:
        if not NUMBER.fullmatch(message.to.value):
            raise PermanentFailure("bad_address")
        number = int(message.to.value)
        segments = segments_of(message)
        if message.to.kind is AddressKind.QQ:
            return "send_private_msg", {"user_id": number, "message": segments}
        if message.to.value not in self._account.groups:
            raise PermanentFailure("group_not_served")
        return "send_group_msg", {"group_id": number, "message": segments}

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[None]:
        async def hear(heard: Heard | LineTrouble) -> None:
            event = event_of(heard, self._account.self_id)
            if event is not None:
                await accept([event])

        with self._bots.listening(self._account.self_id, hear):
            yield

    async def close(self) -> None:
        """The bridge closes its sockets with the application."""


def segments_of(message: OutboundMessage) -> list[dict[str, Any]]:
    """The message as segments: a text segment is never searched for CQ codes."""
    segments: list[dict[str, Any]] = []
    if message.in_reply_to:
        segments.append({"type": "reply", "data": {"id": message.in_reply_to}})
    text = message.text
    if message.mention and message.to.kind is AddressKind.GROUP:
        segments.append({"type": "at", "data": {"qq": message.mention}})
        text = " " + text
    return [*segments, {"type": "text", "data": {"text": text}}]


def refusal(answer: Mapping[str, Any]) -> DeliveryError:
    """What an answer with status `failed` means for a message. What no table knows is
    unknown: "failed" alone does not prove that nothing was sent."""
    retcode = answer.get("retcode")
    words = " ".join(str(answer.get(key) or "") for key in ("msg", "message"))
    if (refused := QQ_REFUSAL.search(words)) is not None:
        return PermanentFailure(f"qq_{refused[1]}", f"retcode {retcode}")
    if not isinstance(retcode, int) or DOUBTFUL_WORD in words:
        return OutcomeUnknown("failed_in_doubt")
    if retcode in PERMANENT_RETCODES:
        return PermanentFailure(PERMANENT_RETCODES[retcode], f"retcode {retcode}")
    if retcode in TRANSIENT_RETCODES:
        return TransientFailure(TRANSIENT_RETCODES[retcode], f"retcode {retcode}")
    return OutcomeUnknown(f"retcode_{retcode}")


def event_of(heard: Heard | LineTrouble, self_id: str) -> Event | None:
    """The gateway's event; None for what is none of its business."""
    if isinstance(heard, LineTrouble):
        return ChannelTrouble(key=heard.key, code=heard.code, raw=heard.code.encode())
    if isinstance(heard.event, MessageEvent):
        return message_of(heard.event, heard, self_id)
    if isinstance(heard.event, OneBotEvent):
        return trouble_of(heard.event, heard.frame, self_id)
    return None


def message_of(event: MessageEvent, heard: Heard, self_id: str) -> InboundMessage:
    said = clean(text_of(event.original_message, self_id)).strip()
    group = event.group_id if isinstance(event, GroupMessageEvent) else None
    place = "private" if group is None else "group"
    # Implementations count message ids anew after a restart: the id alone would take
    # another message for a repeat.
    print_ = hashlib.sha256(f"{event.user_id}\n{event.time}\n{said}".encode())
    return InboundMessage(
        key=f"msg:{place}:{event.message_id}:{print_.hexdigest()[:12]}",
        sender=Address(AddressKind.QQ, str(event.user_id)),
        text=said if heard.text is None else heard.text,
        raw=heard.frame,
        sent_at=instant(event.time),
        provider_id=str(event.message_id),
        conversation=Address(AddressKind.GROUP, str(group)) if group else None,
        display_name=name_of(event),
        answers_to=tuple(quoted(event.original_message)),
        notes=tuple(image_notes(event.original_message)),
    )


def text_of(message: Message, self_id: str) -> str:
    """What a person would read: other people are named, pictures stand as words, the
    quotation and the calling of the bot itself are left out."""
    return "".join(segment_text(segment, self_id) for segment in message)


def segment_text(segment: MessageSegment, self_id: str) -> str:
    data = segment.data
    if segment.type == "text":
        return str(data.get("text", ""))
    if segment.type == "at":
        return at_text(str(data.get("qq", "")), str(data.get("name") or ""), self_id)
    if segment.type == "reply":
        return ""
    return SEGMENT_WORDS.get(segment.type, "[其他]")


def at_text(number: str, name: str, self_id: str) -> str:
    if number == self_id:
        return ""
    return "@全体成员" if number == "all" else "@" + (name.lstrip("@") or number)


def quoted(message: Message) -> Sequence[str]:
    ids = [str(s.data.get("id", "")) for s in message if s.type == "reply"]
    return [number for number in ids if number]


def image_notes(message: Message) -> Sequence[str]:
    """Addresses of pictures, for staff; QQ forgets them after a while."""
    urls = [clean(str(s.data.get("url") or "")) for s in message if s.type == "image"]
    kept = [url for url in urls if url.startswith(("https://", "http://"))]
    return [f"image:{url}" for url in kept[:MAX_IMAGE_NOTES] if len(url) <= 1000]


def name_of(event: MessageEvent) -> str:
    name = clean(event.sender.card or event.sender.nickname or "")
    printable = (c for c in name if not unicodedata.category(c).startswith("C"))
    return "".join(printable)[:MAX_NAME_LENGTH]


def trouble_of(event: OneBotEvent, frame: bytes, self_id: str) -> ChannelTrouble | None:
    code = trouble_code(event, self_id)
    if code is None:
        return None
    group = getattr(event, "group_id", None)
    # The same every time a heartbeat says so, for ten minutes.
    when = event.time // 600 if group is None else event.time
    return ChannelTrouble(
        key=f"notice:{code}:{group or ''}:{when}",
        code=code,
        raw=frame,
        address=Address(AddressKind.GROUP, str(group)) if group else None,
    )


def trouble_code(event: OneBotEvent, self_id: str) -> str | None:
    """kicked, left_group, muted, group_muted, offline; None: no trouble of ours."""
    match event:
        case GroupDecreaseNoticeEvent() if str(event.user_id) == self_id:
            return "left_group" if event.sub_type == "leave" else "kicked"
        case GroupBanNoticeEvent(sub_type="ban") if str(event.user_id) == self_id:
            return "muted"
        case GroupBanNoticeEvent(sub_type="ban", user_id=0):
            return "group_muted"
        case HeartbeatMetaEvent() if not event.status.online:
            return "offline"
        case NoticeEvent(notice_type="bot_offline"):  # NapCat's own
            return "offline"
    return None


def instant(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def build(settings: Settings, context: ChannelContext) -> Adapter:
    """Raises SettingsError without a bridge or if another channel has the account."""
    if context.bots is None:
        raise SettingsError([f"channels.{context.name}: bots are not running here"])
    account = Account(
        channel=context.name,
        self_id=settings.self_id,
        token=settings.access_token.get_secret_value(),
        groups=frozenset(settings.groups),
        ws_url=settings.ws_url,
        api_timeout=settings.api_timeout,
    )
    context.bots.enrol(account)
    return OneBotChannel(account, context.bots)
