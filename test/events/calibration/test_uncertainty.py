"""The standard error of an alignment is how far fits of the same scene scatter."""

import cv2
from epvlm_ros.events.calibration.alignment import Alignment, mean_distance, refine
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
from epvlm_ros.events.calibration.uncertainty import estimate_uncertainty
import numpy as np
import pytest

SIZE = 60, 80
WINDOW_S = 0.02
TRUTH = Alignment(np.eye(3), 0.0)
ALL_WAYS = [(80, 30), (-30, 80), (-70, 50), (50, 70)]


def make_frame(random, texture, velocity, events_per_pixel=0.5):
    """Return a frame of edges that move at one velocity, and events drawn at random there."""
    flow = np.broadcast_to(np.float32(velocity), (*SIZE, 2))
    along_y, along_x = np.gradient(cv2.GaussianBlur(texture, (0, 0), 0.7))
    expected = np.abs(along_x * velocity[0] + along_y * velocity[1]).astype(np.float32)
    counts = random.poisson(expected * (events_per_pixel / expected.mean()))
    row, col = (np.repeat(grid.ravel(), counts.ravel()) for grid in np.indices(SIZE))
    t_s = np.sort(random.uniform(-WINDOW_S, WINDOW_S, row.size))
    order = random.permutation(row.size)
    x, y = (np.rint(place[order] + speed * t_s).astype(int)
            for place, speed in ((col, velocity[0]), (row, velocity[1])))
    seen = (x >= 0) & (x < SIZE[1]) & (y >= 0) & (y < SIZE[0])
    return AlignmentFrame(
        expected, flow, (y * SIZE[1] + x)[seen], t_s[seen], 100.0, SIZE, WINDOW_S)


def rich_texture(random):
    return cv2.GaussianBlur(random.normal(size=SIZE).astype(np.float32), (0, 0), 2.0)


@pytest.mark.long
def test_it_is_how_far_repeated_fits_scatter():
    random = np.random.default_rng(2)
    predicted, distances = [], []
    for _ in range(12):
        frames = [make_frame(random, rich_texture(random), velocity) for velocity in ALL_WAYS]
        found = refine(frames, TRUTH, 1.0, 8)
        predicted.append(estimate_uncertainty(frames, found).mean_px)
        distances.append(mean_distance(found, TRUTH, SIZE))
    ratio = np.median(predicted) / np.sqrt(np.mean(np.square(distances)))
    assert 0.5 < ratio < 2.0
    assert 0.02 < np.median(distances) < 0.5  # there is something to predict


@pytest.mark.parametrize('angle_deg', [0, 50, 90])
def test_nothing_is_known_along_stripes(angle_deg):
    random = np.random.default_rng(3)
    across = np.radians(angle_deg + 90)
    y, x = np.indices(SIZE)
    profile = cv2.GaussianBlur(random.normal(size=(1, 400)), (0, 0), 2.0)[0]
    texture = np.interp(
        np.cos(across) * x + np.sin(across) * y + 150, np.arange(400), profile)
    frames = [make_frame(random, texture.astype(np.float32), velocity) for velocity in ALL_WAYS]
    found = estimate_uncertainty(frames, TRUTH)
    # three times what is accepted
    assert found.mean_px > 0.6 and found.share_along > 0.9
    assert abs((found.angle_deg - angle_deg + 90) % 180 - 90) < 10  # the same line either way


def test_in_one_direction_a_delay_is_a_shift():
    random = np.random.default_rng(4)
    frames = [make_frame(random, rich_texture(random), (90, 0)) for _ in range(4)]
    found = estimate_uncertainty(frames, TRUTH)
    assert found.mean_px > 0.5 and found.mean_px > 3 * found.timed_px
