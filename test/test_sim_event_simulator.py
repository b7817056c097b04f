"""The event camera: crossings by hand, a slow obvious reference, noise by its statistics."""

import math

from epvlm_ros.sim.activity_model import LOG_OFFSET
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
import numpy as np
import pytest

QUIET = {'threshold_mismatch': 0.0, 'refractory_s': 0.0, 'leak_rate_hz': 0.0,
         'shot_noise_rate_hz': 0.0}


def picture(logs):
    """Return brightness whose logarithm is given."""
    return np.exp(np.array(logs, dtype=np.float64)) - LOG_OFFSET


def set_references(simulator, values):
    """Let the pixels start at known references instead of random ones."""
    simulator._reference = np.array(values, dtype=np.float64).ravel()


def test_crossings_of_one_pixel_by_hand():
    simulator = EventSimulator(1, 1, EventCameraConfig(contrast_threshold=0.2, **QUIET))
    assert len(simulator.step(picture([[-1.0]]), 0).t_ns) == 0
    set_references(simulator, [-1.1])
    # From -1.0 to -0.5 in 1 ms: references rise to -0.9, -0.7 and -0.5, crossed after 0.1, 0.3
    # and 0.5 of the way of 0.5.
    events = simulator.step(picture([[-0.5 + 1e-9]]), 1_000_000)
    np.testing.assert_allclose(events.t_ns, [200_000, 600_000, 1_000_000], atol=2)
    assert events.polarity.tolist() == [1, 1, 1]
    # Back by 0.3: the reference -0.5 falls to -0.7, crossed two thirds of the way down.
    events = simulator.step(picture([[-0.8]]), 4_000_000)
    np.testing.assert_allclose(events.t_ns, [3_000_000], atol=20)
    assert events.polarity.tolist() == [0]
    # Nothing crosses in a still picture.
    assert len(simulator.step(picture([[-0.8]]), 5_000_000).t_ns) == 0


def test_places_and_order():
    simulator = EventSimulator(2, 3, EventCameraConfig(contrast_threshold=0.2, **QUIET))
    simulator.step(picture(np.full((2, 3), -1.0)), 0)
    set_references(simulator, np.full(6, -1.0))
    after = np.full((2, 3), -1.0)
    after[1, 2], after[0, 1], after[1, 0] = -0.79, -1.25, -0.5
    events = simulator.step(picture(after), 1_000_000)
    # (1, 0) crosses at 0.4 and 0.8, (0, 1) at 0.8 as well, (1, 2) at 0.95 of the step.
    assert list(zip(events.y.tolist(), events.x.tolist(), events.polarity.tolist())) == [
        (1, 0, 1), (0, 1, 0), (1, 0, 1), (1, 2, 1)]
    assert (events.x.dtype, events.y.dtype, events.polarity.dtype, events.t_ns.dtype) == (
        np.uint16, np.uint16, np.uint8, np.int64)
    np.testing.assert_allclose(events.t_ns, [400_000, 800_000, 800_000, 952_381], atol=2)


def test_refractory_time_hides_events():
    config = EventCameraConfig(contrast_threshold=0.1, **{**QUIET, 'refractory_s': 0.0005})
    simulator = EventSimulator(1, 1, config)
    simulator.step(picture([[-1.0]]), 0)
    set_references(simulator, [-1.0])
    # Crossings at 0.2, 0.4, 0.6, 0.8 and 1.0 ms: 0.4 and 0.6 are too early after 0.2, 1.0 after
    # 0.8.
    events = simulator.step(picture([[-0.5 + 1e-9]]), 1_000_000)
    np.testing.assert_allclose(events.t_ns, [200_000, 800_000], atol=2)
    # Hidden events moved the reference all the same.
    assert len(simulator.step(picture([[-0.55]]), 2_000_000).t_ns) == 0


def slow_events(pictures, times_ns, references, on, off, refractory_ns):
    """Return events pixel by pixel and threshold by threshold."""
    found = []
    last_event = [-10 ** 18] * len(references)
    for before, after, start, end in zip(pictures, pictures[1:], times_ns, times_ns[1:]):
        for pixel, (low, high) in enumerate(zip(before.ravel(), after.ravel())):
            while True:
                if high - references[pixel] >= on[pixel]:
                    polarity, level = 1, references[pixel] + on[pixel]
                elif references[pixel] - high >= off[pixel]:
                    polarity, level = 0, references[pixel] - off[pixel]
                else:
                    break
                t_ns = start + math.ceil((level - low) / (high - low) * (end - start))
                references[pixel] = level
                if t_ns - last_event[pixel] >= refractory_ns:
                    last_event[pixel] = t_ns
                    found.append((t_ns, pixel, polarity))
    return found


def test_agrees_with_the_obvious_loop():
    random = np.random.default_rng(3)
    config = EventCameraConfig(
        contrast_threshold=0.15, threshold_mismatch=0.03, refractory_s=0.0004, leak_rate_hz=0.0,
        shot_noise_rate_hz=0.0)
    simulator = EventSimulator(4, 5, config, seed=1)
    logs = np.cumsum(random.normal(0.0, 0.3, (12, 4, 5)), axis=0) - 1.0
    times_ns = np.cumsum(random.integers(200_000, 3_000_000, 12))
    simulator.step(picture(logs[0]), int(times_ns[0]))
    references = simulator._reference.tolist()
    got = []
    for log, t_ns in zip(logs[1:], times_ns[1:]):
        events = simulator.step(picture(log), int(t_ns))
        assert (np.diff(events.t_ns) >= 0).all()
        pixels = events.y.astype(int) * 5 + events.x
        got += list(zip(events.t_ns.tolist(), pixels.tolist(), events.polarity.tolist()))
    off, on = simulator._threshold
    expected = slow_events(
        np.log(picture(logs) + LOG_OFFSET), times_ns.tolist(), references, on, off, 400_000)
    assert len(expected) > 150
    assert [item[1:] for item in sorted(got)] == [item[1:] for item in sorted(expected)]
    np.testing.assert_allclose(
        [item[0] for item in sorted(got)], [item[0] for item in sorted(expected)], atol=2)


def test_pixels_start_between_their_thresholds():
    config = EventCameraConfig(threshold_mismatch=0.05, leak_rate_hz=0.0, shot_noise_rate_hz=0.0)
    simulator = EventSimulator(50, 50, config)
    flat = np.full((50, 50), 0.4)
    simulator.step(flat, 0)
    assert len(simulator.step(flat, 1_000_000).t_ns) == 0


def test_noise_has_its_rate_and_both_polarities():
    config = EventCameraConfig(leak_rate_hz=0.0, shot_noise_rate_hz=5.0)
    simulator = EventSimulator(40, 50, config)
    flat = np.full((40, 50), 0.4)
    simulator.step(flat, 0)
    events = simulator.step(flat, 1_000_000_000)
    # 2000 pixels, 5 a second: 10000 expected, standard deviation 100.
    assert abs(len(events.t_ns) - 10_000) < 500
    assert abs(events.polarity.mean() - 0.5) < 0.03
    assert (events.t_ns > 0).all() and (events.t_ns <= 1_000_000_000).all()
    assert len(np.unique(events.y.astype(int) * 50 + events.x)) > 1900


def test_leakage_makes_brighter_events_at_its_rate():
    config = EventCameraConfig(leak_rate_hz=4.0, shot_noise_rate_hz=0.0, threshold_mismatch=0.0)
    simulator = EventSimulator(30, 30, config)
    flat = np.full((30, 30), 0.4)
    simulator.step(flat, 0)
    polarity = [simulator.step(flat, t_ms * 1_000_000).polarity for t_ms in range(10, 1010, 10)]
    events = np.concatenate(polarity)
    assert (events == 1).all()
    # Four a second, less the half by which the first one is late on average: a pixel starts
    # anywhere between its two thresholds.
    assert len(events) == pytest.approx(3.5 * 900, rel=0.02)


def test_equal_seeds_give_equal_events():
    def run(seed):
        simulator = EventSimulator(8, 8, seed=seed)
        pictures = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8))
        return [simulator.step(item, t_ns) for t_ns, item in enumerate(pictures, start=10 ** 6)]

    first, again, other = run(1), run(1), run(2)
    assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1]))
    assert len(first[1].t_ns) != len(other[1].t_ns) or not np.array_equal(first[1].x, other[1].x)


def test_impossible_input_is_refused():
    simulator = EventSimulator(2, 2)
    with pytest.raises(ValueError, match='the sensor has 2 x 2 pixels'):
        simulator.step(np.zeros((3, 2)), 0)
    simulator.step(np.zeros((2, 2)), 5)
    with pytest.raises(ValueError, match='give rising times'):
        simulator.step(np.zeros((2, 2)), 5)
    with pytest.raises(ValueError, match='give at least 1 x 1'):
        EventSimulator(0, 5)
    with pytest.raises(ValueError, match='contrast_threshold is 0.0'):
        EventCameraConfig(contrast_threshold=0.0)
    with pytest.raises(ValueError, match='refractory_s is -1'):
        EventCameraConfig(refractory_s=-1)
