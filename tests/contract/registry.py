"""Every channel's lab, by the name of its module: one line each. An adapter without one
fails the suite.
"""

from collections.abc import Mapping

from tests.contract.labs import LabEntry
from tests.labs import (
    aliyun_lab,
    cmpp_lab,
    mail_lab,
    onebot_lab,
    sandbox_lab,
    smpp_lab,
    tencent_lab,
)

LABS: Mapping[str, LabEntry] = {
    "aliyun": aliyun_lab.ENTRY,
    "cmpp": cmpp_lab.ENTRY,
    "mail": mail_lab.ENTRY,
    "onebot": onebot_lab.ENTRY,
    "sandbox": sandbox_lab.ENTRY,
    "smpp": smpp_lab.ENTRY,
    "tencent": tencent_lab.ENTRY,
}
