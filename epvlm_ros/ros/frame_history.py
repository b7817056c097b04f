"""The guided frames of the past that questions may be about."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import NamedTuple

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.buffered_frame import BufferedFrame, elapsed_ns
from epvlm_ros.time_units import SECOND

_FIELD_BYTES = 1024  # of a message beside its arrays


class Span(NamedTuple):
    """Stamps of the first and of the last frame, in ns."""

    start_ns: int
    end_ns: int


class FrameHistory:
    """
    A ring of the latest guided frames, as many as fit into a number of bytes.

    Messages are kept as they came; what is converted of one for a question goes with that
    question. Their stamps do not fall.
    """

    def __init__(self) -> None:
        self._frames: deque[BufferedFrame] = deque()
        self._num_bytes = 0
        self.is_full = False  # whether frames had to go

    @property
    def num_bytes(self) -> int:
        """Memory of all frames."""
        return self._num_bytes

    @property
    def span(self) -> Span | None:
        """Return from when to when there are frames, None without any."""
        if not self._frames:
            return None
        return Span(self._frames[0].stamp_ns, self._frames[-1].stamp_ns)

    def add(self, frame: BufferedFrame, max_bytes: float) -> None:
        """Take the next frame; the oldest ones go until all fit."""
        self._frames.append(replace(frame))
        self._num_bytes += num_bytes_of(frame.message)
        while self._frames and self._num_bytes > max_bytes:
            self._num_bytes -= num_bytes_of(self._frames.popleft().message)
            self.is_full = True

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()
        self._num_bytes, self.is_full = 0, False

    def around(
        self, time_ns: int, num_moments: int, moment_period_s: float,
    ) -> tuple[BufferedFrame, ...]:
        """
        Return the frame nearest to a time, and further ones around it; empty if there is none.

        At most ``num_moments``, oldest first, each at least a period before the next: half of the
        others after the nearest one, as far as there are some, and the rest before it.
        """
        if not self._frames:
            return ()
        frames = list(self._frames)
        period_ns = round(moment_period_s * SECOND)
        nearest = min(
            range(len(frames)), key=lambda place: abs(frames[place].stamp_ns - time_ns))
        found = [frames[nearest]]
        for frame in frames[nearest + 1:]:
            if len(found) > (num_moments - 1) // 2:
                break
            if elapsed_ns(found[-1].message, frame.message) >= period_ns:
                found.append(frame)
        for frame in reversed(frames[:nearest]):
            if len(found) >= num_moments:
                break
            if elapsed_ns(frame.message, found[0].message) >= period_ns:
                found.insert(0, frame)
        return tuple(replace(frame) for frame in found)


def num_bytes_of(message: EventGuidedFrame) -> int:
    """Return the memory of a guided frame, but for a few short texts."""
    arrays = message.image.data, message.activity, message.change_scores
    return _FIELD_BYTES + sum(len(array) * array.itemsize for array in arrays)
