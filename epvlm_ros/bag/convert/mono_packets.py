"""Packets of encoding mono, which keeps every time to the ns, from events in ROS time."""

from __future__ import annotations

from typing import Iterator

from epvlm_ros.events.packet import Events
import numpy as np

_MAX_SPAN_NS = 2 ** 32  # of a packet: its events have times of 32 bits
_NUM_ROWS = 2 ** 15


def split_for_packets(events: Events) -> Iterator[tuple[int, Events]]:
    """Iterate over parts that fit into a packet, with the time of their earliest event."""
    if not events.t_ns.size:
        yield 0, events
        return
    first_ns, last_ns = int(events.t_ns.min()), int(events.t_ns.max())
    if last_ns - first_ns < _MAX_SPAN_NS:
        yield first_ns, events
        return
    part = (events.t_ns - first_ns) // _MAX_SPAN_NS
    for number in np.unique(part).tolist():
        inside = part == number
        yield from split_for_packets(Events(*(values[inside] for values in events)))


def encode_mono(events: Events, start_ns: int) -> np.ndarray:
    """
    Return the payload of a packet with the time base ``start_ns``, uint8.

    Events are of less than 4.29 s from there on. Raises ValueError if a row is beyond 32,767.
    """
    if events.y.size and int(events.y.max()) >= _NUM_ROWS:
        raise ValueError(
            f'there is an event in row {events.y.max()}: a packet has at most {_NUM_ROWS} rows')
    words = np.empty((events.x.size, 2), '<u4')
    words[:, 0] = events.t_ns - start_ns
    words[:, 1] = (events.polarity.astype(np.uint32) << 31) | (
        events.y.astype(np.uint32) << 16) | events.x
    return words.view(np.uint8).reshape(-1)
