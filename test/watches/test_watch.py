"""When a standing question is due: conditions, gaps and rates, frame by frame."""

from epvlm_ros.watches import (
    ACTIVITY, APPEARED, EventRates, INTERVAL, Region, StandingQuestion, Watch, WatchDefaults)
import numpy as np
import pytest

DEFAULTS = WatchDefaults(level=1.0, min_gap=1.0, max_rate=60.0)
FRAME_S = 0.125


def make_rates(rate):
    """Return rates of an image of 32 x 32 pixels, the same in all of it."""
    return None if rate is None else EventRates((np.full((8, 8), rate, np.float32),), 4, 32, 32)


def run(watch, rates, begin_s=100.0, answers=True):
    """Show frames eight times a second; return the numbers of those at which the watch asks."""
    asked = []
    for number, rate in enumerate(rates):
        now_s = begin_s + number * FRAME_S
        if watch.is_due(make_rates(rate), now_s, DEFAULTS):
            watch.note_asked(now_s)
            asked.append(number)
            if answers:
                watch.note_answered()
    return asked


def make(condition, **values):
    return Watch(StandingQuestion('w', {'question': '?'}, condition, **values))


def test_activity_asks_while_it_lasts_as_often_as_the_gap_allows():
    watch = make(ACTIVITY)
    rates = [0.0] * 5 + [1.0] * 25 + [0.9] * 10 + [None] * 5 + [1.1] * 2
    assert run(watch, rates) == [5, 13, 21, 29, 45]
    assert (watch.num_asked, watch.num_held_back, watch.num_busy) == (5, 22, 0)


def test_level_and_gap_of_a_watch_beat_the_defaults():
    assert run(make(ACTIVITY, level=0.5, min_gap=0.3), [0.4, 0.6, 0.6, 0.6, 0.6, 0.6]) == [1, 4]


def test_the_rate_holds_in_any_sixty_seconds():
    watch = make(ACTIVITY, min_gap=0.1, max_rate=3.5)
    asked = run(watch, [2.0] * 1300)
    assert asked == [0, 1, 2, 480, 481, 482, 960, 961, 962]
    assert watch.num_held_back == 1300 - 9


def test_a_watch_waits_for_its_answer():
    watch = make(ACTIVITY)
    assert run(watch, [2.0] * 30, answers=False) == [0]
    assert watch.is_open and watch.num_busy == 29 and watch.num_held_back == 0
    watch.note_answered()
    assert run(watch, [2.0], begin_s=110.0) == [0]


def test_something_appears_once_and_only_after_quiet():
    watch = make(APPEARED)
    # Motion at the set-up has not begun; half a second below half of the level is quiet.
    rates = [2.0] * 5 + [0.0] * 7 + [2.0] * 20 + [0.7] * 10 + [2.0] * 5 + [0.4] * 3 + [2.0] * 5
    assert run(watch, rates) == [12]
    assert run(watch, [0.4] * 6 + [0.8, 2.0, 2.0], begin_s=200.0) == [7]
    # Where events were not known, nobody knows whether it was quiet.
    assert run(watch, [0.0] * 6 + [None] + [0.0] * 2 + [2.0], begin_s=300.0) == []


def test_what_appears_within_the_gap_is_held_back():
    watch = make(APPEARED, min_gap=5.0)
    once = [0.0] * 6 + [2.0]
    assert run(watch, once * 9) == [6, 48]
    assert (watch.num_asked, watch.num_held_back) == (2, 7)


def test_an_interval_is_kept_on_the_average_without_events():
    watch = make(INTERVAL, interval=1.3125)
    # The first frames at or after each multiple of ten and a half periods.
    assert run(watch, [None] * 70) == [0, 11, 21, 32, 42, 53, 63]
    # After a pause it does not catch up.
    assert run(watch, [None] * 14, begin_s=200.0) == [0, 11]


def test_a_region_that_is_not_in_the_image_is_a_fault_until_it_is():
    watch = make(ACTIVITY, region=Region(0, 0, 40, 8))
    assert run(watch, [2.0]) == [] and '40 x 8 at (0, 0) is not inside' in watch.fault
    large = EventRates((np.full((8, 16), 0.0, np.float32),), 4, 32, 64)
    assert not watch.is_due(large, 101.0, DEFAULTS) and watch.fault == ''


@pytest.mark.parametrize('condition', [ACTIVITY, APPEARED])
def test_silence_never_asks(condition):
    assert run(make(condition), [0.0] * 500) == []
