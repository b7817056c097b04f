"""Quality of service of the topics, and a word in the log where it does not match."""

from __future__ import annotations

from copy import copy
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy, HistoryPolicy, qos_policy_name_from_kind, QoSPolicyKind, QoSProfile,
    ReliabilityPolicy)
from rclpy.qos_overriding_options import QoSOverridingOptions

NAMES_DELAY_S = 1.0
OVERRIDES = QoSOverridingOptions((
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY))
# What drivers of event cameras publish with: a reliable subscription would never match them.
EVENTS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE)
# Frames are larger than what a best effort transport delivers in one piece.
FRAMES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE)
# What subscribers that come late get as well. As deep as /tf_static may have publishers: in a
# replay the messages of all of them come from one.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
QUERIES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE)


def subscription_options(node: Node, topic: str, quality: QoSProfile) -> dict[str, Any]:
    """Return the QoS and what lets parameters override it and logs a mismatch, as keywords."""
    def name_publishers(info: Any) -> None:
        publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
        names = ', '.join(sorted(
            f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name} '
            f'({publisher.qos_profile.reliability.name}, '
            f'{publisher.qos_profile.durability.name})'
            for publisher in publishers)) or 'unknown'
        _warn(node, topic, info, f'a publisher of it does not match; publishers: {names}',
              'subscription')

    def warn(info: Any) -> None:
        # The mismatch is known before the names are: ask for them a little later.
        def finish() -> None:
            node.destroy_timer(timer)
            name_publishers(info)

        timer = node.create_timer(
            NAMES_DELAY_S, finish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    return {
        'event_callbacks': SubscriptionEventCallbacks(incompatible_qos=warn),
        'qos_profile': copy(quality),  # rclpy writes what is overridden into it
        'qos_overriding_options': OVERRIDES,
    }


def publisher_options(node: Node, topic: str, quality: QoSProfile) -> dict[str, Any]:
    """Return the QoS and what lets parameters override it and logs a mismatch, as keywords."""
    def warn(info: Any) -> None:
        _warn(node, topic, info, 'a subscription to it asks for more than is offered',
              'publisher')

    return {
        'event_callbacks': PublisherEventCallbacks(incompatible_qos=warn),
        'qos_profile': copy(quality),  # rclpy writes what is overridden into it
        'qos_overriding_options': OVERRIDES,
    }


def _warn(node: Node, topic: str, info: Any, what: str, entity: str) -> None:
    policy = qos_policy_name_from_kind(info.last_policy_kind).lower()
    name = node.resolve_topic_name(topic)
    node.get_logger().warning(
        f'{name}: {what}. The policy at fault is {policy}: nothing arrives. Remedy: '
        f'qos_overrides.{name}.{entity}.{policy} as a parameter of this node')
