"""What pixels say about a scene: exposure and differences."""

from dataclasses import replace

from epvlm_ros.vlm.image_check import (
    find_differences, find_gain, sample_tokens, scale_exposure)
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np
import pytest

GRID = PatchGrid(3, 4, 28, 84, 112, 84, 112)


def picture(seed=1):
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 160, (3, 4, 3))
    return np.kron(coarse, np.ones((28, 28, 1))).astype(np.uint8)


def test_samples_are_means_of_squares_of_a_token():
    image = picture()
    samples = sample_tokens(image, GRID)
    assert samples.shape == (12, 16, 3)
    assert np.array_equal(samples[5], np.tile(image[28, 28], (16, 1)))


@pytest.mark.parametrize('height, width', [(90, 119), (700, 1300), (9, 40), (2400, 31)])
def test_samples_are_means_of_the_pixels_between_rounded_bounds(height, width):
    grid = PatchGrid(2, 3, 28, 56, 84, height, width)
    image = np.random.default_rng(2).integers(0, 256, (height, width, 3)).astype(np.uint8)
    samples = sample_tokens(image, grid).reshape(2, 3, 4, 4, 3)
    rows, cols = ([round(place * length / number) for place in range(number + 1)]
                  for length, number in ((height, 8), (width, 12)))
    for row in range(8):
        for col in range(12):
            first, left = min(rows[row], height - 1), min(cols[col], width - 1)
            mean = image[first:max(rows[row + 1], first + 1),
                         left:max(cols[col + 1], left + 1)].mean(axis=(0, 1))
            found = samples[row // 4, col // 4, row % 4, col % 4]
            assert found == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize('gain', [0.5, 0.8, 1.0, 1.25])
def test_the_gain_of_an_exposure_is_found_beside_what_changed(gain):
    before = sample_tokens(picture(), GRID)
    after = before * gain
    after[:3] = 255.0  # changed, and known to be
    is_unchanged = np.ones(12, np.bool_)
    is_unchanged[:3] = False
    assert find_gain(after, before, is_unchanged) == pytest.approx(gain, rel=1e-3)


def test_dark_and_clipped_samples_tell_no_gain():
    before = np.full((2, 16, 3), 5.0, np.float32)
    after = np.full((2, 16, 3), 10.0, np.float32)
    assert find_gain(after, before, np.ones(2, np.bool_)) == 1.0


def test_an_exposure_is_scaled_back():
    image = np.full((4, 4, 3), 150, np.uint8)
    assert (scale_exposure(image, 1.5) == 100).all()
    assert scale_exposure(image, 1.0) is image


@pytest.mark.parametrize('noise', [0.0, 3.0, 8.0])
def test_a_changed_token_is_found_and_noise_is_not(noise):
    random = np.random.default_rng(3)
    before = sample_tokens(picture(), GRID)
    after = before + random.normal(0.0, noise, before.shape).astype(np.float32)
    after[7, 2] += 13.0 + 10.0 * noise
    differences = find_differences(after, before)
    assert differences.exceed(12.0, 6.0).nonzero()[0].tolist() == [7]
    # of a difference without a change: the noise was added once
    assert differences.noise == pytest.approx(noise, rel=0.25)


def test_differences_exceed_levels_and_deviations():
    before = sample_tokens(picture(), GRID)
    after = before.copy()
    for token, levels in ((2, 25.0), (5, -15.0), (6, 7.0)):
        after[token, 3, 1] += levels
    differences = find_differences(after, before)
    assert differences.largest[[2, 5, 6, 7]].tolist() == [25.0, 15.0, 7.0, 0.0]
    for levels, tokens in ((20.0, [2]), (8.0, [2, 5]), (4.0, [2, 5, 6])):
        assert differences.exceed(levels, 3.0).nonzero()[0].tolist() == tokens
    noisy = replace(differences, noise=4.0)
    assert noisy.exceed(1.0, 3.0).nonzero()[0].tolist() == [2, 5]
