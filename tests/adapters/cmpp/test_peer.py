"""A client that nobody here wrote: pycmpp 2.0.2, which speaks CMPP 2.1 (field tables of
2.0), sends and logs in. It has no gateway side and no 3.0; of those no implementation
was found that can be installed for a test.
"""

import asyncio
import os
import sys

import pytest
from pycmpp.request import SubmitRequestInstance
from pycmpp.response import ConnectResponseInstance, SubmitResponseInstance

from adapters.cmpp.pdus import ConnectResp, Submit, SubmitResp, Version
from adapters.cmpp.simulator import Behaviour, Ismg, serving
from adapters.cmpp.wire import HEADER, decode, encode
from tests.adapters.cmpp.test_codec import codec, frames
from tests.labs.cmpp_lab import SECRET, SP_ID, joined, until

CLIENT = """
import sys, threading
from pycmpp import Cmpp
port, account, secret = sys.argv[1:]
client = Cmpp("127.0.0.1", int(port), account, secret, "10657", client_heartbeat=False)
client.connect()
client.auth()
threading.Thread(target=client.receive, daemon=True).start()
client.submit("您好", ["13800138000"])
client.submit("主题党日" * 40, ["13800138001"])
sys.stdin.readline()
client.terminate()
sys.stdin.readline()
"""


def test_it_reads_our_submits_as_we_mean_them() -> None:
    whole = ""
    for index, frame in enumerate(frames(codec(), "主题党日" * 30), 1):
        said = SubmitRequestInstance().resolve(frame)
        whole += said["msg_content"]
        assert said["length"] == len(frame)
        assert (said["pk_total"], said["pk_number"]) == (2, index)
        assert said["msg_head"].encode("latin-1")[:3] == b"\5\0\3"
        assert said["msg_head"].encode("latin-1")[4:] == bytes((2, index))
        assert (said["register_delivery"], said["tp_udhi"]) == (1, 1)
        assert said["dest_terminal_id"].rstrip("\0") == "13800138000"
        assert said["src_id"].rstrip("\0") == "1065700001"
        assert said["service_id"].rstrip("\0") == "LXFW"
        assert (said["msg_src"], said["fee_type"], said["fee_usertype"]) == (
            "901234",
            "01",
            2,
        )
    assert whole == "主题党日" * 30


def test_we_read_its_submits_as_it_means_them() -> None:
    frame = SubmitRequestInstance().create(
        "901234", "您好", ["13800138000", "13800138001"], registered_delivery=1
    )
    said = decode(4, frame[HEADER.size :], Version.V21)
    assert isinstance(said, Submit)
    assert said.content.decode("utf-16-be") == "您好"
    assert said.dest_terminal_ids == ("13800138000", "13800138001")
    assert (said.msg_src, said.fee_code) == ("901234", "000000")


def test_it_reads_our_answers() -> None:
    found = SubmitResponseInstance()
    found.resolve(encode(SubmitResp(msg_id=2**63 + 1, result=8), 5, Version.V20))
    assert (found.seq_id, found.msg_id, found.status) == (5, 2**63 + 1, 8)
    login = ConnectResponseInstance()
    login.resolve(encode(ConnectResp(status=3, version=0x20), 6, Version.V20))
    assert (login.seq_id, login.status, login.version) == (6, 3, 0x20)


@pytest.mark.slow
async def test_it_logs_in_and_sends_to_our_gateway() -> None:
    gateway = Ismg(Behaviour(clock_tolerance=60), accounts={SP_ID: SECRET})
    gateway.taken = []
    async with serving(gateway) as port:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, str(port), SP_ID, SECRET),
            stdin=asyncio.subprocess.PIPE,
            env=os.environ | {"TZ": "Asia/Shanghai"},
        )
        assert client.stdin
        try:
            await until(lambda: len(gateway.taken or ()) == 4)
            client.stdin.write(b"\n")
            await until(lambda: not gateway.sessions)
            client.stdin.write(b"\n")
            assert await client.wait() == 0
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
    assert gateway.counts.malformed == 0
    assert dict(joined(gateway.taken)) == {
        "13800138000": "您好",
        "13800138001": "主题党日" * 40,
    }
