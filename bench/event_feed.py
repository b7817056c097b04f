"""An event camera and a camera as DDS publishers: evt3 packets and frames at any rate."""

from __future__ import annotations

import array
from dataclasses import dataclass, field
import struct
import threading
import time

from event_camera_msgs.msg import EventPacket
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

WIDTH, HEIGHT = 1280, 720
PACKET_S = 0.004
STEP_US = 20  # between time stamps in a packet
STEPS = round(PACKET_S * 1e6) // STEP_US
MARK = 0x5EED5EED5EED5EED  # stands where the number of the packet goes
CAMERA_DELAY_S = 0.010  # from a frame's stamp to its arrival
FRAME_SHAPE = (480, 640, 3)


@dataclass
class FeedLog:
    """What was published, for the comparison with what came out."""

    packets: list[tuple[int, float]] = field(default_factory=list)  # end in ROS ns, published
    num_events: int = 0
    num_bytes: int = 0
    frames_ns: list[int] = field(default_factory=list)
    late_s: float = 0.0  # how far the feed itself fell behind, at worst


class PacketTemplate:
    """
    One serialised packet whose number, stamp and times can be set.

    Half of the events come as single words, half in vectors of 12 pixels.

    Parameters
    ----------
    num_events : int
        About how many events it holds.
    seed : int
        Of the random content.

    """

    def __init__(self, num_events: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        words, self._low = _make_words(random, num_events / STEPS)
        self.num_events = _count_events(words)
        message = EventPacket(
            header=Header(frame_id='event_camera'), height=HEIGHT, width=WIDTH, seq=MARK,
            encoding='evt3', events=array.array('B', words.tobytes()))
        self._raw = bytearray(serialize_message(message))
        self._seq_at = self._raw.index(struct.pack('<Q', MARK))
        start = len(self._raw) - words.nbytes
        while bytes(self._raw[start:start + 64]) != words.tobytes()[:64]:
            start -= 1
        self._words = np.frombuffer(self._raw, np.uint16, words.size, start)
        self.num_bytes = words.nbytes

    def fill(self, seq: int, stamp_ns: int, start_us: int) -> bytes:
        """Return the packet with its number, stamp and start in sensor time set."""
        struct.pack_into('<iI', self._raw, 4, *divmod(stamp_ns, 1_000_000_000))
        struct.pack_into('<Q', self._raw, self._seq_at, seq)
        times_us = start_us + np.arange(STEPS) * STEP_US
        self._words[self._low - 1] = 0x8000 | (times_us >> 12 & 0xFFF)
        self._words[self._low] = 0x6000 | (times_us & 0xFFF)
        return bytes(self._raw)


def _make_words(random: np.random.Generator, events_per_step: float) -> tuple[
        np.ndarray, np.ndarray]:
    """Return the words of a packet and where its TIME_LOW words are."""
    rows_per_step = max(1, -(-round(events_per_step) // 12))  # at least what was asked for
    chunks, low_at, length = [], [], 0
    for _ in range(STEPS):
        row_words = []
        for y in np.sort(random.integers(0, HEIGHT, rows_per_step)):
            single = 0x2000 | random.integers(0, WIDTH, 6) | random.integers(0, 2) << 11
            base = 0x3000 | random.integers(0, WIDTH - 12) | random.integers(0, 2) << 11
            row_words.append([int(y), *single.tolist(), int(base),
                              0x4000 | int(random.integers(1, 4096))])
        step = np.concatenate([[0x8000, 0x6000], np.ravel(row_words)]).astype(np.uint16)
        low_at.append(length + 1)
        length += step.size
        chunks.append(step)
    return np.concatenate(chunks), np.array(low_at)


def _count_events(words: np.ndarray) -> int:
    single = np.count_nonzero(words >> 12 == 2)
    vectors = words[words >> 12 == 4] & 0xFFF
    return int(single + np.unpackbits(vectors.view(np.uint8)).sum())


class EventFeed:
    """
    Publishes packets and frames on its own threads and participants.

    Packets and frames have a participant each: in one, large frames crowd best effort packets
    out of shared memory.
    """

    def __init__(self, domain_id: int) -> None:
        self._contexts = [Context(), Context()]
        for context in self._contexts:
            rclpy.init(context=context, domain_id=domain_id)
        self._nodes = [rclpy.create_node(name, context=context) for name, context in zip(
            ('event_camera', 'camera'), self._contexts)]
        self.events = self._nodes[0].create_publisher(
            EventPacket, 'events',
            QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT))
        self.images = self._nodes[1].create_publisher(
            Image, 'image', QoSProfile(depth=30, reliability=ReliabilityPolicy.RELIABLE))
        pixels = np.random.default_rng(0).integers(0, 255, FRAME_SHAPE, dtype=np.uint8)
        self._image = bytearray(serialize_message(Image(
            header=Header(frame_id='camera'), height=FRAME_SHAPE[0], width=FRAME_SHAPE[1],
            encoding='rgb8', step=3 * FRAME_SHAPE[1], data=array.array('B', pixels.tobytes()))))
        self._seq = 0
        self._templates: dict[int, list[PacketTemplate]] = {}

    def is_matched(self) -> bool:
        """Whether both topics have a subscriber."""
        return bool(self.events.get_subscription_count() and self.images.get_subscription_count())

    def prepare(self, events_per_s: float) -> list[PacketTemplate]:
        """Make the packets of a rate, which takes a moment."""
        num_events = round(events_per_s * PACKET_S)
        if num_events not in self._templates:
            self._templates[num_events] = [PacketTemplate(num_events, seed) for seed in range(4)]
        return self._templates[num_events]

    def run(self, events_per_s: float, seconds: float, frames_per_s: float = 30.0) -> FeedLog:
        """Publish for a while in real time; returns when all is out."""
        templates, log = self.prepare(events_per_s), FeedLog()
        begin_s = time.monotonic()
        # ROS time of the steady clock's zero: what the stamps are made with.
        self._ros_zero_ns = time.time_ns() - time.monotonic_ns()
        frames = threading.Thread(
            target=self._run_frames, args=(log, begin_s, seconds, frames_per_s))
        frames.start()
        for number in range(round(seconds / PACKET_S)):
            start_s = begin_s + number * PACKET_S
            end_s = start_s + PACKET_S
            template = templates[number % len(templates)]
            start_ns = round(start_s * 1e9)
            raw = template.fill(
                self._seq, self._ros_zero_ns + start_ns, start_ns // 1000 % (1 << 24))
            self._seq += 1
            delay_s = end_s - time.monotonic()
            if delay_s > 0:
                time.sleep(delay_s)
            log.late_s = max(log.late_s, -delay_s)
            log.packets.append((self._ros_zero_ns + round(end_s * 1e9), time.monotonic()))
            self.events.publish(raw)
            log.num_events += template.num_events
            log.num_bytes += template.num_bytes
        frames.join()
        return log

    def _run_frames(
        self, log: FeedLog, begin_s: float, seconds: float, frames_per_s: float,
    ) -> None:
        # The last window ends before the events do.
        for number in range(round((seconds - 0.1) * frames_per_s)):
            stamp_s = begin_s + 0.05 + number / frames_per_s
            time.sleep(max(0.0, stamp_s + CAMERA_DELAY_S - time.monotonic()))
            stamp_ns = self._ros_zero_ns + round(stamp_s * 1e9)
            struct.pack_into('<iI', self._image, 4, *divmod(stamp_ns, 1_000_000_000))
            log.frames_ns.append(stamp_ns)
            self.images.publish(bytes(self._image))

    def close(self) -> None:
        """Leave the graph."""
        for node, context in zip(self._nodes, self._contexts):
            node.destroy_node()
            context.try_shutdown()
