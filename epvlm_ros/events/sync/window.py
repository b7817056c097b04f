"""Which window of time belongs to a frame."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.time_units import SECOND


class FrameTime(NamedTuple):
    """
    When a frame was stamped, in sensor time and in ROS time.

    ``sync_error_ns`` is by how much the stamp, by the estimated clock, is later than the trigger
    edge; None without one.
    """

    sensor_ns: int
    ros_ns: int
    sync_error_ns: int | None


def window_bounds(config: EventSyncConfig) -> tuple[int, int]:
    """
    Return start and end of the window of a frame, in ns after its stamp.

    The window is centred on the middle of the exposure, moved by ``window_offset``. In the window
    modes count and activity only the end holds.
    """
    centre_ns = round(config.window_centre * SECOND)
    half_ns = round(config.window_length * SECOND / 2)
    return centre_ns - half_ns, centre_ns + half_ns


def exposure_begin(config: EventSyncConfig) -> int:
    """
    Return when the exposure of a frame begins, in ns after its stamp, mostly below 0.

    Where the exposure is not known, it may have begun ``max_exposure`` before the stamp. A
    ``window_offset`` below 0 says that stamps are late.
    """
    begin_s = -config.max_exposure
    if config.exposure_time > 0.0:
        begin_s = config.exposure_middle - config.exposure_time / 2
    return round((begin_s + min(config.window_offset, 0.0)) * SECOND)
