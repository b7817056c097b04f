"""The background filter: supports by hand, the obvious dictionary of last times, disorder."""

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import BackgroundFilter
from filter_runs import (
    apply_in_packets, make_runs, masks_of_kept, random_runs, single_events, transposed)
import numpy as np
import pytest

# 8 ms are 4 slots of 2 ms.
CONFIG = FilterConfig(background_filter=True, background_filter_time=0.008)


def masks_after(rows, width=100, height=50, is_vertical=False):
    runs = make_runs(rows, is_vertical)
    event_filter = BackgroundFilter(width, height, CONFIG)
    dropped = event_filter.apply(runs)
    assert dropped == sum(row[3].bit_count() for row in rows) - sum(
        mask.bit_count() for mask in runs.records['mask'].tolist())
    return runs.records['mask'].tolist()


@pytest.mark.parametrize('step', [
    (-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)])
def test_each_of_the_8_neighbours_supports(step):
    assert masks_after([(1000, 40, 20, 1), (1500, 40 + step[0], 20 + step[1], 1)]) == [0, 1]


@pytest.mark.parametrize('step', [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2), (2, 1), (-1, 2)])
def test_neither_the_pixel_itself_nor_one_further_away_supports(step):
    assert masks_after([(1000, 40, 20, 1), (1500, 40 + step[0], 20 + step[1], 1)]) == [0, 0]


def test_support_ends_by_slots():
    # An event at 1.9 ms is in slot 0: it supports up to the end of slot 4, which is at 10 ms.
    assert masks_after([(1900, 40, 20, 1), (9999, 41, 20, 1)]) == [0, 1]
    assert masks_after([(1900, 40, 20, 1), (10_000, 41, 20, 1)]) == [0, 0]
    # One at 0 ms supports for 10 ms as well, which is as long as it gets.
    assert masks_after([(0, 40, 20, 1), (9999, 41, 20, 1)]) == [0, 1]
    # An hour later, nothing that was there before counts.
    assert masks_after([(0, 40, 20, 1), (3_600_000_000, 41, 20, 1)]) == [0, 0]


def test_a_later_event_of_the_same_pixel_renews_its_support():
    assert masks_after([
        (0, 40, 20, 1), (7000, 40, 20, 1), (14_000, 41, 20, 1), (29_000, 42, 20, 1)]) == [
            0, 0, 1, 0]


def test_bits_of_a_run_support_those_after_them():
    # Bits 0, 1, 2 and 5, 6 and 9: the first of each group stands alone.
    assert masks_after([(1000, 40, 20, 0b10_0110_0111)]) == [0b00_0100_0110]
    # The same as single events at the same time.
    rows = [(1000, 40 + bit, 20, 1) for bit in (0, 1, 2, 5, 6, 9)]
    assert masks_after(rows) == [0, 1, 1, 0, 1, 0]


def test_dropped_events_support():
    assert masks_after([(0, 40, 20, 1), (7000, 41, 20, 1), (8000, 42, 20, 1)]) == [0, 1, 1]
    # 40 is dropped, and yet 41 is kept for its sake; 44 is dropped since 42 is too far away.
    assert masks_after([(0, 40, 20, 1), (1, 41, 20, 1), (2, 43, 20, 1)]) == [0, 1, 0]


@pytest.mark.parametrize('x, y', [(0, 0), (98, 0), (0, 49), (98, 49), (31, 7), (62, 7), (63, 0)])
def test_edges_of_the_sensor_and_of_words(x, y):
    runs = [(0, x, y, 0b11), (1, x, y, 0b11)]
    # In the first run only the second pixel has support; then both have.
    assert masks_after(runs) == [0b10, 0b11]
    # No line goes on in the next one.
    assert masks_after([(0, 99, 7, 1), (1, 0, 8, 1), (2, 0, 9, 1), (3, 99, 8, 1)]) == [0, 0, 1, 1]


def test_runs_of_16_pixels_across_words():
    for x in range(0, 84):
        assert masks_after([(0, x, 20, 0xFFFF), (1, x, 21, 0xFFFF)]) == [0xFFFE, 0xFFFF]
        # The pixel before the run and the one after it are neighbours of its ends.
        if 0 < x < 84:
            assert masks_after([(0, x - 1, 20, 1), (1, x, 20, 0x8001)]) == [0, 1]
            assert masks_after([(0, x + 16, 20, 1), (1, x, 20, 0x8001)]) == [0, 0x8000]


def slow_kept(events, is_near):
    """Decide event by event with a dictionary of the last time of every pixel."""
    last, kept = {}, []
    for t_ns, x, y, _ in events:
        around = [last.get((x + i, y + j)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        kept.append(any(is_near(t_ns, before) for before in around if before is not None))
        last[x, y] = t_ns
    return kept


@pytest.mark.parametrize('size, max_step_us', [((70, 40), 300), ((40, 9), 2000), ((3, 2), 9000)])
def test_agrees_with_a_dictionary_of_last_times(size, max_step_us):
    runs = random_runs(max_step_us, 3000, *size, max_step_us)
    events = single_events(runs)
    got = apply_in_packets(BackgroundFilter(*size, CONFIG), runs)
    kept = slow_kept(events, lambda t_ns, before: t_ns // 2_000_000 - before // 2_000_000 <= 4)
    assert 0.02 < np.mean(kept) < 0.995
    np.testing.assert_array_equal(got, masks_of_kept(runs, kept))
    # Whoever waits for 8 ms keeps no event that this drops, and 10 ms is the most.
    least = masks_of_kept(runs, slow_kept(events, lambda t_ns, before: t_ns - before <= 8_000_000))
    most = masks_of_kept(runs, slow_kept(events, lambda t_ns, before: t_ns - before < 10_000_000))
    assert not (least & ~got).any() and not (got & ~most).any()
    assert (least != most).any()


def test_vertical_runs_are_transposed_ones():
    runs = random_runs(5, 2000, 60, 37, 400)
    across = apply_in_packets(BackgroundFilter(60, 37, CONFIG), runs)
    down = apply_in_packets(BackgroundFilter(37, 60, CONFIG), transposed(runs))
    np.testing.assert_array_equal(across, down)


def test_how_the_wire_groups_events_makes_no_difference():
    runs = random_runs(6, 2000, 60, 37, 400)
    singles = make_runs([(t // 1000, x, y, 1, p) for t, x, y, p in single_events(runs)])
    whole = apply_in_packets(BackgroundFilter(60, 37, CONFIG), runs)
    apart = apply_in_packets(BackgroundFilter(60, 37, CONFIG), singles)
    np.testing.assert_array_equal(masks_of_kept(runs, apart.tolist()), whole)


def test_a_little_step_back_in_time_loses_nothing():
    # The slot of 11 ms is 5, that of 7 ms is 3.
    assert masks_after([
        (11_000, 40, 20, 1), (7000, 41, 20, 1), (12_000, 42, 20, 1)]) == [0, 1, 1]


def test_a_long_step_back_in_time_starts_anew():
    assert masks_after([(90_000, 40, 20, 1), (10, 41, 20, 1), (20, 42, 20, 1)]) == [0, 0, 1]


def test_reset_forgets():
    event_filter = BackgroundFilter(100, 50, CONFIG)
    assert event_filter.apply(make_runs([(1000, 40, 20, 0b11)])) == 1
    assert event_filter.apply(make_runs([(1000, 40, 20, 0b11)])) == 0
    event_filter.reset()
    assert event_filter.apply(make_runs([(1000, 40, 20, 0b11)])) == 1
