"""Publishes the messages of a recording in its own timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import importlib
import math
import sys
import time
from typing import Any

from epvlm_ros.bag.message_types import EVENT_ARRAY_TYPE, EVENT_PACKET_TYPE
from epvlm_ros.bag.messages import BagTopic
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.ros.qos import EVENTS, FRAMES, LATCHED, publisher_options
from epvlm_ros.time_units import SECOND
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

_POLL_S = 0.02
# A subscriber may hear of the publisher later than the other way round, and it drops what best
# effort publishers sent last if it hears of their end first.
_SETTLE_S = 0.3
_UNWANTED_S = 2.0  # how long nobody comes for a topic, once others have subscribers
_ACKNOWLEDGE_S = 2.0  # how long the end waits for reliable subscribers to have everything


@dataclass(frozen=True)
class PlayOptions:
    """How a recording is played."""

    rate: float = 1.0  # seconds of the recording in one second
    clock_hz: float | None = None  # how often /clock is published, None for not at all
    loop: bool = False
    topics: tuple[str, ...] = ()  # only these; all if empty
    remap: dict[str, str] = field(default_factory=dict)  # recorded name to published name
    wait_for_subscribers_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f'rate is {self.rate}: give a number above 0')
        if self.clock_hz is not None and not (math.isfinite(self.clock_hz) and self.clock_hz > 0):
            raise ValueError(f'clock is {self.clock_hz} Hz: give a number above 0')
        if not (math.isfinite(self.wait_for_subscribers_s) and self.wait_for_subscribers_s >= 0):
            raise ValueError(
                f'wait for subscribers is {self.wait_for_subscribers_s} s: give 0 or more')


class BagPlayer:
    """
    Publishes the messages of a recording, serialised as they are.

    Parameters
    ----------
    node : rclpy.node.Node
        Owns the publishers; need not be spun.
    event_node : rclpy.node.Node
        Owns the publishers of event packets. Give it a context of its own, as a driver's node
        has: large frames of the same DDS participant displace best effort packets in the shared
        memory.
    should_stop : callable
        Whether to end before the recording does.

    Raises
    ------
    ValueError
        If a topic is not in the recording, the message package of one of ``options.topics`` is
        not installed, or nothing is left to play.

    """

    def __init__(
        self, node: Node, event_node: Node, bag: BagReader, options: PlayOptions,
        should_stop: Callable[[], bool],
    ) -> None:
        self._node, self._event_node = node, event_node
        self._bag, self._options, self._should_stop = bag, options, should_stop
        names = set(options.topics) or set(bag.topics)
        if unknown := sorted((names | set(options.remap)) - set(bag.topics)):
            raise ValueError(
                f'{bag.path} has no topic {", ".join(unknown)}: it has '
                f'{", ".join(bag.topics) or "none"}')
        found = {name: self._find_class(name) for name, topic in bag.topics.items()
                 if name in names and topic.num_messages}
        self._publishers = {
            name: self._make_publisher(name, message_class)
            for name, message_class in found.items() if message_class is not None}
        if not self._publishers:
            raise ValueError(f'{bag.path} has no messages to play')
        self._clock_publisher = (
            node.create_publisher(Clock, '/clock', 10) if options.clock_hz else None)
        # the recording's time between two messages on /clock
        self._tick_ns = max(1, round(SECOND * options.rate / (options.clock_hz or 1.0)))
        self._start_ns = next(bag.messages(self._publishers)).record_time_ns
        self._begin_s = 0.0  # steady time at which the recording began

    def play(self) -> int:
        """Play until the end, or until it should stop; return the number of messages."""
        self._wait_for_subscribers()
        num_messages = self._play_once()
        while self._options.loop and not self._should_stop():
            num_messages += self._play_once()
        if not self._should_stop():
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_S))
            time.sleep(_SETTLE_S)
        return num_messages

    def _find_class(self, name: str) -> Any:
        """Return the class of a topic's messages, None if it is to be left out."""
        try:
            return find_message_class(_played_type(self._bag.topics[name]))
        except ValueError as error:
            if name in self._options.topics:
                raise
            self._node.get_logger().warning(f'{name} is left out: {error}')
            return None

    def _make_publisher(self, name: str, message_class: Any) -> Publisher:
        topic = self._bag.topics[name]
        target = self._options.remap.get(name, name)
        type_name = _played_type(topic)
        is_events = type_name == EVENT_PACKET_TYPE
        self._node.get_logger().info(
            f'{name}{"" if target == name else " as " + target}: {topic.num_messages} messages of '
            f'{type_name}')
        node = self._event_node if is_events else self._node
        quality = EVENTS if is_events else LATCHED if _is_latched(name, topic) else FRAMES
        return node.create_publisher(
            message_class, target, **publisher_options(node, target, quality))

    def _wait_for_subscribers(self) -> None:
        wait_s = self._options.wait_for_subscribers_s
        if not wait_s:
            return
        if missing := self._find_unheard():
            self._node.get_logger().info(
                f'waiting up to {wait_s:g} s for subscribers of {", ".join(missing)}')
        last_missing, changed_s = missing, time.monotonic()
        deadline_s = changed_s + wait_s
        while missing := self._find_unheard():
            if self._should_stop():
                return
            now_s = time.monotonic()
            if missing != last_missing:
                last_missing, changed_s = missing, now_s
            if now_s - changed_s > _UNWANTED_S and self._is_each_kind_heard():
                self._node.get_logger().info(f'nobody wants {", ".join(missing)}: playing')
                break
            if now_s > deadline_s:
                self._node.get_logger().warning(
                    f'nobody subscribed to {", ".join(missing)} within {wait_s} s: playing '
                    'anyway')
                return
            time.sleep(_POLL_S)
        time.sleep(_SETTLE_S)

    def _find_unheard(self) -> list[str]:
        """Return the event and image topics, as published, that have no subscriber yet."""
        # Whether anybody wants what else was recorded (an IMU, say) is not for the player to know.
        awaited = {*self._bag.event_topics, *self._bag.image_topics}
        return [publisher.topic_name for name, publisher in self._publishers.items()
                if name in awaited and not publisher.get_subscription_count()]

    def _is_each_kind_heard(self) -> bool:
        """Whether an event topic and an image topic, as far as there are any, have subscribers."""
        kinds = [[self._publishers[name] for name in names if name in self._publishers]
                 for names in (self._bag.event_topics, self._bag.image_topics)]
        return all(any(publisher.get_subscription_count() for publisher in kind)
                   for kind in kinds if kind)

    def _play_once(self) -> int:
        num_messages = 0
        self._begin_s = time.monotonic()
        next_tick_ns = self._start_ns
        for message in self._bag.messages(self._publishers):
            if self._clock_publisher is not None:
                while next_tick_ns <= message.record_time_ns:
                    if not self._sleep_until(next_tick_ns):
                        return num_messages
                    self._clock_publisher.publish(_to_clock(next_tick_ns))
                    next_tick_ns += self._tick_ns
            if not self._sleep_until(message.record_time_ns):
                return num_messages
            self._publishers[message.topic].publish(message.data)
            num_messages += 1
        return num_messages

    def _sleep_until(self, record_time_ns: int) -> bool:
        """Sleep on the steady clock; return False if it should stop."""
        due_s = self._begin_s + (
            record_time_ns - self._start_ns) / SECOND / self._options.rate
        while (left_s := due_s - time.monotonic()) > 0 and not self._should_stop():
            time.sleep(min(left_s, _POLL_S))  # short, because a signal does not wake it
        return not self._should_stop()


def _played_type(topic: BagTopic) -> str:
    """Return the type that a topic is played as: that of event packets had another name once."""
    return EVENT_PACKET_TYPE if topic.type_name == EVENT_ARRAY_TYPE else topic.type_name


def _is_latched(name: str, topic: BagTopic) -> bool:
    """Return whether subscribers that come late should get the messages of a topic as well."""
    if not topic.durabilities:  # all that is known then is what is always so
        return name.endswith('/tf_static')
    return 'transient_local' in topic.durabilities


def find_message_class(type_name: str) -> Any:
    """
    Import the class of a message type such as ``sensor_msgs/msg/Image``.

    Raises a ValueError if the name is malformed, or no installed package has the type.
    """
    parts = type_name.split('/')
    if len(parts) != 3 or not all(parts):
        raise ValueError(
            f'message type {type_name!r} is unknown: choose other topics with --topics')
    package, kind, name = parts
    try:
        return getattr(importlib.import_module(f'{package}.{kind}'), name)
    except (ImportError, AttributeError):
        raise ValueError(
            f'message type {type_name} is not installed: install the ROS package {package} for '
            f'{sys.executable} (and source its setup file), or choose other topics with --topics'
        ) from None


def _to_clock(time_ns: int) -> Clock:
    message = Clock()
    message.clock.sec, message.clock.nanosec = divmod(time_ns, SECOND)
    return message
