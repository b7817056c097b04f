"""The guided frames that a question is about which arrives now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.images import image_to_rgb, WhiteLevel
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.conversions import to_activity
from epvlm_ros.time_units import SECOND, stamp_to_ns
from epvlm_ros.vlm.engine import Moment


@dataclass(frozen=True, eq=False)
class BufferedFrame:
    """A guided frame; ``key`` is a number that no other frame of the buffer has had."""

    key: int
    message: EventGuidedFrame
    white_level: WhiteLevel

    @cached_property
    def moment(self) -> Moment:
        """
        Return what the engine takes, converted once for all questions about the frame.

        Raises
        ------
        ValueError
            If the image cannot be converted or the activity does not fit it.

        """
        image_rgb = image_to_rgb(self.message.image, self.white_level)
        return Moment(image_rgb, to_activity(self.message), self.key)


class GuidedFrameBuffer:
    """Holds the latest frame and, where questions are about several moments, earlier ones."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._white_level = WhiteLevel('frames')
        self._last_seen: EventGuidedFrame | None = None  # kept or left out
        self._latest: BufferedFrame | None = None
        self._earlier: list[BufferedFrame] = []

    def add(self, message: EventGuidedFrame, config: VlmNodeConfig) -> bool:
        """
        Take a frame and give it a key; return False for one that encode_rate leaves out.

        A frame that is older than the last one, of another size, or comes after a gap of more
        than max_frame_age (and two periods), replaces all frames before it.
        """
        if self._last_seen is not None and not _continues(self._last_seen, message, config):
            self.clear()
        self._last_seen, latest = message, self._latest
        if latest is not None:
            if config.encode_ahead == 'at_rate' and \
                    _elapsed_ns(latest.message, message) * config.encode_rate < SECOND:
                return False
            period_ns = round(config.moment_period * SECOND)
            if not self._earlier or \
                    _elapsed_ns(self._earlier[-1].message, latest.message) >= period_ns:
                self._earlier.append(latest)
            # one to spare, since the last of them may be too close to the latest frame
            num_needed = config.num_moments if config.num_moments > 1 else 0
            del self._earlier[:max(0, len(self._earlier) - num_needed)]
        self._num_frames += 1
        self._latest = BufferedFrame(self._num_frames, message, self._white_level)
        return True

    def get(self, config: VlmNodeConfig) -> tuple[BufferedFrame, ...]:
        """
        Return the frames of the last moments, oldest first, the latest frame among them.

        At most ``num_moments``, each at least ``moment_period`` before the next; empty if no
        frame has come.
        """
        latest = self._latest
        if latest is None:
            return ()
        period_ns = round(config.moment_period * SECOND)
        apart = [frame for frame in self._earlier
                 if _elapsed_ns(frame.message, latest.message) >= period_ns]
        return (*apart[max(0, len(apart) - (config.num_moments - 1)):], latest)

    def clear(self) -> None:
        """Forget all frames; their keys do not come again."""
        self._last_seen, self._latest, self._earlier = None, None, []


def mean_period_s(frames: tuple[BufferedFrame, ...]) -> float:
    """Return the time from one frame to the next; 1 s of a single one, which has none."""
    if len(frames) < 2:
        return 1.0
    elapsed_ns = _elapsed_ns(frames[0].message, frames[-1].message)
    return elapsed_ns / (len(frames) - 1) / SECOND


def _elapsed_ns(before: EventGuidedFrame, after: EventGuidedFrame) -> int:
    return stamp_to_ns(after.header.stamp) - stamp_to_ns(before.header.stamp)


def _continues(
    before: EventGuidedFrame, after: EventGuidedFrame, config: VlmNodeConfig,
) -> bool:
    """Tell whether two frames are of one stream without a gap."""
    sizes = [(message.image.height, message.image.width) for message in (before, after)]
    longest_ns = max(config.max_frame_age, 2.0 * config.moment_period) * SECOND
    return sizes[0] == sizes[1] and 0 <= _elapsed_ns(before, after) <= longest_ns
