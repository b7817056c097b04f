"""Answers while they are generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import math
import time

from epvlm_ros.vlm.engine.answer import AT_DEADLINE, AT_ITS_END, AT_STOP, AT_TOKEN_LIMIT
from epvlm_ros.vlm.prompt import AnswerText
from epvlm_ros.vlm.sparse_qwen import Token


class Generation:
    """An answer that is being generated; it was asked for at ``start_s``."""

    def __init__(self, text: AnswerText, start_s: float) -> None:
        self._start_s = start_s
        self._first_token_s: float | None = None
        self._end_s = start_s
        self.text = text
        self.ending = ''  # not yet
        self._log_probability = 0.0
        self.first_token_margin = 0.0

    def append(self, token: Token, now_s: float) -> None:
        """Take the next token."""
        if self._first_token_s is None:
            self._first_token_s = now_s
            self.first_token_margin = token.margin
        self._log_probability += token.log_probability
        self.text.append(token)

    def finish(self, ending: str, now_s: float) -> None:
        """End the answer."""
        self.ending = ending
        self._end_s = now_s
        self.text.finish()

    @property
    def mean_log_probability(self) -> float:
        """Of the tokens; 0 if there are none."""
        return self._log_probability / max(1, len(self.text.token_ids))

    @property
    def time_to_first_token_s(self) -> float:
        """From the start to the first token, or to the end if there is none."""
        first_s = self._end_s if self._first_token_s is None else self._first_token_s
        return first_s - self._start_s

    @property
    def total_time_s(self) -> float:
        """From the start to the end."""
        return self._end_s - self._start_s


class CutOff(Exception):
    """Ends the work on answers; ``ending`` says why, as in ``EngineAnswer``."""

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending


def make_limits(
    should_stop: Callable[[], bool] | None, deadline_s: float,
) -> Callable[[], None]:
    """
    Return a function that raises ``CutOff`` when there is a reason to.

    ``deadline_s`` counts from now on; 0 is none.
    """
    end_s = time.perf_counter() + deadline_s if deadline_s else math.inf

    def check_limits() -> None:
        if should_stop is not None and should_stop():
            raise CutOff(AT_STOP)
        if time.perf_counter() >= end_s:
            raise CutOff(AT_DEADLINE)

    return check_limits


def write_answers(
    generations: list[Generation], tokens: Iterable[list[tuple[int, Token]]], max_new_tokens: int,
    check_limits: Callable[[], None], now_s: Callable[[], float],
) -> None:
    """
    Write answers side by side, until each has ended.

    ``tokens`` are as ``SparseBackend.decode_together`` yields them, of each answer at most
    ``max_new_tokens``. ``check_limits`` is called after every token, see ``make_limits``; what it
    raises leaves answers unfinished.
    """
    unfinished = set(range(len(generations)))
    num_tokens = 0
    for next_tokens in tokens:
        time_s = now_s()
        num_tokens += 1
        for number in unfinished.difference(number for number, _ in next_tokens):
            generations[number].finish(AT_ITS_END, time_s)
            unfinished.discard(number)
        for number, token in next_tokens:
            generations[number].append(token, time_s)
        check_limits()
    ending = AT_TOKEN_LIMIT if num_tokens == max_new_tokens else AT_ITS_END
    finish_all(generations, ending, now_s())


def finish_all(generations: list[Generation], ending: str, now_s: float) -> None:
    """End what has not ended yet."""
    for generation in generations:
        if not generation.ending:
            generation.finish(ending, now_s)
