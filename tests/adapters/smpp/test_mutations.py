"""H-9, S-48: whatever a peer sends, decoding ends in an event or in Malformed."""

import random
from pathlib import Path

import pytest

from adapters.carrier import udh
from adapters.carrier.codec import Malformed
from adapters.carrier.frames import Frames
from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from tests.adapters.smpp.test_receipts import USUAL, deliver
from tests.labs.carrier import context
from tests.labs.smpp_lab import settings

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
