"""Random lives of a connection: long and short messages, a centre of many moods."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.carrier.link import Limits
from adapters.smpp.simulator import Behaviour
from adapters.smpp.simulator.centre import part_of
from gateway.contract import Accepted, Outcome
from gateway.errors import OutcomeUnknown, TransientFailure
from tests.adapters.smpp.conftest import Talk, talking
from tests.labs.carrier import a_while, until
from tests.labs.smpp_lab import SmppLab, message, opened

TURNS = 30
QUIET = Behaviour(receipts=False)
MOODS = (
    QUIET,
    Behaviour(receipts=False, throttle_rate=50.0),
    Behaviour(receipts=False, refuse_part=1, refuse_status=0x58),
    Behaviour(receipts=False, refuse_part=2, refuse_status=0x58),
    Behaviour(receipts=False, refuse_part=3, refuse_status=0x0B),
    Behaviour(receipts=False, refuse_share=0.4, refuse_status=0x64),
    Behaviour(receipts=False, refuse_share=0.2, refuse_status=0x08),
    Behaviour(receipts=False, drop_share=0.3),
    Behaviour(receipts=False, answer_delay_max=0.6),
    Behaviour(receipts=False, nonsense=True),
)
LENGTHS = (10, 80, 150, 200)  # one to three parts


@dataclass
class Life:
    lab: SmppLab
    talk: Talk
    dice: random.Random
    numbers: dict[str, str] = field(default_factory=dict)  # by the message's id

    async def turn(self) -> None:
        self.lab.centre.behave(self.dice.choice(MOODS))
        self._submit(self.talk.account.room())
        if self.dice.random() < 0.1:
            self.lab.centre.hang_up()
        await a_while(self.dice.choice((0.0, 0.01, 0.1)))

    def _submit(self, room: int) -> None:
        first = len(self.numbers)
        batch = [
            message(n, "党" * self.dice.choice(LENGTHS), f"+86138{n:08}")
            for n in range(first, first + self.dice.randint(0, room))
        ]
        self.numbers |= {one.id: one.to.value[1:] for one in batch}
        self.talk.account.submit(batch)

    def parts(self, id: str) -> Counter[int]:
        """Which parts of a message the centre took, and how often."""
        taken = self.lab.centre.taken or []
        mine = self.numbers[id].encode()
        return Counter(part_of(p).number for p in taken if p.destination == mine)


@pytest.mark.parametrize("seed", range(6))
async def test_no_part_is_taken_twice_and_every_message_has_an_end(
    seed: int, tmp_path: Path
) -> None:
    """A-4, A-5, A-7, A-17: whatever the centre does, in whatever order."""
    dice = random.Random(seed)
    limits = Limits(
        window=dice.choice((1, 3, 20, 50)),
        answer_within=0.3,
        heartbeat_after=0.5,
        again_after=0.005,
    )
    async with (
        opened(tmp_path, QUIET) as lab,
        talking(lab.port, tmp_path, limits=limits) as talk,
    ):
        life = Life(lab, talk, dice)
        for _ in range(TURNS):
            await life.turn()
        lab.centre.behave(QUIET)
        await until(lambda: talk.told.keys() == life.numbers.keys())
        await until(lambda: not any(c.awaited for c in talk.account.connections()))
        for id, told in talk.told.items():
            fits(told, life.parts(id))


def fits(told: list[Outcome], parts: Counter[int]) -> None:
    """What was told is what the centre has; a doubt ends once, by a late answer."""
    assert set(parts.values()) <= {1}
    *doubts, last = told
    assert len(doubts) <= 1
    assert all(isinstance(one, OutcomeUnknown) for one in doubts)
    if isinstance(last, Accepted):
        assert sorted(parts) == list(range(1, len(last.provider_ids) + 1))
    if isinstance(last, TransientFailure):
        assert not parts
