"""Which frames of the past are there, and which of them a question is about."""

import array

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.images import WhiteLevel
from epvlm_ros.ros.buffered_frame import BufferedFrame
from epvlm_ros.ros.config import MEGABYTE, VlmNodeConfig
from epvlm_ros.ros.frame_history import FrameHistory, num_bytes_of
from epvlm_ros.ros.guided_frame_buffer import GuidedFrameBuffer
import pytest
from sensor_msgs.msg import Image

MS = 10 ** 6
FRAME_BYTES = 1024 + 30 * 10 * 3 + 4 * 3 + 2 * 3  # by hand, of ``make_message``


def make_message(stamp_s, frame_id=''):
    message = EventGuidedFrame(
        image=Image(height=10, width=30, encoding='rgb8', step=90,
                    data=array.array('B', bytes(900))),
        cell_size=10, rows=1, cols=3, missing=EventGuidedFrame.NO_EVENT_STREAM)
    message.activity = array.array('f', [0.0] * 3)
    message.change_scores = array.array('H', [0] * 3)
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(
        round(stamp_s * 1000) * MS, 1000 * MS)
    return message


def make_history(stamps_s, max_bytes=1e9):
    history = FrameHistory()
    for key, stamp_s in enumerate(stamps_s):
        history.add(BufferedFrame(key, make_message(stamp_s), WhiteLevel()), max_bytes)
    return history


def seconds(frames):
    return [frame.stamp_ns / (1000 * MS) for frame in frames]


def test_the_ring_is_bounded_in_bytes():
    assert num_bytes_of(make_message(1.0)) == FRAME_BYTES
    history = make_history([1.0, 1.1, 1.2, 1.3, 1.4], 3.5 * FRAME_BYTES)
    assert history.span == (1200 * MS, 1400 * MS)
    assert history.num_bytes == 3 * FRAME_BYTES and history.is_full
    assert not make_history([1.0, 1.1]).is_full
    assert seconds(history.around(0, 9, 0.0)) == [1.2, 1.3, 1.4]
    history.clear()
    assert (history.span, history.num_bytes, history.around(0, 1, 0.0)) == (None, 0, ())
    assert not history.is_full
    assert make_history([1.0, 1.1], FRAME_BYTES - 1).span is None  # none fits


@pytest.mark.parametrize('time_s, num_moments, period_s, expected', [
    (1.04, 1, 0.0, [1.0]), (1.06, 1, 0.0, [1.1]), (-5.0, 1, 0.0, [0.0]), (99.0, 1, 0.0, [2.0]),
    # one before and none after, one on each side, two before and one after
    (1.0, 2, 0.5, [0.5, 1.0]), (1.0, 3, 0.5, [0.5, 1.0, 1.5]), (1.0, 4, 0.3, [0.4, 0.7, 1.0, 1.3]),
    (1.9, 3, 0.5, [0.9, 1.4, 1.9]), (0.1, 3, 0.5, [0.1, 0.6]), (1.0, 3, 0.0, [0.9, 1.0, 1.1])])
def test_moments_lie_around_the_time(time_s, num_moments, period_s, expected):
    history = make_history([index / 10 for index in range(21)])
    assert seconds(history.around(round(time_s * 1e9), num_moments, period_s)) == expected


def test_what_was_converted_for_a_question_does_not_stay():
    history = make_history([1.0])
    first, = history.around(0, 1, 0.0)
    assert first.moment is first.moment and first.moment.key == 0
    again, = history.around(0, 1, 0.0)
    assert 'moment' not in vars(again) and again.message is first.message


def feed(messages, **parameters):
    frames, config = GuidedFrameBuffer(), VlmNodeConfig(**parameters)
    for message in messages:
        frames.add(message, config)
    return frames


def test_what_begins_anew_forgets_the_past_and_a_gap_does_not():
    before = [make_message(10.0), make_message(10.1)]
    assert feed([*before, make_message(15.0)]).history.span == (10000 * MS, 15000 * MS)
    assert feed([*before, make_message(9.0)]).history.span == (9000 * MS, 9000 * MS)
    other = feed([*before, make_message(10.2, 'other')])
    assert other.history.span == (10200 * MS, 10200 * MS)
    frames = feed(before)
    frames.clear()
    assert frames.history.span is None


def test_a_clock_that_jumps_takes_the_past_with_it():
    frames = feed([make_message(10.0), make_message(10.1)])
    frames.follow_jump(-10 * 10 ** 9, 200 * MS)  # from 10.2 s to 0.2 s
    # 0.2 s now were 10.2 s then: the frame of 0.15 s ago is that of 10.05 s
    assert frames.frame_time_ns(200 * MS) == 10200 * MS
    assert frames.history.span == (10000 * MS, 10100 * MS)
    frames.add(make_message(0.3), VlmNodeConfig())
    assert frames.frame_time_ns(400 * MS) == 400 * MS
    assert frames.history.span == (300 * MS, 300 * MS)


def test_frames_that_encode_rate_leaves_out_are_past_ones_too():
    stamps_s = [index / 10 for index in range(12)]
    frames = feed([make_message(stamp_s) for stamp_s in stamps_s],
                  encode_ahead='at_rate', encode_rate=4.0)
    assert seconds(frames.history.around(0, 99, 0.0)) == stamps_s


def test_memory_is_a_parameter():
    messages = [make_message(index / 10) for index in range(12)]
    frames = feed(messages, history_memory=2.5 * FRAME_BYTES / MEGABYTE)
    assert seconds(frames.history.around(0, 99, 0.0)) == [1.0, 1.1]
    assert feed(messages, history_memory=0.0).history.span is None
