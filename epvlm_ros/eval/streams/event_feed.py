"""The events of a stream on their way to a robot's memory: packets, filters, registration."""

from __future__ import annotations

import math

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.eval.streams.conditions import Condition
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.registration import make_registration
from epvlm_ros.events.sync.event_stream import EventStream, StreamCounters
from epvlm_ros.sim.rearrangement import StreamFrame
from epvlm_ros.time_units import SECOND
import numpy as np

_PACKET_NS = SECOND // 100


class EventFeed:
    """
    Takes frames of one stream and returns what its events say.

    Parameters
    ----------
    condition : Condition
        Of the stream.
    index : int
        Of the stream: events that lie beside their cause do so in a direction of its own.

    """

    def __init__(self, condition: Condition, index: int) -> None:
        self._stream_config = stream = condition.stream
        angle = 2.4 * index  # the golden angle: all directions, and no two alike
        shift = (condition.shift_px * math.cos(angle), condition.shift_px * math.sin(angle))
        config = EventSyncConfig(
            sync_mode='common_clock', max_event_delay=10.0,
            homography=(1.0, 0.0, shift[0], 0.0, 1.0, shift[1], 0.0, 0.0, 1.0))
        self._events = EventStream(
            config, condition.filters, make_registration(config), StreamCounters())
        self._events.set_image_size((stream.image_height, stream.image_width))
        self._seq = 0
        self._now_ns = 0

    def follow(self, frame: StreamFrame) -> tuple[ActivityGrid, ChangeScore]:
        """Return the activity since the last frame, and the running score of change."""
        start_ns = self._now_ns
        self._send(frame.events, frame.time_ns)
        activity = self._events.window(min(start_ns, frame.time_ns - 1), frame.time_ns)
        score = self._events.score_until(frame.time_ns)  # its exposure begins then
        assert score is not None
        return activity, score

    def _send(self, events: Events, end_ns: int) -> None:
        """Send packets of 10 ms up to the exposure of a frame, and one that says it is reached."""
        stream = self._stream_config
        starts_ns = np.arange(self._now_ns, end_ns, _PACKET_NS)
        bounds = np.searchsorted(events.t_ns, [*starts_ns, end_ns], side='right')
        parts = [Events(*(part[low:high] for part in events))
                 for low, high in zip(bounds, bounds[1:])]
        times = [*zip(starts_ns.tolist(), parts), (end_ns, Events(*(part[:0] for part in events)))]
        for start_ns, part in times:
            self._events.add(EventPacket(
                stamp_ns=start_ns, width=stream.sensor_width, height=stream.sensor_height,
                seq=self._seq, time_base=0, encoding='evt3',
                events=encode_evt3(part, start_ns=start_ns)))
            self._seq += 1
        self._now_ns = end_ns
