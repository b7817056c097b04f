"""Writing of rosbag2 recordings of event packets and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epvlm_ros.bag.message_types import EVENT_PACKET_TYPE, IMAGE_TYPE, make_typestore
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.time_units import SECOND
import numpy as np
from rosbags.interfaces import (
    Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

_STORAGES = {'sqlite3': StoragePlugin.SQLITE3, 'mcap': StoragePlugin.MCAP}
_NUM_CHANNELS = {'mono8': 1, 'rgb8': 3, 'bgr8': 3}
_INFINITE = QosTime(9223372036, 854775807)


def _qos(reliability: QosReliability, depth: int) -> list[Qos]:
    return [Qos(
        QosHistory.KEEP_LAST, depth, reliability, QosDurability.VOLATILE, _INFINITE, _INFINITE,
        QosLiveliness.AUTOMATIC, _INFINITE, False)]


class BagWriter:
    """
    Writer of a new folder ``path``; a context manager, open from its construction on.

    ``storage`` is 'sqlite3' or 'mcap'. Raises a ValueError if it is another one or the folder
    exists.
    """

    def __init__(self, path: str | Path, storage: str = 'sqlite3') -> None:
        if storage not in _STORAGES:
            raise ValueError(f'storage {storage!r} is unknown: give one of {", ".join(_STORAGES)}')
        self.path = Path(path)
        try:
            self._writer = Writer(self.path, version=8, storage_plugin=_STORAGES[storage])
            self._writer.open()
        except WriterError:
            raise ValueError(f'{path} exists already: remove it or choose another name') from None
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self._writer.abort()

    def close(self) -> None:
        """Complete the recording; no more can be written."""
        self._writer.close()

    def write_event_packet(
        self, topic: str, packet: EventPacket, record_time_ns: int | None = None,
        frame_id: str = 'event_camera',
    ) -> None:
        """
        Write a packet as ``event_camera_msgs/msg/EventPacket``.

        ``record_time_ns`` is when it was received, in ROS time; the packet's stamp if left out.
        Raises a ValueError if the topic already has another type.
        """
        types = make_typestore().types
        message = types[EVENT_PACKET_TYPE](
            header=self._header(packet.stamp_ns, frame_id), height=packet.height,
            width=packet.width, seq=packet.seq, time_base=packet.time_base,
            encoding=packet.encoding, is_bigendian=packet.is_bigendian, events=packet.events)
        # As the drivers publish them.
        self._write(
            topic, EVENT_PACKET_TYPE,
            packet.stamp_ns if record_time_ns is None else record_time_ns, message,
            _qos(QosReliability.BEST_EFFORT, 1000))

    def write_image(
        self, topic: str, stamp_ns: int, image: np.ndarray, record_time_ns: int | None = None,
        frame_id: str = 'camera', encoding: str = '',
    ) -> None:
        """
        Write a camera frame as ``sensor_msgs/msg/Image``.

        ``image`` is uint8 of shape (height, width) or (height, width, 3), in the order of
        ``encoding``: 'mono8', 'rgb8' or 'bgr8'; mono8 or rgb8, by the shape, if left out.
        ``record_time_ns`` is when it was received, in ROS time; ``stamp_ns`` if left out. Raises
        a ValueError if array and encoding do not match, or the topic already has another type.
        """
        num_channels = image.shape[2] if image.ndim == 3 else 1
        encoding = encoding or ('mono8' if image.ndim == 2 else 'rgb8')
        if (image.dtype != np.uint8 or image.ndim not in (2, 3)
                or _NUM_CHANNELS.get(encoding) != num_channels):
            raise ValueError(
                f'image is {image.dtype} of shape {image.shape} and encoding {encoding!r}: give '
                'uint8 with 1 channel for mono8, 3 for rgb8 or bgr8')
        message = make_typestore().types[IMAGE_TYPE](
            header=self._header(stamp_ns, frame_id), height=image.shape[0],
            width=image.shape[1], encoding=encoding, is_bigendian=0,
            step=image.shape[1] * num_channels, data=np.ascontiguousarray(image).reshape(-1))
        self._write(
            topic, IMAGE_TYPE, stamp_ns if record_time_ns is None else record_time_ns, message,
            _qos(QosReliability.RELIABLE, 10))

    def write_raw(
        self, topic: str, type_name: str, record_time_ns: int, data: bytes,
    ) -> None:
        """Write a serialised message; a ValueError if its type is unknown or not the topic's."""
        connection = self._connection(topic, type_name, [])
        self._writer.write(connection, record_time_ns, data)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        types = make_typestore().types
        seconds, nanoseconds = divmod(stamp_ns, SECOND)
        return types['std_msgs/msg/Header'](
            stamp=types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds),
            frame_id=frame_id)

    def _write(
        self, topic: str, type_name: str, record_time_ns: int, message: Any, qos: list[Qos],
    ) -> None:
        connection = self._connection(topic, type_name, qos)
        data = make_typestore().serialize_cdr(message, type_name)
        self._writer.write(connection, record_time_ns, data)

    def _connection(self, topic: str, type_name: str, qos: list[Qos]) -> Connection:
        connection = self._connections.get(topic)
        if connection is None:
            typestore = make_typestore()
            if type_name not in typestore.types:
                raise ValueError(
                    f'message type {type_name!r} is unknown: give one of the types of ROS 2')
            connection = self._writer.add_connection(
                topic, type_name, typestore=typestore, offered_qos_profiles=qos)
            self._connections[topic] = connection
        elif connection.msgtype != type_name:
            raise ValueError(
                f'topic {topic} has type {connection.msgtype}, not {type_name}: use another topic')
        return connection
