"""What came of queries and frames, as diagnostic messages of ``vlm_node``."""

from __future__ import annotations

from collections import Counter
import threading
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.diagnostics import make_status
from epvlm_ros.ros.frame_faults import SILENT_AFTER_S
from epvlm_ros.ros.query import STATUS_NAMES
import numpy as np
from std_msgs.msg import Header

# Outcomes that make the level a warning, and what the text says.
_FAULTS = {
    Answer.NO_FRAME: 'queries found no guided frame',
    Answer.STALE_FRAME: 'queries found only a stale guided frame',
    Answer.BUSY: 'queries come faster than they are answered',
    Answer.INVALID: 'queries or frames are at fault',
    Answer.ERROR: 'answers failed',
    Answer.DEADLINE: 'answers missed their deadline',
}


class VlmDiagnostics:
    """
    Makes the report of a period: levels and rates are about it, numbers since the start.

    ``name`` is the full name of the node. Answers may be added from any thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name.lstrip('/')
        self._lock = threading.Lock()
        self._totals: Counter[int] = Counter()
        self._news: list[Answer] = []
        self._num_frames = 0
        self._num_frames_before = 0

    def add_answer(self, answer: Answer) -> None:
        """Count the outcome of a query."""
        with self._lock:
            self._totals[answer.status] += 1
            self._news.append(answer)

    def add_frame(self) -> None:
        """Count a guided frame."""
        self._num_frames += 1

    def make(
        self, stamp: Time, period_s: float, state: str, model: str, num_queued: int,
        frame_age_s: float | None, silent_s: float,
    ) -> DiagnosticArray:
        """
        Return what happened since the last call, in three parts.

        The latest frame is ``frame_age_s`` old, and came ``silent_s`` ago.
        """
        with self._lock:
            news, self._news = self._news, []
            totals = dict(self._totals)
        status = [
            make_status(self._name, 'model', [] if state == 'active' else [f'the node is {state}'],
                        {'state': state, 'model': model}),
            self._queries(totals, news, num_queued),
            self._frames(period_s, frame_age_s, silent_s),
        ]
        return DiagnosticArray(header=Header(stamp=stamp), status=status)

    def _queries(
        self, totals: dict[int, int], news: list[Answer], num_queued: int,
    ) -> DiagnosticStatus:
        values: dict[str, Any] = {'num_queued': num_queued}
        values.update({f'num_{name.lower()}': totals.get(status, 0)
                       for status, name in STATUS_NAMES.items()})
        answered = [answer for answer in news if answer.status == Answer.OK]
        for name in ('time_to_first_token', 'total_time'):
            times_s = [getattr(answer, name) for answer in answered]
            for label, percent in (('median', 50), ('p99', 99)):
                values[f'{name}_{label}_s'] = \
                    float(np.percentile(times_s, percent)) if times_s else None
        seen = {answer.status for answer in news}
        faults = [text for status, text in _FAULTS.items() if status in seen]
        return make_status(self._name, 'queries', faults, values)

    def _frames(
        self, period_s: float, age_s: float | None, silent_s: float,
    ) -> DiagnosticStatus:
        num_new = self._num_frames - self._num_frames_before
        self._num_frames_before = self._num_frames
        faults = []
        if silent_s > SILENT_AFTER_S:
            faults = ['no guided frame lately' if self._num_frames else 'no guided frame yet']
        return make_status(self._name, 'frames', faults, {
            'num_frames': self._num_frames, 'frames_per_s': num_new / period_s,
            'age_s': age_s})
