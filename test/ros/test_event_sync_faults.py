"""What the sync node does when things go wrong, and what its diagnostics say about it."""

import array
import re
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.ros.conversions import to_activity, to_change_score
from epvlm_ros.ros.event_sync_node import EventSyncNode
from epvlm_ros.ros.qos import EVENTS, FRAMES
from epvlm_ros.time_units import stamp_to_ns
from event_camera_msgs.msg import EventPacket
from geometry_msgs.msg import TransformStamped
import numpy as np
import pytest
import rclpy
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from ros_graph import DEEP, RosGraph, wait_for_start, wait_until
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

WIDTH, HEIGHT = 128, 96
PACKET_NS = 4_000_000


@pytest.fixture
def graph(tmp_path):
    with RosGraph(tmp_path) as graph:
        yield graph


class Cameras:
    """An event camera and a camera on the topics of the node, and what the node says."""

    def __init__(self, graph, namespace='', **parameters):
        node = graph.node
        self.frames, self.status = [], {}
        node.create_subscription(
            EventGuidedFrame, f'{namespace}/event_guided_frame', self.frames.append, DEEP)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._events = node.create_publisher(EventPacket, f'{namespace}/events', EVENTS)
        self._images = node.create_publisher(Image, f'{namespace}/image', FRAMES)
        self.process = graph.start(
            'event_sync_node', parameters=parameters,
            remappings={'__ns': namespace} if namespace else None)
        wait_for_start(self.process, self._is_matched, 'the node')
        self._seq = 0
        self.random = np.random.default_rng(1)

    def _is_matched(self):
        return self._events.get_subscription_count() and self._images.get_subscription_count() \
            and self.status

    def _on_diagnostics(self, message):
        for status in message.status:
            part = status.name.rsplit(': ')[-1]
            self.status[part] = status, {item.key: item.value for item in status.values}

    def value(self, part, key):
        return float(self.status[part][1][key])

    def send_packet(self, start_ns, **options):
        self.publish(self.make_packet(start_ns, **options))

    def publish(self, packet):
        packet.seq = self._seq
        self._events.publish(packet)
        self._seq += 1

    def make_packet(self, start_ns, num_events=200, events=None):
        if events is None:
            events = Events(
                self.random.integers(0, WIDTH, num_events).astype(np.uint16),
                self.random.integers(0, HEIGHT, num_events).astype(np.uint16),
                np.ones(num_events, np.uint8),
                np.sort(start_ns + self.random.integers(0, PACKET_NS, num_events)))
        payload = encode_evt3(events, start_ns=start_ns)
        return EventPacket(
            header=Header(stamp=Time(sec=start_ns // 10 ** 9, nanosec=start_ns % 10 ** 9)),
            height=HEIGHT, width=WIDTH, encoding='evt3',
            events=array.array('B', payload.tobytes()))

    def send_image(self, stamp_ns, **changes):
        fields = {'height': HEIGHT, 'width': WIDTH, 'encoding': 'mono8', 'step': WIDTH,
                  'data': array.array('B', bytes(HEIGHT * WIDTH)), **changes}
        self._images.publish(Image(
            header=Header(stamp=Time(sec=stamp_ns // 10 ** 9, nanosec=stamp_ns % 10 ** 9)),
            **fields))

    def stream(self, start_ns, seconds, ahead_ns=0, **packet):
        """Send packets in real time and a frame with every tenth; return the end."""
        begin = time.monotonic()
        for number in range(round(seconds * 250)):
            packet_ns = start_ns + number * PACKET_NS
            if number % 10 == 0:
                self.send_image(packet_ns + ahead_ns)
            self.send_packet(packet_ns, **packet)
            time.sleep(max(0.0, begin + (number + 1) * 0.004 - time.monotonic()))
        return start_ns + round(seconds * 250) * PACKET_NS

    def skip_numbers(self, count):
        self._seq += count


def test_diagnostics_tell_rates_clock_and_what_was_lost(graph):
    cameras = Cameras(graph)
    assert 'no event packet yet' in cameras.status['events'][0].message
    assert cameras.status['clock'][0].level == DiagnosticStatus.WARN
    end_ns = cameras.stream(50 * 10 ** 9, 2.2)  # with a period of the report in it
    assert cameras.value('events', 'packets_per_s') == pytest.approx(250, rel=0.25)
    assert cameras.value('events', 'events_per_s') == pytest.approx(50_000, rel=0.25)
    assert cameras.value('frames', 'frames_per_s') == pytest.approx(25, rel=0.25)
    assert cameras.value('events', 'num_lost_packets') == 0
    assert abs(cameras.value('clock', 'offset_ns')) % ((1 << 24) * 1000) < 4e6
    assert cameras.value('events', 'decoder_num_unknown_words') == 0
    assert 0.0 < cameras.value('frames', 'wait_median_s') < 0.1
    cameras.skip_numbers(5)
    end_ns = cameras.stream(end_ns, 1.2)
    wait_until(lambda: cameras.value('events', 'num_lost_packets') == 5, 5, 'the loss')

    def is_good():
        nonlocal end_ns
        end_ns = cameras.stream(end_ns, 0.2)
        return cameras.status['events'][0].message == 'good'
    # A loss is a warning of its period, not for ever.
    wait_until(is_good, 15, 'the end of the warning')
    assert cameras.value('events', 'num_lost_packets') == 5


def test_frames_under_a_namespace_carry_what_changed(graph):
    cameras = Cameras(graph, namespace='/front', max_wait=0.5)
    end_ns = cameras.stream(50 * 10 ** 9, 2.0)  # four events of noise a second and pixel
    busy = np.zeros((24, 32))  # cells
    for number in range(25):  # a tenth of a second
        x, y = cameras.random.integers((40, 20), (56, 36), (100, 2)).T
        np.add.at(busy, (y // 4, x // 4), 1)
        cameras.send_packet(end_ns, events=Events(
            x.astype(np.uint16), y.astype(np.uint16), np.ones(100, np.uint8),
            np.full(100, end_ns + number)))
        end_ns += PACKET_NS
    last_ns = cameras.stream(end_ns, 1.0) - 10 * PACKET_NS
    before, after = (to_change_score(wait_until(lambda: next(
        (frame for frame in cameras.frames if stamp_to_ns(frame.header.stamp) == stamp_ns),
        None), 10, 'the frame')) for stamp_ns in (51_960_000_000, last_ns))
    assert after.continues(before) and after.epoch > 0
    assert after.num_doubts == before.num_doubts
    change = after.since(before)
    assert np.count_nonzero(busy) == 16 and 2500 * 0.7 < change[busy > 0].sum() < 2500 * 1.3
    assert change[busy == 0].sum() < 100
    wait_until(lambda: cameras.value('events', 'num_change_epochs') == 1, 5, 'the epoch')
    # Of the first frames: their exposures may have begun before the events did.
    assert cameras.value('events', 'num_change_doubts') == before.num_doubts


def test_events_that_come_too_fast_are_shed_and_the_node_recovers(graph):
    # The filters make the work slow, the short delay makes the shedding early.
    cameras = Cameras(
        graph, max_event_delay=0.04, background_filter=True, flicker_filter=True,
        hot_pixel_filter=True)
    end_ns = cameras.stream(50 * 10 ** 9, 1.0)
    packet = cameras.make_packet(end_ns, num_events=100_000)

    def is_shedding():
        for _ in range(40):
            cameras.publish(packet)
        return cameras.value('events', 'num_shed_packets') > 0
    wait_until(is_shedding, 30, 'the shedding')
    assert cameras.process.is_running()
    wait_until(lambda: cameras.value('events', 'packets_per_s') == 0, 20, 'the end of packets')
    del cameras.frames[:]
    cameras.stream(end_ns + PACKET_NS, 2.0)
    wait_until(lambda: len(cameras.frames) >= 45, 5, 'the frames')
    assert all(frame.missing == EventGuidedFrame.COMPLETE for frame in cameras.frames[25:45])


def test_frames_of_a_clock_that_is_ahead_are_told_by_how_much(graph):
    cameras = Cameras(graph, max_wait=0.5)
    cameras.stream(50 * 10 ** 9, 1.0, ahead_ns=2 * 10 ** 9)
    wait_until(lambda: cameras.frames, 5, 'a frame')
    assert cameras.frames[0].missing == EventGuidedFrame.WINDOW_END_MISSING
    assert cameras.frames[0].coverage == 0.0 and to_activity(cameras.frames[0]) is None
    log = cameras.process.log.read_text()
    ahead_s = re.search(r'WINDOW_END_MISSING, 0% .* its stamp is \+([0-9.]+) s from', log)
    assert float(ahead_s.group(1)) == pytest.approx(2.0, abs=0.2)


def test_an_image_that_is_not_as_large_as_it_says_is_dropped_and_named(graph):
    cameras = Cameras(graph, max_wait=0.0)
    size = {'height': 4000, 'width': 5000}
    for number, changes in enumerate(({}, size, {**size, 'step': 0}, {**size, 'step': 5000}, {})):
        cameras.send_image(50 * 10 ** 9 + number, **changes)
    wait_until(lambda: len(cameras.frames) >= 2, 10, 'the good frames')
    assert [stamp_to_ns(frame.header.stamp) - 50 * 10 ** 9 for frame in cameras.frames] == [0, 4]
    assert all(frame.image.height == HEIGHT for frame in cameras.frames)
    log = cameras.process.log.read_text()
    assert f'frame of /image dropped: image has {HEIGHT * WIDTH} bytes, 5000 x 4000 pixels' in log


def test_frames_have_no_events_until_both_calibrations_and_their_transform_are_known(graph):
    cameras = Cameras(graph, registration='camera_info', scene_depth=2.0)
    node = graph.node
    infos = [node.create_publisher(CameraInfo, topic, qos_profile_sensor_data)
             for topic in ('event_camera_info', 'image_camera_info')]
    transforms = node.create_publisher(TFMessage, '/tf_static', QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    end_ns = cameras.stream(50 * 10 ** 9, 0.5)
    wait_until(lambda: len(cameras.frames) >= 10, 5, 'the frames')
    assert all(frame.missing & EventGuidedFrame.NO_EVENT_STREAM for frame in cameras.frames)
    log = cameras.process.log.read_text()
    assert 'no registration yet, waiting for /event_camera_info and /image_camera_info' in log
    # Same lenses; the event camera sits 0.1 m to the right, which at 2 m is 5 pixels.
    matrix = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
    transform = TransformStamped(header=Header(frame_id='camera'), child_frame_id='dvs')
    transform.transform.translation.x = 0.1
    transform.transform.rotation.w = 1.0
    transforms.publish(TFMessage(transforms=[transform]))
    for _ in range(5):
        for publisher, name in zip(infos, ('dvs', 'camera')):
            publisher.publish(CameraInfo(
                header=Header(frame_id=name), width=WIDTH, height=HEIGHT, k=matrix,
                distortion_model='plumb_bob', d=[0.0] * 5))
        time.sleep(0.1)
    del cameras.frames[:]
    one_pixel = Events(np.array([60], np.uint16), np.array([40], np.uint16),
                       np.array([1], np.uint8), np.array([0]))
    for number in range(150):
        start_ns = end_ns + number * PACKET_NS
        if number % 10 == 0:
            cameras.send_image(start_ns)
        cameras.send_packet(start_ns, events=one_pixel._replace(t_ns=np.array([start_ns])))
        time.sleep(0.004)
    # Windows of the first frames still hold what was sent before.
    frame = wait_until(
        lambda: next((frame for frame in cameras.frames
                      if stamp_to_ns(frame.header.stamp) > end_ns + 10 ** 8
                      and frame.num_events > 5),
                     None), 10, 'a frame with events')
    counts = to_activity(frame).counts
    assert np.unravel_index(counts.argmax(), counts.shape) == (40 // 4, 65 // 4)
    assert np.count_nonzero(counts) == 1


def test_an_error_in_the_thread_ends_the_node(context, monkeypatch):
    node = EventSyncNode(context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def fail(now_s):
        raise RuntimeError('a fault in the program')
    monkeypatch.setattr(node._worker._synchronizer, 'poll', fail)
    deadline = time.monotonic() + 10
    with pytest.raises(RuntimeError, match='a fault in the program'):
        while time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
    node.destroy_node()
