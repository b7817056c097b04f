"""The one thread that owns the model, and its bounded queue."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
import threading
from typing import Callable, Generic, TypeVar

from epvlm_ros.ros.fair_queue import FairQueue

Item = TypeVar('Item')
ShouldStop = Callable[[], bool]
# An answer ends between two layers of the model. Whoever waits for one is not to wait for long.
STOP_TIMEOUT_S = 1.0
NUM_RANKS = 3  # people, watches that events set off, watches at intervals


class Worker(Generic[Item]):
    """
    Handles items one after the other on a thread of its own.

    ``handle`` takes an item and a function that says whether to stop, ``abandon`` an item that
    will not be handled in time; neither may raise. Items wait in lanes that take turns, in each
    at most ``max_queued`` beside the one at work, and behind them those of lower ranks.
    """

    def __init__(
        self, handle: Callable[[Item, ShouldStop], None], abandon: Callable[[Item], None],
        max_queued: int,
    ) -> None:
        self._handle, self._abandon = handle, abandon
        self._max_queued = max_queued
        self._queues: list[FairQueue[Item]] = [FairQueue() for _ in range(NUM_RANKS)]
        self._at_work: Item | None = None
        self._idle_tasks: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._last_tasks: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='epvlm_worker', daemon=True)
        self._thread.start()

    @property
    def num_queued(self) -> int:
        """Items that wait."""
        with self._changed:
            return sum(map(len, self._queues))

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def submit(self, item: Item, lane: str = '', *, rank: int = 0) -> bool:
        """
        Queue an item; False, and nothing is queued, when its lane is full or all is stopping.

        One of a ``rank`` above 0 waits until no item of a lesser number does. Only lanes of rank
        0 can be full: whoever submits other items bounds their number.
        """
        with self._changed:
            is_full = rank == 0 and self._queues[0].length_of(lane) >= self._max_queued
            if self._stopping.is_set() or is_full:
                return False
            self._queues[rank].append(item, lane)
            self._changed.notify()
        return True

    def withdraw(self, item: Item) -> bool:
        """Take an item back; False if it does not wait any more."""
        with self._changed:
            return any(queue.remove(item) for queue in self._queues)

    def when_idle(
        self, task: Callable[[ShouldStop], None], lane: str = '', *,
        gives_way_to: Callable[[Item], bool] = lambda item: False, comes_last: bool = False,
    ) -> None:
        """
        Run a task once no item waits, in place of the last one of its lane; none may raise.

        It is told to stop when an item waits that it ``gives_way_to``. One that ``comes_last``
        begins when no other task waits.
        """
        def should_stop() -> bool:
            with self._changed:
                waiting = chain.from_iterable(self._queues)
                return self._stopping.is_set() or any(map(gives_way_to, waiting))

        with self._changed:
            tasks = self._last_tasks if comes_last else self._idle_tasks
            tasks[lane] = lambda: task(should_stop)
            self._changed.notify()

    def stop(self) -> bool:
        """
        Tell the item at work to stop; return whether the thread ended in ``STOP_TIMEOUT_S``.

        Items that wait are abandoned, and the one at work as well if it does not end in time.
        """
        with self._changed:
            self._stopping.set()
            waiting = [item for queue in self._queues for item in queue.drain()]
            self._changed.notify()
        for item in waiting:
            self._abandon(item)
        self._thread.join(STOP_TIMEOUT_S)
        at_work = self._at_work
        if self._thread.is_alive() and at_work is not None:
            self._abandon(at_work)
        return not self._thread.is_alive()

    def _run(self) -> None:
        should_stop = self._stopping.is_set
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: any(self._queues) or self._idle_tasks or self._last_tasks
                    or self._stopping.is_set())
                queue = next(filter(len, self._queues), None)
                item = self._at_work = queue.popleft() if queue is not None else None
                task, tasks = None, self._idle_tasks or self._last_tasks
                if item is None and tasks:
                    _, task = tasks.popitem(last=False)
            if item is not None:
                self._handle(item, should_stop)
            elif should_stop():
                return
            elif task is not None:
                task()
