"""What is in a recording: events, triggers and frames, summed up per topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

from epvlm_ros.bag.message_types import COMPRESSED_IMAGE_TYPE
from epvlm_ros.bag.messages import BagMessage
from epvlm_ros.bag.reader import BagReader, Content, explain_encoding
from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder, PacketDecoder
from epvlm_ros.time_units import stamp_to_ns
import numpy as np

_NUM_FIRST_PACKETS = 10


def bag_info(path: str | Path) -> dict[str, Any]:
    """
    Read a whole recording and summarise it as JSON types.

    Returns
    -------
    dict
        ``path``, ``storage``, ``messages``, ``duration_s`` (between the first and last record
        time), ``event_topics`` and ``image_topics`` (a summary by topic), ``other_topics`` (type
        and count by topic, also of images that are none that can be decoded) and ``problems``
        (a line for whatever could not be read). Times of events are sensor times in ns.

    Raises
    ------
    ValueError
        If there is no recording at ``path``, or nothing of it can be read.

    """
    with BagReader(path) as bag:
        start_ns, end_ns = bag.start_ns, bag.end_ns
        events = {name: _event_summary(bag, name) for name in bag.event_topics}
        images = {name: summary for name in bag.image_topics
                  if (summary := _image_summary(bag, name))}
        return {
            'path': str(path),
            'storage': bag.storage,
            'messages': bag.num_messages,
            'duration_s': 0.0 if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e9,
            'event_topics': events,
            'image_topics': images,
            'other_topics': {
                name: {'type': topic.type_name, 'count': topic.num_messages}
                for name, topic in bag.topics.items() if name not in {**events, **images}},
            'problems': [*bag.problems, *([bag.foreign_events] if bag.foreign_events else []), *(
                f'{count} messages of {clean_text(topic)} cannot be used'
                for topic, count in bag.num_unusable.items() if count > 1)],
        }


class _EventSums:
    """Sums over the events and triggers of a topic, over all of its decoders."""

    def __init__(self) -> None:
        self.decoders: dict[tuple[str, int, int], PacketDecoder] = {}
        self.first: EventPacket | None = None
        self.num_packets = 0
        self.num_undecoded_packets = 0
        self.undecoded_reason = ''
        self.num_by_polarity = np.zeros(2, np.int64)
        self.num_by_edge = np.zeros(2, np.int64)
        self.sum_x = self.sum_y = self.sum_t_ns = 0
        self.t_min_ns: int | None = None
        self.t_max_ns: int | None = None
        self.first_packets: list[int] = []
        self.num_gaps = self.num_missing = 0
        self._last_seq: int | None = None

    def add(self, packet: EventPacket) -> None:
        self.first = self.first or packet
        self.num_packets += 1
        if self._last_seq is not None and packet.seq > self._last_seq + 1:
            self.num_gaps += 1
            self.num_missing += packet.seq - self._last_seq - 1
        self._last_seq = packet.seq
        if packet.encoding not in ENCODINGS:
            self.num_undecoded_packets += 1
            self.undecoded_reason = explain_encoding(packet.encoding)
            return
        key = (packet.encoding, packet.width, packet.height)
        if key not in self.decoders:
            self.decoders[key] = make_decoder(*key)
        events, triggers = self.decoders[key].decode(packet)
        self.num_by_polarity += np.bincount(events.polarity, minlength=2)
        self.num_by_edge += np.bincount(triggers.edge, minlength=2)
        if len(self.first_packets) < _NUM_FIRST_PACKETS:
            self.first_packets.append(events.x.size)
        if not events.x.size:
            return
        self.sum_x += int(events.x.sum(dtype=np.int64))
        self.sum_y += int(events.y.sum(dtype=np.int64))
        self.sum_t_ns += sum_of_times(events.t_ns)
        t_min_ns, t_max_ns = int(events.t_ns.min()), int(events.t_ns.max())
        self.t_min_ns = t_min_ns if self.t_min_ns is None else min(self.t_min_ns, t_min_ns)
        self.t_max_ns = t_max_ns if self.t_max_ns is None else max(self.t_max_ns, t_max_ns)


def sum_of_times(t_ns: np.ndarray) -> int:
    """Sum times without overflow: those of libcaer count from the epoch of ROS time."""
    first_ns = int(t_ns[0])
    return int((t_ns - first_ns).sum()) + first_ns * t_ns.size


def _event_summary(bag: BagReader, topic: str) -> dict[str, Any]:
    sums = _EventSums()
    for _, packet in _read(bag, topic, bag.packet):
        sums.add(packet)
    if sums.num_undecoded_packets:
        bag.add_problem(
            f'{sums.num_undecoded_packets} packets of {clean_text(topic)} cannot be decoded: '
            f'{sums.undecoded_reason}')
    counters = [decoder.counters for decoder in sums.decoders.values()]
    num_outside = sum(item.num_out_of_range for item in counters)
    if num_outside > sums.num_by_polarity.sum():
        sizes = ', '.join(f'{width} x {height}' for _, width, height in sums.decoders)
        bag.add_problem(
            f'{num_outside} events of {clean_text(topic)} are outside of the sensor size that '
            f'their packets state ({sizes})')
    first = sums.first
    return {
        'type': bag.topics[topic].type_name,
        'encoding': first.encoding if first else None,
        'width': first.width if first else None,
        'height': first.height if first else None,
        'packets': sums.num_packets,
        'off': int(sums.num_by_polarity[0]),
        'on': int(sums.num_by_polarity[1]),
        'sum_x': sums.sum_x,
        'sum_y': sums.sum_y,
        'sum_t_ns': sums.sum_t_ns,
        't_min_ns': sums.t_min_ns,
        't_max_ns': sums.t_max_ns,
        'triggers': int(sums.num_by_edge.sum()),
        'trigger_edge0': int(sums.num_by_edge[0]),
        'trigger_edge1': int(sums.num_by_edge[1]),
        'first_packets': sums.first_packets,
        'undecodable_words': sum(item.num_unknown_words for item in counters),
        'invalid_events': sum(item.num_invalid for item in counters),
        'out_of_range_events': num_outside,
        'events_before_time': sum(item.num_before_time for item in counters),
        'truncated_bytes': sum(item.num_truncated_bytes for item in counters),
        'undecoded_packets': sums.num_undecoded_packets,
        'stream_kinds': [list(key) for key in sums.decoders],
        'seq_gaps': sums.num_gaps,
        'seq_missing': sums.num_missing,
    }


def _read(
    bag: BagReader, topic: str, read: Callable[[BagMessage], Content],
) -> Iterator[tuple[BagMessage, Content]]:
    """Iterate over what can be read of a topic, up to where its file is damaged."""
    try:
        yield from bag.read_usable(bag.messages([topic]), read)
    except ValueError as error:
        bag.add_problem(f'{clean_text(topic)} is not read to its end: {error}')


def _image_summary(bag: BagReader, topic: str) -> dict[str, Any] | None:
    """Return None where not one of the images can be decoded: depth or video, say."""
    stamps_ns: list[int] = []
    width = height = encoding = None
    is_compressed = bag.topics[topic].type_name == COMPRESSED_IMAGE_TYPE

    def read(message: BagMessage) -> Any:
        return bag.deserialize(message.data, message.type_name)

    for message, image in _read(bag, topic, read):
        stamps_ns.append(stamp_to_ns(image.header.stamp))
        if encoding is None and not is_compressed:
            height, width, encoding = image.height, image.width, image.encoding
        elif encoding is not None and len(image.data):
            continue  # decoding all would take long
        for _, decoded in bag.read_usable([message], bag.image):
            (height, width), encoding = decoded.rgb.shape[:2], decoded.encoding
    if encoding is None and stamps_ns:
        return None
    span_ns = max(stamps_ns) - min(stamps_ns) if stamps_ns else 0
    return {
        'type': bag.topics[topic].type_name,
        'width': width,
        'height': height,
        'encoding': encoding,
        'count': len(stamps_ns),
        'rate_hz': (len(stamps_ns) - 1) * 1e9 / span_ns if span_ns else None,
    }
