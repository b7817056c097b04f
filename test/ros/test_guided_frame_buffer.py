"""Which frames a question is about."""

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.guided_frame_buffer import GuidedFrames, mean_period_s
import pytest


def make_frame(stamp_s, height=100):
    frame = EventGuidedFrame()
    frame.header.stamp.sec, frame.header.stamp.nanosec = divmod(round(stamp_s * 1e9), 10 ** 9)
    frame.image.height, frame.image.width = height, 100
    return frame


def stamps(frames, config):
    return [round(frame.header.stamp.sec + frame.header.stamp.nanosec * 1e-9, 3)
            for frame in frames.get(config)]


def feed(stamps_s, config):
    frames = GuidedFrames()
    taken = [stamp_s for stamp_s in stamps_s if frames.add(make_frame(stamp_s), config)]
    return frames, taken


def test_by_default_it_is_the_latest_one():
    config = VlmNodeConfig()
    assert GuidedFrames().get(config) == ()
    frames, taken = feed([1.0, 1.1, 1.2], config)
    assert stamps(frames, config) == [1.2] and len(taken) == 3


@pytest.mark.parametrize('num_frames, expected', [
    (1, [0.0]), (3, [0.2]), (6, [0.0, 0.5]), (8, [0.0, 0.7]), (11, [0.0, 0.5, 1.0]),
    (13, [0.0, 0.5, 1.2]), (31, [2.0, 2.5, 3.0]), (33, [2.0, 2.5, 3.2])])
def test_moments_are_a_period_apart(num_frames, expected):
    config = VlmNodeConfig(num_moments=3, moment_period=0.5)
    frames, _ = feed([index / 10 for index in range(num_frames)], config)
    assert stamps(frames, config) == expected


def test_without_a_period_moments_are_the_last_frames():
    config = VlmNodeConfig(num_moments=4, moment_period=0.0)
    frames, _ = feed([index / 10 for index in range(9)], config)
    assert stamps(frames, config) == [0.5, 0.6, 0.7, 0.8]
    assert mean_period_s(frames.get(config)) == pytest.approx(0.1)
    assert mean_period_s(frames.get(VlmNodeConfig())) == 1.0


def test_time_set_back_and_another_size_begin_anew():
    config = VlmNodeConfig(num_moments=3, moment_period=0.1)
    frames, _ = feed([1.0, 1.1, 1.2], config)
    assert frames.add(make_frame(0.5), config) and stamps(frames, config) == [0.5]
    frames.add(make_frame(0.6), config)
    assert frames.add(make_frame(0.7, height=50), config) and stamps(frames, config) == [0.7]
    frames.clear()
    assert frames.get(config) == ()


def test_after_a_gap_moments_begin_anew():
    config = VlmNodeConfig(num_moments=3, moment_period=0.5, max_frame_age=1.0)
    frames, _ = feed([100.0, 100.5, 101.0, 102.0], config)
    assert stamps(frames, config) == [100.5, 101.0, 102.0]
    frames.add(make_frame(103.1), config)
    assert stamps(frames, config) == [103.1]
    slow = VlmNodeConfig(num_moments=3, moment_period=2.0, max_frame_age=1.0)
    frames, _ = feed([0.0, 3.0, 6.0], slow)
    assert stamps(frames, slow) == [0.0, 3.0, 6.0]


def test_frames_that_are_left_out_are_no_gap():
    config = VlmNodeConfig(encode_ahead='at_rate', encode_rate=0.25, max_frame_age=1.0)
    _, taken = feed([index / 2 for index in range(20)], config)
    assert taken == [0.0, 4.0, 8.0]


def test_at_a_rate_the_frames_between_are_left_out():
    config = VlmNodeConfig(encode_ahead='at_rate', encode_rate=4.0)
    frames, taken = feed([index / 10 for index in range(12)], config)
    assert taken == [0.0, 0.3, 0.6, 0.9] and stamps(frames, config) == [0.9]
    assert frames.add(make_frame(0.2), config)  # time was set back
