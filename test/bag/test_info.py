"""The summary of a recording, with sums worked out by hand."""

import json
import struct

from epvlm_ros.bag import bag_info, BagWriter
from epvlm_ros.bag.info import sum_of_times
from epvlm_ros.events.packet import EventPacket
import numpy as np
import pytest

MS = 1_000_000


def mono(seq, *events, width=10, height=10, time_base=0, tail=b''):
    payload = b''.join(
        struct.pack('<IHH', t, x, polarity << 15 | y) for t, x, y, polarity in events)
    return EventPacket(seq * MS, width, height, seq, time_base, 'mono', payload + tail)


def test_a_summary(tmp_path):
    path = tmp_path / 'bag'
    with BagWriter(path, 'mcap') as bag:
        bag.write_event_packet('/a', mono(3, (5, 1, 2, 1), (6, 9, 9, 0), (7, 10, 0, 1)))
        bag.write_event_packet('/a', mono(4, tail=b'xyz'))
        bag.write_event_packet('/a', mono(7, (1, 4, 4, 1), time_base=100))
        bag.write_event_packet('/a', mono(5, (0, 11, 0, 1), width=20))
        bag.write_event_packet('/a', EventPacket(8 * MS, 10, 10, 8, 0, 'evt4', b'1234'))
        bag.write_event_packet('/b', EventPacket(
            10 * MS, 8, 8, 0, 0, 'evt3', struct.pack('<6H', 0x8000, 0x9999, 0x6001, 0xA101,
                                                     0xA100, 0xA100)))
        for i in range(5):
            bag.write_image('/image', i * 40 * MS, np.zeros((6, 8), np.uint8))
        bag.write_raw('/text', 'std_msgs/msg/String', 11, b'\0\1\0\0\2\0\0\0a\0')
    info = bag_info(path)
    assert json.loads(json.dumps(info)) == info
    assert (info['storage'], info['messages'], info['duration_s']) == ('mcap', 12, 0.16)
    events = info['event_topics']['/a']
    # One event each at (1, 2), (9, 9), (4, 4) and, of the other size, (11, 0).
    assert {name: events[name] for name in (
        'encoding', 'width', 'height', 'packets', 'off', 'on', 'sum_x', 'sum_y', 'sum_t_ns',
        't_min_ns', 't_max_ns', 'triggers')} == {
            'encoding': 'mono', 'width': 10, 'height': 10, 'packets': 5, 'off': 1, 'on': 3,
            'sum_x': 25, 'sum_y': 15, 'sum_t_ns': 112, 't_min_ns': 0, 't_max_ns': 101,
            'triggers': 0}
    assert (events['out_of_range_events'], events['truncated_bytes']) == (1, 3)
    assert events['undecoded_packets'] == 1
    assert events['stream_kinds'] == [['mono', 10, 10], ['mono', 20, 10]]
    other = info['event_topics']['/b']
    assert (other['triggers'], other['trigger_edge0'], other['trigger_edge1']) == (3, 2, 1)
    assert other['undecodable_words'] == 1
    assert (other['off'], other['on'], other['t_min_ns'], other['sum_t_ns']) == (0, 0, None, 0)
    assert info['image_topics'] == {'/image': {
        'type': 'sensor_msgs/msg/Image', 'width': 8, 'height': 6, 'encoding': 'mono8',
        'count': 5, 'rate_hz': 25.0}}
    assert info['other_topics'] == {'/text': {'type': 'std_msgs/msg/String', 'count': 1}}


@pytest.mark.parametrize(('sequence', 'gaps', 'missing'), [
    ([0, 1, 2], 0, 0), ([5, 6, 9, 10, 12], 2, 3), ([7, 0, 1], 0, 0), ([0, 0], 0, 0), ([4], 0, 0)])
def test_gaps(tmp_path, sequence, gaps, missing):
    with BagWriter(tmp_path / 'bag') as bag:
        for time_ns, seq in enumerate(sequence):
            bag.write_event_packet('/a', mono(seq), time_ns)
    events = bag_info(tmp_path / 'bag')['event_topics']['/a']
    assert (events['seq_gaps'], events['seq_missing']) == (gaps, missing)


def test_an_image_topic_of_one_frame_has_no_rate(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_image('/image', 5, np.zeros((6, 8, 3), np.uint8))
    image = bag_info(tmp_path / 'bag')['image_topics']['/image']
    assert (image['encoding'], image['count'], image['rate_hz']) == ('rgb8', 1, None)


def test_an_empty_recording(tmp_path):
    with BagWriter(tmp_path / 'bag'):
        pass
    info = bag_info(tmp_path / 'bag')
    assert (info['messages'], info['duration_s'], info['event_topics']) == (0, 0.0, {})


def test_times_since_1970_sum_without_overflow():
    times = np.full(1000, 1_700_000_000_000_000_000) + np.arange(1000)
    assert sum_of_times(times) == 1000 * 1_700_000_000_000_000_000 + 999 * 1000 // 2


def test_messages_that_cannot_be_read_are_named_and_the_others_summed_up(tmp_path):
    path = tmp_path / 'bag'
    with BagWriter(path) as bag:
        for seq in range(3):
            bag.write_event_packet('/a', mono(seq, (5, 1, 2, 1)))
        bag.write_raw('/a', 'event_camera_msgs/msg/EventPacket', 3 * MS, b'\0\1\0\0cut')
        bag.write_raw('/a', 'event_camera_msgs/msg/EventPacket', 4 * MS, b'')
        bag.write_image('/image', 0, np.zeros((6, 8), np.uint8))
        bag.write_raw('/image', 'sensor_msgs/msg/Image', MS, b'\0\1\0\0cut')
        # Video in messages of images: 12 bytes of header, the format and 4 bytes of data.
        video = (b'\0\1\0\0' + bytes(8) + b'\1\0\0\0\0\0\0\0' + b'\5\0\0\0h264\0\0\0\0'
                 + b'\4\0\0\0\0\0\0\1')
        bag.write_raw('/video', 'sensor_msgs/msg/CompressedImage', MS, video)
    info = bag_info(path)
    assert (info['messages'], info['event_topics']['/a']['packets']) == (8, 3)
    assert info['event_topics']['/a']['on'] == 3
    assert info['image_topics']['/image']['count'] == 1
    assert info['other_topics'] == {
        '/video': {'type': 'sensor_msgs/msg/CompressedImage', 'count': 1}}
    first, second, third, fourth = info['problems']
    assert first.startswith('the message of /a at 0.003 s is left out, and others that')
    assert second.startswith('the message of /image at 0.001 s is left out')
    assert third.startswith('the message of /video at 0.001 s') and "format 'h264'" in third
    assert fourth == '2 messages of /a cannot be used'
