"""
Which tokens of a scene are computed anew, when there is not budget for all.

Those first that are known to have changed, or may have, for the longest time; among them the
strongest change, then the oldest token. So none starves: what waits moves to the head. Tokens that
were never computed have a budget of their own, or change would pile up while a scene is filled.
Then, once, those that were computed while a part of the scene was still unknown: they have not
seen it.
"""

from __future__ import annotations

import numpy as np

_NEVER = np.iinfo(np.int64).max


class RefreshPlan:
    """
    What is known about the age and the change of each token.

    Times are ns of one clock that does not go back.

    Parameters
    ----------
    num_tokens : int
        Visual tokens of the scene.
    change_threshold : float
        A token has changed when the change that was counted in it exceeds this.
    max_age_ns : int
        Every token is recomputed at least so often; 0 is never.

    """

    def __init__(self, num_tokens: int, change_threshold: float, max_age_ns: int = 0) -> None:
        self._threshold = change_threshold
        self._max_age_ns = max_age_ns
        self._pending = np.zeros(num_tokens, np.float32)  # change since a token was computed
        self._waits_since_ns = np.zeros(num_tokens, np.int64)  # all: nothing is known yet
        self._computed_ns = np.full(num_tokens, -1, np.int64)
        self._is_doubtful = np.zeros(num_tokens, np.bool_)
        self._is_early = np.zeros(num_tokens, np.bool_)  # computed before all were known
        self._last_ns: int | None = None

    @property
    def is_known(self) -> np.ndarray:
        """Return which tokens were computed at all, bool, shape (tokens,)."""
        return self._computed_ns >= 0

    @property
    def is_stale(self) -> np.ndarray:
        """Return which tokens were computed and have changed since, bool, shape (tokens,)."""
        return self.is_known & ~self._is_doubtful & (self._waits_since_ns != _NEVER)

    @property
    def is_doubtful(self) -> np.ndarray:
        """Return which tokens may have changed unseen, bool, shape (tokens,)."""
        return self._is_doubtful & self.is_known

    @property
    def is_settled(self) -> bool:
        """Whether all tokens are known, and no token waits to be computed anew."""
        return bool(self.is_known.all() and not self._is_early.any()
                    and (self._waits_since_ns == _NEVER).all())

    def would_wait(self, change: np.ndarray) -> bool:
        """Whether some token would wait after so much further change, see ``add_change``."""
        return bool((self._pending + change > self._threshold).any())

    def ages_ns(self, now_ns: int) -> np.ndarray:
        """Return the time since each token was computed, int64; -1 for an unknown one."""
        return np.where(self.is_known, now_ns - self._computed_ns, -1)

    def add_change(self, change: np.ndarray, now_ns: int) -> None:
        """
        Count change in each token.

        Parameters
        ----------
        change : numpy.ndarray
            float32, shape (tokens,), 0 or more.
        now_ns : int
            When it was seen.

        """
        self._pending += change
        self._let_wait(self._pending > self._threshold, now_ns)

    def mark_changed(self, is_changed: np.ndarray, now_ns: int) -> None:
        """Note tokens, bool (tokens,), that have changed by other evidence."""
        self._is_doubtful[is_changed] = False
        self._let_wait(is_changed, now_ns)

    def mark_doubtful(self, now_ns: int) -> None:
        """Note that any token may have changed unseen."""
        self._is_doubtful |= self._waits_since_ns == _NEVER
        self._let_wait(np.ones(len(self._pending), np.bool_), now_ns)

    def clear(self, is_unchanged: np.ndarray) -> None:
        """Note known tokens, bool (tokens,), that were seen to be as they were computed."""
        cleared = is_unchanged & self.is_known
        self._pending[cleared] = 0.0
        self._is_doubtful[cleared] = False
        self._waits_since_ns[cleared] = _NEVER

    def choose(self, budget: int, now_ns: int, priority: np.ndarray | None = None) -> np.ndarray:
        """
        Choose what to compute anew.

        Parameters
        ----------
        budget : int
            Most tokens that are known, and most that were never computed.
        now_ns : int
            The present.
        priority : numpy.ndarray, optional
            float, shape (tokens,): among tokens that were never computed, the highest first.

        Returns
        -------
        numpy.ndarray
            int64, ascending: what has changed, is doubtful or unknown, or is due by age; empty
            where nothing is.

        """
        waits = self._waits_since_ns != _NEVER
        strength = self._pending.astype(np.float64)
        if priority is not None:
            strength = np.where(self.is_known, strength, priority)
        order = np.lexsort((self._computed_ns, -strength, self._waits_since_ns))
        is_known = self.is_known
        changed = order[(waits & is_known)[order]][:budget]
        chosen = np.concatenate([changed, order[~is_known[order]][:budget]])
        if is_known.all():
            early = np.flatnonzero(self._is_early & ~waits)[:budget - len(chosen)]
            chosen = np.concatenate([chosen, early])
        due = self._due_by_age(now_ns, budget - len(chosen), waits)
        return np.unique(np.concatenate([chosen, due]))

    def mark_computed(self, tokens: np.ndarray, now_ns: int) -> None:
        """Note that tokens (int64 indices) are as new as the frame of ``now_ns``."""
        self._pending[tokens] = 0.0
        self._waits_since_ns[tokens] = _NEVER
        self._is_doubtful[tokens] = False
        self._computed_ns[tokens] = now_ns
        self._is_early[tokens] = not self.is_known.all()
        self._last_ns = now_ns

    def _let_wait(self, which: np.ndarray, now_ns: int) -> None:
        begins = which & (self._waits_since_ns == _NEVER)
        self._waits_since_ns[begins] = now_ns

    def _due_by_age(self, now_ns: int, budget: int, waits: np.ndarray) -> np.ndarray:
        """Return the oldest tokens of which some are due in each stretch of time."""
        if not self._max_age_ns or budget <= 0 or self._last_ns is None:
            return np.zeros(0, np.int64)
        passed = min(max(now_ns - self._last_ns, 0), self._max_age_ns)
        quota = min(budget, int(np.ceil(len(waits) * passed / self._max_age_ns)))
        age = np.where(waits, -1, now_ns - self._computed_ns)
        oldest = np.argsort(-age, kind='stable')[:quota]
        return oldest[age[oldest] >= self._max_age_ns // 2]
