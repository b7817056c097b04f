"""Sensor time to ROS time."""

from __future__ import annotations

from collections import deque

SECOND = 1_000_000_000  # in ns


class SensorClock:
    """
    Estimates by how much ROS time is ahead of the time of the event sensor.

    A packet's stamp says when its first data reached the host, which is after it happened by a
    delay that is never negative. The least difference between stamp and sensor time that was seen
    lately is therefore closest to the true offset. Only the last ``memory_ns`` count, so that
    slow drift between the clocks is followed.

    Parameters
    ----------
    memory_ns : int
        How long a difference counts.
    jump_ns : int
        A difference that is off by more than this means that a clock was set or restarted.

    """

    def __init__(self, memory_ns: int = 5 * SECOND, jump_ns: int = SECOND) -> None:
        self._memory_ns = memory_ns
        self._jump_ns = jump_ns
        # (ROS time, difference), differences rising: the first is the least that still counts.
        self._least: deque[tuple[int, int]] = deque()

    @property
    def offset_ns(self) -> int | None:
        """ROS time minus sensor time in ns, or None before the first observation."""
        return self._least[0][1] if self._least else None

    def observe(self, sensor_ns: int, ros_ns: int) -> bool:
        """
        Take one pair of sensor time and the ROS time of its arrival.

        Returns
        -------
        bool
            Whether the clocks jumped against each other; then the estimate starts afresh from
            this pair, and everything that was remembered in sensor time is void.

        """
        difference = ros_ns - sensor_ns
        jumped = self.offset_ns is not None and abs(difference - self.offset_ns) > self._jump_ns
        if jumped:
            self.reset()
        while self._least and self._least[-1][1] >= difference:
            self._least.pop()
        self._least.append((ros_ns, difference))
        while self._least[0][0] < ros_ns - self._memory_ns:
            self._least.popleft()
        return jumped

    def reset(self) -> None:
        """Forget every observation."""
        self._least.clear()

    def to_sensor(self, ros_ns: int) -> int:
        """
        Return the sensor time in ns of a ROS time in ns.

        Raises
        ------
        ValueError
            Before the first observation.

        """
        if self.offset_ns is None:
            raise ValueError('no packet was observed yet: the offset of the clock is unknown')
        return ros_ns - self.offset_ns
