"""Units of time; all times are whole nanoseconds unless a name says otherwise."""

from __future__ import annotations

from typing import Any

SECOND = 1_000_000_000  # in ns
# Stamps of one stream come in order but for jitter; further back means that time was set back.
BACKWARD_JUMP_NS = SECOND // 10


def stamp_to_ns(stamp: Any) -> int:
    """Return the time in ns of a message with ``sec`` and ``nanosec``, of rclpy or rosbags."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def is_set_back(time_ns: int, latest_ns: int | None) -> bool:
    """Return whether a time is so long before the latest one that time was set back."""
    return latest_ns is not None and time_ns < latest_ns - BACKWARD_JUMP_NS
