"""QoS profiles of the topics; mismatches are logged."""

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
# As event camera drivers publish: a reliable subscription would never match them.
EVENTS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE)
# Frames are larger than what a best effort transport delivers in one piece.
FRAMES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE)
# Late subscribers get these as well. As deep as /tf_static may have publishers: in a replay the
# messages of all of them come from one.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
QUERIES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE)
CALLS_IN_A_BURST = 200


def query_calls(max_queued_queries: int = 0) -> QoSProfile:
    """
    Return the QoS of services and actions that take queries, on either side.

    Calls and responses beyond the depth are lost without a trace, and the default depth is 10.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=CALLS_IN_A_BURST + max_queued_queries,
        reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)


def subscription_options(node: Node, topic: str, qos: QoSProfile) -> dict[str, Any]:
    """Return keywords for create_subscription: QoS, its overrides and a log of mismatches."""
    def warn(info: Any) -> None:
        def finish() -> None:
            node.destroy_timer(timer)
            publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
            names = ', '.join(sorted(
                f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name} '
                f'({publisher.qos_profile.reliability.name}, '
                f'{publisher.qos_profile.durability.name})'
                for publisher in publishers)) or 'unknown'
            _warn(node, topic, info,
                  f'the QoS of a publisher does not match; publishers: {names}', 'subscription')

        # The mismatch is known before the names are: ask for them a little later.
        timer = node.create_timer(
            NAMES_DELAY_S, finish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    return _options(qos, SubscriptionEventCallbacks(
        incompatible_qos=warn, use_default_callbacks=False))


def publisher_options(node: Node, topic: str, qos: QoSProfile) -> dict[str, Any]:
    """Return keywords for create_publisher: QoS, its overrides and a log of mismatches."""
    return _options(qos, PublisherEventCallbacks(use_default_callbacks=False, incompatible_qos=(
        lambda info: _warn(node, topic, info, 'a subscription to it asks for more than is offered',
                           'publisher'))))


def _options(qos: QoSProfile, event_callbacks: Any) -> dict[str, Any]:
    # rclpy looks at every event of every topic whenever it waits: no others than these. A wrong
    # type is what a TopicWatch tells of.
    return {
        'event_callbacks': event_callbacks,
        'qos_profile': copy(qos),  # rclpy writes what is overridden into it
        'qos_overriding_options': OVERRIDES,
    }


def _warn(node: Node, topic: str, info: Any, what: str, entity: str) -> None:
    policy = qos_policy_name_from_kind(info.last_policy_kind).lower()
    name = node.resolve_topic_name(topic)
    node.get_logger().warning(
        f'{name}: {what}. The incompatible policy is {policy}: nothing arrives. Set '
        f'qos_overrides.{name}.{entity}.{policy} as a parameter of this node')
