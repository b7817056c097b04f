"""The states of the sync node, and what it says about input that it cannot use."""

import array

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.ros import topic_watch
from epvlm_ros.ros.event_sync_node import EventSyncNode
from epvlm_ros.ros.qos import EVENTS, FRAMES
from epvlm_ros.ros.spinning_node import SpinningNode
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import State
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_graph import wait_until
from sensor_msgs.msg import CompressedImage, Image

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Graph:
    """A sync node and a client in one executor that is spun by hand."""

    def __init__(self, context, **parameters):
        self.node = EventSyncNode(context=context, cli_args=['--ros-args', *(
            word for name, value in parameters.items() for word in ('-p', f'{name}:={value}'))])
        self.client = rclpy.create_node('client', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._executor.add_node(self.client)
        self.frames, self.reports = [], []
        self.client.create_subscription(
            EventGuidedFrame, 'event_guided_frame', self.frames.append, FRAMES)
        self.client.create_subscription(DiagnosticArray, '/diagnostics', self.reports.append, 10)
        self._images = self.client.create_publisher(Image, 'image', FRAMES)
        self._events = self.client.create_publisher(EventPacket, 'events', EVENTS)

    def until(self, condition, what):
        def spin():
            self._executor.spin_once(timeout_sec=0.02)
            return condition()
        return wait_until(spin, 15, what)

    def until_connected(self):
        self.until(lambda: self._images.get_subscription_count()
                   and self._events.get_subscription_count()
                   and self.client.count_publishers('event_guided_frame'), 'the connections')

    def send_image(self, **changes):
        self._images.publish(Image(**{
            'height': 28, 'width': 28, 'encoding': 'mono8', 'step': 28,
            'data': array.array('B', bytes(28 * 28)), **changes}))

    def send_packet(self, start_ns):
        one = Events(np.array([3], np.uint16), np.array([4], np.uint16), np.array([1], np.uint8),
                     np.array([start_ns]))
        message = EventPacket(
            height=28, width=28, encoding='evt3',
            events=array.array('B', encode_evt3(one, start_ns=start_ns).tobytes()))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(start_ns, 10 ** 9)
        self._events.publish(message)

    def until_frame(self):
        """Send images until a frame comes, and return it."""
        del self.frames[:]

        def find():
            self.send_image()
            return self.frames
        return self.until(find, 'a frame')[0]

    def status(self, part):
        found = [status for report in self.reports for status in report.status
                 if status.name.endswith(part)]
        return found[-1] if found else None

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        self.client.destroy_node()


@pytest.fixture
def start():
    context = Context()
    rclpy.init(context=context, domain_id=13)
    graphs = []

    def start(**parameters):
        graphs.append(Graph(context, **parameters))
        return graphs[-1]
    yield start
    for graph in graphs:
        graph.close()
    context.try_shutdown()


def state(node):
    return node._state_machine.current_state[0]


def test_the_node_works_in_its_active_state_only(start):
    graph = start(autostart='false', max_wait=0.0)
    node, client = graph.node, graph.client
    assert state(node) == State.PRIMARY_STATE_UNCONFIGURED
    assert node.set_parameters([Parameter('cell_size', value=7)])[0].successful
    assert node.trigger_configure() is SUCCESS
    refused, = node.set_parameters([Parameter('cell_size', value=14)])
    assert not refused.successful and 'after cleanup' in refused.reason
    assert client.count_subscribers('image') == 0  # a driver without subscribers may rest
    for _ in range(2):
        assert node.trigger_activate() is SUCCESS
        graph.until_connected()
        assert graph.until_frame().rows == 4  # 28 pixels in cells of 7
        assert node.trigger_deactivate() is SUCCESS
        graph.until(lambda: client.count_subscribers('image') == 0, 'the end of subscriptions')
    assert node.trigger_cleanup() is SUCCESS
    assert node.set_parameters([Parameter('cell_size', value=14)])[0].successful
    node.start()
    graph.until_connected()
    assert graph.until_frame().rows == 2
    assert node.trigger_shutdown() is SUCCESS
    graph.until(lambda: client.count_subscribers('image') == 0, 'the end of subscriptions')


def test_a_registration_file_that_is_missing_leaves_the_node_unconfigured(start, capfd, tmp_path):
    path = tmp_path / 'registration.yaml'
    graph = start(registration='file', registration_file=path)
    assert state(graph.node) == State.PRIMARY_STATE_UNCONFIGURED
    log = capfd.readouterr().err
    assert 'not configured: ' in log and str(path) in log and 'Traceback' not in log


def test_an_encoding_that_nobody_can_convert_is_told_and_the_frame_goes_on(start, capfd):
    graph = start(max_wait=0.0)
    graph.until_connected()
    graph.send_image(encoding='h264')
    assert graph.until(lambda: graph.frames, 'the frame')[0].image.encoding == 'h264'
    text = 'frames have an encoding that cannot be converted'
    graph.until(lambda: graph.status('frames') and text in graph.status('frames').message,
                'the diagnostics')
    assert graph.status('frames').level == DiagnosticStatus.WARN
    lines = [line for line in capfd.readouterr().err.splitlines() if 'h264' in line]
    assert len(lines) == 1
    assert "frame of /image cannot be converted: image encoding 'h264' is unknown" in lines[0]


def test_a_wait_that_is_shorter_than_the_window_is_not_blamed_on_stamps(start, capfd):
    graph = start(window_length=0.5, max_wait=0.1)
    graph.until_connected()
    for number in range(50):
        graph.send_packet(10 ** 11 + number * 10_000_000)
    stamp_ns = 10 ** 11 + 490_000_000

    def send():
        graph.send_packet(stamp_ns)
        return graph.status('events') and graph.status('events').message == 'good'
    graph.until(send, 'the packets')
    image = Image(height=28, width=28, encoding='mono8', step=28,
                  data=array.array('B', bytes(28 * 28)))
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, 10 ** 9)
    graph._images.publish(image)
    graph.until(lambda: graph.frames, 'the frame')
    assert graph.frames[0].missing & EventGuidedFrame.WINDOW_END_MISSING
    log = capfd.readouterr().err
    assert ('its window ends 0.25 s after its stamp, but it waits for 0.1 s only: give a longer '
            'max_wait or a shorter window_length') in log


def test_a_topic_of_another_type_is_told(start, capfd, monkeypatch):
    monkeypatch.setattr(topic_watch, 'CHECK_PERIOD_S', 0.3)
    monkeypatch.setattr(topic_watch, 'REPEAT_PERIOD_S', 0.3)
    graph = start()
    graph.client.destroy_publisher(graph._images)
    log = ''

    def has_words():
        nonlocal log
        log += capfd.readouterr().err
        return ('/driver publishes it as sensor_msgs/msg/CompressedImage, this node expects '
                'sensor_msgs/msg/Image: set compressed:=true') in log and \
            'nothing came on /events for 0 s: /client would publish it, but has not' in log
    with SpinningNode('driver', domain_id=13) as driver:  # a participant knows one type of a topic
        driver.node.create_publisher(CompressedImage, 'image', FRAMES)
        graph.until(has_words, 'the warnings')
