"""A camera frame, before and after it met its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.events.sync.completeness import Missing


@dataclass(frozen=True)
class Frame:
    """A camera frame: its stamp in ns of ROS time, its size in pixels, and what it is."""

    stamp_ns: int
    height: int
    width: int
    payload: Any = None


@dataclass(frozen=True)
class GuidedFrame:
    """
    A frame with the event activity around it.

    Attributes
    ----------
    activity : ActivityGrid
        Counts of the window, whose bounds are ROS time in ns.
    missing : Missing
        What was missing or late.
    reason : str
        The same in words, '' for a complete frame.
    completeness : float
        Share of the window that events were received for, 0 to 1; at 0 the counts are all zero and
        mean nothing.
    wait_s : float
        Time that the frame waited, in seconds.
    sync_error_ns : int or None
        By how much the stamp, by the estimated clock, is later than the frame's trigger edge; None
        without an edge.
    change : ChangeScore or None
        Running change of each cell until the exposure began; None while there is no event stream.

    """

    frame: Frame
    activity: ActivityGrid
    missing: Missing
    completeness: float
    wait_s: float
    sync_error_ns: int | None = None
    reason: str = ''
    change: ChangeScore | None = None
