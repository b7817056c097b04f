"""
Sensor time to ROS time.

The stamp of a packet says when its first data reached the host: after it happened, by a delay that
is never negative. So the line that lies as close as possible below all differences of stamp and
sensor time is the difference of the two clocks: its height is their offset, its slope their drift.
It is found on the lower convex hull of the differences, as Moon, Skelly and Towsley do
("Estimation and removal of clock skew from network delay measurements", INFOCOM 1999).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from epvlm_ros.time_units import is_set_back, SECOND

_SLOT_NS = SECOND // 10  # of all packets in a slot only the one with the least delay is kept
_MAX_RATE = 500e-6  # clocks of computers and sensors are far better than that
_BASELINE_NS = 2 * SECOND  # the slope of a line over less than this says little
_RELIABLE_BASELINE_NS = 5 * SECOND  # the slope over so much is kept when a clock is set
_LEEWAY_NS = SECOND // 2  # how far from the middle of all points the line may rest on them
# Delays that are higher than the line by more than this in all of so many slots, and by the same
# in most, are no delays: one of the clocks was set.
_STEP_NS = 20 * SECOND // 1000
_NUM_STEP_SLOTS = 14
_NUM_RESIDUALS = 63


class _Point(NamedTuple):
    """The packet with the least delay in a slot of time."""

    slot: int
    sensor_ns: int
    difference_ns: int


class SensorClock:
    """
    Estimates offset and drift between ROS time and the time of an event sensor.

    Costs some microseconds a packet, and bounded memory. The least delay (of sensor, bus, driver)
    cannot be known and is part of the offset. Late bursts of packets do not change the estimate;
    if all are later for more than 1.4 s, by 20 ms or more, a clock was set. Rates beyond 500 ppm
    are not followed.

    Parameters
    ----------
    memory_ns : int
        How much of the stream counts, rounded to tenths of a second; pauses do not.
    jump_ns : int
        A difference that is off by more than this means that a clock was set or restarted.

    """

    def __init__(self, memory_ns: int = 10 * SECOND, jump_ns: int = SECOND) -> None:
        self._num_slots = max(2, memory_ns // _SLOT_NS)
        self._jump_ns = jump_ns
        self._residuals_ns: deque[int] = deque(maxlen=_NUM_RESIDUALS)
        self._points: deque[_Point] = deque()
        # The latest slots, all with high delays: slot, least delay, whether others were alike.
        self._high: deque[tuple[int, int, bool]] = deque(maxlen=_NUM_STEP_SLOTS)
        self._latest_ns = 0
        # The line goes through this point.
        self._origin_ns = self._origin_difference_ns = 0
        self.reset()

    @property
    def offset_ns(self) -> int | None:
        """ROS time minus sensor time in ns at the latest packet, or None before the first one."""
        return self._envelope(self._latest_ns) if self._is_started else None

    @property
    def drift_ppm(self) -> float | None:
        """How much faster ROS time runs than sensor time, in ppm; None while not known."""
        return self._rate * 1e6 if self._has_rate else None

    @property
    def residual_ns(self) -> int | None:
        """Median delay of the latest packets above the least one, or None before the first."""
        if not self._residuals_ns:
            return None
        return sorted(self._residuals_ns)[len(self._residuals_ns) // 2]

    def observe(self, sensor_ns: int, ros_ns: int) -> bool:
        """
        Take sensor time and ROS time of an arrival; return whether sensor time started anew.

        Then the estimate starts afresh from this pair, and all that was remembered in sensor time
        is void.
        """
        difference_ns = ros_ns - sensor_ns
        jumped = False
        if self._is_started:
            residual_ns = difference_ns - self._envelope(sensor_ns)
            jumped = abs(residual_ns) > self._jump_ns or is_set_back(sensor_ns, self._latest_ns)
        if jumped or not self._is_started:
            self._start(sensor_ns, difference_ns)
            return jumped
        self._latest_ns = max(self._latest_ns, sensor_ns)
        self._residuals_ns.append(max(residual_ns, 0))
        if sensor_ns >= self._slot_begin_ns + _SLOT_NS:
            self._close_slot()
            self._open_slot(sensor_ns)
            residual_ns = difference_ns - self._envelope(sensor_ns)
        self._fill_slot(max(sensor_ns, self._slot_begin_ns), difference_ns, residual_ns)
        if residual_ns < 0:  # the line must not lie above any
            self._origin_difference_ns += residual_ns
            self._least_residual_ns = 0
        return False

    def reset(self) -> None:
        """Forget every observation."""
        self._is_started = False
        self._has_rate = False
        self._rate = 0.0  # of the line: difference by sensor time
        self._reliable_rate = self._expected_rate = 0.0
        self._latest_ns = 0
        self._points.clear()
        self._residuals_ns.clear()

    def to_sensor(self, ros_ns: int) -> int:
        """Return the sensor time of a ROS time, both in ns; ValueError before any observation."""
        self._check_started()
        past_origin_ns = ros_ns - self._origin_difference_ns - self._origin_ns
        return self._origin_ns + round(past_origin_ns / (1.0 + self._rate))

    def to_ros(self, sensor_ns: int) -> int:
        """Return the ROS time of a sensor time, both in ns; ValueError before any observation."""
        self._check_started()
        return sensor_ns + self._envelope(sensor_ns)

    def _check_started(self) -> None:
        if not self._is_started:
            raise ValueError('no packet was observed yet: the offset of the clock is unknown')

    def _envelope(self, sensor_ns: int) -> int:
        """Return the height of the line, which is the offset, at a sensor time."""
        # Only what lies behind the origin may become a float: it is short enough to be exact.
        return self._origin_difference_ns + round(self._rate * (sensor_ns - self._origin_ns))

    def _start(self, sensor_ns: int, difference_ns: int) -> None:
        """Begin with one pair; the rate is that of the hardware, and stays."""
        self._is_started = True
        self._points.clear()
        self._residuals_ns.clear()
        self._latest_ns = sensor_ns
        self._slot = 0
        self._high.clear()
        self._origin_ns, self._origin_difference_ns = sensor_ns, difference_ns
        self._open_slot(sensor_ns)
        self._fill_slot(sensor_ns, difference_ns, 0)

    def _open_slot(self, sensor_ns: int) -> None:
        self._slot_begin_ns = sensor_ns
        self._num_in_slot = self._sum_residuals_ns = 0

    def _fill_slot(self, sensor_ns: int, difference_ns: int, residual_ns: int) -> None:
        if self._num_in_slot == 0 or residual_ns < self._least_residual_ns:
            self._least = sensor_ns, difference_ns
            self._least_residual_ns = residual_ns
        self._num_in_slot += 1
        self._sum_residuals_ns += residual_ns

    def _close_slot(self) -> None:
        point = _Point(self._slot, *self._least)
        points = self._points
        # A line of a possible slope below this point cannot touch those that it outdoes.
        while points and points[-1].difference_ns - point.difference_ns > _MAX_RATE * (
                point.sensor_ns - points[-1].sensor_ns):
            points.pop()
        if not points:  # a new beginning
            self._expected_rate = self._reliable_rate
        points.append(point)
        while points[0].slot <= self._slot - self._num_slots:
            points.popleft()
        self._slot += 1
        self._watch_for_step(point)
        self._fit()

    def _watch_for_step(self, point: _Point) -> None:
        """Drop all points from before a moment since which all delays are higher."""
        least_ns = self._least_residual_ns
        if least_ns < _STEP_NS:
            self._high.clear()
            return
        mean_ns = self._sum_residuals_ns // self._num_in_slot
        self._high.append((point.slot, least_ns, mean_ns - least_ns <= least_ns // 2))
        if len(self._high) < _NUM_STEP_SLOTS:
            return
        level_ns = sorted(least for _, least, _ in self._high)[_NUM_STEP_SLOTS // 2]
        leeway_ns = max(_STEP_NS // 2, level_ns // 4)
        num_level = sum(is_steady and abs(least - level_ns) <= leeway_ns
                        for _, least, is_steady in self._high)
        if 2 * num_level < _NUM_STEP_SLOTS:
            return
        # What was high for another reason, before, must not hold the line down. Were the new
        # level too high, the first prompt packet would put it right.
        lowest_ns = level_ns - _STEP_NS // 2
        begin = max((slot + 1 for slot, least, _ in self._high if least < lowest_ns),
                    default=self._high[0][0])
        while len(self._points) > 1 and self._points[0].slot < begin:
            self._points.popleft()
        self._expected_rate = self._reliable_rate
        self._high.clear()

    def _fit(self) -> None:
        """Lay the line below all points, as close to them as possible."""
        hull: list[_Point] = []
        for point in self._points:
            if hull and point.difference_ns - hull[-1].difference_ns > _MAX_RATE * (
                    point.sensor_ns - hull[-1].sensor_ns):
                continue  # too late for a line of a possible slope to touch it
            while len(hull) > 1 and _lies_above(hull[-1], hull[-2], point):
                hull.pop()
            hull.append(point)
        # The line with the least sum of distances rests on the hull in the middle. Where that of
        # the expected rate rests close by, the points do not say that the rate is wrong.
        middle_ns = (hull[0].sensor_ns + hull[-1].sensor_ns) // 2
        support = min(hull, key=lambda point: point.difference_ns - self._expected_rate * (
            point.sensor_ns - middle_ns))
        aside_ns = support.sensor_ns - middle_ns
        self._rate = self._expected_rate
        if abs(aside_ns) > _LEEWAY_NS:
            rest_ns = middle_ns + (_LEEWAY_NS if aside_ns > 0 else -_LEEWAY_NS)
            index = next(i for i in range(1, len(hull)) if hull[i].sensor_ns >= rest_ns)
            support, before = hull[index], hull[index - 1]
            self._rate = (support.difference_ns - before.difference_ns) / (
                support.sensor_ns - before.sensor_ns)
        baseline_ns = hull[-1].sensor_ns - hull[0].sensor_ns
        self._has_rate |= baseline_ns >= _BASELINE_NS
        if baseline_ns >= _RELIABLE_BASELINE_NS:
            self._reliable_rate = self._rate
        self._origin_ns, self._origin_difference_ns = support.sensor_ns, support.difference_ns


def _lies_above(middle: _Point, left: _Point, right: _Point) -> bool:
    """Return whether a point lies on or above the line between its neighbours."""
    return (middle.difference_ns - left.difference_ns) * (right.sensor_ns - left.sensor_ns) >= \
        (right.difference_ns - left.difference_ns) * (middle.sensor_ns - left.sensor_ns)
