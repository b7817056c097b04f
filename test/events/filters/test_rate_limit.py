"""The rate limit: bursts by hand, a bucket of tokens as the obvious reference, disorder."""

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import RateLimit
from filter_runs import (
    apply_in_packets, make_runs, masks_of_kept, random_runs, single_events, transposed)
import numpy as np
import pytest


def make_limit(rate, width=100, height=50):
    return RateLimit(width, height, FilterConfig(max_pixel_rate=rate))


def kept_of_one_pixel(rate, times_us):
    runs = make_runs([(t_us, 40, 20, 1) for t_us in times_us])
    assert make_limit(rate).apply(runs) == (runs.records['mask'] == 0).sum()
    return runs.records['mask'].tolist()


def test_a_burst_passes_and_what_is_beyond_it_does_not():
    # 200 events a second: 4 in 20 ms, then one each 5 ms.
    assert kept_of_one_pixel(200.0, [0, 1, 2, 3, 4, 5]) == [1, 1, 1, 1, 0, 0]
    # After 5 ms one more is allowed, and not one earlier.
    assert kept_of_one_pixel(200.0, [0, 0, 0, 0, 4999, 5000, 5001]) == [1, 1, 1, 1, 0, 1, 0]
    # After 20 ms of silence a whole burst is.
    assert kept_of_one_pixel(200.0, [0] * 5 + [20_000] * 5) == [1, 1, 1, 1, 0] * 2


def test_an_even_stream_at_the_rate_is_untouched():
    assert kept_of_one_pixel(200.0, range(0, 500_000, 5000)) == [1] * 100


def test_a_stream_of_twice_the_rate_is_halved():
    kept = kept_of_one_pixel(200.0, range(0, 1_000_000, 2500))
    assert sum(kept) == 200 + 3  # what it had saved comes on top
    assert set(map(tuple, np.reshape(kept[100:], (-1, 2)).tolist())) == {(1, 0)}


def test_low_rates_allow_single_events():
    # One event in 2 s.
    assert kept_of_one_pixel(0.5, [0, 1_999_999, 2_000_000, 3_999_999, 4_000_000]) == [
        1, 0, 1, 0, 1]


def test_extreme_rates():
    # Days, not a number too big to be counted with.
    assert kept_of_one_pixel(1e-300, [0, 1, 10 ** 9]) == [1, 0, 0]
    assert kept_of_one_pixel(1e12, [0] * 5) == [1] * 5


def test_pixels_have_limits_of_their_own():
    runs = make_runs([(0, 40, 20, 0b11), (0, 41, 20, 0b101), (0, 40, 21, 1)])
    # 50 a second: one in 20 ms. Pixel 41 had its event in the first run.
    assert make_limit(50.0).apply(runs) == 1
    assert runs.records['mask'].tolist() == [0b11, 0b100, 1]


def slow_kept(events, rate):
    """Decide event by event with a bucket of tokens for every pixel, filled as time passes."""
    most = max(rate * 0.02, 1.0)
    buckets, kept = {}, []
    for t_ns, x, y, _ in events:
        tokens, last_ns = buckets.get((x, y), (most, t_ns))
        tokens = min(most, tokens + (t_ns - last_ns) * 1e-9 * rate)
        kept.append(tokens > 1.0 - 1e-9)
        buckets[x, y] = tokens - kept[-1], t_ns
    return kept


@pytest.mark.parametrize('rate', [20.0, 100.0, 125.0])
def test_agrees_with_buckets_of_tokens(rate):
    runs = random_runs(3, 8000, 40, 6, 60)
    kept = slow_kept(single_events(runs), rate)
    assert 0.05 < np.mean(kept) < 0.9
    got = apply_in_packets(make_limit(rate, 40, 6), runs)
    np.testing.assert_array_equal(got, masks_of_kept(runs, kept))
    down = apply_in_packets(make_limit(rate, 6, 40), transposed(runs))
    np.testing.assert_array_equal(down, got)


def test_a_step_back_in_time_does_not_silence_a_pixel():
    # A little back: the limit holds as if time stood still.
    assert kept_of_one_pixel(200.0, [9000] * 5 + [8000, 14_000]) == [1, 1, 1, 1, 0, 0, 1]
    # A long way back: the pixel starts afresh.
    assert kept_of_one_pixel(200.0, [10 ** 9] * 5 + [8000] * 5) == [1, 1, 1, 1, 0] * 2


def test_reset_forgets():
    limit = make_limit(50.0)
    assert [limit.apply(make_runs([(0, 40, 20, 1)])) for _ in range(2)] == [0, 1]
    limit.reset()
    assert limit.apply(make_runs([(0, 40, 20, 1)])) == 0


def test_no_limit_is_no_filter():
    with pytest.raises(ValueError, match='leave this filter out'):
        make_limit(0.0)
