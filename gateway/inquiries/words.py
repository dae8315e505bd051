"""What codes in the tables mean, in the words of the desk; pages translate them."""

import re
from collections.abc import Mapping

from gateway.phrases import phrase

SOURCES: Mapping[str, str] = {
    "message": "来信",
    "counter": "来访",
    "phone": "来电",
    "api": "接口",
}
URGENCIES: Mapping[str, str] = {"normal": "普通", "urgent": "紧急"}
KINDS: Mapping[str, str] = {
    "phone": "短信",
    "email": "邮件",
    "qq": "QQ",
    "group": "QQ 群",
    "wechat": "微信",
    "web": "网页",
}
RATINGS: Mapping[int, str] = {1: "满意", 2: "基本满意", 3: "不满意"}

# Why a channel was passed over; `{channel}` is its label.
REFUSALS: Mapping[str, str] = {
    "template_only": "{channel}只能发审核过的模板",
    "never_wrote": "{channel}不能主动发起",
    "reply_window_closed": "{channel}的回复时限已过",
    "replies_used": "{channel}的回复次数已用完",
    "no_channel": "没有开通{channel}",
    "too_long": "内容超过{channel}的上限",
}

# Why an outgoing message is in its state.
REASONS: Mapping[str, str] = {
    "opted_out": "党员已退订",
    "unsubscribed": "没有订阅",
    "erased": "这位党员的个人信息已删除",
    "expired": "等得太久",
    "quiet_hours": "夜间不打扰，早上再发",
    "rerouted": "改走了别的渠道",
    "no_channel": "没有可用的渠道",
    "listed_already": "这个渠道发不了，另一个联系方式已在同一份名单里，不重复发",
    "taken_back": "发出前撤回",
    "process_ended": "发送途中程序中断，不知道对方收到没有",
    "not_settled": "发送途中程序中断，不知道对方收到没有",
    "no_outcome": "渠道没有说结果",
    "no_answer": "渠道没有回话",
    "timeout": "渠道没有回话",
    "stopped": "发送途中程序停止",
    "connection_lost": "发送途中连接断了",
    "hung_up": "对方断开了连接",
    "not_connected": "没有连接",
    "unreachable": "联系不上对方",
    "closed": "我们断开了连接",
    "channel_closed": "渠道正在停止",
    "peer_left": "对方退出了登录",
    "login_unanswered": "登录没有应答",
    "heartbeat_unanswered": "心跳没有应答",
    "incomplete_answer": "服务商没有说全",
    "too_many_records": "服务商那里这个号码的记录太多",
    "no_message_id": "渠道收下了，但没有给编号",
    "failed_in_doubt": "渠道说没发成，但也许已经发出",
    "unreadable_answer": "看不懂渠道的回话",
    "adapter_error": "渠道程序出错",
    "value_missing": "内容里有空缺的占位符",
    "template_only": "这个渠道只能发审核过的模板",
    "too_long": "内容太长，这个渠道发不了",
    "partly_refused": "长短信只有一部分被运营商收下",
    "query_taken": "查询过，服务商已经收下",
    "confirmed": "工作人员确认已送到",
    "given_up": "工作人员决定不再发送",
    "sent_again": "工作人员决定再发一次",
    "frequency_cap": "24 小时内发给这位党员的通知已经够多",
    "too_many_parts": "内容太长，分成的短信太多",
    "unencodable_text": "内容里有这个渠道写不出的字",
    "template_required": "这个渠道只能发审核过的模板",
    "bad_number": "号码不对",
    "not_a_mainland_number": "不是内地手机号",
    "bad_address": "地址不对",
    "address_invalid": "地址不对",
    "group_not_served": "机器人不在这个群里服务",
    "smtp_unreachable": "连不上邮件服务器",
    "smtp_tls": "和邮件服务器加密连接不成",
    "smtp_closed": "邮件服务器断开了连接",
    "smtp_session": "邮件服务器断开了连接",
    "smtp_no_reply": "邮件服务器没有回话",
    "smtp_reply": "看不懂邮件服务器的回话",
    "sandbox_ledger": "沙盒的账本写不进去",
    "sandbox_refused": "沙盒按您的设置拒收",
}

# Words of carriers for it: names of SMPP 3.4 (table 5-2), states of receipts (its
# appendix B, 8.4.5.1 of CMPP), and why no connection came about.
CARRIERS: Mapping[str, str] = {
    "ESME_RINVDSTADR": "号码无效",
    "ESME_RINVSRCADR": "发送号码不对",
    "ESME_RINVMSGLEN": "内容长度不对",
    "ESME_RTHROTTLED": "发送过快，对方限流",
    "ESME_RMSGQFUL": "对方队列已满",
    "ESME_RSUBMITFAIL": "对方没能收下",
    "ESME_RSYSERR": "对方系统故障",
    "ESME_RINVPASWD": "登录密码不对",
    "ESME_RINVSYSID": "登录账号不对",
    "ESME_RBINDFAIL": "登录被拒绝",
    "ESME_RINVBNDSTS": "对方说登录状态不对",
    "ESME_RALYBND": "已有同名账号登录着",
    "login_refused": "登录被拒绝",
    "ESME_RDELIVERYFAILURE": "没有送达",
    "result_1": "对方说消息结构有错",
    "result_4": "内容长度不对",
    "result_5": "资费代码不对",
    "result_6": "内容长度不对",
    "result_7": "业务代码不对",
    "result_8": "发送过快，对方限流",
    "result_9": "这个网关不服务此号码",
    "result_10": "发送号码不对",
    "result_11": "企业代码不对",
    "result_12": "计费号码不对",
    "result_13": "号码无效",
    "smtp_4": "邮件服务器暂时不收",
    "smtp_5": "邮件服务器拒收",
    "UNDELIV": "没有送达",
    "EXPIRED": "过了有效期还没送到",
    "REJECTD": "被运营商拒绝",
    "DELETED": "被运营商删除",
    "UNKNOWN": "运营商也不知道结果",
    "unmapped": "运营商自己的代码，请向他们要说明",
    "ConnectionRefusedError": "对方拒绝连接",
    "ConnectionResetError": "对方断开了连接",
    "ServerDisconnectedError": "对方断开了连接",
    "TimeoutError": "连接超时",
}


def reason(code: str) -> str:
    """`code` in words. A carrier's own stays behind them: its help desk asks for it."""
    if code in REASONS:
        return REASONS[code]
    key = code.partition(":")[0]
    what = CARRIERS.get(key) or CARRIERS.get(re.sub(r"^(smtp_\d)\d\d$", r"\1", key))
    if what is None:
        return code
    return phrase("{what} ({code})", what=phrase(what), code=code)


# Lines of the timeline that are not somebody's words; `{...}` are values of the line.
EVENTS: Mapping[str, str] = {
    "receipt_skipped": "今天自动回执已发够，没有再发",
    "no_channel": "没有可用的渠道，没有发出",
    "rerouted": "改走{to}",
    "undelivered": "没有送达",
    "claimed": "接手办理",
    "assigned": "交给 {to} 承办",
    "transferred": "转给 {to}",
    "extended": "延长了期限",
    "recomputed": "期限按工作日历重算",
    "classified": "更正了类别或紧急程度",
    "identified": "确认来信人是 {text}",
    "closed": "办结了咨询",
    "rated": "评价：{rating}",
    "reopened": "重新打开了咨询",
    "director_told": "已报主任督办",
    "supervised": "请主任督办了",
    "seen": "主任已阅",
    "taken_back": "撤回了刚才的答复",
    "moved_in": "一条来信从 {number} 移入",
    "moved_out": "一条来信移到 {number}",
    "decided": "对结果不明的消息作了决定",
    "erased": "删除了这位党员的个人信息，以后不能再联系到本人",
}
REOPENED: Mapping[str, str] = {
    "dissatisfied": "党员不满意",
    "message": "党员又来信",
}

# Remarks of adapters on an inbound message.
NOTES: Mapping[str, str] = {
    "unreadable": "部分内容无法识别",
    "truncated": "内容太长，已截短",
    "incomplete": "长短信缺少一部分",
    "encrypted": "加密邮件，无法查看",
    "no_sender": "没有可靠的发件地址",
    "attachments_cut": "附件太多，只保存了一部分",
}

# Why the router put a message before staff.
REVIEWS: Mapping[str, str] = {
    "several_open": "这位党员有几件咨询在办，看不出说的是哪一件。",
    "several_numbers": "来信里写了几个单号。",
    "which_prompt": "这个回复可能对应几个问题。",
    "bare_answer": "像是对某个提问的回复，但没有等着回复的提问。",
    "automatic": "像是自动回复或系统通知，不会自动作答。",
    "failed": "系统处理这条消息时三次出错，请人工处理。",
}
