"""A topic on which nothing comes is explained: who publishes what, and what mends it."""

import time

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.topic_watch import explain_silence, TopicWatch, type_name
from event_camera_msgs.msg import EventPacket
import pytest
import rclpy
from ros_graph import wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String


@pytest.fixture
def make_node(context):
    nodes = []

    def make_node(name, **options):
        nodes.append(rclpy.create_node(name, context=context, **options))
        return nodes[-1]
    yield make_node
    for node in nodes:
        node.destroy_node()


def until_explained(node, words, message_type=Image, topic='image'):
    """Wait until discovery has told the node enough to say ``words``."""
    wait_until(lambda: words in explain_silence(node, topic, message_type), 10, words)


def test_types_have_the_names_of_the_graph():
    assert type_name(EventPacket) == 'event_camera_msgs/msg/EventPacket'
    assert type_name(String) == 'std_msgs/msg/String'


def test_another_type_on_the_topic_is_named_with_the_parameter(make_node):
    node, driver = make_node('asker'), make_node('driver')
    driver.create_publisher(CompressedImage, 'image', 1)
    until_explained(node, (
        '/driver publishes it as sensor_msgs/msg/CompressedImage, this node expects '
        'sensor_msgs/msg/Image: set compressed:=true'))
    driver.create_publisher(String, 'events', 1)
    until_explained(node, (
        'expects event_camera_msgs/msg/EventPacket: remap events to a topic of event_camera_msgs'),
        EventPacket, 'events')


def test_topics_of_fitting_types_are_named_with_their_remapping_nearest_name_first(make_node):
    node, driver = make_node('asker', namespace='front'), make_node('driver')
    until_explained(node, 'nobody publishes it; nor any other topic of sensor_msgs/msg/Image')
    driver.create_publisher(Image, '/zed/left', 1)
    driver.create_publisher(CompressedImage, '/front/image_raw', 1)
    driver.create_publisher(String, '/front/images', 1)
    until_explained(node, (
        'nobody publishes it; /driver publishes /front/image_raw (sensor_msgs/msg/CompressedImage'
        '): remap image:=/front/image_raw (launch argument image_topic) and set compressed:=true; '
        '/driver publishes /zed/left (sensor_msgs/msg/Image): remap image:=/zed/left'))


def test_what_no_camera_sends_is_not_advised_and_launch_arguments_are_those_there_are(make_node):
    node, other = make_node('asker'), make_node('other')
    other.create_publisher(EventGuidedFrame, '/left/event_guided_frame', 1)
    other.create_publisher(Image, '/overlay', 1)
    until_explained(node, (
        '/other publishes /left/event_guided_frame (epvlm_interfaces/msg/EventGuidedFrame): remap '
        'event_guided_frame:=/left/event_guided_frame'), EventGuidedFrame, 'event_guided_frame')
    text = explain_silence(node, 'event_guided_frame', EventGuidedFrame)
    assert 'launch argument' not in text
    wait_until(lambda: node.count_publishers('/overlay'), 10, 'the overlay')
    assert 'overlay' not in explain_silence(node, 'image', Image)


def test_a_publisher_that_says_nothing_is_named(make_node):
    node, sync_node = make_node('asker'), make_node('event_sync_node')
    sync_node.create_publisher(EventGuidedFrame, 'event_guided_frame', 1)
    until_explained(node, '/event_sync_node would publish it, but has not',
                    EventGuidedFrame, 'event_guided_frame')


def test_silence_is_logged_again_and_again_until_messages_come(make_node, monkeypatch, capfd):
    node, driver = make_node('asker'), make_node('driver')
    watch = TopicWatch(node, 'image', Image)
    start_s = time.monotonic()

    def warnings_at(*times_s):
        for time_s in times_s:
            watch.check(start_s + time_s)
        return capfd.readouterr().err.splitlines()
    assert not warnings_at(2, 4)
    assert len(warnings_at(6, 11, 16, 35)) == 1
    assert len(warnings_at(37, 40)) == 1
    driver.create_publisher(CompressedImage, 'image', 1)
    until_explained(node, 'set compressed:=true')
    assert len(warnings_at(41, 42)) == 1  # at once, because the reason changed
    monkeypatch.setattr('time.monotonic', lambda: start_s + 100)
    watch.note_message()
    assert not warnings_at(101, 104)
    line, = warnings_at(106, 109)
    assert 'nothing came on /image for 6 s: /driver publishes it as' in line
