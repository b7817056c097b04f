"""
Queue between the thread that receives and the one that processes; sheds load.

An event camera sends events at any rate: memory and delay must not grow with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import auto, Enum
import math
import threading
import time
from typing import Any, Callable, NamedTuple

from epvlm_ros.events.packet import EventPacket

# Of so many packets the events of one are counted, once a packet has waited for this share of the
# longest delay. After the whole of it none are: then packets are only skimmed, which keeps their
# decoder in step.
SHEDDING = ((1 / 2, 2), (3 / 4, 4))
# Packets that are late for less than this share of the delay were held up by a single thing, and
# are soon caught up with.
PATIENCE = 1 / 4
PACKET_OVERHEAD = 1024  # bytes of a packet beside its payload: empty ones take room as well


class Kind(Enum):
    """What waits."""

    PACKET = auto()
    FRAME = auto()
    CALL = auto()


class QueueItem(NamedTuple):
    """
    The next item: an EventPacket, a frame or a function, by ``kind``.

    ``shed`` says that the events of a packet are not to be counted.
    """

    kind: Kind
    item: Any
    arrival_s: float
    shed: bool


@dataclass
class InputQueueCounters:
    """What was lost since the start."""

    num_dropped_packets: int = 0
    num_dropped_frames: int = 0


class _Entry(NamedTuple):
    kind: Kind
    item: Any
    arrival_s: float
    num_bytes: int


class InputQueue:
    """
    A bounded first-in first-out queue of event packets, frames and calls, for any thread.

    If packets come faster than they are taken, load is shed by how long the next packet has
    waited: from half of ``max_delay_s`` on the events of every second packet count, from three
    quarters on those of every fourth, then none, but every packet still passes through its
    decoder. If the queue is full, the oldest packets are dropped. Thinning by packets keeps active
    places more active than still ones. Frames are dropped only when ``max_frames`` of them wait,
    the oldest first.

    Parameters
    ----------
    max_delay_s : float
        How long packets may wait, in seconds of the monotonic clock.
    max_bytes : int
        Most bytes of packets that wait; a single packet may be larger.
    max_frames : int
        Most frames that wait. A limit that is not positive raises ValueError.

    """

    def __init__(self, max_delay_s: float, max_bytes: int, max_frames: int) -> None:
        if not max_delay_s > 0.0 or min(max_bytes, max_frames) < 1:
            raise ValueError(
                f'a queue of {max_delay_s} s, {max_bytes} bytes and {max_frames} frames: give '
                'more than 0 s, and 1 or more of the others')
        self._max_delay_s = max_delay_s
        self._max_bytes, self._max_frames = max_bytes, max_frames
        self.counters = InputQueueCounters()
        self._line: deque[_Entry] = deque()
        self._num_bytes = 0
        self._num_frames = 0
        self._late_since_s = math.inf
        self._turn = 0  # of the packets whose turn came while load was shed
        self._changed = threading.Condition()

    @property
    def num_bytes(self) -> int:
        """Return how many bytes of packets wait."""
        return self._num_bytes

    def put_packet(self, packet: EventPacket, now_s: float) -> None:
        """Queue a packet at ``now_s`` of the monotonic clock; the oldest ones make room for it."""
        entry = _Entry(Kind.PACKET, packet, now_s, int(packet.events.size) + PACKET_OVERHEAD)
        with self._changed:
            while self._num_bytes and self._num_bytes + entry.num_bytes > self._max_bytes:
                self._drop_oldest(Kind.PACKET)
                self.counters.num_dropped_packets += 1
            self._append(entry)

    def put_frame(self, frame: Any, now_s: float) -> None:
        """Queue a frame; the oldest one is dropped if there are too many."""
        with self._changed:
            if self._num_frames == self._max_frames:
                self._drop_oldest(Kind.FRAME)
                self.counters.num_dropped_frames += 1
            self._append(_Entry(Kind.FRAME, frame, now_s, 0))

    def put_call(self, call: Callable[[], None]) -> None:
        """Queue a function to be called; it is never dropped."""
        with self._changed:
            self._append(_Entry(Kind.CALL, call, 0.0, 0))

    def get(self, timeout_s: float) -> QueueItem | None:
        """Take the oldest item; None if there was none for ``timeout_s`` seconds."""
        with self._changed:
            if not self._line and not self._changed.wait_for(lambda: self._line, timeout_s):
                return None
            entry = self._remove(0)
            shed = entry.kind is Kind.PACKET and self._sheds(entry)
            return QueueItem(entry.kind, entry.item, entry.arrival_s, shed)

    def _sheds(self, entry: _Entry) -> bool:
        """Whether a packet is shed for those that wait behind it."""
        now_s = time.monotonic()
        delay = (now_s - entry.arrival_s) / self._max_delay_s if self._num_bytes else 0.0
        keep_one_of = max((every for share, every in SHEDDING if delay >= share), default=1)
        if keep_one_of == 1:
            self._late_since_s, self._turn = math.inf, 0
            return False
        self._late_since_s = min(self._late_since_s, now_s)
        if delay < 1.0 and now_s - self._late_since_s < PATIENCE * self._max_delay_s:
            return False
        self._turn += 1
        return delay >= 1.0 or self._turn % keep_one_of != 0

    def _drop_oldest(self, kind: Kind) -> None:
        # Packets and frames come in turns, so that the first of each is close to the front.
        self._remove(next(
            index for index, entry in enumerate(self._line) if entry.kind is kind))

    def _append(self, entry: _Entry) -> None:
        self._line.append(entry)
        self._num_bytes += entry.num_bytes
        self._num_frames += entry.kind is Kind.FRAME
        self._changed.notify()

    def _remove(self, index: int) -> _Entry:
        entry = self._line[index]
        del self._line[index]
        self._num_bytes -= entry.num_bytes
        self._num_frames -= entry.kind is Kind.FRAME
        return entry
