"""The reason why no guided frame of now is there, and its remedy."""

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.frame_faults import explain_no_frame, explain_stale_frame
import pytest
import rclpy
from rclpy.parameter import Parameter
from ros_graph import wait_until
from rosgraph_msgs.msg import Clock


@pytest.fixture
def node(context):
    node = rclpy.create_node('vlm_node', context=context)
    yield node
    node.destroy_node()


def test_without_a_frame_the_publisher_is_named(node):
    assert explain_no_frame(node, 'event_guided_frame').startswith(
        'no guided frame yet on /event_guided_frame: nobody publishes it')
    publisher = node.create_publisher(EventGuidedFrame, 'event_guided_frame', 1)
    wait_until(lambda: node.count_publishers('event_guided_frame'), 20, 'the publisher')
    text = explain_no_frame(node, 'event_guided_frame')
    assert '/vlm_node would publish it, but has not; see its log' in text
    assert 'running?' not in text
    node.destroy_publisher(publisher)


def test_on_a_robot_whose_sync_node_died_nobody_speaks_of_recordings(node):
    text = explain_stale_frame(node, 'event_guided_frame', 7.25, 1.0, silent_s=7.2)
    assert text.startswith(
        'the latest guided frame is 7.250 s old, the limit max_frame_age is 1 s: none has come '
        'for 7.2 s; nobody publishes it')
    assert 'use_sim_time' not in text and 'recording' not in text


def test_late_frames_are_told_from_those_of_another_clock(node):
    late = explain_stale_frame(node, 'event_guided_frame', 1.3, 1.0, silent_s=0.03)
    assert 'frames come, but late' in late and 'use_sim_time' not in late
    other = explain_stale_frame(node, 'event_guided_frame', 86400.0, 1.0, silent_s=0.03)
    assert 'their stamps are 86400.000 s behind the clock of this machine' in other
    assert 'set use_sim_time' in other
    ahead = explain_stale_frame(node, 'event_guided_frame', -5.0, 1.0, silent_s=0.03)
    assert 'their stamps are 5.000 s ahead of the clock' in ahead


def test_use_sim_time_is_not_advised_where_it_is_set(node):
    node.set_parameters([Parameter('use_sim_time', value=True)])
    alone = explain_stale_frame(node, 'event_guided_frame', 86400.0, 1.0, silent_s=0.03)
    assert 'nobody publishes /clock' in alone and 'set use_sim_time to false' in alone
    clock = node.create_publisher(Clock, '/clock', 1)
    wait_until(lambda: node.count_publishers('/clock'), 20, 'the clock')
    text = explain_stale_frame(node, 'event_guided_frame', 86400.0, 1.0, silent_s=0.03)
    assert 'their stamps are 86400.000 s behind /clock' in text
    assert 'the camera has a clock of its own' in text and 'set use_sim_time' not in text
    node.destroy_publisher(clock)
