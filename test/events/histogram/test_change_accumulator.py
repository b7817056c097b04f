"""Events above the noise floor, whatever their pace."""

from change_reference import ChangeReference
from epvlm_ros.events.histogram.change_accumulator import ChangeAccumulator, INTERVAL_NS
import numpy as np
import pytest

ROWS, COLS = 30, 40
PIXELS_PER_CELL = 4
PER_INTERVAL = INTERVAL_NS / 1e9


def noise(random, rate_hz):
    return random.poisson(
        rate_hz * PIXELS_PER_CELL * PER_INTERVAL, (ROWS, COLS)).astype(np.float32)


def watch(accumulator, seconds, rate_hz, random, extra=None):
    """Let time pass; return the change of each cell, modulo 65536."""
    before = accumulator.scores
    for number in range(round(seconds / PER_INTERVAL)):
        counts = noise(random, rate_hz)
        if extra is not None:
            counts += extra(number)
        accumulator.add_interval(counts)
    return (accumulator.scores - before).astype(np.int64)


@pytest.mark.parametrize('rate_hz', [0.0, 0.3, 5.0])
def test_noise_alone_is_no_change(rate_hz):
    random = np.random.default_rng(1)
    accumulator = ChangeAccumulator((ROWS, COLS), PIXELS_PER_CELL)
    watch(accumulator, 2.0, rate_hz, random)
    assert watch(accumulator, 30.0, rate_hz, random).sum() <= 60  # of up to 720,000 events


def test_a_tenth_of_a_second_is_seen_after_a_minute_of_noise():
    random = np.random.default_rng(2)
    accumulator = ChangeAccumulator((ROWS, COLS), PIXELS_PER_CELL)
    watch(accumulator, 60.0, 5.0, random)
    burst = np.zeros((ROWS, COLS), np.float32)
    burst[8:15, 12:19] = 3.0  # in each of five intervals: 735 events in a token

    change = watch(accumulator, 0.1, 5.0, random, lambda number: burst)
    assert 735 * 0.6 <= change[8:16, 12:20].sum() <= 735 * 1.6
    change[8:16, 12:20] = 0
    assert change.sum() == 0


def test_slow_motion_adds_up():
    random = np.random.default_rng(3)
    accumulator = ChangeAccumulator((ROWS, COLS), PIXELS_PER_CELL)
    watch(accumulator, 30.0, 0.3, random)

    def edge(number):  # a pixel of the image in a second, five events at each sensor pixel
        counts = np.zeros((ROWS, COLS), np.float32)
        counts[8:15, 20 + int(number * PER_INTERVAL / 4)] = random.poisson(
            5 * PIXELS_PER_CELL / 4 * PER_INTERVAL, 7)
        return counts

    change = watch(accumulator, 16.0, 0.3, random, edge)
    assert change[8:16, 20:24].sum() > 40  # a token has changed from 8 on
    change[8:16, 20:24] = 0
    assert change.sum() <= 60


def test_change_lies_where_its_events_are():
    accumulator = ChangeAccumulator((ROWS, COLS), PIXELS_PER_CELL)
    counts = np.zeros((ROWS, COLS), np.float32)
    for _ in range(10):
        accumulator.add_interval(counts)
    counts[29, 39] = 40.0
    accumulator.add_interval(counts)
    assert accumulator.scores[29, 39] == 40
    assert accumulator.scores.sum() == 40


def test_scores_wrap_around():
    accumulator = ChangeAccumulator((ROWS, COLS), PIXELS_PER_CELL)
    counts = np.zeros((ROWS, COLS), np.float32)
    accumulator.add_interval(counts)
    counts[0, 0] = 40000.0
    accumulator.add_interval(counts)
    accumulator.add_interval(counts)
    assert accumulator.scores[0, 0] == pytest.approx(80000 - 65536, abs=20)


@pytest.mark.parametrize('shape', [(30, 40), (9, 6), (4, 4), (1, 3)])
def test_the_loops_do_what_whole_arrays_do(shape):
    random = np.random.default_rng(4)
    accumulator = ChangeAccumulator(shape, PIXELS_PER_CELL)
    reference = ChangeReference(shape, PIXELS_PER_CELL)
    rates = random.gamma(1.0, 0.4, shape)
    for number in range(1700):  # two intervals of 16 s
        counts = random.poisson(rates * (6.0 if number // 90 % 4 == 3 else 1.0))
        if number % 50 < 3:
            counts[-1, number % shape[1]] += 20000  # wraps around
        accumulator.add_interval(counts.astype(np.float32 if number % 3 else np.uint16))
        reference.add_interval(counts)
        if number % 20 == 0 or number % 200 in (199, 0, 1):
            far = (reference.totals - accumulator.scores) % 65536
            assert np.minimum(far, 65536 - far).max() < 1.0 + 1e-6  # rounded down
    assert reference.totals.max() > 65536
