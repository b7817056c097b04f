"""What goes into a decoder and what comes out, whatever the wire format is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from epvlm_ros.time_units import stamp_to_ns
import numpy as np


@dataclass(frozen=True, eq=False)
class EventPacket:
    """
    One packet of an event camera, still encoded.

    Parameters
    ----------
    stamp_ns : int
        ROS time of the header: when its first data reached the host.
    width, height : int
        Size of the sensor, in pixels.
    seq : int
        Number of the packet; a gap means lost packets.
    time_base : int
        In ns; its meaning depends on the encoding.
    encoding : str
        One of ``ENCODINGS``, or an unknown one.
    events : numpy.ndarray or bytes-like
        The payload, kept as a read-only uint8 view of shape (num_bytes,), not copied. Anything but
        bytes raises ValueError.
    is_bigendian : bool
        Whether numbers in the payload have their most significant byte first.

    """

    stamp_ns: int
    width: int
    height: int
    seq: int
    time_base: int
    encoding: str
    events: np.ndarray
    is_bigendian: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, 'events', as_payload(self.events))


class Events(NamedTuple):
    """
    Decoded events in stream order, each array of shape (num_events,).

    ``x`` and ``y`` are uint16 pixels, ``polarity`` is uint8 (1 brighter, 0 darker), ``t_ns`` is
    int64 sensor time in ns.
    """

    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    t_ns: np.ndarray


class Triggers(NamedTuple):
    """
    External trigger edges in stream order, each array of shape (num_triggers,).

    ``t_ns`` is int64 sensor time in ns, ``edge`` is uint8 (1 rising, 0 falling), ``index`` is the
    uint8 number of the trigger input.
    """

    t_ns: np.ndarray
    edge: np.ndarray
    index: np.ndarray  # type: ignore[assignment]


NO_TRIGGERS = Triggers(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint8))


class DecodedPacket(NamedTuple):
    """Everything that one packet held."""

    events: Events
    triggers: Triggers


class PacketTimes(NamedTuple):
    """
    Sensor times of one packet, the number of its events, and its triggers.

    ``first_ns`` is the first complete time stamp, ``last_ns`` the time at the end, in stream
    order; None where the packet completed no time stamp. ``num_events`` counts events inside the
    sensor, before any filter, ``num_discarded`` those outside of it or invalid; both are 0 for a
    skimmed packet.
    """

    first_ns: int | None
    last_ns: int | None
    num_events: int
    triggers: Triggers = NO_TRIGGERS
    num_discarded: int = 0


@dataclass
class DecoderCounters:
    """What a decoder has seen and dropped since it was made."""

    num_packets: int = 0
    num_skimmed_packets: int = 0  # of these; what they held but for triggers is not counted
    num_events: int = 0  # inside the geometry
    num_triggers: int = 0
    num_unknown_words: int = 0  # their code has no meaning in the format
    num_out_of_range: int = 0  # events outside the geometry
    num_invalid: int = 0  # events that the sensor itself marked as invalid, or of impossible time
    num_before_time: int = 0  # events and triggers before the first complete time stamp or row
    num_truncated_bytes: int = 0  # left over behind the last whole word


def as_payload(data: Any) -> np.ndarray:
    """View bytes as a read-only uint8 array (num_bytes,); anything else raises ValueError."""
    if isinstance(data, np.ndarray):
        if data.dtype not in (np.uint8, np.int8) or data.ndim != 1:
            raise ValueError(
                f'events are an array of {data.dtype} of shape {data.shape}: give a '
                'one-dimensional array of uint8')
        payload = data.view(np.uint8)
    else:
        try:
            payload = np.frombuffer(data, dtype=np.uint8)
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f'events are no bytes ({error}): give bytes or uint8') from None
    payload = payload.view()
    payload.flags.writeable = False
    return payload


def packet_from_message(message: Any) -> EventPacket:
    """
    Make a packet of an EventPacket message of rclpy or rosbags; its payload is not copied.

    Some drivers publish the whole format of Prophesee, 'evt21;height=720;width=1280': the encoding
    is its name.
    """
    return EventPacket(
        stamp_ns=stamp_to_ns(message.header.stamp),
        width=int(message.width), height=int(message.height), seq=int(message.seq),
        time_base=int(message.time_base), encoding=str(message.encoding).partition(';')[0],
        events=message.events, is_bigendian=bool(message.is_bigendian))
