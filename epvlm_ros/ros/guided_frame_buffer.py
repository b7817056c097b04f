"""The guided frames that a question is about which arrives now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
import time

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.images import image_to_rgb, WhiteLevel
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.conversions import to_activity, to_change_score
from epvlm_ros.time_units import SECOND, stamp_to_ns
from epvlm_ros.vlm.engine import Moment

JUMP_SETTLES_S = 2.0  # after the clock jumped, the last frames of before have come


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
            If the image cannot be converted, or activity or change scores do not fit it.

        """
        image_rgb = image_to_rgb(self.message.image, self.white_level)
        header = self.message.header
        return Moment(
            image_rgb, to_activity(self.message), self.key, stamp_to_ns(header.stamp),
            to_change_score(self.message), header.frame_id)


class GuidedFrameBuffer:
    """Holds the latest frame and, where questions are about several moments, earlier ones."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._white_level = WhiteLevel('frames')
        self._last_seen: EventGuidedFrame | None = None  # kept or left out
        self._last_arrival_s = time.monotonic()
        self._latest: BufferedFrame | None = None
        self._earlier: list[BufferedFrame] = []
        self._jump_ns = 0  # of the clock, since the frames that are held
        self._jump_arrival_s = 0.0

    def add(self, message: EventGuidedFrame, config: VlmNodeConfig) -> bool:
        """
        Take a frame and give it a key; return False for one that encode_rate leaves out.

        A frame that is older than the last one, of another camera (frame_id), size or encoding,
        or comes after a gap of more than max_frame_age (and two periods), replaces all frames
        before it.
        """
        self._last_arrival_s = time.monotonic()
        before = self._last_seen
        if before is not None:
            if _kind(before) != _kind(message):
                self._white_level = WhiteLevel('frames')
            if not _continues(before, message, config) or \
                    self._jump_ns and self._last_arrival_s > self._jump_arrival_s + JUMP_SETTLES_S:
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

    @property
    def silent_s(self) -> float:
        """Time since the last frame came, or since the start."""
        return time.monotonic() - self._last_arrival_s

    @property
    def last_seen(self) -> EventGuidedFrame | None:
        """Return the frame that came last, used or left out; None if there is none."""
        return self._last_seen

    def age_ns(self, now_ns: int) -> int | None:
        """Return the age of the latest frame by the clock that stamped it, None if none."""
        if self._latest is None:
            return None
        return now_ns - self._jump_ns - stamp_to_ns(self._latest.message.header.stamp)

    def follow_jump(self, jump_ns: int, now_ns: int) -> None:
        """
        Let the frames keep their age when the clock jumps back by ``-jump_ns`` to ``now_ns``.

        A recording that is replayed in a loop does so, and until its first frame comes again the
        last one is what there is. A frame that fits the new time better was stamped by it.
        """
        age_ns = self.age_ns(now_ns)
        if age_ns is not None and abs(age_ns - jump_ns) < abs(age_ns):
            self._jump_ns += jump_ns
            self._jump_arrival_s = time.monotonic()

    def clear(self) -> None:
        """Forget all frames; their keys do not come again."""
        self._last_seen, self._latest, self._earlier = None, None, []
        self._jump_ns = 0


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
    """Tell whether two frames are of one camera without a gap."""
    longest_ns = max(config.max_frame_age, 2.0 * config.moment_period) * SECOND
    return _kind(before) == _kind(after) and 0 <= _elapsed_ns(before, after) <= longest_ns


def _kind(message: EventGuidedFrame) -> tuple[str, int, int, str]:
    """Return what stays the same in all frames of a camera."""
    image = message.image
    return message.header.frame_id, image.height, image.width, image.encoding
