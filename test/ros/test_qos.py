"""Overrides of the quality of service: of the topic that they name, and of no other."""

from epvlm_ros.ros.qos import FRAMES, publisher_options, subscription_options
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from std_msgs.msg import String


def test_an_override_is_of_one_topic_alone(context):
    node = rclpy.create_node('some_node', context=context, parameter_overrides=[
        Parameter(f'qos_overrides./out.publisher.{name}', value=value) for name, value in (
            ('reliability', 'best_effort'), ('durability', 'transient_local'), ('depth', 3))])
    publisher = node.create_publisher(String, 'out', **publisher_options(node, 'out', FRAMES))
    subscription = node.create_subscription(
        String, 'in', lambda message: None, **subscription_options(node, 'in', FRAMES))
    found, other = (
        (entity.qos_profile.reliability, entity.qos_profile.durability, entity.qos_profile.depth)
        for entity in (publisher, subscription))
    assert found == (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.TRANSIENT_LOCAL, 3)
    assert other == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 10)
    assert FRAMES.depth == 10
    node.destroy_node()
