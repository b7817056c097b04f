"""
What the pixels say about a scene in memory: its exposure against a new frame, and what differs.

A frame is reduced to a few samples a token. The composite holds, for each token, the samples that
it was computed from.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from epvlm_ros.compiled import compiled
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

SAMPLES_PER_SIDE = 4  # of a token: finer ones see noise
_CLIPPED = 250.0  # grey levels from which on a sample says nothing about the exposure
_DARK = 12.0  # grey levels up to which a ratio is noise
_QUIET_SHARE = 0.25  # of the tokens have not changed, if the camera stands still
_MEAN_TO_DEVIATION = (np.pi / 2) ** 0.5  # of absolute values of a normal distribution
_LARGEST_NOISE = 12.0  # grey levels, as a mean of many pixels
MAX_CHANGE_OF_EXPOSURE = 2.5  # beyond it, what was clipped or dark is too much


def sample_tokens(image_rgb: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Reduce an image to a few samples a token.

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
    side = SAMPLES_PER_SIDE
    height, width = grid.rows * side, grid.cols * side
    while min(image_rgb.shape[0] // height, image_rgb.shape[1] // width) >= 2:
        # by halves is several times faster than at once
        halved = (image_rgb.shape[1] // 2, image_rgb.shape[0] // 2)
        image_rgb = cv2.resize(image_rgb, halved, interpolation=cv2.INTER_AREA)
    small = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
    by_token = small.reshape(grid.rows, side, grid.cols, side, 3).transpose(0, 2, 1, 3, 4)
    return by_token.reshape(grid.num_tokens, side * side, 3).astype(np.float32)


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
    new, old = _mean_colours(samples)[is_unchanged], _mean_colours(reference)[is_unchanged]
    usable = (old > _DARK) & (new > _DARK) & (old < _CLIPPED) & (new < _CLIPPED)
    if not usable.any():
        return 1.0
    return float(np.median(new[usable] / old[usable]))


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
    noise = float(np.quantile(mean, _QUIET_SHARE)) * _MEAN_TO_DEVIATION
    return Differences(largest, min(noise, _LARGEST_NOISE))


@compiled
def _mean_colours(samples: np.ndarray) -> np.ndarray:
    """Return the mean of the samples of each token, float32, (tokens, 3)."""
    colours = np.zeros((samples.shape[0], samples.shape[2]), np.float32)
    for token in range(samples.shape[0]):
        for place in range(samples.shape[1]):
            for channel in range(samples.shape[2]):
                colours[token, channel] += samples[token, place, channel]
    return colours / np.float32(samples.shape[1])


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
