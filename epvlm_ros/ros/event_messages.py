"""Types of messages that hold events, and event arrays of other drivers as packets."""

from __future__ import annotations

import importlib
from typing import Any, Iterator

from epvlm_ros.bag.convert.event_arrays import parse_cdr_event_array
from epvlm_ros.bag.convert.mono_packets import encode_mono, split_for_packets
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.ros.config import EVENT_PACKET_MESSAGE


def load_message_type(name: str) -> Any:
    """
    Return the class of a type such as dvs_msgs/msg/EventArray.

    Raises ValueError if its package is not installed.
    """
    package, _, type_name = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), type_name)
    except ImportError:
        raise ValueError(
            f'event_message is {name}, and {package} is not installed: install it and source its '
            f'workspace, or use a driver that publishes {EVENT_PACKET_MESSAGE}') from None


def event_array_to_packets(data: bytes, seq: int) -> Iterator[EventPacket]:
    """
    Iterate over the packets of a serialised event array, numbered from ``seq`` on.

    Its events have ROS time, which becomes the sensor time. Raises ValueError if it is cut off.
    """
    array = parse_cdr_event_array(data)
    for number, (start_ns, events) in enumerate(split_for_packets(array.events), seq):
        stamp_ns = int(events.t_ns[0]) if events.t_ns.size else array.stamp_ns
        yield EventPacket(
            stamp_ns, array.width, array.height, number, start_ns, 'mono',
            encode_mono(events, start_ns))
