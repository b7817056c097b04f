"""Recordings that are converted: their events, and the messages that are kept as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

from epvlm_ros.bag.convert.event_arrays import (
    EventArray, parse_cdr_event_array, parse_ros1_event_array)
from epvlm_ros.bag.message_types import FOREIGN_EVENT_TYPES, make_typestore
from epvlm_ros.bag.messages import BagMessage
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.packet import Events
import numpy as np
from rosbags.rosbag1 import Reader as Ros1Reader

_PACKET_NS = 4_000_000


class EventBatch(NamedTuple):
    """
    Events of one sensor; ``stamp_ns`` is the ROS time of the first one.

    ``payload`` is what they were decoded from, of ``encoding``, where it can be kept.
    """

    topic: str
    record_time_ns: int
    stamp_ns: int
    frame_id: str
    width: int
    height: int
    events: Events
    encoding: str = ''
    payload: bytes = b''


class ImageFrame(NamedTuple):
    """A picture of a camera, uint8; ``encoding`` is mono8, rgb8 or bgr8."""

    topic: str
    record_time_ns: int
    stamp_ns: int
    frame_id: str
    pixels: np.ndarray
    encoding: str


def split_in_time(events: Events) -> Iterator[Events]:
    """Iterate over packets of events: what follows each other in the same 4 ms."""
    ends = np.flatnonzero(np.diff(events.t_ns // _PACKET_NS)) + 1
    for start, end in zip([0, *ends.tolist()], [*ends.tolist(), events.t_ns.size]):
        if end > start:
            yield Events(*(values[start:end] for values in events))


class BagSource:
    """
    A rosbag2: event arrays of other drivers become batches.

    What cannot be used is in ``problems``. Raises a ValueError if the recording cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._bag = BagReader(path)
        self.num_steps = self._bag.num_messages

    @property
    def problems(self) -> list[str]:
        """Return a line for whatever could not be read so far."""
        return self._bag.problems

    def close(self) -> None:
        """Close the recording."""
        self._bag.close()

    def __iter__(self) -> Iterator[EventBatch | BagMessage]:
        for _, content in self._bag.read_usable(self._bag.messages(), self._read):
            yield content

    def _read(self, message: BagMessage) -> EventBatch | BagMessage:
        if message.type_name in FOREIGN_EVENT_TYPES:
            return _to_batch(message.topic, message.record_time_ns,
                             parse_cdr_event_array(message.data))
        return message


class Ros1BagSource:
    """A bag of ROS 1; its other messages get the serialisation of ROS 2."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._reader = Ros1Reader(path)
        try:
            self._reader.open()
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            raise ValueError(f'{path} cannot be read as a bag of ROS 1: {error}') from None
        self._path = path
        self.num_steps = self._reader.message_count

    def close(self) -> None:
        """Close the recording."""
        self._reader.close()

    def __iter__(self) -> Iterator[EventBatch | BagMessage]:
        failed: set[str] = set()
        try:
            for connection, time_ns, data in self._reader.messages():
                try:
                    yield self._read(connection.topic, connection.msgtype, time_ns, bytes(data))
                except ValueError as error:
                    if connection.topic not in failed:
                        self.problems.append(f'messages of {connection.topic}: {error}')
                    failed.add(connection.topic)
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: B902
            raise ValueError(f'{self._path} is damaged: {error!r}') from None

    def _read(
        self, topic: str, type_name: str, time_ns: int, data: bytes,
    ) -> EventBatch | BagMessage:
        if type_name in FOREIGN_EVENT_TYPES:
            return _to_batch(topic, time_ns, parse_ros1_event_array(data))
        typestore = make_typestore()
        if type_name not in typestore.types:
            return BagMessage(topic, type_name, time_ns, data)  # its type is told at the end
        try:
            return BagMessage(
                topic, type_name, time_ns, bytes(typestore.ros1_to_cdr(data, type_name)))
        except Exception as error:  # noqa: B902
            raise ValueError(f'{type_name} of ROS 1 is not that of ROS 2: {error!r}') from None


def _to_batch(topic: str, record_time_ns: int, array: EventArray) -> EventBatch:
    # The header is stamped when the array was full, or not at all; events have ROS time.
    stamp_ns = int(array.events.t_ns.min()) if array.events.t_ns.size else array.stamp_ns
    return EventBatch(
        topic, record_time_ns, stamp_ns, array.frame_id, array.width, array.height, array.events)
