"""The writer refuses what would make a recording that lies; the rest is read back elsewhere."""

from epvlm_ros.bag import BagReader, BagWriter
from epvlm_ros.events.packet import EventPacket
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosReliability


def test_a_foreign_reader_understands_the_recording(tmp_path):
    """The definitions are in the file: rosbags needs no registration of the event type."""
    for storage in ('sqlite3', 'mcap'):
        path = tmp_path / storage
        with BagWriter(path, storage) as bag:
            bag.write_event_packet(
                '/events', EventPacket(3_000_000_007, 6, 4, 9, 1, 'mono', b'12345678'))
            bag.write_image('/image', 2, np.zeros((4, 6), np.uint8))
        with AnyReader([path]) as reader:
            (images, time_ns, data), (connection, record_time_ns, raw) = reader.messages()
            image = reader.deserialize(data, images.msgtype)
            packet = reader.deserialize(raw, connection.msgtype)
            assert connection.ext.offered_qos_profiles[0].reliability == QosReliability.BEST_EFFORT
            assert images.ext.offered_qos_profiles[0].reliability == QosReliability.RELIABLE
        # Without a record time the stamp stands for it.
        assert (time_ns, record_time_ns) == (2, 3_000_000_007)
        assert (image.height, image.width, image.step, image.encoding) == (4, 6, 6, 'mono8')
        assert (packet.header.stamp.sec, packet.header.stamp.nanosec) == (3, 7)
        assert packet.header.frame_id == 'event_camera'
        assert packet.events.tobytes() == b'12345678'


def test_a_record_time_of_zero_is_a_time(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_image('/image', 5, np.zeros((1, 1), np.uint8), record_time_ns=0)
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.start_ns == 0


def test_mistakes_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="storage 'rosbag' is unknown: give one of sqlite3, mcap"):
        BagWriter(tmp_path / 'bag', 'rosbag')
    with BagWriter(tmp_path / 'bag') as bag:
        packet = EventPacket(0, 6, 4, 9, 1, 'mono', b'')
        bag.write_event_packet('/topic', packet)
        with pytest.raises(ValueError, match='has type event_camera_msgs/msg/EventPacket'):
            bag.write_image('/topic', 0, np.zeros((1, 1), np.uint8))
        with pytest.raises(ValueError, match="type 'a_msgs/msg/B' is unknown"):
            bag.write_raw('/b', 'a_msgs/msg/B', 0, b'')
        for image, encoding in (
                (np.zeros((2, 2)), ''), (np.zeros((2, 2), np.uint8), 'rgb8'),
                (np.zeros((2, 2, 3), np.uint8), 'mono8'), (np.zeros((2, 2, 4), np.uint8), ''),
                (np.zeros(2, np.uint8), ''), (np.zeros((2, 2, 3), np.uint8), 'bayer_rggb8')):
            with pytest.raises(ValueError, match='give uint8 with'):
                bag.write_image('/image', 0, image, encoding=encoding)
    with pytest.raises(ValueError, match='exists already'):
        BagWriter(tmp_path / 'bag')


def test_an_error_leaves_no_recording_that_looks_complete(tmp_path):
    with pytest.raises(RuntimeError, match='stop'):
        with BagWriter(tmp_path / 'bag') as bag:
            bag.write_image('/image', 0, np.zeros((2, 2), np.uint8))
            raise RuntimeError('stop')
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.problems[0].startswith(f'{tmp_path / "bag"} has no metadata.yaml')
