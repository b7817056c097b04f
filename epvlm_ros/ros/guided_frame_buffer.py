"""The guided frames that a question is about which arrives now."""

from __future__ import annotations

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.time_units import SECOND, stamp_to_ns


class GuidedFrames:
    """Holds the latest frame and, where questions are about several moments, earlier ones."""

    def __init__(self) -> None:
        self._seen: EventGuidedFrame | None = None  # came last, left out or not
        self._latest: EventGuidedFrame | None = None
        self._earlier: list[EventGuidedFrame] = []

    def add(self, message: EventGuidedFrame, config: VlmNodeConfig) -> bool:
        """
        Take a frame.

        Parameters
        ----------
        message : EventGuidedFrame
            Newer than those before; one that is older, of another size, or comes after a gap
            of more than max_frame_age (and two periods), replaces them all.
        config : VlmNodeConfig
            encode_ahead, encode_rate, num_moments, moment_period and max_frame_age are used.

        Returns
        -------
        bool
            Whether questions are about it from now on; some frames are left out when frames are
            encoded at a rate.

        """
        if self._seen is not None and not _goes_on(self._seen, message, config):
            self.clear()
        self._seen, latest = message, self._latest
        if latest is not None:
            if config.encode_ahead == 'at_rate' and \
                    _passed_ns(latest, message) * config.encode_rate < SECOND:
                return False
            period_ns = round(config.moment_period * SECOND)
            if not self._earlier or _passed_ns(self._earlier[-1], latest) >= period_ns:
                self._earlier.append(latest)
            # one to spare, since the last of them may be too close to the latest frame
            num_needed = config.num_moments if config.num_moments > 1 else 0
            del self._earlier[:max(0, len(self._earlier) - num_needed)]
        self._latest = message
        return True

    def get(self, config: VlmNodeConfig) -> tuple[EventGuidedFrame, ...]:
        """
        Return the frames of the last moments, oldest first, the latest frame among them.

        At most ``num_moments``, each at least ``moment_period`` before the next; empty if no
        frame has come.
        """
        latest = self._latest
        if latest is None:
            return ()
        period_ns = round(config.moment_period * SECOND)
        apart = [frame for frame in self._earlier if _passed_ns(frame, latest) >= period_ns]
        return (*apart[max(0, len(apart) - (config.num_moments - 1)):], latest)

    def clear(self) -> None:
        """Forget all frames."""
        self._seen, self._latest, self._earlier = None, None, []


def mean_period_s(frames: tuple[EventGuidedFrame, ...]) -> float:
    """Return the time from one moment to the next; 1 s of a single one, which has none."""
    if len(frames) < 2:
        return 1.0
    return _passed_ns(frames[0], frames[-1]) / (len(frames) - 1) / SECOND


def _passed_ns(before: EventGuidedFrame, after: EventGuidedFrame) -> int:
    return stamp_to_ns(after.header.stamp) - stamp_to_ns(before.header.stamp)


def _goes_on(
    before: EventGuidedFrame, after: EventGuidedFrame, config: VlmNodeConfig,
) -> bool:
    """Tell whether two frames are of one stream without a gap."""
    sizes = [(message.image.height, message.image.width) for message in (before, after)]
    longest_ns = max(config.max_frame_age, 2.0 * config.moment_period) * SECOND
    return sizes[0] == sizes[1] and 0 <= _passed_ns(before, after) <= longest_ns
