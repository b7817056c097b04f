"""The homography between two cameras is found from moving texture, and doubts are told."""

from dataclasses import replace

import cv2

from epvlm_ros.events.calibration import calibrate, CalibrationFrame
from epvlm_ros.events.calibration.alignment import (
    _moved, _normal_equations, _objective, Alignment, refine)
from epvlm_ros.events.calibration.alignment_frame import make_alignment_frame, WorkingSize
from epvlm_ros.events.calibration.block_matching import match_blocks
from epvlm_ros.events.calibration.picture import draw_calibration
from epvlm_ros.events.calibration.search import search
from moving_texture import IMAGE_SIZE, make_frames, SENSOR_SIZE, true_homography
import numpy as np
import pytest

pytestmark = pytest.mark.long

DELAY_S = 0.01
WINDOW_S = 0.02


@pytest.fixture(scope='module')
def frames():
    return make_frames(8, DELAY_S)


def mean_error_px(homography, truth):
    """Return the mean distance of where both put the sensor pixels that see the image."""
    y, x = np.mgrid[:SENSOR_SIZE[0], :SENSOR_SIZE[1]]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    found, expected = (matrix @ points for matrix in (homography, truth))
    found, expected = found[:2] / found[2], expected[:2] / expected[2]
    seen = (expected[0] > 0) & (expected[0] < IMAGE_SIZE[1]) & \
        (expected[1] > 0) & (expected[1] < IMAGE_SIZE[0])
    assert seen.sum() > 5000
    return np.hypot(*(found - expected))[seen].mean()


def test_homography_and_offset_are_found(frames):
    steps = []

    def progress(items):
        steps.extend(items)
        return items

    result = calibrate(frames, SENSOR_SIZE, WINDOW_S, progress)
    assert mean_error_px(result.homography, true_homography()) < 0.3
    # Events are stamped at the end of a step of 2 ms.
    assert result.window_offset_s == pytest.approx(DELAY_S + 0.001, abs=0.0015)
    assert 0.0 < result.residual_px < 0.6
    assert 0.02 < result.standard_error_px < 0.25
    assert (result.num_frames, result.num_held_out) == (6, 2)
    assert result.correlation > 0.9 > 0.8 > result.correlation_before > 0.0
    assert result.num_blocks >= 20
    assert len(steps) == 5
    picture = draw_calibration(frames, result, SENSOR_SIZE, WINDOW_S)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    # Coloured pixels, on both sides.
    middle = picture.shape[1] // 2
    for half in (picture[:, :middle], picture[:, middle:]):
        assert (half[..., 0].astype(int) - half[..., 2] > 60).mean() > 0.002


def test_a_larger_image_gives_the_same_in_its_own_pixels(frames):
    larger = [
        replace(frame, **{
            name: np.repeat(np.repeat(getattr(frame, name), 3, axis=0), 3, axis=1)
            for name in ('before', 'grey', 'after')}) for frame in frames]
    result = calibrate(larger, SENSOR_SIZE, WINDOW_S)
    to_larger = np.array([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 1.0]])
    y, x = np.mgrid[:SENSOR_SIZE[0]:5, :SENSOR_SIZE[1]:5]
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    found, expected = result.homography @ points, to_larger @ true_homography() @ points
    distance = np.hypot(*(found[:2] / found[2] - expected[:2] / expected[2]))
    assert np.median(distance) < 0.9 and 0.1 < result.residual_px < 1.8


@pytest.mark.parametrize('sensor_size, image_size', [
    (SENSOR_SIZE, (310, 416)), (SENSOR_SIZE, (314, 416)), ((260, 346), (720, 1280)),
    ((720, 1280), (2056, 2464))])
def test_rounded_working_sides_do_not_shift_the_homography(sensor_size, image_size):
    working = WorkingSize.of(sensor_size, image_size)
    row, col = round(0.9 * image_size[0]), round(0.8 * image_size[1])
    picture = np.zeros(image_size, np.float32)
    picture[row - 20:row + 21, col - 20:col + 21] = 1.0
    small = cv2.resize(picture, working.image_size[::-1], interpolation=cv2.INTER_AREA)
    y, x = (np.average(grid, weights=small) for grid in np.indices(small.shape))
    # what lies at one place of both working maps, on the sensor and in the image
    on_sensor = (np.array([x, y]) + 0.5) / working.sensor_scale - 0.5
    in_image = working.to_homography(np.eye(3)) @ (*on_sensor, 1.0)
    np.testing.assert_allclose(in_image[:2] / in_image[2], (col, row), atol=0.05)


def test_the_residual_tells_how_far_off_an_alignment_is(frames):
    working = WorkingSize.of(SENSOR_SIZE, IMAGE_SIZE)
    views = [make_alignment_frame(frame, working, WINDOW_S) for frame in frames]
    to_sensor = np.diag([working.sensor_scale] * 2 + [1.0])
    to_sensor[:2, 2] = 0.5 * working.sensor_scale - 0.5
    to_image = np.diag([working.image_scale] * 2 + [1.0])
    to_image[:2, 2] = 0.5 * working.image_scale - 0.5
    right = to_sensor @ np.linalg.inv(true_homography()) @ np.linalg.inv(to_image)
    assert match_blocks(views, Alignment(right, DELAY_S)).mean_distance < 0.25
    for row, col in ((0.0, 1.0), (2.0, 0.0), (-1.5, 2.0)):
        # Looking for the activity at (row, col) further makes it lie as much too far back.
        shift = np.eye(3)
        shift[:2, 2] = col, row
        blocks = match_blocks(views, Alignment(right @ shift, DELAY_S))
        assert len(blocks) >= 15 and blocks.are_spread
        np.testing.assert_allclose(blocks.shifts.mean(axis=0), (-row, -col), atol=0.25)
        assert blocks.mean_distance == pytest.approx(np.hypot(row, col), abs=0.25)


@pytest.mark.long
def test_the_search_ends_near_the_truth(frames):
    moved = [replace(frame, x=frame.x + 14, y=frame.y - 9) for frame in frames]
    moved = [
        replace(frame, x=frame.x[seen], y=frame.y[seen], t_s=frame.t_s[seen])
        for frame in moved for seen in [(frame.x < SENSOR_SIZE[1]) & (frame.y >= 0)]]
    working = WorkingSize.of(SENSOR_SIZE, IMAGE_SIZE)
    found = search([make_alignment_frame(frame, working, WINDOW_S) for frame in moved], working)
    back = np.array([[1.0, 0.0, -14.0], [0.0, 1.0, 9.0], [0.0, 0.0, 1.0]])
    # A step of scale is 4%, a step of angle 2 degrees.
    assert mean_error_px(
        working.to_homography(found.inverse), true_homography() @ back) < 4.0


def test_the_gradient_is_that_of_the_correlation(frames):
    working = WorkingSize.of(SENSOR_SIZE, IMAGE_SIZE)
    views = [make_alignment_frame(frame, working, WINDOW_S) for frame in frames[:4]]
    start = search(views, working)
    _, gradient = _normal_equations(views, start, 2.5, 8)
    for index in range(9):
        # The offset is in units of 0.05 s and moves events from bin to bin of 0.002 s.
        size = 0.2 if index == 8 else 0.01
        ends = []
        for sign in (1, -1):
            step = np.zeros(9)
            step[index] = sign * size
            ends.append(_objective(views, _moved(start, step, working.image_size), 2.5))
        slope = (ends[0] - ends[1]) / (2 * size)
        assert gradient[index] == pytest.approx(slope, rel=0.25, abs=0.06)
    assert np.abs(gradient).max() > 0.5


def test_a_step_never_makes_it_worse(frames):
    working = WorkingSize.of(SENSOR_SIZE, IMAGE_SIZE)
    views = [make_alignment_frame(frame, working, WINDOW_S) for frame in frames]
    start = search(views, working)
    assert start.offset_s in (0.0, 0.025)  # of the grid, the true one is 0.01
    before = start.mean_correlation(views)
    after = refine(views, start, 1.5, 8).mean_correlation(views)
    assert after > before + 0.05


def without_events(frame):
    return replace(frame, x=frame.x[:0], y=frame.y[:0], t_s=frame.t_s[:0])


def without_motion(frame):
    return replace(frame, before=frame.grey, after=frame.grey)


def without_texture(frame):
    grey = np.full(IMAGE_SIZE, 99, np.uint8)
    return replace(frame, before=grey, grey=grey, after=grey)


def with_noise(frame):
    random = np.random.default_rng(0)
    height, width = SENSOR_SIZE
    return replace(
        frame, x=random.integers(0, width, frame.x.size),
        y=random.integers(0, height, frame.x.size))


def upside_down(frame):
    return replace(frame, x=SENSOR_SIZE[1] - 1 - frame.x, y=SENSOR_SIZE[0] - 1 - frame.y)


@pytest.mark.long
@pytest.mark.parametrize(('change', 'message'), [
    (without_events, '0 of 8 frames have motion and events: move the camera'),
    (without_motion, '0 of 8 frames have motion'),
    (without_texture, '0 of 8 frames have motion'),
    (with_noise, 'do not fit .*same scene.* turned by up to 8 degrees, 0.8 to 1.3 times'),
    (upside_down, 'do not fit .*if the sensor were not upside down: turn its events')])
def test_recordings_of_no_use(frames, change, message):
    with pytest.raises(ValueError, match=message):
        calibrate([change(frame) for frame in frames], SENSOR_SIZE, WINDOW_S)


@pytest.mark.long
def test_texture_in_one_corner_is_too_little(frames):
    def cover(picture):
        picture = picture.copy()
        picture[:, 60:] = 99
        return picture

    # What the sensor sees there is covered, too.
    covered = []
    for frame in frames:
        u, _, w = true_homography() @ np.stack([frame.x, frame.y, np.ones(frame.x.size)])
        seen = u / w < 60
        covered.append(CalibrationFrame(
            cover(frame.before), cover(frame.grey), cover(frame.after), frame.seconds_before,
            frame.seconds_after, frame.x[seen], frame.y[seen], frame.t_s[seen]))
    with pytest.raises(ValueError, match='parts of the image have enough texture'):
        calibrate(covered, SENSOR_SIZE, WINDOW_S)


def test_too_few_frames(frames):
    with pytest.raises(ValueError, match='no frames'):
        calibrate([], SENSOR_SIZE)
    with pytest.raises(ValueError, match='7 of 7 frames .* 8 frames or more'):
        calibrate(frames[:7], SENSOR_SIZE, WINDOW_S)
    with pytest.raises(ValueError, match='both must have pixels'):
        calibrate(frames, (0, 0), WINDOW_S)
