"""Message types of recordings, registered from their definitions, whatever the recording has."""

from __future__ import annotations

import functools

from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

EVENT_PACKET_TYPE = 'event_camera_msgs/msg/EventPacket'
# What event_camera_msgs was called at first; the same on the wire.
EVENT_ARRAY_TYPE = 'event_array_msgs/msg/EventArray'
EVENT_TYPES = (EVENT_PACKET_TYPE, EVENT_ARRAY_TYPE)
# Types of other drivers and simulators: an object for each event.
FOREIGN_EVENT_TYPES = ('dvs_msgs/msg/EventArray', 'prophesee_event_msgs/msg/EventArray')
IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE)

_EVENT_PACKET_DEFINITION = """\
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


@functools.lru_cache(maxsize=None)
def make_typestore() -> Typestore:
    """Return the types of ROS 2 and those of event packets; one store for the whole process."""
    typestore = get_typestore(Stores.LATEST)
    for name in EVENT_TYPES:
        typestore.register(get_types_from_msg(_EVENT_PACKET_DEFINITION, name))
    return typestore
