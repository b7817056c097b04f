"""The latest answers and their pictures, bounded in number and bytes."""

from __future__ import annotations

from collections import deque
from typing import Any

MAX_ANSWERS = 100
MAX_PICTURE_BYTES = 32 * 1024 * 1024
MAX_UNMATCHED = 4


class AnswerHistory:
    """
    Answers as objects of JSON, numbered from 1, with the pictures that came for them.

    An answer and its picture come on two topics, in any order; both have the stamp of the frame,
    and of one stamp they come in the same order.
    """

    def __init__(
        self, max_answers: int = MAX_ANSWERS, max_picture_bytes: int = MAX_PICTURE_BYTES,
    ) -> None:
        self._answers: deque[dict[str, Any]] = deque(maxlen=max_answers)
        self._max_picture_bytes = max_picture_bytes
        self._pictures: dict[int, bytes] = {}
        self._unmatched: deque[tuple[str, bytes]] = deque(maxlen=MAX_UNMATCHED)
        self._num_answers = 0

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Return the answers, oldest first."""
        return list(self._answers)

    def add_answer(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Keep an answer; return it with its ``number`` and ``picture`` (an address or None)."""
        self._num_answers += 1
        answer = {**answer, 'number': self._num_answers, 'picture': None}
        self._answers.append(answer)
        if answer['has_picture']:
            for item in self._unmatched:
                if item[0] == answer['stamp']:
                    self._unmatched.remove(item)
                    self._attach(answer, item[1])
                    break
        return answer

    def add_picture(self, stamp: str, jpeg: bytes) -> dict[str, Any] | None:
        """Keep a picture; return the answer that it is of, None if that has not come yet."""
        for answer in self._answers:
            if (answer['stamp'] == stamp and answer['has_picture']
                    and answer['picture'] is None):
                self._attach(answer, jpeg)
                return answer
        self._unmatched.append((stamp, jpeg))
        return None

    def picture(self, number: int) -> bytes | None:
        """Return the picture of an answer as JPEG, None if there is none any more."""
        return self._pictures.get(number)

    def _attach(self, answer: dict[str, Any], jpeg: bytes) -> None:
        number = answer['number']
        self._pictures[number] = jpeg
        answer['picture'] = f'/pictures/{number}.jpg'
        oldest_kept = self._answers[0]['number']
        total = sum(map(len, self._pictures.values()))
        for old in sorted(self._pictures):
            if old != number and (old < oldest_kept or total > self._max_picture_bytes):
                total -= len(self._pictures.pop(old))
                for kept in self._answers:
                    if kept['number'] == old:
                        kept['picture'] = None
                        kept['has_picture'] = False
