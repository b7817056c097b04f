"""MCAP files that were cut off, or that rosbags refuses, read without their index."""

from __future__ import annotations

from collections import Counter
import heapq
from io import BytesIO
from pathlib import Path
from typing import Any, Collection, Iterator, NamedTuple

from epvlm_ros.bag.messages import BagMessage, BagTopic
from epvlm_ros.bag.storage import decompress_message, find_durabilities
from epvlm_ros.clean_text import clean_text
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Header, Message, Schema
from mcap.stream_reader import breakup_chunk

_MAGIC = b'\x89MCAP0\r\n'
_HEAD_SIZE = 9  # of a record: code and length
_PROFILES = ('ros2', '')


class _Part(NamedTuple):
    """A chunk, or a message outside of one, and where its record is."""

    start_ns: int
    end_ns: int
    code: int
    offset: int
    size: int


class McapScan:
    """
    A file whose whole chunks are read, from its start to where it ends or is cut off.

    ``types`` are those of topics without a schema. Raises a ValueError if the file has no message
    or is not of ROS 2.
    """

    def __init__(self, path: Path, types: dict[str, str]) -> None:
        self.problem = ''
        self._path, self._types = path, types
        self._parts: list[_Part] = []
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, BagTopic]] = {}
        self._counts: Counter[int] = Counter()
        self._num_damaged = 0
        self._file = path.open('rb')
        try:
            if self._file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(f'{path} cannot be read as a recording: it is no MCAP file')
            self._scan()
            if self.problem and not self._parts:
                raise ValueError(
                    f'{path} cannot be read as a recording: it is cut off before the end of its '
                    'first chunk')
        except ValueError:
            self.close()
            raise
        except Exception as error:  # noqa: B902  damaged files fail in many ways
            self.close()
            raise ValueError(f'{path} cannot be read as a recording: {error!r}') from None
        self._parts.sort()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def time_range_ns(self) -> tuple[int, int] | None:
        """Return the first and the last record time, None in an empty file."""
        if not self._parts:
            return None
        return self._parts[0].start_ns, max(part.end_ns for part in self._parts)

    @property
    def topics(self) -> list[tuple[str, BagTopic]]:
        """Return the topics by name, one for each channel."""
        return [(name, topic._replace(num_messages=self._counts[number]))
                for number, (name, topic) in self._channels.items()]

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Iterate over the messages of some topics in the order of their record time."""
        waiting: list[tuple[int, int, BagMessage]] = []  # second: to keep equal times in order
        number = 0
        for part in self._parts:
            while waiting and waiting[0][0] < part.start_ns:
                yield heapq.heappop(waiting)[2]
            for record in self._read(part):
                name, topic = self._channels[record.channel_id]
                if name in topics:
                    heapq.heappush(waiting, (record.log_time, number, BagMessage(
                        name, topic.type_name, record.log_time,
                        decompress_message(record.data))))
                    number += 1
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _scan(self) -> None:
        size = self._path.stat().st_size
        offset = len(_MAGIC)
        while True:
            head = self._file.read(_HEAD_SIZE)
            code, length = head[0] if head else 0, int.from_bytes(head[1:], 'little')
            if code in (Opcode.DATA_END, Opcode.FOOTER):
                break
            start = offset + _HEAD_SIZE
            if len(head) < _HEAD_SIZE or start + length > size:
                self._tell_of_cut(size - offset)
                return
            if code in (Opcode.HEADER, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE,
                        Opcode.CHUNK):
                self._add_record(code, start, length)
            offset = start + length
            self._file.seek(offset)
        if self._num_damaged:
            self.problem = f'{self._path}: damaged chunks that are left out: {self._num_damaged}'

    def _tell_of_cut(self, num_bytes: int) -> None:
        self.problem = (
            f'{self._path} is cut off: the {self._counts.total()} messages of its whole chunks '
            f'are read, its last {num_bytes} bytes and what is missing after them are not; "mcap '
            'recover" makes a whole file of it')
        if self._num_damaged:
            self.problem += f'; damaged chunks that are left out: {self._num_damaged}'

    def _add_record(self, code: int, offset: int, size: int) -> None:
        content = self._file.read(size)
        if code == Opcode.MESSAGE:
            message = _parse(Message, content, size)
            self._counts[message.channel_id] += 1
            self._parts.append(_Part(message.log_time, message.log_time, code, offset, size))
        elif code == Opcode.CHUNK:
            chunk = _parse(Chunk, content)
            try:
                records = breakup_chunk(chunk, validate_crc=True)
            except Exception:  # noqa: B902  damaged data fail in many ways
                self._num_damaged += 1
                return
            for record in records:
                self._add(record)
            if any(isinstance(record, Message) for record in records):
                self._parts.append(_Part(
                    chunk.message_start_time, chunk.message_end_time, code, offset, size))
        elif code == Opcode.HEADER:
            profile = _parse(Header, content).profile
            if profile not in _PROFILES:
                raise ValueError(
                    f'{self._path} has profile {clean_text(repr(profile))}: give a recording of '
                    'ROS 2')
        else:
            self._add(_parse(Schema if code == Opcode.SCHEMA else Channel, content))

    def _add(self, record: Any) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record.name
        elif isinstance(record, Channel):
            type_name = self._schemas.get(record.schema_id) or self._types.get(record.topic, '')
            self._channels.setdefault(record.id, (record.topic, BagTopic(
                type_name, 0, find_durabilities(record.metadata.get('offered_qos_profiles')))))
        elif isinstance(record, Message):
            self._counts[record.channel_id] += 1

    def _read(self, part: _Part) -> list[Message]:
        self._file.seek(part.offset)
        content = self._file.read(part.size)
        if part.code == Opcode.MESSAGE:
            return [_parse(Message, content, part.size)]
        return [record for record in breakup_chunk(_parse(Chunk, content))
                if isinstance(record, Message)]


def _parse(kind: Any, content: bytes, *size: int) -> Any:
    return kind.read(ReadDataStream(BytesIO(content)), *size)
