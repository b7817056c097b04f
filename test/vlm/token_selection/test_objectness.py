"""Edge density with colour contrast, and events added to it: by hand and against plain NumPy."""

import cv2
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import (
    image_objectness, image_saliency, select_tokens, TokenFeatures)
from epvlm_ros.vlm.token_selection.objectness import add_events
from epvlm_ros.vlm.token_selection.saliency import OPPONENT_COLOURS
import numpy as np
import pytest

GEOMETRY = PatchGeometry(14, 2, 784, 10 ** 7)


def gaussian(values: np.ndarray) -> np.ndarray:
    """Blur with standard deviation 0.8 over 7 tokens, the border repeated, in float64."""
    weights = np.exp(-np.arange(-3, 4) ** 2 / (2 * 0.8 ** 2))
    weights /= weights.sum()
    for axis in (0, 1):
        around = np.pad(values, [(3, 3) if axis == i else (0, 0) for i in (0, 1)], mode='edge')
        values = sum(weight * np.take(around, np.arange(values.shape[axis]) + i, axis)
                     for i, weight in enumerate(weights))
    return values


@pytest.mark.parametrize('size', [(112, 140), (84, 140), (331, 517), (30, 390)])
def test_it_equals_plain_arithmetic(size):
    random, grid = np.random.default_rng(sum(size)), GEOMETRY.grid(*size)
    blurred = cv2.GaussianBlur(random.uniform(-900.0, 1200.0, (*size, 3)), (0, 0), 3)
    image = np.clip(blurred, 0, 255).astype(np.uint8)
    samples = cv2.resize(image, (4 * grid.cols, 4 * grid.rows)) @ np.array(OPPONENT_COLOURS).T
    around = np.pad(samples, ((1, 1), (1, 1), (0, 0)), mode='edge')
    down, right = around[2:, 1:-1] - around[:-2, 1:-1], around[1:-1, 2:] - around[1:-1, :-2]
    gradient = np.sqrt((down ** 2 + right ** 2).sum(axis=2))
    edges = gradient.reshape(grid.rows, 4, grid.cols, 4).mean(axis=(1, 3))
    expected = gaussian(edges / edges.mean()) + 2.0 * image_saliency(image, grid)
    found = image_objectness(image, grid)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found.dtype == np.float32


def test_an_image_of_one_colour_has_no_objects_and_another_size_is_refused():
    grid = GEOMETRY.grid(300, 400)
    assert not image_objectness(np.full((300, 400, 3), (9, 120, 200), np.uint8), grid).any()
    with pytest.raises(ValueError, match='give the tokens of this image'):
        image_objectness(np.zeros((301, 400, 3), np.uint8), grid)


def test_a_grey_thing_with_edges_stands_out_from_a_plain_ground():
    # in brightness alone, as dark as the ground on average
    image = np.full((280, 280, 3), 100, np.uint8)
    image[56:112, 140:196:8] = 60
    image[56:112, 144:196:8] = 140
    found = image_objectness(image, GEOMETRY.grid(280, 280))
    inside = found[2:4, 5:7]
    assert inside.min() > 2.0 * np.delete(found, [1, 2, 3, 4], axis=0).max()


def test_events_are_added_over_their_mean_and_by_contrast():
    activity = np.zeros((15, 15), np.float32)
    activity[7, 7] = 14.0  # 4 above the floor; over their mean 225, half of which counts
    found = add_events(np.ones((15, 15), np.float32), activity, 10.0)
    # contrast 4 / (4 + 10 + 2 * 14 / 49) = 0.2745, half of it, and half of the largest beside
    peak = np.exp(-np.arange(-3, 4) ** 2 / (2 * 0.8 ** 2))
    middle = peak[3] / peak.sum()
    beside = peak[2] / peak.sum()
    assert found[7, 7] == pytest.approx(1.0 + 112.5 * middle ** 2 + 0.2745, abs=1e-3)
    assert found[7, 8] == pytest.approx(1.0 + 112.5 * middle * beside + 0.13725, abs=1e-3)
    assert found[0, 0] == 1.0
    still = add_events(found, np.full((15, 15), 10.0, np.float32), 10.0)
    assert np.array_equal(still, found)  # as many as the floor are noise


def test_before_a_still_camera_what_moves_comes_before_any_edges():
    random = np.random.default_rng(0)
    objectness = random.uniform(0.0, 5.0, (17, 23)).astype(np.float32)
    objectness[3:5, 4:6] = 0.0  # nothing to see in the image
    activity = np.zeros((17, 23), np.float32)
    activity[3:5, 4:6] = 80.0
    features = TokenFeatures(17, 23, activity, noise_floor=10.0, objectness=objectness)
    kept = select_tokens(features, 4 / 391, policy='events_and_objectness').kept_indices
    assert kept.tolist() == [73, 74, 96, 97]
    with pytest.raises(ValueError, match='give its objectness, see image_objectness'):
        select_tokens(TokenFeatures(8, 8, activity[:8, :8]), 0.5, policy='events_and_objectness')


def test_equal_events_everywhere_leave_the_order_to_the_image():
    objectness = np.random.default_rng(1).random((17, 23)).astype(np.float32)
    activity = np.full((17, 23), 50.0, np.float32)
    features = TokenFeatures(17, 23, activity, noise_floor=10.0, objectness=objectness)
    by_both = select_tokens(features, 0.3, policy='events_and_objectness').kept_indices
    by_image = select_tokens(features, 0.3, policy='objectness').kept_indices
    assert by_both.tolist() == by_image.tolist()
