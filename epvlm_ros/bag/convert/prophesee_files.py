"""Files of Prophesee cameras: .raw (EVT2, EVT2.1, EVT3) and .dat; sensor time becomes ROS time."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Iterator

from epvlm_ros.bag.convert.sources import EventBatch, split_in_time
from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import make_decoder
import numpy as np

TOPIC, FRAME_ID = '/event_camera/events', 'event_camera'
_ENCODINGS = {'EVT2': 'evt2', 'EVT21': 'evt21', 'EVT3': 'evt3',
              '2.0': 'evt2', '2.1': 'evt21', '3.0': 'evt3'}
_DAT_RECORD = np.dtype([('t_us', '<u4'), ('word', '<u4')])
_DAT_CD_EVENTS = (0, 12)  # types


class _PropheseeFile:
    """The header of a file, and its size from there or as it was given."""

    _step_size: int  # bytes that are read at once

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self.problems: list[str] = []
        try:
            self._file: BinaryIO = path.open('rb')
        except OSError as error:
            raise ValueError(f'cannot read {path}: {error.strerror}') from None
        self._path = path
        self._fields = self._read_header()
        self.size = size or self._find_size()  # width, height
        self.num_steps = -(-path.stat().st_size // self._step_size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> dict[str, str]:
        """Read the lines that begin with %; the file is left where the data begin."""
        fields: dict[str, str] = {}
        while True:
            start = self._file.tell()
            line = self._file.readline(1000)
            if not line.startswith(b'%'):
                self._file.seek(start)
                return fields
            name, _, value = line[1:].decode(errors='replace').strip().partition(' ')
            fields[name.lower()] = value.strip()
            if name == 'end':
                return fields
            if name.lower() == 'format':
                for item in value.split(';')[1:]:
                    key, _, number = item.partition('=')
                    fields[key.lower()] = number

    def _find_size(self) -> tuple[int, int]:
        fields = self._fields
        width, _, height = fields.get('geometry', '').partition('x')
        try:
            return int(fields.get('width') or width), int(fields.get('height') or height)
        except ValueError:
            raise ValueError(
                f'{self._path} does not say the size of its sensor: give --size WIDTHxHEIGHT') \
                from None


class RawFile(_PropheseeFile):
    """A .raw file, whose words are kept, with its triggers."""

    _step_size = 8192  # of the order of what drivers send in a packet

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        super().__init__(path, size)
        name = self._fields.get('format', '').split(';')[0] or self._fields.get('evt', '')
        encoding = _ENCODINGS.get(name.upper())
        legacy = self._fields.get('endianness', 'little') != 'little'
        if encoding is None or legacy:
            self.close()
            kind = f'{name} {self._fields.get("endianness", "")}'.strip()
            raise ValueError(
                f'{path} is of format {clean_text(repr(kind))}: give one of EVT2, EVT2.1 in '
                'little endian or EVT3')
        self._encoding = encoding

    def __iter__(self) -> Iterator[EventBatch]:
        decoder = make_decoder(self._encoding, *self.size)
        last_ns = 0
        while data := self._file.read(self._step_size):
            packet = EventPacket(
                0, *self.size, 0, 0, self._encoding, np.frombuffer(data, np.uint8))
            events = decoder.decode(packet).events
            first_ns = int(events.t_ns[0]) if events.t_ns.size else last_ns
            last_ns = int(events.t_ns[-1]) if events.t_ns.size else last_ns
            yield EventBatch(TOPIC, last_ns, first_ns, FRAME_ID, *self.size, events,
                             self._encoding, data)
        if outside := decoder.counters.num_out_of_range:
            self.problems.append(
                f'{outside} events are outside of {self.size[0]} x {self.size[1]} pixels')
        if decoder.counters.num_truncated_bytes:
            self.problems.append(f'{self._path} ends within a word')


class DatFile(_PropheseeFile):
    """A .dat file of events of 8 bytes."""

    _step_size = 1 << 20

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        super().__init__(path, size)
        kind = self._file.read(2)
        if len(kind) < 2 or kind[0] not in _DAT_CD_EVENTS or kind[1] != _DAT_RECORD.itemsize:
            self.close()
            raise ValueError(f'{path} does not hold events of 8 bytes: give a .dat of CD events')

    def __iter__(self) -> Iterator[EventBatch]:
        while data := self._file.read(self._step_size):
            size = _DAT_RECORD.itemsize
            records = np.frombuffer(data, _DAT_RECORD, len(data) // size)
            if len(data) % size:
                self.problems.append(f'{self._path} ends within an event')
            word = records['word']
            events = Events(
                (word & 0x3FFF).astype(np.uint16), (word >> 14 & 0x3FFF).astype(np.uint16),
                (word >> 28 & 1).astype(np.uint8), records['t_us'].astype(np.int64) * 1000)
            for part in split_in_time(events):
                yield _to_batch(part, self.size)


def _to_batch(events: Events, size: tuple[int, int]) -> EventBatch:
    return EventBatch(
        TOPIC, int(events.t_ns.max()), int(events.t_ns[0]), FRAME_ID, *size, events)
