"""The event camera: crossings by hand, a slow obvious reference, noise by its statistics."""

import math

from epvlm_ros.sim.activity_model import LOG_OFFSET
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
import numpy as np
import pytest

QUIET = {'threshold_mismatch': 0.0, 'cutoff_hz': 0.0, 'refractory_s': 0.0, 'leak_rate_hz': 0.0,
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
    events = simulator.step(picture([[-0.5 + 1e-6]]), 1_000_000)
    np.testing.assert_allclose(events.t_ns, [200_000, 600_000, 1_000_000], atol=5)
    assert events.polarity.tolist() == [1, 1, 1]
    # Back by 0.3: the reference -0.5 falls to -0.7, crossed two thirds of the way down.
    events = simulator.step(picture([[-0.8]]), 4_000_000)
    np.testing.assert_allclose(events.t_ns, [3_000_000], atol=30)
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
    events = simulator.step(picture([[-0.5 + 1e-6]]), 1_000_000)
    np.testing.assert_allclose(events.t_ns, [200_000, 800_000], atol=2)
    # Hidden events moved the reference all the same.
    assert len(simulator.step(picture([[-0.55]]), 2_000_000).t_ns) == 0


def test_leakage_makes_events_between_pictures_by_hand():
    # The stored value sinks by 0.1 x 2 Hz = 0.2 a second.
    config = EventCameraConfig(**{
        **QUIET, 'contrast_threshold': 0.1, 'leak_rate_hz': 2.0, 'leak_spread': 0.0})
    simulator = EventSimulator(1, 3, config)
    simulator.step(picture([[-1.0, -1.0, -1.0]]), 0)
    set_references(simulator, [-1.04, -0.98, -1.0])
    # In 0.5 s it sinks by 0.1: still light crosses 0.1 over -1.04 after 0.06 / 0.2 = 0.3 s. Light
    # that rises by 0.2 closes in at 0.6 a second and crosses -0.88 and -0.78 after 0.12 / 0.6 =
    # 0.2 s and 0.22 / 0.6 = 0.3667 s. Light that falls by 0.15 is 0.05 below what is stored then.
    events = simulator.step(picture([[-1.0, -0.8, -1.15]]), 500_000_000)
    assert events.x.tolist() == [1, 0, 1]
    assert events.polarity.tolist() == [1, 1, 1]
    np.testing.assert_allclose(
        events.t_ns, [200_000_000, 300_000_000, 366_666_667], atol=1_000)
    # Stored now -1.04, -0.88 and -1.1; all still. They cross after 0.06 / 0.2 and 0.02 / 0.2
    # seconds; the third, 0.05 below, after 0.15 / 0.2.
    events = simulator.step(picture([[-1.0, -0.8, -1.15]]), 1_280_000_000)
    assert events.x.tolist() == [1, 0, 1, 2]
    np.testing.assert_allclose(
        events.t_ns, [600_000_000, 800_000_000, 1_100_000_000, 1_250_000_000], atol=1_000)


def test_noise_and_the_scene_share_the_refractory_time_by_hand(monkeypatch):
    config = EventCameraConfig(contrast_threshold=0.1, **{**QUIET, 'refractory_s': 0.0003})
    simulator = EventSimulator(1, 2, config)
    simulator.step(picture([[-1.0, -1.0]]), 0)
    set_references(simulator, [-1.0, -1.0])
    noise = np.array([1, 0, 0, 0]), np.zeros(4, np.uint8), np.array(
        [500_000, 100_000, 550_000, 950_000])
    monkeypatch.setattr(simulator, '_draw_noise', lambda light, duration_ns: noise)
    # The scene lets pixel 0 cross at 0.2, 0.4, 0.6, 0.8 and 1.0 ms. Its noise at 0.1 ms hides
    # 0.2; 0.4 is 0.3 ms later and seen; 0.55 and 0.6 are hidden; 0.8 is seen; 0.95 and 1.0 not.
    events = simulator.step(picture([[-0.5 + 1e-6, -1.0]]), 1_000_000)
    assert events.x.tolist() == [0, 0, 1, 0]
    assert events.polarity.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(events.t_ns, [100_000, 400_000, 500_000, 800_000], atol=2)


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
    config = EventCameraConfig(**{
        **QUIET, 'contrast_threshold': 0.15, 'darker_threshold': 0.2, 'threshold_mismatch': 0.03,
        'refractory_s': 0.0004})
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
        [item[0] for item in sorted(got)], [item[0] for item in sorted(expected)], atol=20)


def test_pixels_start_between_their_thresholds():
    config = EventCameraConfig(**{**QUIET, 'threshold_mismatch': 0.05})
    simulator = EventSimulator(50, 50, config)
    flat = np.full((50, 50), 0.4)
    simulator.step(flat, 0)
    assert len(simulator.step(flat, 1_000_000).t_ns) == 0


def watch(simulator, light, duration_s, step_s):
    """Return the events of a still picture of one brightness."""
    picture = np.full((simulator.height, simulator.width), light)
    parts = [simulator.step(picture, round(step * step_s * 1e9))
             for step in range(round(duration_s / step_s) + 1)]
    return [np.concatenate(values) for values in zip(*parts)]


@pytest.mark.parametrize('light, rate_hz', [(0.0, 5.0), (0.4, 3.5), (1.0, 1.25)])
def test_shot_noise_is_stronger_in_the_dark(light, rate_hz):
    config = EventCameraConfig(**{**QUIET, 'shot_noise_rate_hz': 5.0})
    x, y, polarity, t_ns = watch(EventSimulator(40, 50, config), light, 1.0, 0.5)
    expected = rate_hz * 2000  # pixels in one second
    assert abs(len(t_ns) - expected) < 5 * math.sqrt(expected)
    assert abs(polarity.mean() - 0.5) < 0.05
    assert (t_ns > 0).all() and (t_ns <= 1_000_000_000).all() and (np.diff(t_ns) >= 0).all()
    assert len(np.unique(y.astype(int) * 50 + x)) > 1300  # of 2000; 1 - exp(-1.25) is 71%


def test_leakage_makes_brighter_events_at_its_rate():
    config = EventCameraConfig(**{**QUIET, 'leak_rate_hz': 4.0, 'leak_spread': 0.0})
    _, _, polarity, t_ns = watch(EventSimulator(30, 30, config), 0.4, 1.0, 0.01)
    assert (polarity == 1).all()
    # Four a second, less the half by which the first one is late on average: a pixel starts
    # anywhere between its two thresholds.
    assert len(t_ns) == pytest.approx(3.5 * 900, rel=0.02)


def test_some_pixels_leak_more_than_others():
    config = EventCameraConfig(**{**QUIET, 'leak_rate_hz': 100.0, 'leak_spread': 0.1})
    x, y, _, _ = watch(EventSimulator(40, 40, config), 0.4, 4.0, 0.004)
    per_pixel = np.bincount(y.astype(int) * 40 + x, minlength=1600)
    spread = np.log10(per_pixel)
    assert spread.std() == pytest.approx(0.1, abs=0.01)
    assert 10 ** spread.mean() == pytest.approx(400, rel=0.02)


def test_hot_pixels_are_few_and_have_their_rates():
    config = EventCameraConfig(**{**QUIET, 'hot_pixel_share': 0.02, 'hot_pixel_rate_hz': 200.0})
    x, y, polarity, t_ns = watch(EventSimulator(100, 100, config), 0.4, 4.0, 0.5)
    per_pixel = np.bincount(y.astype(int) * 100 + x, minlength=10_000)
    hot = per_pixel[per_pixel > 0]
    assert abs(hot.size - 200) < 5 * 14  # standard deviation: the root of 200 * 0.98
    assert polarity.all()
    # 100 to 300 a second, five standard deviations of a Poisson number
    assert hot.min() > 400 - 5 * 20 and hot.max() < 1200 + 5 * 35
    assert hot.mean() == pytest.approx(800, rel=0.06) and hot.std() > 150


def test_a_blind_pixel_misses_noise_as_well():
    config = EventCameraConfig(**{
        **QUIET, 'hot_pixel_share': 1.0, 'hot_pixel_rate_hz': 1000.0, 'refractory_s': 0.001})
    x, y, _, t_ns = watch(EventSimulator(20, 20, config), 0.4, 0.5, 0.05)
    # A rate r that leaves a dead time T counts r / (1 + r T); over r from 500 to 1500 per second
    # the mean of that is 1000 (1 - ln(2.5 / 1.5)) = 489.
    assert len(t_ns) == pytest.approx(489 * 0.5 * 400, rel=0.02)
    order = np.lexsort((t_ns, x, y))
    same = (np.diff(y[order]) == 0) & (np.diff(x[order]) == 0)
    assert np.diff(t_ns[order])[same].min() >= 1_000_000


def test_thresholds_differ_between_pixels_and_between_polarities():
    config = EventCameraConfig(**{
        **QUIET, 'contrast_threshold': 0.3, 'darker_threshold': 0.15, 'threshold_mismatch': 0.03})
    simulator = EventSimulator(40, 40, config)
    counts = np.zeros((2, 1600))
    simulator.step(picture(np.full((40, 40), -3.0)), 0)
    set_references(simulator, np.full(1600, -3.0))
    for step, log in enumerate([-0.3, -3.0], 1):
        events = simulator.step(picture(np.full((40, 40), log)), step * 1_000_000)
        assert (events.polarity == step % 2).all()
        counts[step - 1] = np.bincount(events.y.astype(int) * 40 + events.x, minlength=1600)
    # 2.7 over thresholds of 0.3, of which a tenth is the spread, rounded down; on the way back
    # half a threshold of 0.3 less over 0.15, of which a fifth is the spread
    assert counts[0].mean() == pytest.approx(9.0 * 1.01 - 0.5, rel=0.02)
    assert counts[1].mean() == pytest.approx(17.0 * 1.04 - 0.5, rel=0.02)
    assert (0.7 < counts[0].std() < 1.2) and (3.0 < counts[1].std() < 5.0)
    assert abs(np.corrcoef(counts)[0, 1]) < 0.1  # drawn apart


def test_events_come_later_in_the_dark():
    """A step of five thresholds comes at once where it is bright, slowly where it is dark."""
    config = EventCameraConfig(**{**QUIET, 'contrast_threshold': 0.1, 'cutoff_hz': 300.0})
    medians = []
    for bright in (1.0, 0.05):
        simulator = EventSimulator(20, 20, config)
        now, parts = (bright + LOG_OFFSET) * math.exp(-0.5) - LOG_OFFSET, []
        for step in range(300):
            events = simulator.step(
                np.full((20, 20), now if step == 0 else bright), step * 100_000)
            parts.append(events.t_ns)
        t_ns = np.concatenate(parts)
        assert len(t_ns) == pytest.approx(400 * 4.5, rel=0.1)  # the last is not quite reached
        medians.append(float(np.median(t_ns)))
    # time constants: 0.53 ms and 1.02 / 0.07 times that
    assert medians[1] / medians[0] == pytest.approx(1.02 / 0.07, rel=0.2)


def test_equal_seeds_give_equal_events():
    def run(seed):
        simulator = EventSimulator(8, 8, seed=seed)
        pictures = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8, 8))
        return [simulator.step(item, t_ms * 10 ** 6) for t_ms, item in enumerate(pictures)]

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
    with pytest.raises(ValueError, match='darker_threshold is 0'):
        EventCameraConfig(darker_threshold=0.0)
    with pytest.raises(ValueError, match='hot_pixel_share is 1.5'):
        EventCameraConfig(hot_pixel_share=1.5)
