"""The page of the audit list, with the check of its chain."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from aiohttp import web
from tortoise.expressions import Q

from gateway import audit
from gateway.actors import Action, Actor
from gateway.database import rows, transaction
from gateway.tables import Audit
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import render, text
from gateway.web.paging import pager
from gateway.web.routes import page

_PAGE = 50
_CHECKED = 2000  # links
ACTIONS: Mapping[str, str] = {
    "audit.viewed": "查看审计",
    "staff.created": "新建账户",
    "staff.signed_in": "登录",
    "staff.signed_out": "退出",
    "staff.sign_in_failed": "登录失败",
    "staff.password_reset": "重置密码",
    "staff.password_changed": "修改密码",
    "staff.stopped": "停用账户",
    "staff.restored": "恢复账户",
    "token.created": "新建接口令牌",
    "token.revoked": "作废接口令牌",
    "organisation.added": "新建组织",
    "organisation.changed": "修改组织",
    "organisation.moved": "移动组织",
    "member.added": "登记党员",
    "member.changed": "修改党员资料",
    "member.address_added": "添加联系方式",
    "member.address_removed": "移除联系方式",
    "member.opted_out": "登记退订",
    "member.resumed": "恢复接收",
    "member.code_issued": "发绑定码",
    "member.erased": "删除党员个人信息",
    "members.imported": "导入党员",
    "inquiry.registered": "登记咨询",
    "inquiry.printed": "打印受（办）理表",
    "inquiry.answer": "答复",
    "inquiry.take_back": "撤回答复",
    "inquiry.tell": "当面或电话答复",
    "inquiry.note": "写备注",
    "inquiry.claim": "接手咨询",
    "inquiry.assign": "换承办人",
    "inquiry.transfer": "转办咨询",
    "inquiry.extend": "延长期限",
    "inquiry.classify": "改类别和紧急程度",
    "inquiry.identify": "确认来信人",
    "inquiry.seen": "主任已阅",
    "inquiry.close": "办结咨询",
    "inquiry.rate": "记下评价",
    "inquiry.reopen": "重新办理",
    "message.moved": "移动来信",
    "message.split": "来信另立新单",
    "message.decided": "处理结果不明的消息",
    "message.queried": "向服务商查清一条消息",
    "review.decided": "判定来信",
    "broadcast.create": "起草通知",
    "broadcast.edit": "修改通知",
    "broadcast.submit": "提请批准",
    "broadcast.approve": "批准通知",
    "broadcast.reject": "退回通知",
    "broadcast.start": "开始发送",
    "broadcast.refused": "没有发出",
    "broadcast.pause": "暂停发送",
    "broadcast.resume": "继续发送",
    "broadcast.cancel": "取消通知",
    "broadcast.again": "再发给失败的人",
    "broadcast.frozen": "名单冻结",
    "broadcast.canary_stopped": "先发的一小批被拒绝过多，自动暂停",
    "broadcast.attendance": "登记到场",
    "daily.add": "加入每日一答队列",
    "daily.move": "调整每日一答队列",
    "daily.skip": "跳过一条每日一答",
    "daily.remove": "移出每日一答队列",
    "daily.push": "补发每日一答",
    "entry.add": "新建知识条目",
    "entry.change": "修改知识条目",
    "entry.check": "核对知识条目",
    "entry.deactivate": "停用知识条目",
    "entry.activate": "恢复知识条目",
    "canned.add": "新建常用语",
    "canned.change": "修改常用语",
    "canned.move": "调整常用语",
    "canned.delete": "删除常用语",
    "calendar.correct": "更正工作日历",
    "calendar.remove": "撤销日历更正",
    "calendar.recompute": "重算期限",
    "channel.tested": "测试渠道",
}
_PATHS = {"member": "/members/{}", "broadcast": "/broadcasts/{}"}


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Filters `q` (person, object) and `action`; looking is recorded as well."""
    q, action = request.query.get("q", "")[:80], request.query.get("action", "")
    found = Audit.filter(_visible(actor))
    if action:
        found = found.filter(action=action[:48])
    if q:
        found = found.filter(Q(actor__contains=q) | Q(object=q))
    total = await found.count()
    start = forms.whole_number(request.query.get("from", "0")) or 0
    entries = await found.order_by("-id").offset(start).limit(_PAGE)
    chain = await _chain(request)
    async with transaction():
        await audit.record(
            request.app[CORE].clock, actor, "audit.viewed", "audit", filter=action
        )
    return await render(
        request,
        "audit.html",
        active="audit",
        q=q,
        action=action,
        actions=await _actions(request),
        entries=[_row(request, entry) for entry in entries],
        chain=chain,
        pager=pager(request, start, len(entries), total, _PAGE),
    )


def _visible(actor: Actor) -> Q:
    """Acts in the own subtree; acts of the gateway itself for the top of a tree."""
    own = Q(organisation_path__startswith=actor.path)
    return own | Q(organisation_path="/") if actor.path.count("/") == 2 else own


async def _chain(request: web.Request) -> dict[str, Any]:
    """The latest links; all of them are for `run.py verify`, which takes long."""
    latest = await Audit.all().order_by("-id").limit(_CHECKED)
    broken = sum(audit.digest(entry) != entry.hash for entry in latest)
    broken += sum(new.previous != old.hash for new, old in pairwise(latest))
    words = "最近 {n} 条，链条完整" if not broken else "链条有 {broken} 处断开"
    return {
        "good": not broken,
        "checked": len(latest),
        "text": text(request, words, n=len(latest), broken=broken),
    }


async def _actions(request: web.Request) -> list[dict[str, str]]:
    found = await rows("SELECT DISTINCT action FROM audit ORDER BY action")
    return [
        {"value": row["action"], "label": action_label(request, row["action"])}
        for row in found
    ]


def action_label(request: web.Request, action: str) -> str:
    return text(request, ACTIONS.get(action, action))


def _row(request: web.Request, entry: Audit) -> dict[str, Any]:
    kind, _, id = entry.object.partition(":")
    path = _PATHS.get(kind, "")
    detail = ", ".join(f"{name}: {value}" for name, value in entry.detail.items())
    return {
        "id": entry.id,
        "at": entry.at,
        "actor": entry.actor
        if entry.actor != audit.OURSELVES
        else text(request, "系统"),
        "action_label": action_label(request, entry.action),
        "object": entry.object,
        "path": path.format(id) if id.isdigit() and path else "",
        "detail": detail[:300],
        "hash": entry.hash[:10],
    }


ROUTES = (page("GET", "/audit", show, Action.AUDIT),)
