"""A thread that watches the event loop: one slow handler stalls everybody (I-5).

It says where the loop stands when it has stood for a moment, and ends the process when
it stands for good: its service manager starts a new one, which loses nothing.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import structlog

log = structlog.get_logger()
EXIT_STATUS = 75  # "try again later", for service managers
_PARTS = 4  # looks within the shortest stall that is told
_FRAMES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds."""

    stall: float = 0.2  # told with its stack
    give_up: float = 30.0  # the process ends


@dataclass(slots=True)
class _Mark:
    """Written by the loop, read by the thread."""

    at: float = field(default_factory=time.monotonic)


class Watchdog:
    """`stalled` is called in its thread with the seconds, once a stall is over."""

    def __init__(
        self,
        stalled: Callable[[float], None],
        limits: Limits | None = None,
        end: Callable[[], None] = lambda: os._exit(EXIT_STATUS),
    ) -> None:
        self._stalled = stalled
        self._limits = limits or Limits()
        self._end = end
        self._mark = _Mark()
        self._loop_thread = 0

    async def run(self) -> None:
        """Watch the loop of the caller until cancelled."""
        self._loop_thread = threading.get_ident()
        self._mark.at = time.monotonic()
        over = threading.Event()  # of this run: the next one has its own thread
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watch.start()
        try:
            while True:
                self._mark.at = time.monotonic()
                await asyncio.sleep(self._limits.stall / _PARTS)
        finally:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        pause = self._limits.stall / _PARTS
        told, looked = 0.0, time.monotonic()
        while not over.wait(pause):
            now = time.monotonic()
            if now - looked > pause + self._limits.stall:
                # This thread stood as well: the whole process was stopped.
                log.warning("process.paused", seconds=round(now - looked, 1))
                self._mark.at = now
            looked = now
            told = self._look(now - self._mark.at, told)

    def _look(self, standing: float, told: float) -> float:
        """How long the present stall is known to last; 0: there is none."""
        if standing < self._limits.stall:
            if told:
                self._stalled(told)
                log.warning("loop.moves_again", seconds=round(told, 1))
            return 0.0
        if not told:
            log.warning("loop.stalled", stands_at=self._where())
        if standing >= self._limits.give_up:
            log.critical("loop.given_up", seconds=standing, stands_at=self._where())
            self._end()
        return standing

    def _where(self) -> str:
        """Where the loop stands, innermost first: places in the code, no values."""
        frame: FrameType | None = sys._current_frames().get(self._loop_thread)
        found = traceback.extract_stack(frame)[-_FRAMES:]
        places = [f"{one.filename}:{one.lineno} {one.name}" for one in reversed(found)]
        return " < ".join(places)
