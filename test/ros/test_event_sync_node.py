"""The sync node fed over DDS: every frame comes out once, with its events."""

import array
import threading

import cv2
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.bag.offline_sync import guided_frames
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.ros.conversions import to_activity, to_change_score
from epvlm_ros.time_units import stamp_to_ns
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import (
    assert_whole_round, DEEP, DEEP_PLAYER, PATIENT_SYNC, RosGraph, wait_for_start,
    wait_until)
from sensor_msgs.msg import CompressedImage, Image
from slider_depth_bag import EVENT_TOPIC, IMAGE_TOPIC, make_slider_depth_bag
from std_msgs.msg import Header

REMAPPINGS = {'events': EVENT_TOPIC, 'image': IMAGE_TOPIC}


@pytest.fixture(scope='module')
def slider_bag(slider_depth, tmp_path_factory):
    target = tmp_path_factory.mktemp('bags') / 'slider'
    return make_slider_depth_bag(slider_depth, target)


@pytest.fixture
def graph(tmp_path):
    with RosGraph(tmp_path) as graph:
        yield graph


def start_node(graph, **options):
    """Start the node and return it with the list that its guided frames go to."""
    received = []
    matched = threading.Event()
    graph.node.create_subscription(
        EventGuidedFrame, 'event_guided_frame', received.append, DEEP,
        event_callbacks=SubscriptionEventCallbacks(matched=lambda info: matched.set()))
    node = graph.start('event_sync_node', **options)
    wait_for_start(node, matched.is_set, 'the topic of the node')
    return node, received


def test_every_frame_of_a_recording_comes_out_once_with_its_events(graph, slider_bag):
    _, received = start_node(graph, remappings=REMAPPINGS, parameters=PATIENT_SYNC)
    player = graph.start('bag_player', str(slider_bag), '--wait-for-subscribers', '120',
                         parameters=DEEP_PLAYER)
    assert player.wait(120) == 0, player.log.read_text()
    with BagReader(slider_bag) as bag:
        expected = list(guided_frames(bag, EventSyncConfig()))
    wait_until(lambda: len(received) >= len(expected), 60, 'all frames')
    assert [stamp_to_ns(message.header.stamp) for message in received] == \
        [guided.frame.stamp_ns for guided in expected]
    # The window of the first begins before the first event.
    assert [message.missing for message in received] == \
        [EventGuidedFrame.WINDOW_START_MISSING, *[EventGuidedFrame.COMPLETE] * 86] == \
        [guided.missing for guided in expected]
    for message, guided in list(zip(received, expected))[1:]:
        np.testing.assert_allclose(
            to_activity(message).counts, guided.activity.counts, atol=1e-3)
        change = to_change_score(message)
        np.testing.assert_array_equal(change.scores, guided.change.scores)
        assert change.num_doubts == guided.change.num_doubts
        assert message.pixel_density == pytest.approx(1.0)
        assert message.coverage == 1.0
        assert message.num_events == pytest.approx(guided.activity.num_events, abs=0.51)
    assert sum(message.num_events for message in received) > 500_000


def test_a_recording_that_loops_loses_and_repeats_no_frame(graph, slider_bag):
    node, received = start_node(graph, remappings=REMAPPINGS, parameters=PATIENT_SYNC)
    graph.start('bag_player', str(slider_bag), '--loop', '--rate', '2', '--wait-for-subscribers',
                '120', parameters=DEEP_PLAYER)
    with BagReader(slider_bag) as bag:
        stamps = [image.stamp_ns for image in bag.images()]
    wait_until(lambda: len(received) >= 2.5 * len(stamps), 100, 'two rounds and a half')
    assert node.is_running()
    seen = [stamp_to_ns(message.header.stamp) for message in received[:2 * len(stamps)]]
    assert seen == stamps * 2
    for start in (0, len(stamps)):
        assert_whole_round(received[start:start + len(stamps)])


def test_a_camera_without_events_still_comes_through(start_sync_node, capfd):
    graph = start_sync_node(cell_size=8)
    graph.until_connected()
    message = Image(header=Header(frame_id='camera'), height=48, width=64, encoding='rgb8',
                    step=192, data=array.array('B', bytes(48 * 192)))
    message.header.stamp.sec = 100
    graph.images.publish(message)
    graph.until(lambda: graph.frames, 'the frame')
    guided = graph.frames[0]
    assert guided.header == message.header and guided.image == message
    assert guided.missing == EventGuidedFrame.NO_EVENT_STREAM
    assert (guided.rows, guided.cols, guided.num_events) == (6, 8, 0)
    assert guided.wait >= 0.1
    graph.until_logged(capfd, 'no event packet yet on /events')


def test_parameters_are_described_and_wrong_values_refused(start_sync_node):
    graph = start_sync_node()
    describe = graph.client.create_client(
        DescribeParameters, '/event_sync_node/describe_parameters')
    change = graph.client.create_client(SetParameters, '/event_sync_node/set_parameters')
    graph.until(lambda: describe.service_is_ready() and change.service_is_ready(), 'services')

    def call(client, request):
        future = client.call_async(request)
        graph.until(future.done, 'the service')
        return future.result()

    descriptor, = call(
        describe, DescribeParameters.Request(names=['window_length'])).descriptors
    assert 'seconds' in descriptor.description
    assert descriptor.floating_point_range[0].from_value == pytest.approx(0.001)

    def set_double(name, value):
        parameter = Parameter(name=name, value=ParameterValue(type=3, double_value=value))
        return call(change, SetParameters.Request(parameters=[parameter])).results[0]

    assert set_double('window_length', 0.02).successful
    refused = set_double('window_length', 7.0)
    assert not refused.successful and 'window_length' in refused.reason
    refused = set_double('window_offset', -1.0)
    assert not refused.successful and 'give a longer history_length' in refused.reason
    fixed = set_double('history_length', 2.0)
    assert not fixed.successful and 'cannot change while the node runs' in fixed.reason


def test_a_wrong_value_at_the_start_is_one_clear_line(graph):
    node = graph.start('event_sync_node', parameters={'window_length': '-1.0'})
    assert node.wait(120) == 1
    text = node.log.read_text()
    assert 'window_length' in text and 'Traceback' not in text


def test_a_publisher_that_does_not_match_is_named(start_sync_node, capfd):
    graph = start_sync_node()
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    graph.client.create_publisher(Image, 'image', best_effort)
    log = graph.until_logged(capfd, '/client (BEST_EFFORT')
    assert 'qos_overrides./image.subscription.reliability' in log


def test_the_quality_of_a_topic_can_be_overridden(start_sync_node):
    graph = start_sync_node(**{
        'qos_overrides./image.subscription.reliability': 'best_effort', 'max_wait': 0.0})
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    graph.client.destroy_publisher(graph.images)
    graph.images = graph.client.create_publisher(Image, 'image', best_effort)
    graph.until_connected()
    graph.until_frame()


def test_compressed_frames_come_out_decoded_and_broken_ones_lose_nothing_else(
        start_sync_node, capfd):
    graph = start_sync_node(image_type=CompressedImage, compressed='true', max_wait=0.0)
    graph.until_connected()
    blue_then_red = np.zeros((32, 48, 3), np.uint8)
    blue_then_red[:, :24, 0] = blue_then_red[:, 24:, 2] = 255  # OpenCV puts blue first
    for data in (b'this is no picture', cv2.imencode('.png', blue_then_red)[1].tobytes()):
        message = CompressedImage(format='png', data=array.array('B', data))
        message.header.frame_id = 'camera'
        graph.images.publish(message)
    graph.until(lambda: graph.frames, 'the frame')
    image = graph.frames[0].image
    assert (image.encoding, image.height, image.width, image.step) == ('rgb8', 32, 48, 144)
    assert image.header.frame_id == 'camera'
    assert tuple(image.data[:3]) == (0, 0, 255) and tuple(image.data[141:144]) == (255, 0, 0)
    assert len(graph.frames) == 1
    assert 'frame of /image dropped' in capfd.readouterr().err


def test_ctrl_c_ends_the_node_cleanly_also_in_the_middle_of_a_stream(graph, slider_bag):
    node, received = start_node(graph, remappings=REMAPPINGS)
    graph.start('bag_player', str(slider_bag), '--rate', '3', '--wait-for-subscribers', '120')
    wait_until(lambda: received, 30, 'the stream')
    assert node.stop() == 0
    assert 'Traceback' not in node.log.read_text()
