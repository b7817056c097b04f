"""Measures the registration of a recording's events and frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

import cv2
from epvlm_ros.bag.messages import BagMessage
from epvlm_ros.bag.reader import BagImage, BagReader
from epvlm_ros.events.calibration import (
    calibrate, Calibration, CalibrationFrame, MAX_OFFSET_S, MIN_FRAMES)
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import make_decoder, PacketDecoder
from epvlm_ros.events.sync.clock import SensorClock
from epvlm_ros.time_units import SECOND
import numpy as np

_TINY_SIDE = 64
_MAX_EVENTS = 500_000  # of a frame; of more, every second, third ... is taken
_MAX_NEIGHBOUR_S = 0.5  # farther apart, frames show nothing of the motion
_MAX_DELAY_NS = 2 * SECOND  # of a packet; only saves time
_MAX_DISORDER_NS = SECOND // 100

Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True, eq=False)
class BagCalibration:
    """What was measured, the sizes (height, width) it is for, and the frames used."""

    result: Calibration
    sensor_size: tuple[int, int]
    image_size: tuple[int, int]
    frames: Sequence[CalibrationFrame]


def calibrate_bag(
    bag: BagReader, num_frames: int = 32, window_length_s: float = 0.04,
    event_topic: str | None = None, image_topic: str | None = None, progress: Progress = iter,
) -> BagCalibration:
    """
    Estimate the homography from event pixels to image pixels from a recording.

    The recording is read twice: once to choose ``num_frames`` frames, the one with most motion in
    each part, and once for their events.

    Topics are found by type if left out. ``progress`` wraps what is iterated over, to show how
    far it is.

    Raises
    ------
    ValueError
        If there is no such topic, the file is damaged, image or packet sizes change, or as
        `epvlm_ros.events.calibration.calibrate` does.

    """
    if num_frames < MIN_FRAMES:
        raise ValueError(f'{num_frames} frames: give {MIN_FRAMES} or more')
    if not 0.001 <= window_length_s <= 1.0:
        raise ValueError(f'window length is {window_length_s} s: give 0.001 to 1 s')
    events, images = bag.find_event_topic(event_topic), bag.find_image_topic(image_topic)
    bag.check_event_encoding(events)
    chosen = _choose_frames(bag, images, num_frames, progress)

    def read(message: BagMessage) -> EventPacket | BagImage:
        return bag.packet(message) if message.topic == events else bag.image(message)

    collector = _Collector(chosen, MAX_OFFSET_S + window_length_s)
    messages = progress(_Sized(bag, [events, images]))
    for _, content in bag.read_usable(messages, read):
        if isinstance(content, EventPacket):
            collector.add_packet(content)
        else:
            collector.add_image(content)
    frames, sensor_size = collector.frames(), collector.sensor_size
    if not frames:
        raise ValueError(
            f'no events around any of {len(chosen)} frames: the stamps of {events} and {images} '
            'must be of one clock')
    result = calibrate(frames, sensor_size, window_length_s, progress)
    return BagCalibration(result, sensor_size, frames[0].grey.shape[:2], frames)


class _Sized:
    """Messages of some topics, with their number for a progress bar."""

    def __init__(self, bag: BagReader, topics: Sequence[str]) -> None:
        self._bag, self._topics = bag, topics

    def __len__(self) -> int:
        return sum(self._bag.topics[topic].num_messages for topic in self._topics)

    def __iter__(self) -> Any:
        return iter(self._bag.messages(self._topics))


def _choose_frames(
    bag: BagReader, topic: str, num_frames: int, progress: Progress,
) -> set[int]:
    """Return the indices of the frames with most change in every part of the recording."""
    changes: list[float] = []
    previous: np.ndarray | None = None
    messages = progress(_Sized(bag, [topic]))
    for _, image in bag.read_usable(messages, bag.image):
        grey = _grey(image)
        scale = _TINY_SIDE / max(grey.shape)
        tiny = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if previous is None or previous.shape != tiny.shape:
            changes.append(0.0)
        else:
            changes.append(float(cv2.absdiff(tiny, previous).mean()))
        previous = tiny
    if len(changes) < MIN_FRAMES + 2:
        raise ValueError(
            f'{bag.path} has {len(changes)} frames: record {MIN_FRAMES + 2} or more, best some '
            'seconds')
    # The first and the last one lack a neighbour.
    parts = np.array_split(np.arange(1, len(changes) - 1), min(num_frames, len(changes) - 2))
    return {int(part[np.argmax(np.array(changes)[part])]) for part in parts}


@dataclass
class _Pending:
    """A chosen frame, and the events that came around it so far."""

    index: int
    stamp_ns: int
    grey: np.ndarray
    before: np.ndarray
    seconds_before: float
    after: np.ndarray | None = None
    seconds_after: float = 0.0
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)


class _Collector:
    """Brings chosen frames together with the events around them, as both come along."""

    def __init__(self, chosen: set[int], reach_s: float) -> None:
        self._chosen = chosen
        self._reach_ns = round(reach_s * SECOND)
        self._clock = SensorClock()
        self._decoder: PacketDecoder | None = None
        self._timer: PacketDecoder
        self._index = 0
        self._last: tuple[int, np.ndarray] | None = None
        self._open: list[_Pending] = []
        self._done: list[_Pending] = []
        # Events come before the image whose exposure they belong to has been read out.
        self._recent: deque[tuple[int, Events]] = deque()

    @property
    def sensor_size(self) -> tuple[int, int]:
        """Return height and width of the sensor, zeros before the first packet."""
        return (self._decoder.height, self._decoder.width) if self._decoder else (0, 0)

    def add_image(self, image: BagImage) -> None:
        """Take the next frame."""
        grey, stamp_ns = _grey(image), image.stamp_ns
        if self._last is not None:
            last_ns, last_grey = self._last
            if grey.shape != last_grey.shape:
                raise ValueError(
                    f'images of {last_grey.shape} and {grey.shape} px in one topic: record one')
            elapsed_s = (stamp_ns - last_ns) / SECOND
            for pending in self._open:
                if pending.index == self._index - 1:
                    pending.after, pending.seconds_after = grey, elapsed_s
            if self._index in self._chosen:
                pending = _Pending(self._index, stamp_ns, grey, last_grey, elapsed_s)
                self._open.append(pending)
                for _, events in self._recent:
                    self._give(pending, events)
        self._last = stamp_ns, grey
        self._index += 1

    def add_packet(self, packet: EventPacket) -> None:
        """Take the next packet."""
        if self._decoder is None:
            self._decoder, self._timer = (
                make_decoder(packet.encoding, packet.width, packet.height) for _ in range(2))
        # Raises when the stream changes its size.
        events = self._decoder.decode(packet).events
        # The first event may come long after the start of its packet, which is what is stamped.
        first_ns = self._timer.skim(packet).first_ns
        if first_ns is None:
            return
        if self._clock.observe(first_ns, packet.stamp_ns):
            self._recent.clear()
        for pending in self._open:
            self._give(pending, events)
        self._recent.append((packet.stamp_ns, events))
        while self._recent[0][0] < packet.stamp_ns - self._reach_ns - SECOND // 2:
            self._recent.popleft()
        over_ns = packet.stamp_ns - self._reach_ns - _MAX_DELAY_NS
        self._done += [pending for pending in self._open if pending.stamp_ns < over_ns]
        self._open = [pending for pending in self._open if pending.stamp_ns >= over_ns]

    def frames(self) -> list[CalibrationFrame]:
        """Return the frames that have neighbours and events."""
        return [
            _finish(pending) for pending in [*self._done, *self._open]
            if pending.after is not None and pending.parts
            and 0 < pending.seconds_before < _MAX_NEIGHBOUR_S
            and 0 < pending.seconds_after < _MAX_NEIGHBOUR_S]

    def _give(self, pending: _Pending, events: Events) -> None:
        if events.t_ns.size == 0:
            return
        centre_ns = self._clock.to_sensor(pending.stamp_ns)
        # Most packets are far from most frames; events are in order but for a little.
        until_packet_ns = max(events.t_ns[0] - centre_ns, centre_ns - events.t_ns[-1])
        if until_packet_ns > self._reach_ns + _MAX_DISORDER_NS:
            return
        t_ns = events.t_ns - centre_ns
        is_near = np.abs(t_ns) <= self._reach_ns
        if is_near.any():
            pending.parts.append((events.x[is_near], events.y[is_near], t_ns[is_near]))


def _finish(pending: _Pending) -> CalibrationFrame:
    assert pending.after is not None
    x, y, t_ns = (np.concatenate(parts) for parts in zip(*pending.parts))
    order = np.argsort(t_ns, kind='stable')[::max(1, -(-t_ns.size // _MAX_EVENTS))]
    return CalibrationFrame(
        pending.before, pending.grey, pending.after, pending.seconds_before,
        pending.seconds_after, x[order], y[order], t_ns[order] / SECOND)


def _grey(image: BagImage) -> np.ndarray:
    return cv2.cvtColor(image.rgb, cv2.COLOR_RGB2GRAY)
