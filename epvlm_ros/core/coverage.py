"""What part of a time window was covered by the event stream."""

from __future__ import annotations

from collections import deque
from enum import IntFlag

MAX_GAPS = 64


class Missing(IntFlag):
    """What a guided frame lacks; the values are those of EventGuidedFrame.msg."""

    COMPLETE = 0
    NO_EVENT_STREAM = 1
    WINDOW_START_MISSING = 2
    WINDOW_END_MISSING = 4
    PACKETS_LOST = 8


class StreamCoverage:
    """
    Remembers where the event stream began, how far it got and what was lost on the way.

    All times are sensor time in ns.
    """

    def __init__(self) -> None:
        self.begin_ns: int | None = None
        self.latest_ns: int | None = None
        self._gaps: deque[tuple[int, int]] = deque(maxlen=MAX_GAPS)

    def extend(self, first_ns: int, last_ns: int, after_loss: bool) -> None:
        """Take the times of one packet, and whether packets before it were lost."""
        if self.begin_ns is None:
            self.begin_ns = first_ns
        elif after_loss and self.latest_ns is not None and first_ns > self.latest_ns:
            self._gaps.append((self.latest_ns, first_ns))
        self.latest_ns = last_ns if self.latest_ns is None else max(self.latest_ns, last_ns)

    def reaches(self, time_ns: int) -> bool:
        """Whether the stream got to ``time_ns``."""
        return self.latest_ns is not None and time_ns <= self.latest_ns

    def judge(self, start_ns: int, end_ns: int, oldest_ns: int) -> tuple[Missing, float]:
        """
        Say what the window [start_ns, end_ns) lacks.

        Parameters
        ----------
        start_ns, end_ns : int
            The window; it must not be empty.
        oldest_ns : int
            Nothing before this is remembered any more.

        Returns
        -------
        Missing
            What is missing.
        float
            The share of the window that was covered, 0 to 1.

        """
        if self.begin_ns is None or self.latest_ns is None:
            return Missing.NO_EVENT_STREAM, 0.0
        begin_ns = max(self.begin_ns, oldest_ns)
        seen_start, seen_end = max(start_ns, begin_ns), min(end_ns, self.latest_ns)
        if seen_end <= seen_start:
            return Missing.NO_EVENT_STREAM, 0.0
        missing = Missing.COMPLETE
        if seen_start > start_ns:
            missing |= Missing.WINDOW_START_MISSING
        if seen_end < end_ns:
            missing |= Missing.WINDOW_END_MISSING
        lost = sum(max(0, min(seen_end, gap_end) - max(seen_start, gap_start))
                   for gap_start, gap_end in self._gaps)
        if lost:
            missing |= Missing.PACKETS_LOST
        return missing, (seen_end - seen_start - lost) / (end_ns - start_ns)
