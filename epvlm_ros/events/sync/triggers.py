"""
Trigger edges of the event sensor, and which of them belongs to which frame.

If the camera's exposures make edges on a trigger input of the event sensor, the edge is the exact
sensor time of its frame. Which edge it is must be told from the stamps of the frames, which are
late by an unknown delay and its jitter. Delays cannot be told apart by whole periods; it is
assumed that the stamps with the least delay lie between an edge and the next one, and that every
edge on the input belongs to a frame. The phase of the stamps against the edges then gives the
delay, and the delay gives the edge of each frame by itself: so edges and frames may get lost.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
import math
from statistics import median_low

from epvlm_ros.events.packet import Triggers

_MAX_EDGES = 4096
_NUM_INTERVALS = 63  # the period is their median: some edges may be lost
_NUM_LAGS = 64  # of the latest frames
_MIN_LAGS = 8  # before that many nothing is matched
_TYPICAL_SHARE = 0.9  # of the lags; others may be late for any reason
# A stamp may seem to lie before its edge by so much, since the clock is an estimate; by less
# where edges are close together.
_TOLERANCE_NS = 1_000_000
_TOLERANCE_DIVISOR = 8  # of the period
# Lags that spread over more of the period than this could be of either neighbour.
_MAX_SPREAD = 0.6
_PERIOD_CHANGE_DIVISOR = 4  # of the period, above which the frames come at another rate
_MAX_PERIODS = 8  # that an edge may be away from a frame to tell of its delay


class TriggerMatcher:
    """
    Finds the trigger edge of each frame; all times are sensor time in ns.

    Add edges as they come, and `match` each frame once, in order, when `is_settled`.
    ``trigger_input`` is the number of the input, ``trigger_edge`` is ``rising`` or ``falling``.
    """

    def __init__(self, trigger_input: int, trigger_edge: str) -> None:
        self._input = trigger_input
        self._edge = 1 if trigger_edge == 'rising' else 0
        self._edges_ns: list[int] = []  # rising
        self._lags_ns: deque[int] = deque(maxlen=_NUM_LAGS)  # of frames behind an edge
        self._last_match_ns: int | None = None
        self._period_ns: int | None = None
        # Where stamps lie behind their edges: the middle, and the width, of most of them.
        self._delay_ns: int | None = None
        self._spread_ns = 0

    @property
    def delay_ns(self) -> int | None:
        """Return by how much frames are stamped after their edges, None while not known."""
        return self._delay_ns

    def add(self, triggers: Triggers) -> None:
        """Take the triggers of a packet; other inputs and edges are passed over."""
        if not triggers.t_ns.size:
            return
        is_wanted = (triggers.index == self._input) & (triggers.edge == self._edge)
        for edge_ns in triggers.t_ns[is_wanted].tolist():
            insort(self._edges_ns, edge_ns)
        if len(self._edges_ns) > _MAX_EDGES:
            del self._edges_ns[:-_MAX_EDGES // 2]

    def reset(self) -> None:
        """Forget every edge, since sensor time started anew; the delay of the frames stays."""
        self._edges_ns.clear()
        self._last_match_ns = None

    def is_settled(self, stamp_ns: int, latest_ns: int) -> bool:
        """
        Return whether no later edge can be that of a frame stamped ``stamp_ns``.

        ``latest_ns`` is how far the event stream got.
        """
        if self._delay_ns is None:
            return stamp_ns + _TOLERANCE_NS <= latest_ns
        return stamp_ns - self._delay_ns + self._spread_ns + _TOLERANCE_NS <= latest_ns

    def match(self, stamp_ns: int) -> int | None:
        """
        Return the edge of the next frame, stamped ``stamp_ns``.

        None if it is missing, or while the delay of frames is unknown.
        """
        period_ns = self._find_period()
        if period_ns is None:
            return None
        if self._period_ns is not None and \
                abs(period_ns - self._period_ns) > self._period_ns // _PERIOD_CHANGE_DIVISOR:
            self._delay_ns, self._spread_ns = None, 0  # of another period they mean nothing
        self._period_ns = period_ns
        edge_ns = self._find_edge(stamp_ns, period_ns)
        self._learn_delay(stamp_ns, edge_ns, period_ns)
        if edge_ns is None or edge_ns == self._last_match_ns:
            return None
        self._last_match_ns = edge_ns
        return edge_ns

    def _find_edge(self, stamp_ns: int, period_ns: int) -> int | None:
        """Return the edge that is closest to where the delay puts it, if that is close enough."""
        if self._delay_ns is None or self._spread_ns > _MAX_SPREAD * period_ns:
            return None
        expected_ns = stamp_ns - self._delay_ns
        index = bisect_left(self._edges_ns, expected_ns)
        edge_ns = min(self._edges_ns[max(index - 1, 0):index + 1],
                      key=lambda time_ns: abs(time_ns - expected_ns))
        reach_ns = min(period_ns // 2, self._spread_ns + _find_tolerance(period_ns))
        return edge_ns if abs(edge_ns - expected_ns) <= reach_ns else None

    def _find_period(self) -> int | None:
        edges_ns = self._edges_ns[-_NUM_INTERVALS - 1:]
        if len(edges_ns) < 3:
            return None
        period_ns = median_low(
            [later - earlier for earlier, later in zip(edges_ns, edges_ns[1:])])
        return period_ns if period_ns > 0 else None

    def _learn_delay(self, stamp_ns: int, edge_ns: int | None, period_ns: int) -> None:
        """Find the shortest arc of the period that most of the latest lags lie in."""
        tolerance_ns = _find_tolerance(period_ns)
        index = bisect_right(self._edges_ns, stamp_ns + tolerance_ns)
        if edge_ns is None and index > 0:
            edge_ns = self._edges_ns[index - 1]
        if edge_ns is not None and stamp_ns - edge_ns < _MAX_PERIODS * period_ns:
            # Behind the right edge or, if that is missing, behind another by whole periods.
            self._lags_ns.append(stamp_ns - edge_ns)
        num_lags = len(self._lags_ns)
        if num_lags < _MIN_LAGS:
            return
        # Of the period as it is known by now: while edges are lost it may seem twice as long.
        lags_ns = sorted((lag_ns + tolerance_ns) % period_ns - tolerance_ns
                         for lag_ns in self._lags_ns)
        lags_ns += [lag_ns + period_ns for lag_ns in lags_ns]  # once around
        num_typical = math.ceil(_TYPICAL_SHARE * num_lags)
        spread_ns, start_ns = min(
            (lags_ns[i + num_typical - 1] - lags_ns[i], lags_ns[i]) for i in range(num_lags))
        # A delay of close to a period may seem longer for a while.
        if self._delay_ns is not None and start_ns < period_ns // 8 and \
                self._delay_ns - self._spread_ns // 2 > period_ns // 2:
            start_ns += period_ns
        self._spread_ns = spread_ns
        self._delay_ns = start_ns + spread_ns // 2


def _find_tolerance(period_ns: int) -> int:
    return min(_TOLERANCE_NS, period_ns // _TOLERANCE_DIVISOR)
