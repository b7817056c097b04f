"""Why there is no guided frame of now, in a line with the remedy."""

from __future__ import annotations

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.topic_watch import explain_silence
from epvlm_ros.time_units import SECOND
from rclpy.node import Node

SILENT_AFTER_S = 2.0  # without a frame
LATE_UP_TO_S = 10.0  # frames older than this are not late: they have another clock


def explain_no_frame(node: Node, topic: str) -> str:
    """Return the message of an answer with NO_FRAME; ``topic`` has the guided frames."""
    return (f'no guided frame yet on {node.resolve_topic_name(topic)}: '
            f'{explain_silence(node, topic, EventGuidedFrame)}')


def explain_no_past(
    time_ns: int, now_ns: int, span: tuple[int, int] | None, history_memory: float,
    is_full: bool = False,
) -> str:
    """
    Return the message of an answer with NO_FRAME about a time other than now.

    ``span`` are the stamps of the first and the last frame that is kept; ``is_full`` says whether
    earlier ones had to go.
    """
    asked = f'no frame of {_when(time_ns, now_ns)} is kept'
    if span is None:
        return f'{asked}, nor any other: history_memory is {history_memory:g} MB, raise it'
    first, last = (_when(stamp_ns, now_ns) for stamp_ns in span)
    remedy = f', or raise history_memory ({history_memory:g} MB)' \
        if is_full and time_ns < span[0] else ''
    return f'{asked}, but those from {first} to {last}: ask about these{remedy}'


def _when(stamp_ns: int, now_ns: int) -> str:
    ago_s = (now_ns - stamp_ns) / SECOND
    where = f'{ago_s:.3f} s ago' if ago_s >= 0.0 else f'{-ago_s:.3f} s ahead'
    return f'{stamp_ns // SECOND}.{stamp_ns % SECOND:09d} ({where})'


def explain_stale_frame(
    node: Node, topic: str, age_s: float, limit_s: float, silent_s: float,
) -> str:
    """
    Return the message of an answer with STALE_FRAME.

    The latest frame is ``age_s`` old by the clock of the node, below zero where its stamp lies
    ahead, and came ``silent_s`` ago.
    """
    age = f'the latest guided frame is {age_s:.3f} s old, the limit max_frame_age is {limit_s:g} s'
    if silent_s > max(SILENT_AFTER_S, limit_s):
        return (f'{age}: none has come for {silent_s:.1f} s; '
                f'{explain_silence(node, topic, EventGuidedFrame)}')
    if 0.0 < age_s < LATE_UP_TO_S:
        return (f'{age}: frames come, but late; /diagnostics of event_sync_node has their wait '
                'and latency: lower its max_wait, or raise max_frame_age')
    apart = f'{abs(age_s):.3f} s {"behind" if age_s > 0.0 else "ahead of"}'
    if not node.get_parameter('use_sim_time').value:
        return (f'{age}: frames come, but their stamps are {apart} the clock of this machine: '
                'synchronise it with that of the camera; when a recording is replayed, publish '
                '/clock and set use_sim_time')
    if not node.count_publishers('/clock'):
        return (f'{age}: frames come, but use_sim_time is set and nobody publishes /clock: '
                'publish it, or set use_sim_time to false')
    return (f'{age}: frames come, but their stamps are {apart} /clock, which this node goes by '
            '(use_sim_time): the camera has a clock of its own; stamp its frames by the clock '
            'of the events and of /clock')
