"""Which frames a question is about, and that each is converted once."""

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros import buffered_frame, guided_frame_buffer
from epvlm_ros.ros.buffered_frame import mean_period_s
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.guided_frame_buffer import GuidedFrameBuffer
from epvlm_ros.time_units import stamp_to_ns
from hypothesis import settings, strategies as st
from hypothesis.stateful import invariant, rule, RuleBasedStateMachine
import pytest
from sensor_msgs.msg import Image

MS = 10 ** 6


def make_frame(stamp_s, height=100):
    frame = EventGuidedFrame()
    frame.header.stamp.sec, frame.header.stamp.nanosec = divmod(round(stamp_s * 1e9), 10 ** 9)
    frame.image.height, frame.image.width = height, 100
    return frame


def stamps(frames, config):
    headers = [frame.message.header for frame in frames.get(config)]
    return [round(header.stamp.sec + header.stamp.nanosec * 1e-9, 3) for header in headers]


def feed(stamps_s, config):
    frames = GuidedFrameBuffer()
    taken = [stamp_s for stamp_s in stamps_s if frames.add(make_frame(stamp_s), config)]
    return frames, taken


def test_by_default_it_is_the_latest_one():
    config = VlmNodeConfig()
    assert GuidedFrameBuffer().get(config) == ()
    frames, taken = feed([1.0, 1.1, 1.2], config)
    assert stamps(frames, config) == [1.2] and len(taken) == 3


def test_a_question_gets_as_many_as_it_asks_for():
    config = VlmNodeConfig()
    frames, _ = feed([index / 10 for index in range(33)], config)
    for num_moments, expected in (
            (0, [3.2]), (1, [3.2]), (2, [2.5, 3.2]), (3, [2.0, 2.5, 3.2])):
        assert stamps(frames, config.for_question(num_moments)) == expected
    # three are always there, and one to spare may be
    assert stamps(frames, config.for_question(16))[-3:] == [2.0, 2.5, 3.2]
    assert len(frames.get(config.for_question(16))) <= 4
    more = VlmNodeConfig(num_moments=5)
    frames, _ = feed([index / 10 for index in range(33)], more)
    assert stamps(frames, more.for_question(5)) == [1.0, 1.5, 2.0, 2.5, 3.2]
    assert stamps(frames, more.for_question(2)) == [2.5, 3.2]


def test_earlier_frames_go_with_a_gap_and_with_another_camera():
    config, three = VlmNodeConfig(), VlmNodeConfig().for_question(3)
    frames, _ = feed([0.0, 0.5, 1.0, 3.0], config)
    assert stamps(frames, three) == [3.0]
    frames, _ = feed([0.0, 0.5, 1.0], config)
    frames.add(make_frame(1.5, height=50), config)
    assert stamps(frames, three) == [1.5]


def test_a_number_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match='num_moments is 17: give at most 16'):
        VlmNodeConfig().for_question(17)


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


def test_every_frame_has_a_key_of_its_own_and_is_converted_once(monkeypatch):
    converted = []

    def convert(image, white_level):
        converted.append(image)
        return image

    monkeypatch.setattr(buffered_frame, 'image_to_rgb', convert)
    config = VlmNodeConfig(num_moments=2, moment_period=0.0)
    frames = GuidedFrameBuffer()
    frames.add(make_frame(0.0), config)
    frames.add(make_frame(0.0), config)  # drivers without a clock stamp every frame with zero
    first, second = frames.get(config)
    assert [frame.moment.key for frame in frames.get(config)] == [1, 2]
    assert [frame.moment.image_rgb for frame in frames.get(config)] == converted
    assert converted == [first.message.image, second.message.image]
    frames.clear()
    frames.add(make_frame(0.0), config)
    assert frames.get(config)[0].key == 3


def test_the_level_of_white_is_that_of_the_camera():
    config = VlmNodeConfig()
    frames = GuidedFrameBuffer()
    peaks = []
    for stamp_s, frame_id, value in ((0.0, 'a', 3840), (0.1, 'a', 1920), (0.2, 'b', 960)):
        message = EventGuidedFrame(missing=EventGuidedFrame.NO_EVENT_STREAM)
        message.header.frame_id, message.header.stamp.nanosec = frame_id, round(stamp_s * 1e9)
        message.image = Image(height=1, width=1, encoding='mono16', step=2,
                              data=value.to_bytes(2, 'little'))
        frames.add(message, config)
        peaks.append(int(frames.get(config)[0].moment.image_rgb.max()))
    # 12 bits at first, of which 1920 is a half, then 10 bits
    assert peaks == [255, 128, 255]


def test_frames_of_two_cameras_do_not_mix():
    config = VlmNodeConfig(num_moments=3, moment_period=0.0)
    frames = GuidedFrameBuffer()
    for stamp_s, frame_id in ((1.0, 'left'), (1.1, 'left'), (1.2, 'right'), (1.3, 'right')):
        message = make_frame(stamp_s)
        message.header.frame_id = frame_id
        frames.add(message, config)
    assert stamps(frames, config) == [1.2, 1.3]


def test_frames_keep_their_age_when_a_recording_begins_anew():
    config = VlmNodeConfig()
    frames = GuidedFrameBuffer()
    assert frames.age_ns(0) is None
    frames.follow_jump(-10_000 * MS, 0)
    frames.add(make_frame(9.9), config)
    assert frames.age_ns(10_000 * MS) == 100 * MS
    frames.follow_jump(-10_000 * MS, 20 * MS)  # 10.020 s became 0.020 s
    assert frames.age_ns(20 * MS) == 120 * MS
    assert frames.age_ns(50 * MS) == 150 * MS
    frames.add(make_frame(9.95), config)  # it was on its way
    assert frames.age_ns(60 * MS) == 110 * MS
    frames.add(make_frame(0.01), config)
    assert frames.age_ns(60 * MS) == 50 * MS
    frames.follow_jump(-500 * MS, 70 * MS)  # the frame was there before the clock was
    assert frames.age_ns(70 * MS) == 60 * MS


def test_frames_of_another_clock_do_not_stay_young_for_ever(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(guided_frame_buffer.time, 'monotonic', lambda: now_s)
    config = VlmNodeConfig()
    frames = GuidedFrameBuffer()
    frames.add(make_frame(9.9), config)
    frames.follow_jump(-10_000 * MS, 0)
    now_s = 101.9
    frames.add(make_frame(10.0), config)
    assert frames.age_ns(0) == 0
    now_s = 102.1
    frames.add(make_frame(10.1), config)
    assert frames.age_ns(0) == -10_100 * MS
    assert frames.silent_s == 0.0


class FrameStream(RuleBasedStateMachine):
    """
    A buffer beside the plain list of all frames since the last interruption.

    Frames are 100 ms apart or more, three moments at least 250 ms apart are wanted, and a gap of
    more than 1 s is an interruption.
    """

    config = VlmNodeConfig(num_moments=3, moment_period=0.25, max_frame_age=1.0)

    def __init__(self):
        super().__init__()
        self.buffer = GuidedFrameBuffer()
        self.now_ms = 1_000_000
        self.stamps_ms = []
        self.keys = {0}

    def add(self, height=100):
        assert self.buffer.add(make_frame(self.now_ms / 1000, height), self.config)
        self.stamps_ms.append(self.now_ms)
        key = self.buffer.get(self.config)[-1].key
        assert key > max(self.keys)
        self.keys.add(key)

    @rule(passed_ms=st.sampled_from([100, 130, 250, 500, 1000]))
    def go_on(self, passed_ms):
        self.now_ms += passed_ms
        self.add()

    @rule(step_ms=st.sampled_from([-1, -400, -5000, 1001, 5000]))
    def jump(self, step_ms):
        self.now_ms += step_ms
        self.stamps_ms = []
        self.add()

    @rule()
    def clear(self):
        self.buffer.clear()
        self.stamps_ms = []

    @invariant()
    def the_latest_is_there_and_the_others_are_a_period_apart(self):
        frames = self.buffer.get(self.config)
        got = [stamp_to_ns(frame.message.header.stamp) // MS for frame in frames]
        assert got[-1:] == self.stamps_ms[-1:]
        assert len(got) <= 3 and set(got) <= set(self.stamps_ms)
        assert all(after - before >= 250 for before, after in zip(got, got[1:]))
        if self.stamps_ms and self.stamps_ms[-1] - self.stamps_ms[0] >= 250:
            assert len(got) >= 2


TestFrameStream = FrameStream.TestCase
TestFrameStream.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
