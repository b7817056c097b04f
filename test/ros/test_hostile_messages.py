"""Both nodes get hostile messages between good ones, and do their work none the less."""

import array
from pathlib import Path
import re
import time

from builtin_interfaces.msg import Time
from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.ros.qos import EVENTS, FRAMES, QUERIES
from epvlm_ros.time_units import stamp_to_ns
from event_camera_msgs.msg import EventPacket
from hostile_messages import break_text, HostileMessages
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from ros_graph import DEEP, RosGraph, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage
from vlm_asker import Asker, save_endless_model

WIDTH, HEIGHT = 128, 96
PACKET_NS = 4_000_000
NUM_PACKETS = 150  # good ones in a row
# Sent again until they arrive: best effort packets get lost among large messages. The reader
# asks for what it misses every 3 s.
RELIABLE_EVENTS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Feed:
    """Good and hostile messages on the topics of both nodes."""

    def __init__(self, graph, seed):
        node = graph.node
        self.node, self.hostile = node, HostileMessages(seed)
        self._random = np.random.default_rng(seed)
        self.frames = []
        node.create_subscription(EventGuidedFrame, 'event_guided_frame', self.frames.append, DEEP)
        self._events = node.create_publisher(EventPacket, 'events', RELIABLE_EVENTS)
        self._images = node.create_publisher(Image, 'image', FRAMES)
        hostile, create = self.hostile, node.create_publisher
        self.sync = [(self._events, hostile.packet), (self._images, hostile.image)]
        self.calibrated = [
            (create(EventPacket, 'other/events', EVENTS), hostile.packet),
            (create(CompressedImage, 'other/image', FRAMES), hostile.compressed_image),
            (create(CameraInfo, 'other/event_camera_info', 10), hostile.camera_info),
            (create(CameraInfo, 'other/image_camera_info', 10), hostile.camera_info),
            (create(TFMessage, '/tf', 100), hostile.transforms),
            (create(TFMessage, '/tf_static', LATCHED), hostile.transforms)]
        self.vlm = [(create(EventGuidedFrame, 'vlm_frames', FRAMES), hostile.guided_frame),
                    (create(String, 'query', QUERIES), hostile.question)]
        self._seq, self._now_ns = 0, 10 ** 15

    def attack(self, topics, num_messages):
        for number in range(num_messages):
            publisher, make = topics[number % len(topics)]
            message = make()
            if self._random.integers(8) == 0:
                message = break_text(serialize_message(message), self._random)
            publisher.publish(message)
            time.sleep(0.002)

    def stream(self):
        """Send good packets in real time and a few frames; return the stamps of the frames."""
        begin, stamps_ns = time.monotonic(), []
        self._now_ns += 10 ** 9
        for number in range(NUM_PACKETS):
            self._send_packet()
            if number % 25 == 0 and number < NUM_PACKETS - 10:
                stamps_ns.append(self._now_ns)
                self._images.publish(Image(
                    header=self._header(), height=HEIGHT, width=WIDTH, encoding='mono8',
                    step=WIDTH, data=array.array('B', bytes(HEIGHT * WIDTH))))
            self._now_ns += PACKET_NS
            time.sleep(max(0.0, begin + (number + 1) * PACKET_NS * 1e-9 - time.monotonic()))
        return stamps_ns

    def _header(self):
        sec, nanosec = divmod(self._now_ns, 10 ** 9)
        return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id='camera')

    def _send_packet(self):
        events = Events(
            self._random.integers(0, WIDTH, 50).astype(np.uint16),
            self._random.integers(0, HEIGHT, 50).astype(np.uint16), np.ones(50, np.uint8),
            np.sort(self._now_ns + self._random.integers(0, PACKET_NS, 50)))
        payload = encode_evt3(events, start_ns=self._now_ns)
        self._events.publish(EventPacket(
            header=self._header(), height=HEIGHT, width=WIDTH, encoding='evt3', seq=self._seq,
            events=array.array('B', payload.tobytes())))
        self._seq += 1


def find_frames(frames, stamps_ns):
    """Return the frames of these stamps, in order, once all have come."""
    found = [frame for frame in frames if stamp_to_ns(frame.header.stamp) in stamps_ns]
    return found if [stamp_to_ns(frame.header.stamp) for frame in found] == stamps_ns else None


def memory_mb(process):
    status = Path(f'/proc/{process.pid}/status').read_text().splitlines()
    return int(next(line for line in status if line.startswith('VmRSS:')).split()[1]) / 1e3


def check_log(process):
    # The middleware colours what it writes by itself.
    lines = [line for line in process.log.read_text().split('\n') if '[RTPS_' not in re.sub(
        r'\x1b\[[0-9;]*m', '', line)]
    marked = [line for line in lines if not line.isprintable()]
    assert not marked, [line[:300] for line in marked[:3]]
    assert max(map(len, lines)) < 5000
    assert not any('Traceback' in line for line in lines)


def check_nodes(tmp_path, num_messages, with_calibration):
    """Send hostile messages in batches, and something good after each."""
    with RosGraph(tmp_path) as graph:
        vlm = graph.start('vlm_node', remappings={'event_guided_frame': 'vlm_frames'}, parameters={
            'model': save_endless_model(tmp_path / 'model'), 'device': 'cpu', 'num_threads': 1,
            'max_new_tokens': 2, 'max_frame_age': 60.0, 'max_queued_queries': 100})
        # What is tested is whether events are understood, not how promptly they are delivered.
        nodes = [graph.start('event_sync_node', parameters={
            'max_wait': 5.0, 'history_length': 8.0, 'max_event_delay': 10.0,
            'qos_overrides./events.subscription.depth': 1000,
            'qos_overrides./events.subscription.reliability': 'reliable'}), vlm]
        if with_calibration:
            nodes.append(graph.start(
                'event_sync_node', parameters={'registration': 'camera_info', 'compressed': True},
                remappings={name: f'other/{name}' for name in (
                    'events', 'image', 'event_guided_frame', 'event_camera_info',
                    'image_camera_info')} | {'__node': 'other_sync_node'}))
        asker = Asker(graph, frames='vlm_frames')
        feed = Feed(graph, seed=3)
        asker.wait_for_node(vlm)
        topics = [feed.sync, feed.vlm, *([feed.calibrated] if with_calibration else [])]
        for publisher, _ in (pair for some in topics for pair in some):
            wait_until(lambda: publisher.get_subscription_count() or not all(
                node.is_running() for node in nodes), 60, publisher.topic_name)
        assert all(node.is_running() for node in nodes), nodes[0].log.read_text()
        feed.stream()
        before = [memory_mb(node) for node in nodes]
        batch = 60
        for _ in range(0, num_messages, batch * len(topics)):
            for some in topics:
                feed.attack(some, batch)
            asked = [asker.service.call_async(feed.hostile.request()) for _ in range(3)]
            stamps_ns = feed.stream()
            frames = wait_until(lambda: find_frames(feed.frames, stamps_ns), 20, 'good frames')
            for frame in frames:
                assert frame.missing == EventGuidedFrame.COMPLETE, (frame.missing, frame.reason)
                assert frame.num_events > 0
            feed.frames.clear()
            asker.show()
            good = asker.ask('what moves?')
            assert (good.status, good.message) == (Answer.OK, '')
            wait_until(lambda: all(call.done() for call in asked), 20, 'the hostile calls')
            assert all(call.result().answer.question.isprintable() for call in asked)
            assert all(node.is_running() for node in nodes)
        grown_mb = [memory_mb(node) - mb for node, mb in zip(nodes, before)]
        assert max(grown_mb) < 400, grown_mb
        for node in nodes:
            assert node.is_running() and node.stop() == 0
            check_log(node)


def test_nodes_go_on_after_hostile_messages(tmp_path):
    check_nodes(tmp_path, num_messages=240, with_calibration=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nodes_go_on_after_ten_thousand_hostile_messages(tmp_path):
    check_nodes(tmp_path, num_messages=10_000, with_calibration=True)
