"""
What the pixels of visual tokens say: the exposure of a frame against another one, what differs.

A frame is reduced to a few samples a token. What it is compared with is a frame before, or the
composite of a scene in memory, which holds for each token the samples that it was computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
from epvlm_ros.compiled import compiled, read_only
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

SAMPLES_PER_SIDE = 4  # of a token: finer ones see noise
_CLIPPED = 250.0  # grey levels from which on a sample says nothing about the exposure
_DARK = 12.0  # grey levels up to which a ratio is noise
QUIET_SHARE = 0.25  # of the tokens have not changed, if the camera stands still
MEAN_TO_DEVIATION = (np.pi / 2) ** 0.5  # of absolute values of a normal distribution
LARGEST_NOISE = 12.0  # grey levels, as a mean of many pixels
MAX_CHANGE_OF_EXPOSURE = 2.5  # beyond it, what was clipped or dark is too much


def sample_tokens(image_rgb: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Reduce an image to a few samples a token: means of whole pixels.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), of the size that the grid is for; not changed.
    grid : PatchGrid
        Its visual tokens.

    Returns
    -------
    numpy.ndarray
        float32, shape (tokens, 16, 3), grey levels.

    """
    grid.check_image(image_rgb)
    row_bounds = _find_bounds(grid.image_height, grid.rows)
    # the smallest type that holds the sum of the rows of a sample is the fastest
    is_low = 255 * int(np.diff(row_bounds).max()) < 1 << 16
    sums = np.empty(3 * grid.image_width, np.uint16 if is_low else np.uint32)
    return _sample(
        read_only(image_rgb), row_bounds, _find_bounds(grid.image_width, grid.cols), sums)


@lru_cache(maxsize=64)
def _find_bounds(length_px: int, num_tokens: int) -> np.ndarray:
    """Return first and end pixel of each sample along one side, int64, (samples, 2)."""
    edges = np.arange(SAMPLES_PER_SIDE * num_tokens + 1) * (
        length_px / (SAMPLES_PER_SIDE * num_tokens))
    first = np.minimum(np.rint(edges[:-1]), length_px - 1)
    bounds = np.stack([first, np.maximum(np.rint(edges[1:]), first + 1)], axis=1).astype(np.int64)
    return read_only(bounds)


def find_gain(samples: np.ndarray, reference: np.ndarray, is_unchanged: np.ndarray) -> float:
    """
    Return how much brighter a frame is than what the memory was computed from.

    A camera's curve is close to a power of the light, so a gain of the exposure is one factor of
    the grey levels too.

    Parameters
    ----------
    samples, reference : numpy.ndarray
        float32, shape (tokens, samples, 3), of the frame and of the memory.
    is_unchanged : numpy.ndarray
        bool, shape (tokens,): tokens in which nothing is known to have changed.

    Returns
    -------
    float
        The median ratio over colours of tokens that are neither dark nor clipped; 1.0 without
        any.

    """
    ratios = _compare_colours(samples, reference, is_unchanged)
    if not ratios.size:
        return 1.0
    middle = len(ratios) // 2
    return float(np.partition(ratios, middle)[middle])


def scale_exposure(image_rgb: np.ndarray, gain: float) -> np.ndarray:
    """Return the image (uint8) as it would be without ``gain``; itself for a gain of about 1."""
    if abs(gain - 1.0) < 0.01:
        return image_rgb
    return cv2.convertScaleAbs(image_rgb, alpha=1.0 / gain)


@dataclass(frozen=True, eq=False)
class Differences:
    """
    How far the pixels of tokens are from those that they were computed from.

    Attributes
    ----------
    largest : numpy.ndarray
        float32, shape (tokens,), grey levels of the sample that differs most.
    noise : float
        Standard deviation of a difference without a change, grey levels.

    """

    largest: np.ndarray
    noise: float

    def exceed(self, levels: float, deviations: float) -> np.ndarray:
        """Return which tokens, bool, differ by more than both."""
        return np.asarray(self.largest > max(levels, deviations * self.noise))


def find_differences(samples: np.ndarray, reference: np.ndarray) -> Differences:
    """
    Compare the pixels of tokens with those that they were computed from.

    The noise of the frame is estimated from the tokens that differ least.

    Parameters
    ----------
    samples, reference : numpy.ndarray
        float32, shape (tokens, samples, 3), of one exposure.

    """
    num_tokens = len(samples)
    largest, mean = _compare(samples.reshape(num_tokens, -1), reference.reshape(num_tokens, -1))
    quiet = round(QUIET_SHARE * (num_tokens - 1))
    noise = float(np.partition(mean, quiet)[quiet]) * MEAN_TO_DEVIATION
    return Differences(largest, min(noise, LARGEST_NOISE))


@compiled
def _sample(
    image: np.ndarray, row_bounds: np.ndarray, col_bounds: np.ndarray, sums: np.ndarray,
) -> np.ndarray:
    """Return the means of the pixels within bounds, see ``sample_tokens``."""
    side, num_values = SAMPLES_PER_SIDE, 3 * image.shape[1]
    cols = len(col_bounds) // side
    samples = np.empty((len(row_bounds) // side * cols, side * side, 3), np.float32)
    from_left = np.zeros((image.shape[1] + 1, 3), np.uint32)  # sums of all pixels before each
    for row in range(len(row_bounds)):
        first, end = row_bounds[row]
        sums[:] = 0
        for line in range(first, end):
            pixels = image[line].reshape(num_values)
            for place in range(num_values):
                sums[place] += pixels[place]
        red = green = blue = np.uint32(0)
        for col in range(image.shape[1]):
            red += sums[3 * col]
            green += sums[3 * col + 1]
            blue += sums[3 * col + 2]
            from_left[col + 1, 0], from_left[col + 1, 1], from_left[col + 1, 2] = red, green, blue
        for col in range(len(col_bounds)):
            left, right = col_bounds[col]
            share = np.float32(1.0) / np.float32((end - first) * (right - left))
            sample = samples[row // side * cols + col // side, row % side * side + col % side]
            for channel in range(3):
                total = from_left[right, channel] - from_left[left, channel]
                sample[channel] = np.float32(total) * share
    return samples


@compiled
def _compare_colours(
    samples: np.ndarray, reference: np.ndarray, is_unchanged: np.ndarray,
) -> np.ndarray:
    """Return new by old mean of each colour of each token that tells the exposure, float32."""
    num_samples = samples.shape[1]
    dark, clipped = _DARK * num_samples, _CLIPPED * num_samples
    ratios = np.empty(3 * len(samples), np.float32)
    number = 0
    for token in range(len(samples)):
        if is_unchanged[token]:
            for channel in range(3):
                new = old = np.float32(0.0)
                for place in range(num_samples):
                    new += samples[token, place, channel]
                    old += reference[token, place, channel]
                if min(new, old) > dark and max(new, old) < clipped:
                    ratios[number] = new / old
                    number += 1
    return ratios[:number]


@compiled
def _compare(samples: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the mean difference of each row."""
    largest, mean = np.zeros(len(samples), np.float32), np.zeros(len(samples), np.float32)
    for token in range(len(samples)):
        total = most = np.float32(0.0)
        for place in range(samples.shape[1]):
            difference = abs(samples[token, place] - reference[token, place])
            total += difference
            most = max(most, difference)
        largest[token], mean[token] = most, total / np.float32(samples.shape[1])
    return largest, mean
