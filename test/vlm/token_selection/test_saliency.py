"""What stands out by its colour or its events, by hand, and what policies make of it."""

from concurrent.futures import ThreadPoolExecutor

import cv2
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import image_saliency, select_tokens, TokenFeatures
from epvlm_ros.vlm.token_selection.saliency import combine, event_contrast, OPPONENT_COLOURS
import numpy as np
import pytest

GEOMETRY = PatchGeometry(14, 2, 784, 10 ** 7)


def test_distance_from_a_ground_of_one_colour_by_hand():
    image = np.full((112, 140, 3), 100, np.uint8)
    image[28:35, 56:63] = (151, 100, 100)  # one of the 4 x 4 samples of token (1, 2)
    found = image_saliency(image, GEOMETRY.grid(112, 140))
    # red by 0.2: brightness 0.0598, red less green 0.2, blue less yellow -0.1, each over 0.03:
    # a length of sqrt(1.993^2 + 6.667^2 + 3.333^2) = 7.715; 7.715 / 10.715 = 0.7200
    assert np.argwhere(found > 1e-3).tolist() == [[1, 2]]
    assert found[1, 2] == pytest.approx(0.7200, abs=5e-4)
    assert found.dtype == np.float32 and found.shape == (4, 5)
    flat = np.full((112, 140, 3), 9, np.uint8)
    assert image_saliency(flat, GEOMETRY.grid(112, 140)).max() < 1e-3


@pytest.mark.parametrize('size', [(112, 140), (480, 640), (331, 517)])
def test_nothing_stands_out_in_an_image_of_one_colour(size):
    grid = PatchGeometry(14, 2, 784, 10 ** 6).grid(*size)
    for seed in range(20):
        colour = np.random.default_rng(seed).integers(0, 256, 3).astype(np.uint8)
        assert not image_saliency(np.full((*size, 3), colour), grid).any()


def test_a_channel_in_which_the_ground_varies_counts_little():
    # Half of the tokens are brighter by 0.2 and half darker than 0.5: median of the distances 0.2.
    image = np.full((112, 112, 3), 128, np.uint8)
    image += np.uint8(51)
    image[:56] -= np.uint8(102)
    grey, coloured = image.copy(), image.copy()
    grey[60:80, 60:80] = 255 - 26  # brighter by 0.2 than its half
    coloured[60:80, 60:80] = image[60:80, 60:80] - np.array((0, 0, 51), np.uint8)
    grid = GEOMETRY.grid(112, 112)
    place = (2, 2)
    assert image_saliency(coloured, grid)[place] > image_saliency(grey, grid)[place]
    # by brightness alone: distances of 51 and 101 over a spread of 51 + 0.03 * 255
    assert image_saliency(image, grid)[place] == pytest.approx(
        (51 / 58.65) / (51 / 58.65 + 3), abs=5e-3)
    assert image_saliency(grey, grid)[place] == pytest.approx(
        (101 / 58.65) / (101 / 58.65 + 3), abs=5e-3)


@pytest.mark.parametrize('size', [(112, 140), (84, 140), (331, 517), (60, 390)])
def test_it_equals_plain_arithmetic(size):
    random, grid = np.random.default_rng(sum(size)), GEOMETRY.grid(*size)
    blurred = cv2.GaussianBlur(random.uniform(-900.0, 1200.0, (*size, 3)), (0, 0), 3)
    image = np.clip(blurred, 0, 255).astype(np.uint8)
    samples = cv2.resize(image, (4 * grid.cols, 4 * grid.rows)) / 255.0
    opponent = samples @ np.array(OPPONENT_COLOURS).T
    means = opponent.reshape(grid.rows, 4, grid.cols, 4, 3).mean(axis=(1, 3)).reshape(-1, 3)
    ground = np.median(means, axis=0)
    spread = np.median(np.abs(means - ground), axis=0) + 0.03
    distance = np.linalg.norm((opponent - ground) / spread, axis=2)
    largest = distance.reshape(grid.rows, 4, grid.cols, 4).max(axis=(1, 3))
    assert np.ptp(largest) > 1.0
    np.testing.assert_allclose(image_saliency(image, grid), largest / (largest + 3.0), atol=1e-6)


def test_a_coloured_square_is_seen_at_any_size():
    for height, width in ((300, 400), (1080, 1920), (60, 100)):
        grid = GEOMETRY.grid(height, width)
        image = np.full((height, width, 3), 120, np.uint8)
        rows, cols = height // grid.rows, width // grid.cols
        image[rows:2 * rows, cols:2 * cols] = (200, 40, 40)
        found = image_saliency(image, grid)
        assert np.unravel_index(found.argmax(), found.shape) == (1, 1)
        assert found[1, 1] > 0.8 and found[0, -1] < 1e-3
    with pytest.raises(ValueError, match='give the tokens of this image'):
        image_saliency(image[:30], grid)


def test_images_of_several_threads_and_sizes_do_not_mix():
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (*size, 3), np.uint8)
              for size in ((300, 400), (720, 1280), (300, 400), (448, 448))] * 4
    grids = [GEOMETRY.grid(*image.shape[:2]) for image in images]
    expected = [image_saliency(image, grid) for image, grid in zip(images, grids)]
    kept = [found.copy() for found in expected]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, first in zip(pool.map(image_saliency, images, grids), kept):
                np.testing.assert_array_equal(found, first)
    assert all(np.array_equal(found, first) for found, first in zip(expected, kept))
    assert not np.array_equal(kept[0], kept[2])


def test_events_stand_out_from_noise_and_from_those_about_them():
    activity = np.zeros((9, 9), np.float32)
    activity[4, 4], activity[0, 8] = 108.0, 10.0
    found = event_contrast(activity, 10.0)
    # 98 over the floor; the mean of 49 tokens about it is 108 / 49: 98 / (98 + 10 + 4.408)
    assert found[4, 4] == pytest.approx(0.8718, abs=1e-4)
    assert np.count_nonzero(found) == 1  # as many as the floor are noise
    # a camera that moves: 50 everywhere, 150 in one place
    activity[:] = 50.0
    activity[4, 4] = 150.0
    found = event_contrast(activity, 10.0)
    assert found[0, 0] == pytest.approx(40 / (40 + 10 + 100), abs=1e-4)
    # (48 * 50 + 150) / 49 = 52.04
    assert found[4, 4] == pytest.approx(140 / (140 + 10 + 104.08), abs=1e-4)
    assert not event_contrast(np.zeros((2, 3), np.float32), 0.0).any()


def test_events_count_in_the_tokens_beside_them():
    saliency = np.zeros((5, 6), np.float32)
    contrast = saliency.copy()
    saliency[1, 1], contrast[3, 4], contrast[4, 4] = 0.8, 0.4, 0.6
    found = combine(saliency, contrast)
    expected = np.zeros((5, 6))
    expected[2, 3:], expected[3:, 3:], expected[1, 1] = 0.2, 0.3, 0.8
    expected[3, 4] += 0.2
    expected[4, 4] += 0.3
    np.testing.assert_allclose(found, expected, atol=1e-6)
    corner = np.zeros((1, 3), np.float32)
    corner[0, 0] = 1.0
    assert combine(0 * corner, corner).tolist() == [[1.0, 0.5, 0.0]]


def test_what_a_moving_edge_encloses_is_kept():
    contrast = np.zeros((7, 9), np.float32)
    contrast[1:4, 1:4] = 0.8
    contrast[2, 2] = 0.0  # the inside of a uniform surface
    activity = 1000.0 * contrast
    saliency = np.zeros((7, 9), np.float32)
    saliency[1:4, 1:4] = 0.5
    features = TokenFeatures(7, 9, activity, saliency=saliency)
    kept = select_tokens(features, 9 / 63, policy='events_and_saliency').kept_indices
    assert kept.tolist() == [row * 9 + col for row in (1, 2, 3) for col in (1, 2, 3)]
    by_events = select_tokens(features, 8 / 63).kept_indices
    assert 20 not in by_events


def test_kept_ground_about_an_object_tells_that_it_moves():
    saliency = np.full((7, 14), 0.2, np.float32)  # of the ground
    saliency[3, 3] = saliency[3, 10] = 0.8  # two objects
    activity = np.zeros((7, 14), np.float32)
    activity[3, 3] = 300.0  # one of which moves
    features = TokenFeatures(7, 14, activity, noise_floor=5.0, saliency=saliency)
    kept = select_tokens(features, 10 / 98, policy='events_and_saliency').kept_indices
    beside = [row * 14 + col for row in (2, 3, 4) for col in (2, 3, 4)]
    assert kept.tolist() == sorted([*beside, 3 * 14 + 10])


def test_events_and_saliency_sees_what_moves_and_what_has_another_colour():
    activity = np.full((8, 8), 4.0, np.float32)
    activity[1, 1] = 400.0  # moves, in the colour of the ground
    saliency = np.full((8, 8), 0.1, np.float32)
    saliency[6, 6] = 0.8  # is at rest
    features = TokenFeatures(8, 8, activity, noise_floor=5.0, saliency=saliency)
    kept = select_tokens(features, 2 / 64, policy='events_and_saliency').kept_indices
    assert kept.tolist() == [9, 54]
    with pytest.raises(ValueError, match='give its saliency, see image_saliency'):
        select_tokens(TokenFeatures(8, 8, activity), 0.5, policy='events_and_saliency')


def test_equal_colours_share_a_budget_evenly():
    features = TokenFeatures(8, 8, saliency=np.zeros((8, 8), np.float32))
    saliency = select_tokens(features, 0.25, policy='saliency').kept_indices
    uniform = select_tokens(features, 0.25, policy='uniform').kept_indices
    assert saliency.tolist() == uniform.tolist()
