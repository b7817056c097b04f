"""Replays a recording on its topics, in its own timing, as `ros2 bag play` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import sys

from epvlm_ros.bag.reader import BagReader
from epvlm_ros.ros.bag_playback import BagPlayer, PlayOptions
import rclpy
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_full_topic_name import validate_full_topic_name

_NODE_NAME = 'bag_player'
_DEFAULT_CLOCK_HZ = 40.0


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
        help='wait up to so long until every event and image topic has a subscriber, or one of '
             'each kind has and nobody comes for the others')
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
