"""A recording's frames with their event activity: event_sync_node's work, without a graph."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Iterator

from epvlm_ros.bag.message_types import COMPRESSED_IMAGE_TYPE
from epvlm_ros.bag.messages import BagMessage
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame, GuidedFrame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from epvlm_ros.images import check_image_size
from epvlm_ros.time_units import SECOND, stamp_to_ns

_SAME_CLOCK_NS = 10 * SECOND
_YEAR_S = 365.25 * 24 * 3600


def guided_frames(
    bag: BagReader, config: EventSyncConfig, event_topic: str | None = None,
    image_topic: str | None = None, filters: FilterConfig = FilterConfig(),
) -> Iterator[GuidedFrame]:
    """
    Iterate over the guided frames of a recording in the order in which a node publishes them.

    Record times are taken as times of arrival. Topics are found by type if left out. Unusable
    messages are left out, as in the node, see `BagReader.read_usable`.

    Yields
    ------
    GuidedFrame
        Its frame's payload is the BagMessage, for `BagReader.image`.

    Raises
    ------
    ValueError
        If there is no such topic, or the file is damaged.

    """
    events = bag.find_event_topic(event_topic)
    bag.check_event_encoding(events)
    if config.registration == 'camera_info':
        raise ValueError(
            'registration camera_info needs the nodes: give registration file, which epvlm '
            'calibrate writes, or homography')
    synchronizer = FrameSynchronizer(config, filters)

    def take(message: BagMessage) -> None:
        now_s = message.record_time_ns / SECOND
        if message.topic == events:
            synchronizer.add_packet(bag.packet(message), now_s)
        else:
            synchronizer.add_frame(_to_frame(bag, message), now_s)

    now_s = 0.0
    messages = bag.messages([events, bag.find_image_topic(image_topic)])
    for message, _ in bag.read_usable(messages, take):
        now_s = message.record_time_ns / SECOND
        yield from synchronizer.poll(now_s)
    yield from synchronizer.poll(now_s + config.max_wait + 1.0)


def find_guided_frame(
    bag: BagReader, config: EventSyncConfig, at_s: float | None = None,
    event_topic: str | None = None, image_topic: str | None = None,
    filters: FilterConfig = FilterConfig(),
) -> GuidedFrame:
    """
    Return the guided frame whose stamp is closest to ``at_s`` seconds after the start.

    If ``at_s`` is left out, it is the last frame whose window is complete, or else the last frame.
    Where the frames' clock is far from the recording's, the first frame is the start.

    Raises
    ------
    ValueError
        If there is no frame, ``at_s`` is outside the recording, or as `guided_frames` does.

    """
    frames = guided_frames(bag, config, event_topic, image_topic, filters)
    if at_s is None:
        return _last_complete(frames, bag)
    start_ns, end_ns = bag.start_ns or 0, bag.end_ns or 0
    if not 0.0 <= at_s <= (end_ns - start_ns) / SECOND:
        raise ValueError(
            f'{at_s:g} s is outside the recording: give 0 to {(end_ns - start_ns) / SECOND:.3f}')
    best = None
    for guided in frames:
        if best is None and abs(guided.frame.stamp_ns - start_ns) > _SAME_CLOCK_NS:
            start_ns = guided.frame.stamp_ns
        target_ns = start_ns + round(at_s * SECOND)
        if best is None or \
                abs(guided.frame.stamp_ns - target_ns) < abs(best.frame.stamp_ns - target_ns):
            best = guided
        elif guided.frame.stamp_ns > target_ns and bag.seconds_to(guided.frame.payload) > at_s:
            break  # not by the stamp alone: a single one may repeat, step back or be far ahead
    if best is None:
        raise ValueError(_no_frames(bag))
    return best


def explain_clocks(bag: BagReader, guided: GuidedFrame, event_topic: str | None = None) -> str:
    """Compare the stamps of a frame without events and of the packet recorded last before it."""
    message = None
    for message in bag.messages([bag.find_event_topic(event_topic)]):
        if message.record_time_ns >= guided.frame.payload.record_time_ns:
            break
    if message is None:
        return 'no event data: the event topic has no messages'
    packet_ns, frame_ns = bag.packet(message).stamp_ns, guided.frame.stamp_ns
    if abs(frame_ns - packet_ns) < _SAME_CLOCK_NS:
        return ''
    return (
        f'no event data: the frame is stamped {_show_time(frame_ns)}, the event packet recorded '
        f'with it {_show_time(packet_ns)}, {_show_span(packet_ns - frame_ns)}: record both with '
        'stamps of one clock')


def _show_time(time_ns: int) -> str:
    try:
        date = f' ({datetime.fromtimestamp(time_ns / SECOND, timezone.utc):%Y-%m-%d %H:%M:%S} UTC)'
    except (OverflowError, ValueError, OSError):
        date = ''
    return f'{time_ns // SECOND}.{time_ns % SECOND:09d} s{date}'


def _show_span(span_ns: int) -> str:
    seconds = abs(span_ns) / SECOND
    years = f' or {seconds / _YEAR_S:.1f} years' if seconds > _YEAR_S else ''
    return f'{seconds:.3f} s{years} {"later" if span_ns > 0 else "earlier"}'


def _last_complete(frames: Iterator[GuidedFrame], bag: BagReader) -> GuidedFrame:
    last = last_complete = None
    for last in frames:
        if last.missing == Missing.COMPLETE:
            last_complete = last
    if last is None:
        raise ValueError(_no_frames(bag))
    return last_complete or last


def _no_frames(bag: BagReader) -> str:
    return f'{bag.path} has no frames that can be used: record an image topic with it'


def _to_frame(bag: BagReader, message: BagMessage) -> Frame:
    image = bag.deserialize(message.data, message.type_name)
    stamp_ns = stamp_to_ns(image.header.stamp)
    if message.type_name == COMPRESSED_IMAGE_TYPE:
        height, width = bag.image(message).rgb.shape[:2]
        return Frame(stamp_ns, height, width, message)
    check_image_size(image)
    return Frame(stamp_ns, image.height, image.width, message)
