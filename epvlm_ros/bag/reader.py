"""Reading of rosbag2 recordings: sqlite3 and mcap, with or without type definitions."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
import heapq
import itertools
import logging
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, TypeVar

from epvlm_ros.bag.message_types import (
    COMPRESSED_IMAGE_TYPE, EVENT_TYPES, FOREIGN_EVENT_TYPES, IMAGE_TYPES,
    make_typestore)
from epvlm_ros.bag.messages import BagMessage, BagTopic
from epvlm_ros.bag.storage import find_storage, STORAGES
from epvlm_ros.bag.storage_file import open_storage_file, StorageFile
from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet import EventPacket, packet_from_message
from epvlm_ros.events.packet_codecs import ENCODINGS
from epvlm_ros.images import compressed_to_rgb, image_to_rgb, WhiteLevel
from epvlm_ros.time_units import SECOND, stamp_to_ns
import numpy as np

Content = TypeVar('Content')

_NUM_CHECKED = 20  # packets that tell whether a topic can be decoded
_DEPTH_SUFFIX = '/compressedDepth'  # that image_transport gives these topics
_logger = logging.getLogger(__name__)


class BagImage(NamedTuple):
    """One camera frame; ``rgb`` is uint8 of shape (height, width, 3)."""

    stamp_ns: int
    frame_id: str
    rgb: np.ndarray
    encoding: str  # of the message; the format of a compressed one
    record_time_ns: int


def explain_encoding(encoding: str) -> str:
    """Say why event packets cannot be decoded, and what to do."""
    return (f'encoding {clean_text(repr(encoding))} is unknown: record one of '
            f'{", ".join(ENCODINGS)}')


class BagReader:
    """
    Reader of one recording; a context manager, open from its construction on.

    ``path`` is a folder with metadata.yaml or with files alone, or a .mcap or .db3 file. What of
    it cannot be read is logged, and kept in ``problems``, a line each. Raises a ValueError if
    there is no recording or none of its files can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._files = find_storage(self.path)
        self.problems: list[str] = []
        self._storages: list[StorageFile] = []
        self.num_unusable: Counter[str] = Counter()  # messages by topic, see `read_usable`
        self._white_levels: dict[str, WhiteLevel] = {}
        try:
            for problem in self._files.problems:
                self.add_problem(problem)
            self._open_files()
        except BaseException:
            self.close()
            raise
        self.storage = STORAGES[self._files.files[0].suffix] if self._files.files else ''
        self.topics = self._find_topics()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; the reader cannot be used any more."""
        for storage in self._storages:
            storage.close()
        self._storages.clear()
        self._files.clean_up()

    @property
    def num_messages(self) -> int:
        """Return the number of messages of all topics."""
        return sum(topic.num_messages for topic in self.topics.values())

    @property
    def start_ns(self) -> int | None:
        """Return the record time of the first message, None in an empty recording."""
        return min((times[0] for storage in self._storages
                    if (times := storage.time_range_ns)), default=None)

    @property
    def end_ns(self) -> int | None:
        """Return the record time of the last message, None in an empty recording."""
        return max((times[1] for storage in self._storages
                    if (times := storage.time_range_ns)), default=None)

    @property
    def event_topics(self) -> list[str]:
        """Return the topics of event packets, sorted."""
        return self._topics_of(EVENT_TYPES)

    @property
    def image_topics(self) -> list[str]:
        """Return the topics of raw and compressed images, sorted."""
        return self._topics_of(IMAGE_TYPES)

    @property
    def foreign_events(self) -> str:
        """Return what to do with events of types that cannot be read; empty if there are none."""
        foreign = sorted({topic.type_name for topic in self.topics.values()
                          if topic.type_name in FOREIGN_EVENT_TYPES})
        return '' if not foreign else (
            f'convert {" and ".join(foreign)} with "epvlm convert": what is read is '
            f'{EVENT_TYPES[0]} of encoding {", ".join(ENCODINGS)}')

    def find_event_topic(self, topic: str | None = None) -> str:
        """Return the only event topic, or ``topic`` if it is one; else raise a ValueError."""
        return self._find_topic(topic, self.event_topics, 'event topic', '--event-topic')

    def find_image_topic(self, topic: str | None = None) -> str:
        """Return the only image topic, or ``topic`` if it is one; else raise a ValueError."""
        candidates = [name for name in self.image_topics
                      if topic or not name.endswith(_DEPTH_SUFFIX)]
        return self._find_topic(topic, candidates, 'image topic', '--image-topic')

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[BagMessage]:
        """
        Iterate over the messages of these topics, or of all, in the order of their record time.

        Raises
        ------
        ValueError
            If a topic is not in the recording, or while iterating, if a file is damaged.

        """
        wanted = set(self.topics) if topics is None else set(topics)
        if unknown := sorted(wanted - set(self.topics)):
            raise ValueError(
                f'{self.path} has no topic {", ".join(unknown)}: it has {self._names()}')
        streams = [storage.messages(wanted) for storage in self._storages]
        return heapq.merge(*streams, key=lambda message: message.record_time_ns)

    def deserialize(self, data: bytes, type_name: str) -> Any:
        """
        Deserialise a message of the types of ROS 2 or of event packets.

        Raises
        ------
        ValueError
            If the type is unknown or the data do not fit it.

        """
        typestore = make_typestore()
        if type_name not in typestore.types:
            raise ValueError(f'message type {type_name} is unknown: use its serialised data')
        try:
            return typestore.deserialize_cdr(data, type_name)
        except Exception as error:  # noqa: B902  damaged data fail in many ways
            raise ValueError(
                f'{len(data)} bytes are not of type {type_name} ({error}): the recording is '
                'damaged') from None

    def seconds_to(self, message: BagMessage) -> float:
        """Return when a message was recorded, in seconds after the start of the recording."""
        return (message.record_time_ns - (self.start_ns or 0)) / SECOND

    def read_usable(
        self, messages: Iterable[BagMessage], read: Callable[[BagMessage], Content],
    ) -> Iterator[tuple[BagMessage, Content]]:
        """
        Iterate over messages and what ``read`` returns for them.

        Messages for which it raises a ValueError are left out; a warning names the first of each
        topic and why.
        """
        for message in messages:
            try:
                content = read(message)
            except ValueError as error:
                self._warn_of_unusable(message, error)
            else:
                yield message, content

    def event_packets(self, topic: str | None = None) -> Iterator[EventPacket]:
        """Iterate over the packets of an event topic; the only one if none is named."""
        name = self.find_event_topic(topic)
        return (self.packet(message) for message in self.messages([name]))

    def check_event_encoding(self, topic: str) -> None:
        """Raise a ValueError if none of the first packets of a topic can be decoded."""
        encodings = []
        for message in itertools.islice(self.messages([topic]), _NUM_CHECKED):
            with suppress(ValueError):  # told when all are read
                encodings.append(self.packet(message).encoding)
        if encodings and not any(encoding in ENCODINGS for encoding in encodings):
            raise ValueError(
                f'packets of {clean_text(topic)} cannot be decoded: '
                f'{explain_encoding(encodings[0])}')

    def packet(self, message: BagMessage) -> EventPacket:
        """Deserialise one message of an event topic."""
        return packet_from_message(self.deserialize(message.data, message.type_name))

    def images(self, topic: str | None = None) -> Iterator[BagImage]:
        """Iterate over the frames of an image topic; the only one if none is named."""
        name = self.find_image_topic(topic)
        return (self.image(message) for message in self.messages([name]))

    def image(self, message: BagMessage) -> BagImage:
        """Decode one message of an image topic; a ValueError if it is none or unreadable."""
        if message.type_name not in IMAGE_TYPES:
            raise ValueError(f'{message.topic} is of type {message.type_name}: give an image')
        image = self.deserialize(message.data, message.type_name)
        is_compressed = message.type_name == COMPRESSED_IMAGE_TYPE
        to_rgb = compressed_to_rgb if is_compressed else image_to_rgb
        white_level = self._white_levels.setdefault(
            message.topic, WhiteLevel(clean_text(message.topic)))
        return BagImage(
            stamp_ns=stamp_to_ns(image.header.stamp),
            frame_id=image.header.frame_id,
            rgb=to_rgb(image, white_level),
            encoding=image.format if is_compressed else image.encoding,
            record_time_ns=message.record_time_ns)

    def _open_files(self) -> None:
        failures = []
        for file in self._files.files:
            try:
                self._storages.append(open_storage_file(file, self._files))
            except ValueError as error:
                failures.append(error)
                continue
            if problem := self._storages[-1].problem:
                self.add_problem(problem)
        if failures and not self._storages:
            raise failures[0]
        for failure in failures:
            self.add_problem(f'{failure}; the other files are read')

    def add_problem(self, problem: str) -> None:
        """Keep and log one line on what cannot be read."""
        self.problems.append(problem)
        _logger.warning('%s', problem)

    def _warn_of_unusable(self, message: BagMessage, error: ValueError) -> None:
        self.num_unusable[message.topic] += 1
        if self.num_unusable[message.topic] == 1:
            self.add_problem(
                f'the message of {clean_text(message.topic)} at {self.seconds_to(message):.3f} s '
                f'is left out, and others that cannot be used: {error}')

    def _topics_of(self, types: tuple[str, ...]) -> list[str]:
        return sorted(name for name, topic in self.topics.items() if topic.type_name in types)

    def _find_topics(self) -> dict[str, BagTopic]:
        topics = {
            name: BagTopic(type_name, 0, self._files.durabilities.get(name, frozenset()))
            for name, type_name in self._files.types.items()}
        for storage in self._storages:
            for name, topic in storage.topics:
                known = topics.get(name, BagTopic('', 0))
                topics[name] = BagTopic(
                    topic.type_name, known.num_messages + topic.num_messages,
                    known.durabilities | topic.durabilities)
        return dict(sorted(topics.items()))

    def _find_topic(
        self, topic: str | None, candidates: list[str], kind: str, option: str,
    ) -> str:
        if topic:
            if topic not in candidates:
                raise ValueError(
                    f'{topic} is not an {kind} of {self.path}: it has '
                    f'{", ".join(candidates) or "none"} among {self._names()}')
            return topic
        if not candidates:
            remedy = f'; {self.foreign_events}' if self.foreign_events else ''
            raise ValueError(f'{self.path} has no {kind}: it has {self._names()}{remedy}')
        if len(candidates) > 1:
            raise ValueError(
                f'{self.path} has several {kind}s, {", ".join(candidates)}: choose one with '
                f'{option}')
        return candidates[0]

    def _names(self) -> str:
        return ', '.join(
            f'{clean_text(name)} ({clean_text(topic.type_name) or "of unknown type"})'
            for name, topic in self.topics.items()) or 'no topics'
