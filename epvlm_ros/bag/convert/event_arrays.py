"""
Messages with an object for each event, viewed as NumPy records without a loop.

``dvs_msgs/EventArray`` and ``prophesee_event_msgs/EventArray`` have the same fields: header,
height, width, and events of x, y (uint16), ts (two 32-bit integers) and polarity (bool).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from epvlm_ros.events.packet import Events
from epvlm_ros.time_units import SECOND
import numpy as np

_FIELDS = ['x', 'y', 'sec', 'nanosec', 'polarity']
_ROS1_SIZE = 13  # of an event: fields are packed
_CDR_SIZE = 16  # of an event but the first: fields are aligned
_HEAD_SIZE = 4  # of CDR: how it is encoded


class EventArray(NamedTuple):
    """One message: stamp of its header, size of the sensor in pixels, events in ROS time."""

    stamp_ns: int
    frame_id: str
    width: int
    height: int
    events: Events


def parse_cdr_event_array(data: bytes) -> EventArray:
    """Parse a message of ROS 2; a ValueError if it is cut off or of another encoding."""
    if len(data) < _HEAD_SIZE or data[0] != 0 or data[1] not in (0, 1):
        raise ValueError(f'{len(data)} bytes are no event array in CDR')
    return _parse(data, '<' if data[1] else '>', _HEAD_SIZE, is_cdr=True)


def parse_ros1_event_array(data: bytes) -> EventArray:
    """Parse a message of ROS 1; a ValueError if it is cut off."""
    return _parse(data, '<', 4, is_cdr=False)  # behind the number of its header


def _parse(data: bytes, order: str, start: int, is_cdr: bool) -> EventArray:
    try:
        sec, nanosec, length = struct.unpack_from(f'{order}iII', data, start)
        end = start + 12 + length
        frame_id = data[start + 12:end].rstrip(b'\0').decode(errors='replace')
        if is_cdr:
            end += (_HEAD_SIZE - end) % 4
        height, width, num_events = struct.unpack_from(f'{order}III', data, end)
    except struct.error:
        raise ValueError(
            f'{len(data)} bytes are no event array: the message was cut off') from None
    if is_cdr:
        records = _cdr_records(data, order, end + 12, num_events)
    else:
        records = _records(data, order, end + 12, num_events, [0, 2, 4, 8, 12], _ROS1_SIZE)
    x, y = (records[name].astype(np.uint16) for name in ('x', 'y'))
    if is_cdr and num_events:
        x[0], y[0] = struct.unpack_from(f'{order}HH', data, end + 12)
    t_ns = records['sec'].astype(np.int64) * SECOND + records['nanosec']
    return EventArray(
        sec * SECOND + nanosec, frame_id, width, height,
        Events(x, y, (records['polarity'] != 0).astype(np.uint8), t_ns))


def _cdr_records(data: bytes, order: str, start: int, num_events: int) -> np.ndarray:
    """
    View the events of a CDR message; x and y of the first are not where they are looked for.

    An event begins at a multiple of 2 and its time at one of 4. The first begins at a multiple of
    4 and takes 14 bytes with what fills it up, so that all others begin 2 bytes after one, take
    16 bytes and have 2 unused ones in front of the time. Only from x and y apart, the first lies
    as if it had begun 2 bytes earlier.
    """
    return _records(data, order, start - 2, num_events, [0, 2, 6, 10, 14], _CDR_SIZE)


def _records(
    data: bytes, order: str, start: int, num_events: int, offsets: list[int], size: int,
) -> np.ndarray:
    used = offsets[-1] + 1
    needed = start + (num_events - 1) * size + used
    if num_events and len(data) < needed:
        raise ValueError(
            f'event array of {num_events} events has {len(data)} bytes, not {needed}: the message '
            'was cut off')
    dtype = np.dtype({
        'names': _FIELDS, 'offsets': offsets, 'itemsize': used,
        'formats': [f'{order}u2', f'{order}u2', f'{order}i4', f'{order}u4', 'u1']})
    if not num_events:
        return np.empty(0, dtype)
    return np.ndarray((num_events,), dtype, data, start, (size,))
