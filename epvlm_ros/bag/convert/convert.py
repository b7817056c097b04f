"""Writes the events of a source as packets in a rosbag2, and its other messages as they are."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
import shutil
from typing import Any, Callable, Iterable

from epvlm_ros.bag.convert.aedat_file import AedatFile
from epvlm_ros.bag.convert.dsec import DsecSequence, is_dsec
from epvlm_ros.bag.convert.event_tables import EventTable, HDF5_SUFFIXES
from epvlm_ros.bag.convert.mono_packets import encode_mono, split_for_packets
from epvlm_ros.bag.convert.prophesee_files import DatFile, RawFile
from epvlm_ros.bag.convert.sources import BagSource, EventBatch, ImageFrame, Ros1BagSource
from epvlm_ros.bag.message_types import make_typestore
from epvlm_ros.bag.writer import BagWriter
from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet import EventPacket
import numpy as np

_TABLES = ('.npz', '.txt', '.csv', *HDF5_SUFFIXES)

Progress = Callable[[Iterable, int], Iterable]


@dataclass
class Converted:
    """How many events of both polarities a topic has, how many messages others, and problems."""

    num_events: dict[str, list[int]] = field(default_factory=dict)  # off and on, by topic
    num_copied: Counter[str] = field(default_factory=Counter)  # messages by topic
    problems: list[str] = field(default_factory=list)  # a line each


def convert(
    source: str | Path, target: str | Path,
    progress: Progress = lambda steps, number: steps, size: tuple[int, int] | None = None,
    time_unit: str = '',
) -> Converted:
    """
    Convert a recording to a new rosbag2 folder in MCAP.

    Events become packets of encoding ``mono``, which keeps every time to the ns, but for a .raw,
    whose words are kept. ``progress`` wraps the messages, and is given their number, 0
    where it is not known. ``size`` (width, height) and ``time_unit`` are for files that do not
    say them.

    Raises
    ------
    ValueError
        If the source is of no known kind or damaged, holds no events that have to be converted, or
        the target exists.

    """
    with closing(_open(Path(source), size, time_unit)) as reader:
        writer = BagWriter(target, 'mcap')
        try:
            with writer:
                result = _Writer(writer).write(progress(reader, reader.num_steps))
                if not result.num_events:
                    raise ValueError(
                        f'{source} has no events that have to be converted: epvlm bag-info tells '
                        'what is in it')
        except BaseException:
            shutil.rmtree(target)  # made above
            raise
        result.problems[:0] = reader.problems
        return result


def _open(source: Path, size: tuple[int, int] | None, time_unit: str) -> Any:
    if source.suffix == '.raw':
        return RawFile(source, size)
    if source.suffix == '.dat':
        return DatFile(source, size)
    if source.suffix == '.aedat4':
        return AedatFile(source)
    if is_dsec(source):
        return DsecSequence(source, size)
    if source.suffix in _TABLES:
        return EventTable(source, size, time_unit)
    if source.suffix == '.bag':
        if not source.is_file():
            raise ValueError(f'{source} does not exist: give a recording')
        return Ros1BagSource(source)
    return BagSource(source)


class _Writer:

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer
        self._result = Converted()
        self._seq: Counter[str] = Counter()
        self._unknown: Counter[tuple[str, str]] = Counter()

    def write(self, contents: Iterable) -> Converted:
        """Write everything and return what it was."""
        known = make_typestore().types
        for content in contents:
            if isinstance(content, EventBatch):
                self._write_events(content)
            elif isinstance(content, ImageFrame):
                self._writer.write_image(
                    content.topic, content.stamp_ns, content.pixels, content.record_time_ns,
                    content.frame_id, content.encoding)
                self._result.num_copied[content.topic] += 1
            elif content.type_name in known:
                self._writer.write_raw(*content)
                self._result.num_copied[content.topic] += 1
            else:
                self._unknown[content.topic, content.type_name] += 1
        self._result.problems += [
            f'{count} messages of {clean_text(topic)} are left out: their type '
            f'{clean_text(type_name)} is unknown'
            for (topic, type_name), count in self._unknown.items()]
        return self._result

    def _write_events(self, batch: EventBatch) -> None:
        counts = self._result.num_events.setdefault(batch.topic, [0, 0])
        num_on = int(batch.events.polarity.sum(dtype=np.int64))
        counts[0] += batch.events.polarity.size - num_on
        counts[1] += num_on
        if batch.payload:
            self._write_packet(batch, batch.stamp_ns, 0, batch.encoding, batch.payload)
            return
        for start_ns, events in split_for_packets(batch.events):
            first_ns = int(batch.events.t_ns[0]) if batch.events.t_ns.size else start_ns
            stamp_ns = batch.stamp_ns + max(start_ns - first_ns, 0)
            self._write_packet(batch, stamp_ns, start_ns, 'mono', encode_mono(events, start_ns))

    def _write_packet(
        self, batch: EventBatch, stamp_ns: int, time_base: int, encoding: str, payload: Any,
    ) -> None:
        if stamp_ns < 0 or time_base < 0:
            raise ValueError(f'{batch.topic} has events before time 0: give times from 0 on')
        packet = EventPacket(stamp_ns, batch.width, batch.height, self._seq[batch.topic],
                             time_base, encoding, payload)
        self._seq[batch.topic] += 1
        self._writer.write_event_packet(
            batch.topic, packet, batch.record_time_ns, batch.frame_id)
