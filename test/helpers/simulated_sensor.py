"""An event sensor with a clock of its own, whose events say when they really happened."""

from dataclasses import dataclass, field

from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
import numpy as np

MS = 1_000_000
SECOND = 1000 * MS
START_NS = 1_700_000_000 * SECOND  # ROS time at which a simulation starts
TICK_NS = MS // 10  # one event each, in the sensor's time
HEIGHT, WIDTH = 64, 64
NUM_PIXELS = HEIGHT * WIDTH  # events of 0.4 s
_WRAP_US = 1 << 31


@dataclass
class Restart:
    """At ``at_s`` the sensor is silent for ``gap_s``, then its time is moved or set."""

    at_s: float
    gap_s: float = 0.0
    move_ns: int = 0
    set_ns: int | None = None
    seq: int | None = None  # of the first packet afterwards


@dataclass
class SimulatedSensor:
    """
    Makes packets; event k fires at pixel k modulo the number of pixels.

    Host delays are uniform from 0 to ``jitter_ms``; with ``bursts``, every few seconds all
    packets are 50 to 200 ms late for up to a second. No packet overtakes another. At each of
    ``edges_ns`` input 1 rises, 1 ms later it falls, and input 0 does the opposite.
    """

    encoding: str = 'evt3'
    drift_ppm: float = 0.0
    start_ns: int = 5 * SECOND
    period_ms: int = 4
    jitter_ms: float = 8.0
    bursts: bool = False
    restarts: list = field(default_factory=list)
    edges_ns: np.ndarray = field(default_factory=lambda: np.empty(0))  # after the start; evt3
    seed: int = 0

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)
        self.world_ns = []  # true ROS time of every event
        self._base = self.start_ns, 0.0  # sensor time of a time in the world
        self._sensor_ns = self.start_ns
        self._seq = 0
        self._burst = self.random.uniform(3, 6), 0.0
        self.begun_s = [0.0]  # when it started, again and again

    def to_world(self, sensor_ns):
        """Return ns of ROS time after the start, of a time since the latest restart."""
        return self._base[1] + (sensor_ns - self._base[0]) * (1 + self.drift_ppm * 1e-6)

    def to_sensor(self, world_ns):
        """Return the sensor time of ns after the start."""
        return round(self._base[0] + (world_ns - self._base[1]) / (1 + self.drift_ppm * 1e-6))

    def packets(self, duration_s):
        """Yield packets in order, each with the ns after the start at which it arrives."""
        restarts = list(self.restarts)
        self._stamp_ns = 0.0
        while self.to_world(self._sensor_ns) < duration_s * SECOND:
            if restarts and self.to_world(self._sensor_ns) >= restarts[0].at_s * SECOND:
                self._restart(restarts.pop(0))
            begin_ns = self._sensor_ns
            end_ns = begin_ns + self.period_ms * MS
            packet = self._make_packet(begin_ns, end_ns)
            yield self._stamp_ns + self.period_ms * MS, packet
            self._sensor_ns = end_ns

    def _restart(self, restart):
        world_ns = self.to_world(self._sensor_ns) + restart.gap_s * SECOND
        moved_ns = self._sensor_ns + round(restart.gap_s * SECOND) + restart.move_ns
        self._sensor_ns = moved_ns if restart.set_ns is None else restart.set_ns
        self._base = self._sensor_ns, world_ns
        self.begun_s.append(world_ns / SECOND)
        self._seq = self._seq if restart.seq is None else restart.seq

    def _make_packet(self, begin_ns, end_ns):
        t_ns = np.arange(begin_ns + TICK_NS // 2, end_ns, TICK_NS)
        index = len(self.world_ns) + np.arange(t_ns.size)
        self.world_ns.extend(START_NS + self.to_world(t_ns))
        pixel = index % NUM_PIXELS
        events = Events((pixel % WIDTH).astype(np.uint16), (pixel // WIDTH).astype(np.uint16),
                        np.ones(t_ns.size, np.uint8), t_ns)
        if self.encoding == 'evt3':
            first_ns, time_base = begin_ns, 0
            payload = self._encode_evt3(events, begin_ns, end_ns)
        else:
            first_ns = t_ns[0]
            time_base, payload = encode_libcaer(events)
        delay_ns = self._delay_ns(self.to_world(begin_ns) / SECOND)
        self._stamp_ns = max(self._stamp_ns, self.to_world(first_ns) + delay_ns)
        self._seq += 1
        return EventPacket(
            START_NS + round(self._stamp_ns), WIDTH, HEIGHT, self._seq - 1, time_base,
            self.encoding, payload)

    def _encode_evt3(self, events, begin_ns, end_ns):
        """Put the trigger edges of a packet between its events."""
        world_ns = self.edges_ns
        is_near = (world_ns > self.to_world(begin_ns) - 3 * MS) & (
            world_ns < self.to_world(end_ns) + MS)
        edges = [(t_ns, rises) for edge_ns in map(self.to_sensor, world_ns[is_near])
                 for t_ns, rises in ((edge_ns, 1), (edge_ns + MS, 0))
                 if begin_ns <= t_ns < end_ns]
        parts = []
        for t_ns, rises in sorted(edges):
            is_before = events.t_ns // 1000 < t_ns // 1000
            parts.append(encode_evt3(
                Events(*(part[is_before] for part in events)), start_ns=begin_ns))
            events = Events(*(part[~is_before] for part in events))
            begin_ns = t_ns
            t_us = t_ns // 1000
            words = [0x8000 | t_us >> 12 & 0xFFF, 0x6000 | t_us & 0xFFF,
                     0xA100 | rises, 0xA000 | 1 - rises]
            parts.append(np.array(words, '<u2').view(np.uint8))
        parts.append(encode_evt3(events, start_ns=begin_ns))
        return np.concatenate(parts)

    def _delay_ns(self, now_s):
        if self.bursts and now_s >= self._burst[0]:
            if self._burst[1] == 0.0:
                self._burst = self._burst[0], now_s + self.random.uniform(0.1, 1.0)
            if now_s < self._burst[1]:
                return self.random.uniform(50, 200) * MS
            self._burst = now_s + self.random.uniform(2, 6), 0.0
        return self.random.uniform(0, self.jitter_ms) * MS


def encode_libcaer(events):
    """Return time base and payload as the driver makes them: stamps wrap after 2^31 us."""
    t_us = events.t_ns // 1000
    time_base = int(t_us[0]) // _WRAP_US * _WRAP_US * 1000
    words = np.empty((t_us.size, 2), '<u4')
    words[:, 0] = 1 | events.polarity.astype('u4') << 1 | events.y.astype('u4') << 2 \
        | events.x.astype('u4') << 17
    words[:, 1] = t_us % _WRAP_US
    return time_base, words.view(np.uint8).ravel()


def find_centre(counts, world_ns, near_ns):
    """
    Return when the events of a window happened on average, by ROS time.

    ``world_ns`` are the times of all events; ``near_ns`` tells those of the same pixel apart.
    """
    pixel = np.flatnonzero(counts)
    nearest = int(np.searchsorted(world_ns, near_ns))
    index = pixel + np.round((nearest - pixel) / NUM_PIXELS).astype(int) * NUM_PIXELS
    is_known = (index >= 0) & (index < world_ns.size)
    weights = counts.ravel()[pixel][is_known]
    times = world_ns[index[is_known]] - START_NS
    return START_NS + float((weights * times).sum() / weights.sum())
