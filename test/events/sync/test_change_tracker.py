"""The change score of frames: what it covers, what it doubts, and when it begins anew."""

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.registration import HomographyRegistration
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
import numpy as np
import pytest

MS = 1_000_000
WIDTH, HEIGHT = 32, 16


class Cameras:
    """An event camera with a clock of the frames', and a camera; packets are of 10 ms."""

    def __init__(self, **values):
        self.sync = FrameSynchronizer(EventSyncConfig(**{
            'sync_mode': 'common_clock', 'max_wait': 0.0, 'cell_size': 4, 'max_exposure': 0.02,
            **values}))
        self.size = (HEIGHT, WIDTH)
        self.seq, self.now_ms = 50, 1000
        self.frame()

    def packet(self, num_events=2, x=0, shed=False, **changes):
        """Send events of one pixel, the first ones of the packet but the last, which ends it."""
        times = np.append(np.arange(num_events - 1), 10 * MS - 1).astype(np.uint64)
        words = times | np.uint64(x << 32)
        fields = {
            'stamp_ns': self.now_ms * MS, 'width': WIDTH, 'height': HEIGHT, 'seq': self.seq,
            'time_base': self.now_ms * MS, 'encoding': 'mono', 'events': words.view(np.uint8),
            **changes}
        self.sync.add_packet(EventPacket(**fields), 0.0, shed)
        self.seq += 1
        self.now_ms += 10

    def stream(self, num_packets):
        for _ in range(num_packets):
            self.packet()

    def frame(self, delay_ms=0):
        """Return the score of a frame of now, which sees what was up to 20 ms before it."""
        self.sync.add_frame(Frame((self.now_ms - delay_ms) * MS, *self.size), 0.0)
        return self.sync.poll(0.0)[-1].change


def new_doubts(cameras, before, num_packets=10):
    """Let time pass; return how many doubts there are since a score."""
    cameras.stream(num_packets)
    score = cameras.frame()
    assert score.continues(before)
    return score.num_doubts - before.num_doubts


def test_a_frame_has_the_change_until_its_exposure_began():
    cameras = Cameras()
    cameras.stream(10)
    cameras.packet(50, x=17)  # 1100 to 1110 ms: cell 4
    cameras.packet(70, x=25)  # cell 6
    cameras.stream(4)  # to 1160 ms
    expected = [0] * 8
    assert cameras.frame(delay_ms=25).scores[0].tolist() == expected  # to 1115, which cuts one
    expected[4], expected[6] = 50, 70
    later = cameras.frame()
    assert later.scores[0].tolist() == expected and not later.scores[1:].any()
    assert later.num_doubts == 0


@pytest.mark.parametrize('values, until_ms', [
    ({}, 1340), ({'max_exposure': 0.0}, 1360), ({'max_exposure': 0.1}, 1260),
    ({'exposure_time': 0.02}, 1360), ({'exposure_time': 0.08, 'stamped_at': 'end'}, 1280),
    ({'exposure_time': 0.08, 'stamped_at': 'middle'}, 1320),
    ({'window_offset': -0.03}, 1300), ({'window_offset': 0.03}, 1340)])
def test_what_is_known_of_the_exposure_tells_where_the_score_stops(values, until_ms):
    cameras = Cameras(**values)
    cameras.stream(20)
    numbers = range(50, 68)
    for number in numbers:
        cameras.packet(number, x=17)  # all 10 ms from 1200 ms on
    cameras.sync.add_frame(Frame(1365 * MS, HEIGHT, WIDTH), 0.0)
    change = cameras.sync.poll(0.0)[-1].change
    assert change.scores[0, 4] == sum(numbers[:(until_ms - 1200) // 10])


def test_frames_that_nobody_saw_make_no_difference():
    scores = []
    for every in (1, 7, 30):
        cameras = Cameras()
        random = np.random.default_rng(1)
        for number in range(61):
            cameras.packet(2 + 40 * int(random.random() < 0.2), x=random.integers(0, WIDTH))
            if number >= 10 and number % every == 0 or number == 60:
                score = cameras.frame()
        scores.append(score.scores.tolist())
        assert score.num_doubts == 0
    assert scores[0] == scores[1] == scores[2]
    assert np.sum(scores[0]) > 100


def test_events_that_are_lost_are_doubted():
    cameras = Cameras()
    cameras.stream(10)
    before = cameras.frame()
    assert new_doubts(cameras, before) == 0
    cameras.seq += 2  # lost: to be between the ends of two packets
    cameras.now_ms += 20
    assert 1 <= new_doubts(cameras, before) <= 3
    before = cameras.frame()
    cameras.packet(shed=True)
    assert new_doubts(cameras, before) in (1, 2)
    before = cameras.frame()
    cameras.packet(9, x=WIDTH)  # outside of the sensor
    assert new_doubts(cameras, before) in (1, 2)
    before = cameras.frame()
    cameras.packet(70_000)  # more than a count can hold
    assert 1 <= new_doubts(cameras, before) <= 3
    before = cameras.frame()
    assert new_doubts(cameras, before) == 0
    assert cameras.sync.counters.num_change_doubts == before.num_doubts


def test_a_frame_that_comes_after_a_later_one_leaves_a_doubt():
    cameras = Cameras()
    cameras.stream(20)
    first = cameras.frame()
    second = cameras.frame(delay_ms=50)
    np.testing.assert_array_equal(second.scores, first.scores)
    assert second.num_doubts == first.num_doubts == 0
    assert new_doubts(cameras, second) == 1


def test_a_frame_of_before_the_events_leaves_a_doubt():
    cameras = Cameras()
    cameras.stream(1)
    first = cameras.frame(delay_ms=20)
    assert first.num_doubts == 0 and not first.scores.any()
    assert new_doubts(cameras, first) == 1


@pytest.mark.parametrize('silence_s', [0.3, 2, 60, 86_400])
def test_silence_is_no_doubt(silence_s):
    cameras = Cameras()
    cameras.stream(13)  # to the middle of an interval
    before = cameras.frame()
    cameras.packet(40, x=17)
    cameras.now_ms += round(1000 * silence_s)
    cameras.packet(50, x=25)
    assert new_doubts(cameras, before) == 0
    scores = cameras.frame().scores[0]
    assert scores[[4, 6]].tolist() == [40, 50]


@pytest.mark.parametrize('values, num_doubts', [
    ({'bin_length': 0.0003}, 0), ({'bin_length': 0.007}, 0), ({'bin_length': 0.1}, 0),
    ({'history_length': 10.0}, 0), ({'history_length': 0.1}, 0),
    ({'history_length': 0.04}, 1)])  # too short for an interval to wait in
def test_bins_and_histories_of_any_length(values, num_doubts):
    cameras = Cameras(**values)
    cameras.stream(30)
    before = cameras.frame()
    cameras.packet(50, x=17)
    assert min(new_doubts(cameras, before, 30), 1) == num_doubts
    if not num_doubts:
        # The last of them may lie in the next interval, where one event is no change.
        assert cameras.frame().scores[0, 4] in (49, 50)


def test_without_frames_nothing_is_forgotten():
    cameras = Cameras()
    cameras.stream(10)
    before = cameras.frame()
    cameras.packet(40, x=17)
    cameras.stream(300)
    cameras.packet(50, x=25)
    assert new_doubts(cameras, before) == 0
    assert cameras.frame().scores[0, [4, 6]].tolist() == [40, 50]


def test_a_packet_longer_than_the_history_is_doubted():
    cameras = Cameras()
    cameras.stream(10)
    before = cameras.frame()
    words = np.arange(0, 3000, 5, dtype=np.uint64) * np.uint64(MS)
    cameras.packet(events=words.view(np.uint8))
    cameras.now_ms += 2990
    assert new_doubts(cameras, before) > 0


def restart_driver(cameras):
    cameras.seq = 0


def set_clock_back(cameras):
    cameras.now_ms -= 5000


def register(cameras):
    cameras.sync.set_registration(HomographyRegistration())


def change_size(cameras):
    cameras.size = (2 * HEIGHT, 2 * WIDTH)
    for _ in range(8):
        cameras.frame()


def change_sensor(cameras):
    for _ in range(8):
        with pytest.raises(ValueError, match='let each event camera have its own topic'):
            cameras.packet(height=HEIGHT + 1)
    cameras.packet(height=HEIGHT + 1)


def move_clock(cameras):
    cameras.sync.reconfigure(EventSyncConfig(
        sync_mode='common_clock', max_wait=0.0, cell_size=4, clock_offset=0.5))


@pytest.mark.parametrize('begin_anew', [
    restart_driver, set_clock_back, register, change_size, change_sensor, move_clock])
def test_an_epoch_begins(begin_anew):
    cameras = Cameras()
    cameras.now_ms = 9000
    cameras.stream(20)
    before = cameras.frame()
    assert before.continues(before) and cameras.sync.counters.num_change_epochs == 1
    begin_anew(cameras)
    height = HEIGHT + (begin_anew is change_sensor)
    for _ in range(20):
        cameras.packet(height=height)
    after = cameras.frame()
    assert after is not None and after.epoch != before.epoch and not after.continues(before)
    assert cameras.sync.counters.num_change_epochs == 2


def test_settings_of_windows_are_no_new_epoch():
    cameras = Cameras()
    cameras.stream(20)
    before = cameras.frame()
    cameras.sync.reconfigure(EventSyncConfig(
        sync_mode='common_clock', max_wait=0.0, cell_size=4, window_length=0.01))
    assert new_doubts(cameras, before) == 0


def test_two_starts_are_two_epochs():
    first, second = Cameras(), Cameras()
    for cameras in (first, second):
        cameras.stream(20)
    assert first.frame().epoch != second.frame().epoch


def test_a_frame_of_another_size_has_no_score():
    cameras = Cameras()
    cameras.stream(20)
    for _ in range(8):
        before = cameras.frame()
    cameras.size = (4, 4)
    assert cameras.frame() is None
    cameras.size = (HEIGHT, WIDTH)
    assert new_doubts(cameras, before) == 0
