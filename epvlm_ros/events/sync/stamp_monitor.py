"""Notices when the stamps of event packets and frames cannot be of one clock."""

from __future__ import annotations

from collections import deque
from statistics import median

from epvlm_ros.time_units import SECOND

# Frames. More than half of them must be wrong: packets are late for a second where a node has just
# started or a recording begins again, while its machine is busy.
_NUM_OBSERVATIONS = 91
_MIN_OBSERVATIONS = 61
_MAX_APART_S = 0.3
# Delays of packets that a driver and a network can have.
_MIN_PACKET_DELAY_S, _MAX_PACKET_DELAY_S = -0.1, 0.3


class StampMonitor:
    """
    Compares how long after their stamps event packets and frames arrive.

    A stamp says when the data was taken, or reached the host, so that both arrive a little later.
    Where packets arrive as they should, frames may be slow; where both are off alike, as when a
    recording is played without its clock, windows are right.
    """

    def __init__(self) -> None:
        self._delays_s: deque[tuple[float, float]] = deque(maxlen=_NUM_OBSERVATIONS)
        self._packet_ns: int | None = None

    def observe(self, packet_ns: int | None, frame_ns: int, wait_s: float, now_ns: int) -> None:
        """
        Take a frame that leaves now, and the latest packet.

        ``packet_ns`` and ``frame_ns`` are their stamps, ``now_ns`` is the present ROS time, and
        the frame arrived ``wait_s`` seconds ago. A packet that was there for the frame before, as
        when the stream has stopped, tells nothing.
        """
        if packet_ns is not None and packet_ns != self._packet_ns:
            self._delays_s.append(
                ((now_ns - packet_ns) / SECOND, (now_ns - frame_ns) / SECOND - wait_s))
        self._packet_ns = packet_ns

    @property
    def warning(self) -> str:
        """Return what is wrong and the remedy, '' if nothing is known to be wrong."""
        if len(self._delays_s) < _MIN_OBSERVATIONS:
            return ''
        packets_s, frames_s = (median(delays) for delays in zip(*self._delays_s))
        apart_s = frames_s - packets_s
        is_slow_camera = _MIN_PACKET_DELAY_S <= packets_s <= _MAX_PACKET_DELAY_S and frames_s > 0
        if abs(apart_s) <= _MAX_APART_S or is_slow_camera:
            return ''
        return (
            f'event packets arrive {packets_s:+.2f} s after their stamps, frames {frames_s:+.2f} '
            's: their clocks differ, and frames get the events of another time; synchronise the '
            f'clocks or set window_offset to {apart_s:+.2f}')
