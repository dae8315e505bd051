"""H-9, S-48: whatever a peer sends, decoding ends in an event or in Malformed."""

import random
from pathlib import Path

import pytest

from adapters.carrier import udh
from adapters.carrier.codec import Malformed
from adapters.carrier.frames import Frames
from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from adapters.smpp.simulator import Behaviour
from gateway.contract import Accepted, InboundMessage
from tests.adapters.smpp.conftest import Talk, talking
from tests.adapters.smpp.test_receipts import USUAL, deliver
from tests.labs.carrier import context, until
from tests.labs.rude_centre import rude_centre
from tests.labs.smpp_lab import SmppLab, message, settings

QUICK, THOROUGH = 100_000, 1_000_000


def seeds() -> list[bytes]:
    """One good frame of each kind that a centre sends."""
    text = USUAL.format(id="42", stat="DELIVRD", err="000", done="2611210931")
    tlvs = pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, b"42\0") + pdu.tlv(0x427, b"\2")
    part = udh.header(udh.Concatenation(7, 3, 2), wide=False) + "参加".encode(
        "utf-16-be"
    )
    short = bytes([len(part)]) + part
    long = b"\0\1\x018613800138000\0\0\x0110690000\0\x40\0\0\0\0\0\0\x08\0" + short
    sar = pdu.tlv(0x20C, b"\0\7") + pdu.tlv(0x20E, b"\3") + pdu.tlv(0x20F, b"\2")
    payload = pdu.tlv(pdu.TAG_PAYLOAD, "党员".encode("utf-16-be"))
    data = b"\0\1\x018613800138000\0\0\x0110690000\0\0\0\x08" + payload
    return [
        deliver(text, tlvs=tlvs),
        deliver("hello", esm_class=0, tlvs=sar),
        pdu.frame(pdu.DELIVER_SM, 9, long),
        pdu.frame(pdu.DATA_SM, 9, data),
        pdu.frame(pdu.SUBMIT_SM_RESP, 9, b"0000000042\0"),
        pdu.frame(pdu.BIND_TRANSCEIVER_RESP, 1, b"smsc\0" + pdu.tlv(0x210, b"\x34")),
        pdu.frame(pdu.ENQUIRE_LINK, 9),
        pdu.frame(pdu.GENERIC_NACK, 9, status=2),
    ]


def mutated(frame: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, taken out or put in; never shorter than a header."""
    made = bytearray(frame)
    for _ in range(dice.randrange(1, 6)):
        made = made or bytearray(1)
        at = dice.randrange(len(made))
        match dice.randrange(4):
            case 0:
                made[at] = dice.randrange(256)
            case 1:
                made[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del made[at : at + dice.randrange(1, 9)]
            case 3:
                made[at:at] = dice.randbytes(dice.randrange(1, 9))
    return bytes(made).ljust(pdu.HEADER_BYTES, b"\0")


def attack(count: int, seed: int) -> tuple[int, int]:
    """How many were read, how many were refused; anything else raises."""
    dice = random.Random(seed)
    codec = SmppCodec(settings(2775), context("smpp", Path()))
    found, bases, read = seeds(), len(seeds()), 0
    for index in range(count):
        try:
            codec.decode(mutated(found[index % bases], dice))
            read += 1
        except Malformed:
            pass
    return read, count - read


def test_100_000_mutated_pdus() -> None:
    """H-9"""
    read, refused = attack(QUICK, seed=1)
    assert read > QUICK // 10
    assert refused > QUICK // 100


@pytest.mark.slow
def test_1_000_000_mutated_pdus() -> None:
    """H-9"""
    read, refused = attack(THOROUGH, seed=2)
    assert read + refused == THOROUGH


ENDS = {pdu.UNBIND, pdu.UNBIND_RESP}  # a session that is over, politely


def framed(garbage: bytes) -> bytes:
    """With the length that it has, so that what follows can be read."""
    return len(garbage).to_bytes(4, "big") + garbage[4:]


async def test_a_session_outlives_20_000_mutated_pdus(
    lab: SmppLab, tmp_path: Path
) -> None:
    """H-9: what follows is read, and another account is served meanwhile."""
    dice, bases = random.Random(4), seeds()
    lab.centre.behave(Behaviour(receipts=False))
    async with (
        rude_centre() as (rude, port),
        talking(port, tmp_path) as attacked,
        talking(lab.port, lab.data_dir) as other,
    ):
        for turn in range(20):
            garbage = [framed(mutated(dice.choice(bases), dice)) for _ in range(1000)]
            rude.say(
                b"".join(
                    g for g in garbage if int.from_bytes(g[4:8], "big") not in ENDS
                )
            )
            [outcome] = await other.stream([message(turn)])
            assert isinstance(outcome, Accepted)
        rude.say(deliver("still there?", esm_class=0, number="8613900139000"))
        await until(lambda: "+8613900139000" in writers(attacked))
        assert rude.binds == 1
        [seen] = attacked.account.connections()
        assert seen.state == "open"


def writers(talk: Talk) -> set[str]:
    return {e.sender.value for e in talk.events if isinstance(e, InboundMessage)}


def test_mutated_streams_end_in_frames_or_a_fault() -> None:
    """H-9: lengths too are attacked; nothing is kept beyond the ceiling."""
    dice = random.Random(3)
    for _ in range(2000):
        stream = b"".join(mutated(frame, dice) for frame in seeds())
        frames = Frames(pdu.HEADER_BYTES)
        for start in range(0, len(stream), 50):
            if not frames.fault:
                found = frames.feed(stream[start : start + 50])
                assert all(len(frame) >= pdu.HEADER_BYTES for frame in found)
