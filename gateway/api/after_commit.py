"""Keeps what services announce until the surrounding transaction has committed.

A service announces after its own transaction. Called inside a larger one, that is too
early: sender and pages would look before there is anything to see.
"""

import dataclasses

from gateway.core import Core
from gateway.hub import Change, Hub
from gateway.wakeup import Wakeups


class _HeldHub(Hub):
    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []

    def publish(self, topic: str, id: object, path: str = "/") -> None:
        self.changes.append(Change(topic, str(id), path))


class _HeldWakeups(Wakeups):
    def __init__(self) -> None:
        super().__init__()
        self.workers: set[str] = set()
        self.everybody = False

    def wake(self, worker: str) -> None:
        self.workers.add(worker)

    def wake_all(self) -> None:
        self.everybody = True


class Held:
    """`core` is the given one with a mute hub; `release` says what it would have."""

    def __init__(self, core: Core) -> None:
        self._real = core
        self._hub = _HeldHub()
        self._wakeups = _HeldWakeups()
        self.core = dataclasses.replace(core, hub=self._hub, wakeups=self._wakeups)

    def release(self) -> None:
        """Call it after the commit, and not at all after a rollback."""
        for change in self._hub.changes:
            self._real.hub.publish(change.topic, change.id, change.path)
        if self._wakeups.everybody:
            self._real.wakeups.wake_all()
        for worker in self._wakeups.workers:
            self._real.wakeups.wake(worker)
