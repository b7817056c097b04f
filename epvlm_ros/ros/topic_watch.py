"""Why nothing comes on a topic, by what the ROS graph shows."""

from __future__ import annotations

from difflib import SequenceMatcher
import time
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

CHECK_PERIOD_S = 5.0
REPEAT_PERIOD_S = 30.0
MAX_NAMED = 3
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
LAUNCH_TOPICS = ('events', 'image')
ARRAYS = ('set the parameter event_message to that type where its package is installed, or use '
          'epvlm convert for a recording')
# By the type that a node expects: other types of the same content, and the remedy.
REMEDIES = {
    IMAGE: {COMPRESSED: 'set compressed:=true'},
    COMPRESSED: {IMAGE: 'set compressed:=false'},
    'event_camera_msgs/msg/EventPacket': {
        'dvs_msgs/msg/EventArray': ARRAYS, 'prophesee_event_msgs/msg/EventArray': ARRAYS},
}


class TopicWatch:
    """
    Logs why a subscription gets no messages, until it gets some.

    The first warning comes after `CHECK_PERIOD_S` seconds without a message, the same one again
    every `REPEAT_PERIOD_S`. Call `note_message` for every message.
    """

    def __init__(self, node: Node, topic: str, message_type: Any) -> None:
        self._node, self._topic, self._type = node, topic, message_type
        self._last_message_s = time.monotonic()
        self._last_warning_s = -REPEAT_PERIOD_S
        self._last_reason = ''
        self._timer = node.create_timer(
            CHECK_PERIOD_S, lambda: self.check(time.monotonic()),
            clock=Clock(clock_type=ClockType.STEADY_TIME))

    def note_message(self) -> None:
        """Take note of a message; cheap enough for every event packet."""
        self._last_message_s = time.monotonic()

    def destroy(self) -> None:
        """Stop watching."""
        self._node.destroy_timer(self._timer)

    def check(self, now_s: float) -> None:
        """Log a warning if one is due at ``now_s`` of time.monotonic()."""
        silent_s = now_s - self._last_message_s
        if silent_s < CHECK_PERIOD_S:
            return
        reason = explain_silence(self._node, self._topic, self._type)
        if reason == self._last_reason and now_s - self._last_warning_s < REPEAT_PERIOD_S:
            return
        self._last_warning_s, self._last_reason = now_s, reason
        self._node.get_logger().warning(
            f'nothing came on {self._node.resolve_topic_name(self._topic)} for {silent_s:.0f} s: '
            f'{reason}')


def explain_silence(node: Node, topic: str, message_type: Any) -> str:
    """
    Say who publishes on a topic of the node, of which type, and what mends it.

    ``topic`` is the name before remapping, ``message_type`` the class that the node subscribes
    to. Where nobody publishes on the topic, the topics of fitting types are named.
    """
    name, wanted = node.resolve_topic_name(topic), type_name(message_type)
    publishers = node.get_publishers_info_by_topic(name)
    others = [info for info in publishers if info.topic_type != wanted]
    if len(others) < len(publishers):
        names = _join({node_name(info) for info in publishers if info.topic_type == wanted})
        return f'{names} would publish it, but has not; see its log'
    if others:
        kind = others[0].topic_type
        remedy = REMEDIES.get(wanted, {}).get(kind, f'remap {topic} to a topic of {wanted}')
        return (f'{_join({node_name(info) for info in others})} publishes it as {kind}, this node '
                f'expects {wanted}: {remedy}')
    return f'nobody publishes it; {_suggest(node, topic, name, wanted)}'


def type_name(message_type: Any) -> str:
    """Return the name of a message class as the graph has it, such as std_msgs/msg/String."""
    package, kind = message_type.__module__.split('.')[:2]
    return f'{package}/{kind}/{message_type.__name__}'


def node_name(info: Any) -> str:
    """Return the full name of the node of an endpoint."""
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def _suggest(node: Node, topic: str, name: str, wanted: str) -> str:
    """Name the topics that could be meant, those with similar names first."""
    remedies = {wanted: '', **REMEDIES.get(wanted, {})}
    found = []
    for other, kinds in node.get_topic_names_and_types():
        if other.endswith('/overlay'):
            continue  # vlm_node's: a picture of answers, from no camera
        for kind in remedies.keys() & set(kinds):
            names = {node_name(info) for info in node.get_publishers_info_by_topic(other)
                     if info.topic_type == kind}
            if names:
                remedy = f'remap {topic}:={other}'
                if topic in LAUNCH_TOPICS:
                    remedy += f' (launch argument {topic}_topic)'
                if remedies[kind]:
                    remedy += f' and {remedies[kind]}'
                found.append((-SequenceMatcher(None, name, other).ratio(),
                              f'{_join(names)} publishes {other} ({kind}): {remedy}'))
    if not found:
        return f'nor any other topic of {wanted}: start what publishes it, in this ROS_DOMAIN_ID'
    texts = [text for _, text in sorted(found)]
    more = f'; {len(texts) - MAX_NAMED} more' if len(texts) > MAX_NAMED else ''
    return '; '.join(texts[:MAX_NAMED]) + more


def _join(names: set[str]) -> str:
    shown = sorted(names)
    more = f' and {len(shown) - MAX_NAMED} more' if len(shown) > MAX_NAMED else ''
    return ', '.join(shown[:MAX_NAMED]) + more
