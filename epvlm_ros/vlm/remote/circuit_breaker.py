"""A circuit breaker: who failed some times in a row is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
import time

CLOSED, OPEN, HALF_OPEN = 'closed', 'open', 'half_open'


class CircuitBreaker:
    """
    Says whether to try, by what came of it before; for one caller at a time.

    After ``max_failures`` in a row it is open for ``pause_s``. Then it is half open: one trial is
    allowed, which closes it, or opens it again for as long.
    """

    def __init__(
        self, max_failures: int, pause_s: float, now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures, self._pause_s, self._now_s = max_failures, pause_s, now_s
        self._open_until_s = 0.0
        self.num_failures = 0  # in a row

    @property
    def remaining_s(self) -> float:
        """Return how long nobody is to try, 0 if now is the time."""
        if self.num_failures < self._max_failures:
            return 0.0
        return max(0.0, self._open_until_s - self._now_s())

    @property
    def state(self) -> str:
        """Return closed, open or half_open."""
        if self.num_failures < self._max_failures:
            return CLOSED
        return OPEN if self.remaining_s else HALF_OPEN

    def succeed(self) -> None:
        """Take note of a success."""
        self.num_failures = 0

    def fail(self) -> None:
        """Take note of a failure."""
        self.num_failures += 1
        self._open_until_s = self._now_s() + self._pause_s
