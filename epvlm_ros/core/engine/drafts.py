"""Answers while they are being written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from epvlm_ros.core.engine.answer import AT_ITS_END, AT_STOP, AT_TOKEN_LIMIT
from epvlm_ros.core.prompt import AnswerText


class Draft:
    """
    An answer that is being written.

    Parameters
    ----------
    text : AnswerText
        Takes its tokens.
    start_s : float
        When it was asked for, on the clock of the other times.

    """

    def __init__(self, text: AnswerText, start_s: float) -> None:
        self._start_s = start_s
        self._first_token_s: float | None = None
        self._end_s = start_s
        self.text = text
        self.ending = AT_ITS_END

    def append(self, token_id: int, now_s: float) -> None:
        """Take the next token."""
        if self._first_token_s is None:
            self._first_token_s = now_s
        self.text.append(token_id)

    def finish(self, ending: str, now_s: float) -> None:
        """End the answer."""
        self.ending = ending
        self._end_s = now_s
        self.text.finish()

    @property
    def time_to_first_token_s(self) -> float:
        """From the start to the first token, or to the end if there is none."""
        first_s = self._end_s if self._first_token_s is None else self._first_token_s
        return first_s - self._start_s

    @property
    def total_time_s(self) -> float:
        """From the start to the end."""
        return self._end_s - self._start_s


def write_answers(
    drafts: list[Draft], tokens: Iterable[list[tuple[int, int]]], max_new_tokens: int,
    should_stop: Callable[[], bool], now_s: Callable[[], float],
) -> None:
    """
    Write answers side by side, until each has ended.

    Parameters
    ----------
    drafts : list of Draft
        The answers; each is finished afterwards.
    tokens : iterable of list of (int, int)
        The next tokens, see ``SparseQwenVl.decode_together``; computed as they are asked for.
    max_new_tokens : int
        Most tokens that it yields for one answer.
    should_stop : callable
        Asked after every token; true ends all answers with what there is.
    now_s : callable
        The clock.

    """
    unfinished = set(range(len(drafts)))
    num_tokens = 0
    for next_tokens in tokens:
        time_s = now_s()
        num_tokens += 1
        for number in unfinished.difference(number for number, _ in next_tokens):
            drafts[number].finish(AT_ITS_END, time_s)
            unfinished.discard(number)
        for number, token_id in next_tokens:
            drafts[number].append(token_id, time_s)
        if should_stop():
            finish_all([drafts[number] for number in unfinished], AT_STOP, time_s)
            return
    ending = AT_TOKEN_LIMIT if num_tokens == max_new_tokens else AT_ITS_END
    finish_all([drafts[number] for number in unfinished], ending, now_s())


def finish_all(drafts: list[Draft], ending: str, now_s: float) -> None:
    """End answers now."""
    for draft in drafts:
        draft.finish(ending, now_s)
