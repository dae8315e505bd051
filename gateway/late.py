"""What waits in a queue, taken along as late as possible: by the writer's thread, say,
in the moment when its transaction begins."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Late(Generic[T]):
    """Whatever waits when `items` is asked for first, in whatever thread that is; the
    others may go on adding to the queue."""

    def __init__(self, waiting: deque[T]) -> None:
        self._waiting = waiting
        self._taken: Sequence[T] | None = None
        self._taking = threading.Lock()

    @property
    def items(self) -> Sequence[T]:
        """The same ones whenever it is asked again."""
        with self._taking:
            if self._taken is None:
                self._taken = self._take()
            return self._taken

    def _take(self) -> Sequence[T]:
        taken = list[T]()
        while self._waiting:
            taken.append(self._waiting.popleft())
        return taken
