"""The guided frames that a question is about which arrives now."""

from __future__ import annotations

import time

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.images import WhiteLevel
from epvlm_ros.ros.buffered_frame import BufferedFrame, elapsed_ns
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.frame_history import FrameHistory
from epvlm_ros.time_units import SECOND

JUMP_SETTLES_S = 2.0  # after the clock jumped, the last frames of before have come
# Held whatever the parameter num_moments is: a question may ask for more frames than that.
_KEPT_MOMENTS = 3


class GuidedFrameBuffer:
    """
    Holds the latest frame and earlier ones, for questions about several moments.

    ``history`` has those of the past; unlike the others they stay over a gap in the stream.
    """

    def __init__(self) -> None:
        self.history = FrameHistory()
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

        A frame that is older than the last one, or of another camera (frame_id), size or encoding,
        replaces all frames before it. One that comes after a gap of more than max_frame_age (and
        two periods) replaces those outside of the history.
        """
        self._last_arrival_s = time.monotonic()
        before = self._last_seen
        if before is not None:
            is_other = _kind(before) != _kind(message)
            is_gap = elapsed_ns(before, message) > _longest_gap_ns(config)
            has_settled = self._last_arrival_s > self._jump_arrival_s + JUMP_SETTLES_S
            if is_other:
                self._white_level = WhiteLevel('frames')
            if is_other or elapsed_ns(before, message) < 0 or \
                    self._jump_ns and (is_gap or has_settled):
                self.clear()
            elif is_gap:
                self._latest, self._earlier = None, []
        self._num_frames += 1
        frame = BufferedFrame(self._num_frames, message, self._white_level)
        self.history.add(frame, config.history_bytes)
        self._last_seen, latest = message, self._latest
        if latest is not None:
            if config.encode_ahead == 'at_rate' and \
                    elapsed_ns(latest.message, message) * config.encode_rate < SECOND:
                return False
            period_ns = round(config.moment_period * SECOND)
            if not self._earlier or \
                    elapsed_ns(self._earlier[-1].message, latest.message) >= period_ns:
                self._earlier.append(latest)
            # one to spare, since the last of them may be too close to the latest frame
            num_needed = max(config.num_moments, _KEPT_MOMENTS)
            del self._earlier[:max(0, len(self._earlier) - num_needed)]
        self._latest = frame
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
                 if elapsed_ns(frame.message, latest.message) >= period_ns]
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
        return self.frame_time_ns(now_ns) - self._latest.stamp_ns

    def frame_time_ns(self, now_ns: int) -> int:
        """Return what the clock would show now if it had not jumped since the frames came."""
        return now_ns - self._jump_ns

    @property
    def latest_key(self) -> int | None:
        """Return the key of the latest frame, None if there is none."""
        return self._latest.key if self._latest is not None else None

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
        self.history.clear()
        self._jump_ns = 0


def _longest_gap_ns(config: VlmNodeConfig) -> float:
    return max(config.max_frame_age, 2.0 * config.moment_period) * SECOND


def _kind(message: EventGuidedFrame) -> tuple[str, int, int, str]:
    """Return what stays the same in all frames of a camera."""
    image = message.image
    return message.header.frame_id, image.height, image.width, image.encoding
