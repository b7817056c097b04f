"""A registration that is off is noticed, one that is right is not, and doubt stays silent."""

import cv2
from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.registration import (
    HomographyRegistration, make_cell_lookup, RegistrationMonitor)
import numpy as np
import pytest
from slider_depth_bag import HEIGHT, load_events, WIDTH

SIZE = HEIGHT, WIDTH


@pytest.fixture(scope='module')
def slider(slider_depth):
    """Return events, and every sixth frame with its time in ns."""
    frames = []
    for line in (slider_depth / 'images.txt').read_text().splitlines()[::6]:
        seconds, name = line.split()
        grey = cv2.imread(str(slider_depth / name), cv2.IMREAD_GRAYSCALE)
        frames.append((round(float(seconds) * 1e9), grey))
    return load_events(slider_depth), frames


def make_activity(events, time_ns, shift=(0, 0), cell_size=4):
    """Return the activity of 40 ms around a time, moved by (rows, columns)."""
    first, last = np.searchsorted(events.t_ns, [time_ns - 20_000_000, time_ns + 20_000_000])
    registration = HomographyRegistration([1, 0, shift[1], 0, 1, shift[0], 0, 0, 1])
    lookup = make_cell_lookup(registration, SIZE, SIZE, cell_size)
    cells = lookup[events.y[first:last], events.x[first:last]]
    shape = grid_shape(*SIZE, cell_size)
    counts = np.bincount(cells[cells >= 0], minlength=shape[0] * shape[1])
    return ActivityGrid(counts.reshape(shape).astype(np.float32), cell_size, *SIZE, 0, 1)


def observe(slider, shift, cell_size=4):
    monitor = RegistrationMonitor()
    events, frames = slider
    for time_ns, grey in frames:
        monitor.observe(grey, make_activity(events, time_ns, shift, cell_size))
    return monitor


@pytest.mark.parametrize('cell_size', [2, 4, 8])
def test_no_warning_when_it_is_right(slider, cell_size):
    monitor = observe(slider, (0, 0), cell_size)
    assert monitor.shift_px == pytest.approx((0, 0), abs=0.2 * cell_size + 0.6)
    assert monitor.warning == ''


@pytest.mark.parametrize('shift', [(12, 0), (0, 12), (-12, 0), (0, -12), (8, -9)])
def test_a_warning_names_shift_and_remedy(slider, shift):
    monitor = observe(slider, shift)
    assert monitor.shift_px == pytest.approx(shift, abs=2)
    assert 'epvlm calibrate' in monitor.warning
    row, col = monitor.shift_px
    assert f'{np.hypot(row, col):.0f} px beside' in monitor.warning
    assert f'{row:+.0f} px down, {col:+.0f} px right' in monitor.warning


@pytest.mark.parametrize('shift', [(0, 3), (3, 0), (0, -3)])
def test_less_than_half_a_cell_is_measured_and_no_warning(slider, shift):
    monitor = observe(slider, shift, cell_size=8)
    assert monitor.shift_px == pytest.approx(shift, abs=1.5)
    assert monitor.warning == ''


def test_the_latest_frames_count(slider):
    monitor = observe(slider, (0, 12))
    events, frames = slider
    for time_ns, grey in frames[:9]:
        monitor.observe(grey, make_activity(events, time_ns))
    assert monitor.shift_px == pytest.approx((0, 0), abs=1)
    assert monitor.warning == ''
    monitor = observe(slider, (0, 12))
    monitor.reset()
    assert monitor.shift_px is None and monitor.warning == ''


def test_a_few_frames_are_not_enough(slider):
    events, frames = slider
    monitor = RegistrationMonitor()
    for num, (time_ns, grey) in enumerate(frames[:5]):
        assert (num, monitor.shift_px) == (num, None)
        monitor.observe(grey, make_activity(events, time_ns, (0, 12)))
    assert monitor.shift_px is not None


@pytest.mark.parametrize('rate', [0.1, 1.0, 20.0])
def test_noise_says_nothing(slider, rate):
    random = np.random.default_rng(0)
    monitor = RegistrationMonitor()
    for _, grey in slider[1]:
        counts = random.poisson(rate, grid_shape(*SIZE, 4)).astype(np.float32)
        monitor.observe(grey, ActivityGrid(counts, 4, *SIZE, 0, 1))
    assert monitor.shift_px is None and monitor.warning == ''


def test_hot_pixels_on_a_still_scene_say_nothing(slider):
    # The same peak of chance every time.
    grey = slider[1][0][1]
    for seed in range(8):
        random = np.random.default_rng(seed)
        counts = 100.0 * (random.uniform(size=grid_shape(*SIZE, 4)) < 0.01)
        monitor = RegistrationMonitor()
        for _ in range(8):
            monitor.observe(grey, ActivityGrid(counts.astype(np.float32), 4, *SIZE, 0, 1))
        assert monitor.shift_px is None


def test_no_motion_another_scene_and_no_texture_say_nothing(slider):
    events, frames = slider
    nothing = ActivityGrid(np.zeros(grid_shape(*SIZE, 4), np.float32), 4, *SIZE, 0, 1)
    for pairs in (
            [(grey, nothing) for _, grey in frames],
            [(grey, make_activity(events, time_ns)) for (_, grey), (time_ns, _) in zip(
                frames, frames[7:] + frames[:7])],
            [(np.full(SIZE, 90, np.uint8), make_activity(events, time_ns))
             for time_ns, _ in frames]):
        monitor = RegistrationMonitor()
        for grey, activity in pairs:
            monitor.observe(grey, activity)
        assert monitor.shift_px is None and monitor.warning == ''


def test_some_observations_that_disagree_say_nothing(slider):
    events, frames = slider
    monitor = RegistrationMonitor()
    for num, (time_ns, grey) in enumerate(frames[:9]):
        shift = [(0, 12), (0, -12), (12, 0), (-12, 0)][num % 4]
        monitor.observe(grey, make_activity(events, time_ns, shift))
    assert monitor.shift_px is None and monitor.warning == ''


def test_another_size_starts_anew_and_a_tiny_grid_says_nothing(slider):
    events, frames = slider
    monitor = observe(slider, (0, 12))
    time_ns, grey = frames[0]
    monitor.observe(grey, make_activity(events, time_ns, cell_size=8))
    assert monitor.shift_px is None
    monitor = observe(slider, (0, 12), cell_size=28)
    assert monitor.shift_px is None


def test_a_frame_of_another_size_is_a_mistake():
    activity = ActivityGrid(np.zeros((10, 10), np.float32), 4, 40, 40, 0, 1)
    with pytest.raises(ValueError, match='for 40 x 40 px: give a frame with its own activity'):
        RegistrationMonitor().observe(np.zeros((40, 44), np.uint8), activity)


def test_activity_of_another_time_lies_beside_the_edges_each_time_elsewhere(slider):
    """As where a camera moves to and fro, and the clocks differ."""
    events, frames = slider
    monitor = RegistrationMonitor()
    texts = []
    for index in range(15):
        time_ns, grey = frames[index % len(frames)]
        shift = ((0, 12), (12, 0), (0, -12), (-12, 0))[index % 4]
        monitor.observe(grey, make_activity(events, time_ns, shift))
        texts.append(monitor.warning)
    assert monitor.shift_px is None
    assert set(texts[:9]) == {''}
    assert '12 px beside the edges of the image, each time elsewhere' in texts[-1]
    assert 'window_offset' in texts[-1]
