"""The flicker filter: rhythms by hand, a slow reference, a simulated lamp and a moving object."""

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import FlickerFilter
from epvlm_ros.events.packet.pixel_runs import RUN_DTYPE
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
from filter_runs import (
    apply_in_packets, make_runs, masks_of_kept, pixel_runs, random_runs, single_events, transposed)
import numpy as np
import pytest

# A period of 10 ms.
CONFIG = FilterConfig(flicker_filter=True, flicker_frequency=100.0)


def make_filter(width=100, height=50):
    return FlickerFilter(width, height, CONFIG)


def blink(onsets_us, x=40, y=20):
    """Return rows of runs: brighter at each of these times, darker 4 ms later."""
    return [row for t_us in onsets_us
            for row in ((t_us, x, y, 1, 1), (t_us + 4000, x, y, 1, 0))]


def masks_after(rows):
    runs = make_runs(rows)
    assert make_filter().apply(runs) == (runs.records['mask'] == 0).sum()
    return runs.records['mask'].tolist()


def test_all_events_go_from_the_sixth_onset_on():
    # The first onset has no interval; five of them make a rhythm.
    assert masks_after(blink(range(0, 100_000, 10_000))) == [1] * 10 + [0] * 10


@pytest.mark.parametrize('interval_us, is_flicker', [
    (7700, False), (8300, True), (10_000, True), (11_700, True), (12_300, False), (15_000, False),
    (17_700, False), (18_300, True), (20_000, True), (21_700, True), (22_300, False),
    (30_000, False), (5000, False), (100_000, False)])
def test_intervals_of_one_period_or_two_are_a_rhythm(interval_us, is_flicker):
    onsets = range(0, 20 * interval_us, interval_us)
    assert masks_after(blink(onsets)) == ([1] * 10 + [0] * 30 if is_flicker else [1] * 40)


def test_bursts_count_once():
    # Three brighter events and two darker ones in each period.
    rows = [(start + offset, 40, 20, 1, polarity) for start in range(0, 80_000, 10_000)
            for offset, polarity in ((0, 1), (900, 1), (1700, 1), (5000, 0), (5800, 0))]
    assert masks_after(rows) == [1] * 25 + [0] * 15


def test_one_polarity_alone_has_no_onsets():
    assert masks_after([(t_us, 40, 20, 1, 1) for t_us in range(0, 300_000, 10_000)]) == [1] * 30
    assert masks_after([(t_us, 40, 20, 1, 0) for t_us in range(0, 300_000, 10_000)]) == [1] * 30


def test_an_edge_after_the_light_went_out_is_kept():
    rows = blink(range(0, 200_000, 10_000))
    # The last onset is at 190 ms: at 212 ms it is two periods and a fifth ago.
    assert masks_after([*rows, (211_700, 40, 20, 1, 0)])[-1] == 0
    assert masks_after([*rows, (212_300, 40, 20, 1, 0)])[-1] == 1
    # An onset after more than four periods and a fifth ends it, the last was 190 ms.
    assert masks_after([*rows, *blink([231_700])])[-2:] == [1, 0]
    assert masks_after([*rows, *blink([232_300])])[-2:] == [1, 1]
    # After a long silence one onset ends it, although others follow at once.
    assert masks_after([*rows, *blink([900_000, 910_000, 920_000, 930_000])])[-8:] == [1] * 8


def test_two_onsets_out_of_rhythm_end_it_and_one_does_not():
    # From 8, the most there is, 2 off each: 6, 4. The second one is kept.
    rows = blink(range(0, 200_000, 10_000))
    assert masks_after([*rows, *blink([195_000])])[-2:] == [0, 0]
    assert masks_after([*rows, *blink([195_000, 200_000])])[-4:] == [0, 0, 1, 1]
    # One onset in rhythm brings it back.
    assert masks_after([*rows, *blink([195_000, 200_000, 210_000])])[-2:] == [0, 0]


def test_missing_three_periods_costs_as_much_as_a_wrong_onset():
    rows = blink(range(0, 200_000, 10_000))
    # The onset itself is kept, since the light may have gone out before it.
    assert masks_after([*rows, *blink([220_000])])[-2:] == [1, 0]
    assert masks_after([*rows, *blink([220_000, 250_000])])[-4:] == [1, 0, 1, 1]


def test_bits_of_a_run_are_pixels_of_their_own():
    event_filter = make_filter()
    event_filter.apply(make_runs(blink(range(0, 100_000, 10_000), x=42)))
    runs = make_runs([(100_000, 39, 20, 0b1_1111, 1), (100_000, 39, 21, 0b1_1111, 1)])
    assert event_filter.apply(runs) == 1
    assert runs.records['mask'].tolist() == [0b1_0111, 0b1_1111]


def slow_kept(events, period_ns):
    """Judge event by event from the list of all onsets of its pixel."""
    onsets, last_polarity, kept = {}, {}, []
    for t_ns, x, y, polarity in events:
        times = onsets.setdefault((x, y), [])
        if polarity and not last_polarity.get((x, y), 0):
            times.append(t_ns)
            since = times[-2] if len(times) > 1 else None
        else:
            since = times[-1] if times else None
        last_polarity[x, y] = polarity
        score = 0
        for before, after in zip(times, times[1:]):
            periods = (after - before) / period_ns
            if periods > 4.2:
                score = 0
            elif 0.8 <= periods <= 1.2 or 1.8 <= periods <= 2.2:
                score = min(score + 1, 8)
            else:
                score = max(score - 2, 0)
        kept.append(score < 5 or (t_ns - since) / period_ns > 2.2)
    return kept


@pytest.mark.parametrize('tick_ns', [1 << 13, 1 << 16])
def test_agrees_with_a_list_of_onsets(tick_ns):
    # Four pixels that blink with jitter, in a drizzle of other events. All times are whole ticks,
    # 125 of them a period, so that nothing is rounded.
    period = 125
    random = np.random.default_rng(2)
    parts = [random_runs(2, 400, 8, 2, period).records]
    for x in range(4):
        intervals = np.maximum(random.normal(period, period / 12 * (1 + x), 200), 0)
        parts.append(make_runs(
            [(int(tick) + shift, 2 * x, 1, 1, polarity) for tick in np.cumsum(intervals)
             for shift, polarity in ((0, 1), (period // 3, 0))]).records)
    records = np.concatenate(parts)
    records['t_ns'] = records['t_ns'] // 1000 * tick_ns
    runs = pixel_runs(records[np.argsort(records['t_ns'], kind='stable')])
    kept = slow_kept(single_events(runs), period * tick_ns)
    config = FilterConfig(flicker_filter=True, flicker_frequency=1e9 / (period * tick_ns))
    got = apply_in_packets(FlickerFilter(8, 2, config), runs)
    assert 0.2 < np.mean(kept) < 0.8
    np.testing.assert_array_equal(got, masks_of_kept(runs, kept))
    down = apply_in_packets(FlickerFilter(2, 8, config), transposed(runs))
    np.testing.assert_array_equal(down, got)


def test_the_first_onset_has_no_interval_whenever_it_is():
    for start_us in (10_000, 123_456_789, (1 << 24) * 131_072 // 1000 + 10_000):
        onsets = range(start_us, start_us + 70_000, 10_000)
        assert masks_after(blink(onsets)) == [1] * 10 + [0] * 4
        assert masks_after([(start_us, 40, 20, 1, 0)]) == [1]


def test_a_rhythm_goes_on_where_ticks_wrap():
    start_us = (1 << 24) * 131_072 // 1000 - 50_000
    onsets = range(start_us, start_us + 150_000, 10_000)
    assert masks_after(blink(onsets)) == [1] * 10 + [0] * 20


def test_time_that_stands_still_or_goes_back_makes_no_flicker():
    assert masks_after(blink([0] * 40)) == [1] * 80
    assert masks_after(blink(range(1_000_000, 0, -10_000))) == [1] * 200
    # An hour back: what was flickering is not, until it is seen to.
    rows = blink(range(3_600_000_000, 3_600_200_000, 10_000)) + blink(range(0, 50_000, 10_000))
    assert masks_after(rows)[-10:] == [1] * 10


def test_reset_forgets():
    event_filter = make_filter()
    event_filter.apply(make_runs(blink(range(0, 100_000, 10_000))))
    event_filter.reset()
    assert event_filter.apply(make_runs(blink(range(100_000, 150_000, 10_000)))) == 0


def simulate_lamp(depth, frequency=100.0, noise_hz=1.0, duration_s=0.9):
    """
    Watch a wall, its left half lit by the mains, and a textured disc that crosses the right half.

    Returns records of single events and whether each is of the disc.
    """
    height, width = 40, 80
    simulator = EventSimulator(height, width, EventCameraConfig(
        shot_noise_rate_hz=noise_hz, cutoff_hz=3000.0))  # well lit, so that the flicker is seen
    wall = 0.35 + 0.1 * np.clip(np.random.default_rng(3).normal(0, 0.5, (height, width)), -1, 1)
    y, x = np.mgrid[:height, :width].astype(float)
    parts, is_disc = [], []
    for step in range(round(duration_s / 0.0005)):
        t_s = step * 0.0005
        ripple = 1.0 + depth * np.sin(2 * np.pi * frequency * t_s)
        centre = 60.0 + 10.0 * np.sin(10.0 * t_s)
        disc = np.clip(9.5 - np.hypot(x - centre, y - 20.0), 0.0, 1.0)
        texture = 0.5 + 0.4 * np.sin((x - centre) * 1.3) * np.sin(y * 0.9)
        light = np.where(x < 38, ripple, 1.0) * wall * (1.0 - disc) + texture * disc
        events = simulator.step(light, 10 ** 9 + round(t_s * 1e9))
        records = np.zeros(events.x.size, RUN_DTYPE)
        records['t_ns'], records['polarity'], records['mask'] = events.t_ns, events.polarity, 1
        records['x'], records['y'] = events.x, events.y
        parts.append(records)
        is_disc.append(np.hypot(records['x'] - centre, records['y'] - 20.0) < 11.0)
    return np.concatenate(parts), np.concatenate(is_disc)


@pytest.mark.long
@pytest.mark.parametrize('depth, frequency, noise_hz', [
    (0.2, 100.0, 1.0), (0.5, 100.0, 1.0), (0.3, 97.0, 1.0), (0.3, 100.0, 10.0)])
def test_a_simulated_lamp_goes_and_a_moving_object_stays(depth, frequency, noise_hz):
    records, is_disc = simulate_lamp(depth, frequency, noise_hz)
    kept = apply_in_packets(make_filter(80, 40), pixel_runs(records), 50) > 0
    settled = records['t_ns'] > 1_150_000_000
    is_lamp = settled & (records['x'] < 38)
    assert is_lamp.sum() > 20_000 and (settled & is_disc).sum() > 5_000
    assert kept[is_lamp].mean() < 0.2
    assert kept[settled & is_disc].mean() > 0.98
