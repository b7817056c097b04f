"""Answers that are computed a second time by the dense model, to tell how far both agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple

from epvlm_ros.ros.buffered_frame import mean_period_s
from epvlm_ros.ros.query import Query
from epvlm_ros.vlm.engine import Engine, EngineAnswer, Moment
from epvlm_ros.vlm.engine.answer import AT_ITS_END, AT_TOKEN_LIMIT


@dataclass
class ShadowStatus:
    """
    Agreement of answers with the dense model, since the start.

    ``log_probability_lost`` is the sum over all compared answers, see ``Agreement``. Of
    ``num_broken_off`` begun comparisons none was finished at that time: a question came.
    """

    num_compared: int = 0
    num_same_text: int = 0
    num_same_first_token: int = 0
    log_probability_lost: float = 0.0
    num_broken_off: int = 0
    num_failed: int = 0


class _Pending(NamedTuple):
    query: Query
    moments: Sequence[Moment]
    answer: EngineAnswer


class ShadowAnswers:
    """
    Takes every ``every()``-th answer, none for 0, and compares the last one taken on demand.

    For one thread; any may read ``status``.
    """

    def __init__(self, engine: Engine, every: Callable[[], int]) -> None:
        self._engine, self._every = engine, every
        self._num_answers = 0
        self._pending: _Pending | None = None
        self.status = ShadowStatus()

    @property
    def is_waiting(self) -> bool:
        """Whether there is an answer to compare."""
        return self._pending is not None

    def add(self, query: Query, moments: Sequence[Moment], answer: EngineAnswer) -> None:
        """Take an answer; those that were cut off do not count."""
        every = self._every()
        if not every:
            self._pending = None
        elif answer.ending in (AT_ITS_END, AT_TOKEN_LIMIT):
            self._num_answers += 1
            if self._num_answers % every == 0:
                self._pending = _Pending(query, moments, answer)

    def compare(self, should_stop: Callable[[], bool]) -> None:
        """Answer the question again; where it is told to stop, the answer goes on waiting."""
        pending, status = self._pending, self.status
        if pending is None:
            return
        query, moments, answer = pending
        self._pending = None
        try:
            agreement = self._engine.compare_with_dense(
                answer, moments, query.question, choices=query.choices,
                seconds_between=mean_period_s(query.frames),
                max_new_tokens=query.max_new_tokens, should_stop=should_stop)
        except Exception:
            status.num_failed += 1
            raise
        if agreement is None:
            self._pending = pending
            status.num_broken_off += 1
            return
        status.num_compared += 1
        status.num_same_text += agreement.is_same_text
        status.num_same_first_token += agreement.is_same_first_token
        status.log_probability_lost += agreement.log_probability_lost
