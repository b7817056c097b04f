"""The events of a stream on their way to a memory."""

from dataclasses import replace

from epvlm_ros.eval.streams.conditions import Condition
from epvlm_ros.eval.streams.event_feed import EventFeed
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
from epvlm_ros.sim.rearrangement import StreamConfig, StreamFrame
import numpy as np
import pytest

CONFIG = StreamConfig(image_height=80, image_width=120, sensor_height=40, sensor_width=60)
NO_EVENTS = Events(*(np.zeros(0, kind) for kind in (np.uint16, np.uint16, np.uint8, np.int64)))
MS = 1_000_000


def make_frame(time_ms, events=NO_EVENTS):
    blank = np.zeros((80, 120, 3), np.uint8)
    return StreamFrame(blank, blank, events, time_ms * MS, None, np.arange(0), False)


def burst(time_ms, num_events=60, x=30, y=20):
    """Return events of two neighbouring pixels within 10 ms."""
    times = time_ms * MS + np.arange(num_events) * (10 * MS // num_events)
    return Events(
        np.full(num_events, x, np.uint16), np.full(num_events, y, np.uint16) + np.uint16(
            np.arange(num_events) % 2),
        np.ones(num_events, np.uint8), times.astype(np.int64))


def test_activity_is_that_since_the_frame_before():
    feed = EventFeed(Condition(CONFIG), 0)
    assert feed.follow(make_frame(0))[0].counts.sum() == 0
    activity, _ = feed.follow(make_frame(400, burst(100)))
    # pixels 30, 20 and 30, 21 are 60 to 61, 40 to 43 of the image: cell 15, 10
    assert activity.counts[10, 15] == 60
    assert activity.counts.sum() == 60
    assert feed.follow(make_frame(800))[0].counts.sum() == 0


def test_a_burst_scores_in_its_cell_and_stillness_does_not():
    feed = EventFeed(Condition(CONFIG), 0)
    _, first = feed.follow(make_frame(0))
    _, second = feed.follow(make_frame(400, burst(300)))
    change = second.since(first)
    assert change[10, 15] > 50
    assert np.count_nonzero(change) == 1
    _, third = feed.follow(make_frame(800))
    assert not third.since(second).any()


def test_no_event_is_counted_after_its_frame():
    feed = EventFeed(Condition(CONFIG), 0)
    feed.follow(make_frame(0))
    late = burst(390, 10)  # up to 399 ms
    _, score = feed.follow(make_frame(395, Events(*(part[:5] for part in late))))
    assert score.scores.sum() == 0  # the last whole 20 ms end at 380
    _, later = feed.follow(make_frame(800, Events(*(part[5:] for part in late))))
    assert later.scores.sum() > 0


@pytest.mark.parametrize('index', [0, 1, 5])
def test_events_lie_beside_their_cause_by_the_shift(index):
    feed = EventFeed(Condition(CONFIG, shift_px=10.0), index)
    feed.follow(make_frame(0))
    activity, _ = feed.follow(make_frame(400, burst(100)))
    row, col = np.argwhere(activity.counts)[0] * 4 + 2
    assert 10 - 4 < np.hypot(row - 42, col - 61) < 10 + 4


def test_filters_are_in_the_way():
    # a pixel that gets brighter and darker 100 times a second
    times = np.arange(5, 395, 5) * MS
    events = Events(
        np.full(len(times), 30, np.uint16), np.full(len(times), 20, np.uint16),
        (np.arange(len(times)) % 2).astype(np.uint8), times.astype(np.int64))
    counts = []
    for filters in (FilterConfig(), FilterConfig(flicker_filter=True, flicker_frequency=100.0)):
        feed = EventFeed(replace(Condition(CONFIG), filters=filters), 0)
        feed.follow(make_frame(0))
        counts.append(feed.follow(make_frame(400, events))[0].counts.sum())
    assert counts[0] == len(times)
    assert counts[1] < len(times) / 3


def test_scores_are_those_of_a_synchronizer():
    random = np.random.default_rng(0)
    parts = []
    for start_ms in (0, 400, 800):
        num_events = int(random.integers(2000, 4000))
        times = np.sort(random.integers(start_ms * MS + 1, (start_ms + 400) * MS, num_events))
        is_object = random.random(num_events) < 0.3
        x = np.where(is_object, 20 + start_ms // 100, random.integers(60, size=num_events))
        y = np.where(is_object, 8, random.integers(40, size=num_events))
        parts.append(Events(
            x.astype(np.uint16), y.astype(np.uint16),
            random.integers(2, size=num_events).astype(np.uint8), times))
    feed, found = EventFeed(Condition(CONFIG), 0), []
    synchronizer = FrameSynchronizer(EventSyncConfig(
        sync_mode='common_clock', exposure_time=0.004, stamped_at='start', max_wait=0.0))
    expected = []
    for number, part in enumerate([NO_EVENTS, *parts]):
        time_ns, last_ns = 400 * number * MS, 400 * max(0, number - 1) * MS
        found.append(feed.follow(make_frame(400 * number, part))[1])
        for start_ns, events in ((last_ns, part), (time_ns, NO_EVENTS)):
            synchronizer.add_packet(EventPacket(
                start_ns, 60, 40, 2 * number + (events is NO_EVENTS), 0, 'evt3',
                encode_evt3(events, start_ns=start_ns)), 0.0)
        synchronizer.add_frame(Frame(time_ns, 80, 120), 0.0)
        expected += synchronizer.poll(1.0)
    for number in (1, 2, 3):
        change = found[number].since(found[number - 1])
        assert change.sum() > 100
        np.testing.assert_array_equal(
            change, expected[number].change.since(expected[number - 1].change))
