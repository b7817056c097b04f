"""Replays a recording on its topics, in its own timing, as `ros2 bag play` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
import importlib
import math
from pathlib import Path
import sys
import time
from typing import Any

from epvlm_ros.bag.message_types import EVENT_ARRAY_TYPE, EVENT_PACKET_TYPE
from epvlm_ros.bag.reader import BagReader, BagTopic
from epvlm_ros.ros.qos import EVENTS, FRAMES, LATCHED, publisher_options
from epvlm_ros.time_units import SECOND
import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_full_topic_name import validate_full_topic_name
from rosgraph_msgs.msg import Clock

_NODE_NAME = 'bag_player'
_DEFAULT_CLOCK_HZ = 40.0
_POLL_S = 0.02
# A subscriber may hear of the publisher later than the other way round, and it drops what best
# effort publishers sent last if it hears of their end first.
_SETTLE_S = 0.3
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
        Owns those of event packets. It should have a context of its own, as the node of a driver
        has: large frames of the same DDS participant crowd best effort packets out of the shared
        memory.
    bag : BagReader
        The recording, open.
    options : PlayOptions
        What to play and how.
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
        self._start_ns = next(bag.messages(self._publishers)).record_time_ns
        self._begin_s = 0.0  # steady time at which the recording began

    def play(self) -> int:
        """
        Play until the end, or until it should stop.

        Returns
        -------
        int
            The number of published messages.

        """
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
        deadline_s = time.monotonic() + wait_s
        while missing := self._find_unheard():
            if self._should_stop():
                return
            if time.monotonic() > deadline_s:
                self._node.get_logger().warning(
                    f'nobody subscribed to {", ".join(missing)} within {wait_s} s: playing all '
                    'the same')
                return
            time.sleep(_POLL_S)
        time.sleep(_SETTLE_S)

    def _find_unheard(self) -> list[str]:
        """Return the event and image topics, as published, that have no subscriber yet."""
        # Whether anybody wants what else was recorded (an IMU, say) is not for the player to know.
        awaited = {*self._bag.event_topics, *self._bag.image_topics}
        return [publisher.topic_name for name, publisher in self._publishers.items()
                if name in awaited and not publisher.get_subscription_count()]

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
                    next_tick_ns += self._tick_ns()
            if not self._sleep_until(message.record_time_ns):
                return num_messages
            self._publishers[message.topic].publish(message.data)
            num_messages += 1
        return num_messages

    def _tick_ns(self) -> int:
        """Return the recording's time between two messages on /clock."""
        return max(1, round(
            SECOND * self._options.rate / (self._options.clock_hz or _DEFAULT_CLOCK_HZ)))

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

    Raises
    ------
    ValueError
        If the name is malformed, or its package is not installed or lacks the type.

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


def _parse_remap(text: str) -> tuple[str, str]:
    source, separator, target = text.partition(':=')
    if not (separator and source and target):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form /recorded:=/published')
    try:
        # Expanded first: what ~ and {node} stand for may make a bad name of a good one.
        validate_full_topic_name(expand_topic_name(target, _NODE_NAME, '/'))
    except (ValueError, NameValidationException):
        raise argparse.ArgumentTypeError(
            f'{target!r} in {text!r} is no name of a topic: give letters, digits and _, with a / '
            'between parts that begin with a letter, such as /camera/image_raw') from None
    return source, target


def _split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split off the stretches of --ros-args; rcl would take old:=new outside of them as well."""
    own: list[str] = []
    ros: list[str] = []
    is_ros = False
    for argument in arguments:
        is_ros = is_ros or argument == '--ros-args'
        (ros if is_ros else own).append(argument)
        is_ros = is_ros and argument != '--'
    return own, ros


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_NODE_NAME, description=__doc__)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3')
    parser.add_argument('--rate', type=float, default=1.0, help='speed, 1.0 is real time')
    parser.add_argument(
        '--clock', type=float, nargs='?', const=_DEFAULT_CLOCK_HZ, metavar='HZ',
        help=f'publish the time of the recording on /clock ({_DEFAULT_CLOCK_HZ:g} Hz)')
    parser.add_argument('--loop', action='store_true', help='start over at the end')
    parser.add_argument('--topics', nargs='+', default=[], help='play only these')
    parser.add_argument(
        '--remap', nargs='+', type=_parse_remap, action='extend', default=[],
        metavar='OLD:=NEW', help='publish a topic under another name')
    parser.add_argument(
        '--wait-for-subscribers', type=float, default=0.0, metavar='SECONDS',
        help='wait up to so long until every event and image topic has a subscriber')
    return parser


def main(
    args: list[str] | None = None, should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run the executable ``bag_player``, see executables.py for its signals."""
    own_arguments, ros_arguments = _split_arguments(sys.argv[1:] if args is None else args)
    parsed = _make_parser().parse_args(own_arguments)
    event_context = Context()
    for context in (None, event_context):
        rclpy.init(args=ros_arguments, context=context,
                   signal_handler_options=SignalHandlerOptions.NO)
    nodes: list[Node] = []
    try:
        options = PlayOptions(
            rate=parsed.rate, clock_hz=parsed.clock, loop=parsed.loop,
            topics=tuple(parsed.topics), remap=dict(parsed.remap),
            wait_for_subscribers_s=parsed.wait_for_subscribers)
        with BagReader(parsed.bag) as bag:
            nodes.append(rclpy.create_node(_NODE_NAME))
            nodes.append(rclpy.create_node(f'{_NODE_NAME}_events', context=event_context))
            num_messages = BagPlayer(nodes[0], nodes[1], bag, options, should_stop).play()
            print(f'played {num_messages} messages of {parsed.bag}', flush=True)
    except ValueError as error:
        rclpy.logging.get_logger(_NODE_NAME).fatal(str(error))
        sys.exit(1)
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown(context=event_context)
        rclpy.try_shutdown()
