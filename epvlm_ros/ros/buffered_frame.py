"""A guided frame that questions may be about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.images import image_to_rgb, WhiteLevel
from epvlm_ros.ros.conversions import to_activity, to_change_score
from epvlm_ros.time_units import SECOND, stamp_to_ns
from epvlm_ros.vlm.engine import Moment


@dataclass(frozen=True, eq=False)
class BufferedFrame:
    """A guided frame; ``key`` is a number that no other frame of the buffer has had."""

    key: int
    message: EventGuidedFrame
    white_level: WhiteLevel

    @property
    def stamp_ns(self) -> int:
        """Return when it was taken."""
        return stamp_to_ns(self.message.header.stamp)

    @cached_property
    def change(self) -> ChangeScore | None:
        """Return what the events say has changed; raises as ``moment``."""
        return to_change_score(self.message)

    @cached_property
    def moment(self) -> Moment:
        """
        Return what the engine takes, converted once for all questions about the frame.

        Raises
        ------
        ValueError
            If the image cannot be converted, or activity or change scores do not fit it.

        """
        image_rgb = image_to_rgb(self.message.image, self.white_level)
        return Moment(
            image_rgb, to_activity(self.message), self.key, self.stamp_ns, self.change,
            self.message.header.frame_id)


def mean_period_s(frames: tuple[BufferedFrame, ...]) -> float:
    """Return the time from one frame to the next; 1 s of a single one, which has none."""
    if len(frames) < 2:
        return 1.0
    return elapsed_ns(frames[0].message, frames[-1].message) / (len(frames) - 1) / SECOND


def elapsed_ns(before: EventGuidedFrame, after: EventGuidedFrame) -> int:
    """Return the time from one frame to another."""
    return stamp_to_ns(after.header.stamp) - stamp_to_ns(before.header.stamp)
