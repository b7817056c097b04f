"""Hot pixels: found within a second, not mistaken for edges, let go when they recover."""

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import HotPixelFilter
from filter_runs import apply_in_packets, make_runs, pixel_runs, random_runs, transposed
import numpy as np
import pytest

WIDTH, HEIGHT = 100, 50
# 200 events a second over periods of 0.25 s: 50 events.
CONFIG = FilterConfig(hot_pixel_filter=True, hot_pixel_rate=200.0)


def make_filter(width=WIDTH, height=HEIGHT, config=CONFIG):
    return HotPixelFilter(width, height, config)


def period(pixels, index, num_events=50):
    """Return rows of runs: ``num_events`` of each pixel, in the first 0.2 s of a period."""
    step_us = 200_000 // num_events
    return [(250_000 * index + step * step_us, x, y, 1)
            for step in range(num_events) for x, y in pixels]


def hot_after(event_filter, rows, end_us):
    """Return the places (x, y) that are masked when time got to ``end_us``."""
    event_filter.apply(make_runs([*rows, (end_us, 0, 0, 0)]))
    y, x = np.nonzero(event_filter.hot_pixels)
    return list(zip(x.tolist(), y.tolist()))


def test_a_pixel_at_the_rate_is_masked_and_one_below_is_not():
    event_filter = make_filter()
    assert hot_after(event_filter, period([(40, 20)], 0, 50), 249_999) == []
    assert hot_after(event_filter, [], 250_000) == [(40, 20)]
    assert hot_after(make_filter(), period([(40, 20)], 0, 49), 250_000) == []


def test_only_its_events_are_dropped():
    event_filter = make_filter()
    event_filter.apply(make_runs(period([(40, 20)], 0)))
    runs = make_runs([
        (250_000, 35, 20, 0b0111_1111), (250_001, 40, 20, 1), (250_002, 40, 21, 1),
        (250_003, 41, 20, 1), (250_004, 25, 20, 0x8000), (250_005, 25, 20, 0x4000)])
    assert event_filter.apply(runs) == 3
    assert runs.records['mask'].tolist() == [0b0101_1111, 0, 1, 1, 0, 0x4000]


@pytest.mark.parametrize('start_us', [0, 50_000, 240_000, 700_000])
def test_a_hot_pixel_of_1_khz_is_masked_within_a_second(start_us):
    event_filter = make_filter(640, 480)
    noise = random_runs(1, 6000, 640, 480, 700).records
    hot = np.zeros(1000, noise.dtype)
    hot['t_ns'], hot['mask'] = (start_us + np.arange(1000) * 1000) * 1000, 1
    hot['x'], hot['y'] = 321, 123
    records = np.concatenate([noise[noise['t_ns'] <= hot['t_ns'][-1]], hot])
    records = records[np.argsort(records['t_ns'], kind='stable')]
    is_hot = (records['x'] == 321) & (records['y'] == 123) & (records['mask'] == 1)
    left = apply_in_packets(event_filter, pixel_runs(records), 50)
    assert np.argwhere(event_filter.hot_pixels).tolist() == [[123, 321]]
    # It is silent two periods after its first event, at the latest.
    last_ns = records['t_ns'][is_hot & (left > 0)].max()
    assert last_ns < start_us * 1000 + 500_000_000
    is_elsewhere = (records['y'] != 123)
    np.testing.assert_array_equal(left[is_elsewhere], records['mask'][is_elsewhere])


@pytest.mark.parametrize('pixels, is_hot', [
    ([(40, 20)], True),
    ([(40, 20), (41, 20), (40, 21), (41, 21)], True),  # a cluster of 4 defects
    ([(40, y) for y in range(50)], False),  # an edge
    ([(20 + i, 10 + i) for i in range(20)], False),
    ([(x, y) for x in range(40, 43) for y in range(20, 23)], False),  # a small lamp
    ([(40, 20), (45, 20), (40, 25)], True),  # too far apart to know of each other
])
def test_pixels_with_active_neighbours_see_something(pixels, is_hot):
    found = hot_after(make_filter(), period(pixels, 0), 250_000)
    # An edge may end in the middle of the picture, where fewer of its pixels are near.
    inner = pixels[2:-2] if len(pixels) > 10 else pixels
    assert [pixel in found for pixel in inner] == [is_hot] * len(inner)


def test_weak_activity_around_does_not_hide_a_hot_pixel():
    around = [(x, y) for x in (39, 40, 41) for y in (19, 20, 21) if (x, y) != (40, 20)]
    # An eighth of 200 events is 25.
    assert hot_after(
        make_filter(), period([(40, 20)], 0, 200) + period(around, 0, 24), 250_000) == [(40, 20)]
    assert hot_after(
        make_filter(), period([(40, 20)], 0, 200) + period(around, 0, 25), 250_000) == []


def test_a_pixel_recovers_below_half_of_the_rate():
    event_filter = make_filter()
    assert hot_after(event_filter, period([(40, 20)], 0), 250_000) == [(40, 20)]
    assert hot_after(event_filter, period([(40, 20)], 1, 25), 500_000) == [(40, 20)]
    assert hot_after(event_filter, period([(40, 20)], 2, 24), 750_000) == []


def test_a_masked_pixel_stays_masked_while_something_moves_over_it():
    event_filter = make_filter()
    assert hot_after(event_filter, period([(40, 20)], 0), 250_000) == [(40, 20)]
    lamp = [(x, y) for x in range(38, 43) for y in range(18, 23)]
    assert hot_after(event_filter, period(lamp, 1), 500_000) == [(40, 20)]


@pytest.mark.parametrize('rate, period_s', [(1.0, 25.0), (50.0, 0.5), (1e6, 0.06)])
def test_periods_of_very_low_and_very_high_rates(rate, period_s):
    config = FilterConfig(hot_pixel_filter=True, hot_pixel_rate=rate)
    end_us, enough = round(period_s * 1e6), round(rate * period_s)
    for num_events in (enough - 1, enough):
        event_filter = make_filter(config=config)
        found = hot_after(event_filter, [(0, 40, 20, 1)] * num_events, end_us - 1)
        assert found == []
        assert hot_after(event_filter, [], end_us) == [(40, 20)] * (num_events == enough)


def test_counts_do_not_overflow():
    event_filter = make_filter()
    # 65536 + 10 events, for which 16 bits are too few; both as single ones and in vectors.
    rows = [(0, 40, 20, 1), (0, 9, 9, 0b1000_0000_0000_0001)] * 65_546
    assert hot_after(event_filter, rows, 250_000) == [(9, 9), (24, 9), (40, 20)]


def slow_hot(records, width, height, period_ns, enough):
    """Yield the mask that holds for every run, by counting each period from scratch."""
    counts, start_ns = np.zeros((height, width), int), None
    hot = np.zeros((height, width), bool)
    for t_ns, x, y, mask, *_ in records.tolist():
        start_ns = t_ns if start_ns is None else start_ns
        if t_ns - start_ns >= period_ns:
            old = hot
            hot = old & (counts >= enough / 2)
            for row, col in np.argwhere(counts >= enough):
                around = counts[max(row - 2, 0):row + 3, max(col - 2, 0):col + 3]
                if (around >= counts[row, col] / 8).sum() - 1 <= 3:
                    hot[row, col] = True
            counts[:], start_ns = 0, t_ns
        for bit in range(16):
            if mask >> bit & 1:
                counts[y, x + bit] += 1
        yield hot


def test_agrees_with_the_obvious_counts():
    width, height = 70, 40
    random = np.random.default_rng(8)
    noise = random_runs(4, 20_000, width, height, 200).records
    hot = noise.copy()  # a few pixels at a few rates, which come and go
    places = random.integers(0, [[width], [height]], (2, 12))
    which = random.integers(0, 12, hot.size) * (hot['t_ns'] // 300_000_000 % 3 + 1) % 12
    hot['x'], hot['y'], hot['mask'] = places[0][which], places[1][which], 1
    records = np.concatenate([noise[::16], hot])
    records = records[np.argsort(records['t_ns'], kind='stable')]
    masks = []
    num_hot = set()
    for run, mask in zip(records.tolist(), slow_hot(records, width, height, 250_000_000, 50)):
        num_hot.add(int(mask.sum()))
        bits = [bit for bit in range(16) if run[3] >> bit & 1 and not mask[run[2], run[1] + bit]]
        masks.append(sum(1 << bit for bit in bits))
    assert len(num_hot) > 3
    runs = pixel_runs(records)
    got = apply_in_packets(make_filter(width, height), runs, 40)
    np.testing.assert_array_equal(got, masks)
    down = apply_in_packets(make_filter(height, width), transposed(runs), 40)
    np.testing.assert_array_equal(down, got)


def test_vertical_runs_mask_the_same_place():
    event_filter = make_filter(HEIGHT, WIDTH)
    runs = transposed(make_runs(period([(40, 20)], 0) + [(250_000, 35, 20, 0xFF)]))
    assert event_filter.apply(runs) == 1
    assert runs.records['mask'][-1] == 0b1101_1111
    assert np.argwhere(event_filter.hot_pixels).tolist() == [[40, 20]]


def test_reset_keeps_what_was_learnt_and_begins_a_new_period():
    event_filter = make_filter()
    assert hot_after(event_filter, period([(40, 20)], 0), 250_000) == [(40, 20)]
    hot_after(event_filter, period([(60, 30)], 1, 40), 499_999)
    event_filter.reset()
    assert np.argwhere(event_filter.hot_pixels).tolist() == [[20, 40]]
    # Of the second pixel, 40 events before the reset are forgotten, 40 after it are too few.
    rows = period([(40, 20), (70, 40)], 0) + period([(60, 30)], 0, 40)
    assert hot_after(event_filter, rows, 249_999) == [(40, 20)]
    assert hot_after(event_filter, [], 250_000) == [(40, 20), (70, 40)]


def test_time_that_goes_back():
    event_filter = make_filter()
    # Within a period, here from 100 to 350 ms: it goes on.
    rows = period([(40, 20)], 0)
    assert hot_after(event_filter, [*rows[25:], *rows[:25]], 350_000) == [(40, 20)]
    # By more than a period: a new one begins.
    event_filter = make_filter()
    later = [(t_us + 10_000_000, *rest) for t_us, *rest in period([(60, 30)], 0, 200)]
    assert hot_after(event_filter, [*later, *rows], 249_999) == []
    assert hot_after(event_filter, [], 250_000) == [(40, 20)]


def test_a_packet_has_few_periods():
    # A second between two events: time is garbage, and is followed no further than four times.
    event_filter = make_filter()
    rows = [(t_us, 40, 20, 1) for t_us in range(0, 4_000_000, 1_000_000)]
    rows += [(10_000_000 + step, 40, 20, 1) for step in range(60)]
    # Starts at 0, 1, 2 and 3 s; the rest counts for the last of them.
    assert hot_after(event_filter, rows, 20_000_000) == []
    # The next packet goes on.
    assert hot_after(event_filter, [], 20_000_000) == [(40, 20)]
