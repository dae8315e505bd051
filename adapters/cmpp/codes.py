"""What the carrier's numbers and words say: logins, submissions, status reports.

Clauses of CMPP V3.0.0 (see pdus.py). 100 to 199 are each vendor's own (8.7.2), and
carriers hand out lists of theirs: settings map those (`own`).
"""

from collections.abc import Mapping

from adapters._sms import Means, meaning
from adapters.cmpp.pdus import Version
from gateway.contract import ReceiptState
from gateway.errors import DeliveryError, PermanentFailure

# 8.4.3.2. In V2.0 the list ends with 8, and 9 and above are "other errors"; V2.1 added
# 9 to 13 (11, V2.1, 10), and gateways of 2.0 use them too.
RESULTS: Mapping[int, Means] = {
    1: Means.REFUSED,  # 消息结构错
    2: Means.REFUSED,  # 命令字错
    # 消息序号重复: the number was used before, by another message, as we write none
    # twice. This one was not taken, and leaves with another number next time.
    3: Means.AGAIN,
    4: Means.REFUSED,  # 消息长度错
    5: Means.ACCOUNT,  # 资费代码错
    6: Means.REFUSED,  # 超过最大信息长
    7: Means.ACCOUNT,  # 业务代码错
    8: Means.TOO_FAST,  # 流量控制错
    9: Means.REFUSED,  # 本网关不负责服务此计费号码
    10: Means.ACCOUNT,  # Src_Id 错误
    11: Means.ACCOUNT,  # Msg_src 错误
    12: Means.ACCOUNT,  # Fee_terminal_Id 错误
    13: Means.REFUSED,  # Dest_terminal_Id 错误
}


def refusal(result: int, own: Mapping[int, Means], version: Version) -> DeliveryError:
    """What a Result other than 0 says about the message: certainly not taken.

    `own` are this carrier's codes. One that nobody explained would be refused again
    for all we know: permanent, marked so that staff see that a line is missing.
    """
    code = f"result_{result}"
    if result in own:
        return meaning(code, own[result])
    if result in RESULTS and not _says_nothing(result, version):
        return meaning(code, RESULTS[result])
    return PermanentFailure(f"unmapped:{code}")


def _says_nothing(result: int, version: Version) -> bool:
    """The "other errors" of V2.0, where gateways put whatever has no number."""
    return version is Version.V20 and result == 9


# 8.4.5.1, table 1. A (of MA, CA, ...) stands for "returned no answer", B for "returned
# an error", C for "its report never came". The part behind the colon is the vendor's.
_STATS: Mapping[str, ReceiptState] = {
    "DELIVRD": ReceiptState.DELIVERED,
    "EXPIRED": ReceiptState.FAILED,
    "DELETED": ReceiptState.FAILED,
    "UNDELIV": ReceiptState.FAILED,
    "REJECTD": ReceiptState.FAILED,
    # On its way: the clause calls it a state in between, to be passed over.
    "ACCEPTD": ReceiptState.UNKNOWN,
    "UNKNOWN": ReceiptState.UNKNOWN,
}
_STAGES: Mapping[str, ReceiptState] = {
    "MB:": ReceiptState.FAILED,  # the short message centre
    "CA:": ReceiptState.FAILED,  # the billing point, before the message leaves
    "CB:": ReceiptState.FAILED,
    "DA:": ReceiptState.FAILED,  # the service platform, likewise
    "DB:": ReceiptState.FAILED,
    "MA:": ReceiptState.FAILED,
    "IA:": ReceiptState.FAILED,  # the next gateway
    "IB:": ReceiptState.FAILED,
    # Handed over, and then nothing was heard: perhaps it arrived.
    "MC:": ReceiptState.UNKNOWN,
    "IC:": ReceiptState.UNKNOWN,
    # What the short message centre said, with its own code behind it, where the table
    # has the bare word: EXPIRED, DELETED, UNDELIV, ACCEPTD, UNKNOWN, REJECTD. Most that
    # fail at China Mobile fail so. From its operators' notes and a provider's list
    # (https://www.csdndocs.com/article/3077136,
    # https://intl.cloud.tencent.com/document/product/382, "receipt status").
    "MI:": ReceiptState.FAILED,
    "MJ:": ReceiptState.FAILED,
    "MK:": ReceiptState.FAILED,
    "ML:": ReceiptState.UNKNOWN,
    "MM:": ReceiptState.UNKNOWN,
    "MN:": ReceiptState.FAILED,
}
# "Timed out waiting for the response", where the table's MA and IA mean "not connected"
# (0051), "not logged in" (0052) or refused. From lists that carriers hand out (China
# Mobile's "移动错误代码说明", seen at https://renrendoc.com/paper/187811735.html).
_SILENCE = {"MA:0054", "IA:0054"}


def state_of(stat: str, own: Mapping[str, ReceiptState]) -> ReceiptState:
    """What a Stat says; `own` are this carrier's words, whole or up to the colon."""
    found = own.get(stat) or own.get(stat[:3])
    if found is not None:
        return found
    if stat in _SILENCE:
        return ReceiptState.UNKNOWN
    return _STATS.get(stat) or _STAGES.get(stat[:3]) or ReceiptState.UNKNOWN


# 8.4.1.2. Read by staff; at most 50 characters, as they go into a trouble's code.
# These last; the "other errors" from 5 on are mostly too many connections, one of them
# perhaps a dead one of ours that the gateway has not missed yet.
LOGINS: Mapping[int, str] = {
    1: "消息结构错（1）：请核对 CMPP 版本",
    2: "非法源地址（2）：请核对企业代码和本机出口地址",
    3: "认证错（3）：密码不对，或本机时钟与运营商网关的不一致",
    4: "版本太高（4）：请把 version 改为 2.0",
}
# The same secret was right a while ago, so only the time stamp can be wrong.
CLOCKS_DIFFER = "认证错（3）：本机时钟与运营商网关的不一致，请校准时间"
NOT_GENUINE = "网关身份不符：AuthenticatorISMG 与密码对不上"
OTHER_LOGIN = "登录被拒（{status}）：请向运营商询问此状态码"
AUTHENTICATION = 3


def login_refusal(status: int, *, was_in: bool) -> str:
    """Why the gateway did not let us in, and what to do.

    The protocol has one status for a wrong secret and a wrong time stamp.
    """
    if status == AUTHENTICATION and was_in:
        return CLOCKS_DIFFER
    return LOGINS.get(status) or OTHER_LOGIN.format(status=status)
