"""Which part of a time window the event stream covered."""

from __future__ import annotations

from collections import deque
from enum import IntFlag
from typing import NamedTuple

MAX_GAPS = 1024  # seconds of a stream of which every second packet is shed


class Missing(IntFlag):
    """What a guided frame lacks; values as in EventGuidedFrame.msg."""

    COMPLETE = 0
    NO_EVENT_STREAM = 1
    WINDOW_START_MISSING = 2
    WINDOW_END_MISSING = 4
    PACKETS_LOST = 8
    EVENTS_SHED = 16
    NOT_TRIGGERED = 32
    EVENTS_DISCARDED = 64


_REASONS = {
    Missing.NO_EVENT_STREAM: 'no event packet could be used',
    Missing.WINDOW_START_MISSING: 'events began after the start of the window',
    Missing.WINDOW_END_MISSING: 'events did not reach the end of the window in time',
    Missing.PACKETS_LOST: 'event packets were lost',
    Missing.EVENTS_SHED: 'events came faster than they could be processed',
    Missing.NOT_TRIGGERED: 'no trigger edge was found',
    Missing.EVENTS_DISCARDED: 'events lie outside of the sensor size that their packets state',
}


def describe_missing(missing: Missing) -> str:
    """Return in words what a guided frame lacks, '' for nothing."""
    return '; '.join(text for flag, text in _REASONS.items() if flag in missing)


class _Gap(NamedTuple):
    start_ns: int
    end_ns: int
    why: Missing


class StreamCompleteness:
    """
    Remembers where the event stream began, how far it got, and what was lost or shed.

    All times are sensor time in ns. Only the last ``MAX_GAPS`` gaps are remembered.
    """

    def __init__(self) -> None:
        self.begin_ns: int | None = None
        self.latest_ns: int | None = None
        self._gaps: deque[_Gap] = deque(maxlen=MAX_GAPS)  # in order, without overlap

    def extend(
        self, first_ns: int, last_ns: int, after_loss: bool,
        uncounted: Missing = Missing.COMPLETE,
    ) -> None:
        """
        Take the first and the last time of one packet.

        ``after_loss`` says that packets before it were lost, ``uncounted`` why its events were not
        counted, if they were not: those before its first time stamp may be of any time since the
        packet before.
        """
        if self.begin_ns is None:
            self.begin_ns = first_ns
        if self.latest_ns is None:
            self.latest_ns = first_ns
        elif after_loss:
            self._add_gap(first_ns, Missing.PACKETS_LOST)
        if uncounted:
            self._add_gap(last_ns, uncounted)
        self.latest_ns = max(self.latest_ns, last_ns)

    def judge(self, start_ns: int, end_ns: int, oldest_ns: int) -> tuple[Missing, float]:
        """
        Return what the window [start_ns, end_ns) lacks, and the share covered, 0 to 1.

        The window must not be empty. Nothing before ``oldest_ns`` is remembered any more.
        """
        if self.begin_ns is None or self.latest_ns is None:
            return Missing.NO_EVENT_STREAM, 0.0
        begin_ns = max(self.begin_ns, oldest_ns)
        seen_start, seen_end = max(start_ns, begin_ns), min(end_ns, self.latest_ns)
        missing = Missing.COMPLETE
        if seen_start > start_ns:
            missing |= Missing.WINDOW_START_MISSING
        if seen_end < end_ns:
            missing |= Missing.WINDOW_END_MISSING
        if seen_end <= seen_start:  # as where the clocks of the two cameras differ
            return missing, 0.0
        lost_ns = 0
        for gap in reversed(self._gaps):
            if gap.end_ns <= seen_start:
                break
            inside_ns = min(seen_end, gap.end_ns) - max(seen_start, gap.start_ns)
            if inside_ns > 0:
                missing |= gap.why
                lost_ns += inside_ns
        return missing, (seen_end - seen_start - lost_ns) / (end_ns - start_ns)

    def _add_gap(self, end_ns: int, why: Missing) -> None:
        """Let what comes between the latest time and ``end_ns`` be missing."""
        assert self.latest_ns is not None
        if end_ns <= self.latest_ns:
            return
        if self._gaps and self._gaps[-1].end_ns == self.latest_ns and self._gaps[-1].why == why:
            self._gaps[-1] = self._gaps[-1]._replace(end_ns=end_ns)
        else:
            self._gaps.append(_Gap(self.latest_ns, end_ns, why))
        self.latest_ns = end_ns
