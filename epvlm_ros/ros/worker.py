"""The one thread that owns the model, and its bounded queue."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Generic, TypeVar

Item = TypeVar('Item')
STOP_CHECK_S = 0.1


class Worker(Generic[Item]):
    """
    Handles items one after the other on a thread of its own.

    Parameters
    ----------
    handle : callable
        Takes an item and a function that says whether to stop; must not raise.
    max_queued : int
        Most items that wait beside the one at work.

    """

    def __init__(
        self, handle: Callable[[Item, Callable[[], bool]], None], max_queued: int,
    ) -> None:
        self._handle = handle
        self._queue: queue.Queue[Item] = queue.Queue(max_queued)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='epvlm_worker', daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> bool:
        """Queue an item; False, and nothing is queued, when the queue is full or stopping."""
        if self._stopping.is_set():
            return False
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def stop(self, timeout_s: float = 10.0) -> bool:
        """
        Tell the item at work to stop and wait for the thread.

        Items that wait are handled too, with the word to stop at once, so that each is answered.

        Returns
        -------
        bool
            Whether the thread ended in time.

        """
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                item = self._queue.get(timeout=STOP_CHECK_S)
            except queue.Empty:
                continue
            self._handle(item, self._stopping.is_set)
