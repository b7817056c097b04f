"""Calibrations and transforms come over the network and become registrations."""

from camera_messages import camera_info, transform
from epvlm_ros.ros.calibration_source import CalibrationSource
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import RosGraph, wait_until
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class World:
    """Publishers of a robot, and a source that listens, in one node."""

    def __init__(self, node):
        self.node = node
        self.found = []
        # Sent before anybody listens, as by a robot's description.
        self.tf_static = node.create_publisher(TFMessage, '/tf_static', LATCHED)
        self.tf_static.publish(transform('mast', 'camera', x=0.1))
        self.tf = node.create_publisher(TFMessage, '/tf', 10)
        self.event_info = node.create_publisher(CameraInfo, 'event_camera_info', 10)
        self.image_info = node.create_publisher(CameraInfo, 'image_camera_info', 10)
        self.source = CalibrationSource(node, 2.0, self.found.append)

    def send_until(self, publisher, message, condition, what):
        """Send a message again and again: the two ends may not have met yet."""
        def sent():
            publisher.publish(message)
            return condition()

        return wait_until(sent, 20.0, what)

    def send_often(self, publisher, message):
        """Send a message several times, and let all of them arrive."""
        seen = []
        marker = self.node.create_subscription(
            type(message), publisher.topic_name, seen.append, 10)
        self.send_until(publisher, message, lambda: len(seen) >= 5, 'five repeats')
        self.node.destroy_subscription(marker)


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    with RosGraph(tmp_path_factory.mktemp('logs')) as graph:
        yield graph


@pytest.fixture
def world(graph):
    world = World(graph.node)
    yield world
    world.source.destroy()
    for publisher in (world.tf_static, world.tf, world.event_info, world.image_info):
        graph.node.destroy_publisher(publisher)


def start(world):
    """Bring everything that a registration needs."""
    world.send_until(world.event_info, camera_info('event', 100, 80, 100.0),
                     lambda: 'event' not in world.source.waiting_for, 'the event camera')
    world.send_until(world.image_info, camera_info('camera', 320, 240, 300.0),
                     lambda: 'transform' in world.source.waiting_for, 'the image camera')
    world.send_until(world.tf, transform('mast', 'event', x=0.3), lambda: world.found, 'a pose')
    assert world.source.waiting_for == ''


def shift_of(registration):
    """Return where the middle of the event sensor is, right of the middle of the image."""
    u, _ = registration.map_pixels(np.array([49.5]), np.array([39.5]), (80, 100), (240, 320))
    return u.item() - 159.5


def test_a_registration_comes_when_all_is_known(world):
    assert world.source.waiting_for == '/event_camera_info and /image_camera_info'
    world.send_until(world.event_info, camera_info('event', 100, 80, 100.0),
                     lambda: world.source.waiting_for == '/image_camera_info', 'a camera')
    world.send_until(
        world.image_info, camera_info('camera', 320, 240, 300.0),
        lambda: world.source.waiting_for.startswith("a transform from 'event' to 'camera'"),
        'both cameras')
    assert world.found == []
    world.send_until(world.tf, transform('mast', 'event', x=0.3), lambda: world.found, 'a pose')
    # The event camera is 0.2 m to the right; at 2 m that is 300 * 0.2 / 2 = 30 px.
    assert shift_of(world.found[0]) == pytest.approx(30.0)
    assert world.source.waiting_for == ''


def test_changes_make_a_new_one_and_repeats_do_not(world):
    start(world)
    num = len(world.found)
    for publisher, message in (
            (world.tf, transform('mast', 'event', x=0.3)),
            (world.tf, transform('mast', 'event', x=0.3001)),
            (world.event_info, camera_info('event', 100, 80, 100.0)),
            (world.image_info, camera_info('camera', 320, 240, 300.0)),
            (world.tf, transform('map', 'something_else', x=5.0))):
        world.send_often(publisher, message)
        assert len(world.found) == num
    world.send_until(world.tf, transform('mast', 'event', x=0.4),
                     lambda: len(world.found) > num, 'a new pose')
    assert shift_of(world.found[-1]) == pytest.approx(45.0)
    world.send_until(world.image_info, camera_info('camera', 320, 240, 600.0),
                     lambda: len(world.found) > num + 1, 'a new calibration')
    assert shift_of(world.found[-1]) == pytest.approx(90.0)
    world.source.scene_depth_m = 4.0
    assert len(world.found) == num + 3
    assert shift_of(world.found[-1]) == pytest.approx(45.0)
    world.source.scene_depth_m = 4.0
    assert len(world.found) == num + 3


def test_what_is_unusable_leaves_the_last_good_one(world):
    start(world)
    num = len(world.found)
    world.send_often(world.event_info, camera_info('event', 100, 80, 0.0))
    world.send_often(world.event_info, camera_info('', 100, 80, 100.0))
    world.send_often(world.tf, transform('mast', 'event', x=0.9, w=0.0))
    world.send_often(world.tf, transform('event', 'mast'))
    assert len(world.found) == num
    # A frame that nothing connects: it waits, and says for what.
    world.send_until(
        world.event_info, camera_info('elsewhere', 100, 80, 100.0),
        lambda: "from 'elsewhere' to 'camera'" in world.source.waiting_for, 'another frame')
    assert len(world.found) == num
    world.send_until(world.tf, transform('mast', 'elsewhere', x=0.3),
                     lambda: len(world.found) > num, 'its pose')
    assert shift_of(world.found[-1]) == pytest.approx(30.0)


def test_cameras_of_one_frame_need_no_transform(world):
    world.send_until(world.event_info, camera_info('both', 100, 80, 100.0),
                     lambda: 'event' not in world.source.waiting_for, 'a camera')
    world.send_until(world.image_info, camera_info('both', 320, 240, 300.0),
                     lambda: world.found, 'the other one')
    assert shift_of(world.found[-1]) == pytest.approx(0.0)


def test_nothing_is_heard_after_its_end(world):
    start(world)
    num = len(world.found)
    world.source.destroy()
    world.send_often(world.image_info, camera_info('camera', 320, 240, 600.0))
    assert len(world.found) == num
