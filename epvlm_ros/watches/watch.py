"""A standing question at work: whether it is due, and how often it was asked."""

from __future__ import annotations

from collections import deque

from epvlm_ros.watches.event_rates import EventRates
from epvlm_ros.watches.standing_question import (
    APPEARED, INTERVAL, RATE_SPAN_S, StandingQuestion, WatchDefaults)

_QUIET_SHARE = 0.5  # of the level: a region that is below has nothing in it that moves
_QUIET_S = 0.5  # for which it has to be so before something can appear


class Watch:
    """
    Judges frame by frame whether its question is to be asked.

    Times are of ``time.monotonic``, so that they go on when a recording begins anew.

    Attributes
    ----------
    num_asked, num_held_back : int
        How often it was asked, and how often its condition held within ``min_gap`` or beyond
        ``max_rate``.
    num_busy : int
        How often its condition held while its last question had no answer yet.
    fault : str
        Why it cannot be judged; empty if it can.

    """

    def __init__(self, standing: StandingQuestion) -> None:
        self.standing = standing
        self.num_asked = self.num_held_back = self.num_busy = 0
        self.fault = ''
        self._is_open = False
        self._asked_s: deque[float] = deque()  # within RATE_SPAN_S
        self._due_s: float | None = None  # of INTERVAL
        self._quiet_since_s: float | None = None  # of APPEARED

    @property
    def is_open(self) -> bool:
        """Whether its last question has no answer yet."""
        return self._is_open

    def is_due(self, rates: EventRates | None, now_s: float, defaults: WatchDefaults) -> bool:
        """
        Judge a frame.

        Parameters
        ----------
        rates : EventRates or None
            Of the frame; None if they are not known.
        now_s : float
            When the frame came.
        defaults : WatchDefaults
            For what the standing question leaves open.

        Returns
        -------
        bool
            Whether to ask now. ``note_asked`` is called then, and ``note_answered`` with the
            answer.

        """
        if not self._holds(rates, now_s, defaults.level):
            return False
        if self._is_open:
            self.num_busy += 1
            return False
        if self._is_too_soon(now_s, defaults):
            self.num_held_back += 1
            return False
        return True

    def note_asked(self, now_s: float) -> None:
        """Take note that the question was asked."""
        self._is_open = True
        self.num_asked += 1
        self._asked_s.append(now_s)
        if self.standing.condition == INTERVAL:
            # In step with the set-up, unless frames or answers came too late for that.
            due_s = (now_s if self._due_s is None else self._due_s) + self.standing.interval
            self._due_s = due_s if due_s > now_s else now_s + self.standing.interval

    def note_answered(self) -> None:
        """Take note that the last question has its outcome; for any thread."""
        self._is_open = False

    def _holds(self, rates: EventRates | None, now_s: float, default_level: float) -> bool:
        if self.standing.condition == INTERVAL:
            return self._due_s is None or now_s >= self._due_s
        if rates is None:
            self._quiet_since_s = None
            return False
        try:
            activity = rates.find_activity(self.standing.region)
        except ValueError as error:  # images have another size than at its set-up
            self.fault, self._quiet_since_s = str(error), None
            return False
        self.fault = ''
        level = self.standing.level or default_level
        if self.standing.condition == APPEARED:
            return self._begins(activity, level, now_s)
        return activity >= level

    def _begins(self, activity: float, level: float, now_s: float) -> bool:
        """Whether activity comes after quiet."""
        if activity < _QUIET_SHARE * level:
            if self._quiet_since_s is None:
                self._quiet_since_s = now_s
            return False
        if activity < level:
            return False  # may still become more
        since_s, self._quiet_since_s = self._quiet_since_s, None
        return since_s is not None and now_s - since_s >= _QUIET_S

    def _is_too_soon(self, now_s: float, defaults: WatchDefaults) -> bool:
        standing, asked_s = self.standing, self._asked_s
        while asked_s and now_s - asked_s[0] >= RATE_SPAN_S:
            asked_s.popleft()
        gap_s = standing.min_gap
        if not gap_s and standing.condition != INTERVAL:
            gap_s = defaults.min_gap
        return bool(asked_s) and (
            now_s - asked_s[-1] < gap_s
            or len(asked_s) + 1 > (standing.max_rate or defaults.max_rate))
