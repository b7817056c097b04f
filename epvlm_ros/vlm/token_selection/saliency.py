"""Saliency of tokens: colour contrast with the background, and local contrast of events."""

from __future__ import annotations

import cv2
from epvlm_ros.compiled import compiled
from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

SAMPLES_PER_SIDE = 4  # of a token: finer ones see noise, coarser ones miss the rim of objects
# Rows: brightness, red less green, blue less yellow, of red, green and blue from 0 to 1.
OPPONENT_COLOURS = (LUMA_WEIGHTS, (1.0, -1.0, 0.0), (-0.5, -0.5, 1.0))
LEAST_SPREAD = 0.03  # of a channel: noise and shading of a ground of one colour
LEAST_DISTANCE = 1e-3  # in spreads: what is less may be rounding alone
HALF_SALIENCY = 3.0  # distance from the ground, in spreads, whose saliency is one half
AROUND_TOKENS = 7  # side of the square that is about a token
AROUND_WEIGHT = 2.0  # of the events about a token against its own
EVENT_WEIGHT = 0.5  # of its contrast, and of the largest beside it, against saliency
Samples = tuple[np.ndarray, np.ndarray, np.ndarray]


def image_saliency(image_rgb: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Return how far the most unusual colour in each token is from the background.

    The image is reduced to 4 x 4 samples per token; o = opponent colours of a sample, m = mean o
    of a token. Background g = median of m over the tokens, spread s = median of |m - g| + 0.03,
    each by channel. Distance d = |(o - g) / s|, the norm over the channels, so that a channel
    that varies much in the background counts little. The largest d of a token counts, since the
    rim of an object is needed as much as its middle. Saliency is d / (d + 3).

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    grid : PatchGrid
        The tokens of this image; another size is a ValueError.

    Returns
    -------
    numpy.ndarray
        float32, shape (grid.rows, grid.cols), in [0, 1), all 0 for an image of one colour.

    """
    grid.check_image(image_rgb)
    return saliency_of_samples(sample_image(image_rgb, grid), grid)


def saliency_of_samples(samples: Samples, grid: PatchGrid) -> np.ndarray:
    """Return ``image_saliency`` of the samples of an image, see ``sample_image``."""
    to_opponent = np.array(OPPONENT_COLOURS, np.float32) / np.float32(255.0)
    by_channel = to_opponent @ _mean_samples(*samples, grid.rows, grid.cols)
    ground = _median_of_rows(by_channel)
    spread = _median_of_rows(np.abs(by_channel - ground[:, None])) + np.float32(LEAST_SPREAD)
    # (o - g) / s in one affine map, the last column of which is added
    to_unusual = np.column_stack([to_opponent, -ground]) / spread[:, None]
    largest = np.sqrt(_largest_squares(*samples, to_unusual, grid.rows, grid.cols))
    largest[largest < LEAST_DISTANCE] = 0.0
    return largest / (largest + HALF_SALIENCY)


def sample_image(image_rgb: np.ndarray, grid: PatchGrid) -> Samples:
    """
    Return red, green and blue of an image reduced to the samples of its tokens.

    Each is uint8, (4 rows + 2, 4 columns + 2): a border repeats the outermost samples.
    """
    size = (grid.cols * SAMPLES_PER_SIDE, grid.rows * SAMPLES_PER_SIDE)
    # The two by two pixels in the middle of a sample find the same objects as all of them.
    samples = cv2.resize(image_rgb, size, interpolation=cv2.INTER_LINEAR)
    red, green, blue = cv2.split(
        cv2.copyMakeBorder(samples, 1, 1, 1, 1, cv2.BORDER_REPLICATE))
    return red, green, blue


@compiled
def _mean_samples(red, green, blue, rows, cols):  # type: ignore[no-untyped-def]
    """Return the mean red, green and blue of each token, float32, (3, tokens)."""
    means = np.empty((3, rows * cols), np.float32)
    line = np.empty(red.shape[1], np.uint16)
    channel = 0
    for plane in (red, green, blue):
        for row in range(rows):
            line[:] = 0
            for sample in range(SAMPLES_PER_SIDE * row + 1, SAMPLES_PER_SIDE * (row + 1) + 1):
                values = plane[sample]
                for place in range(len(line)):
                    line[place] += values[place]
            for col in range(cols):
                total = np.uint16(0)
                for sample in range(SAMPLES_PER_SIDE):
                    total += line[SAMPLES_PER_SIDE * col + 1 + sample]
                means[channel, row * cols + col] = total / SAMPLES_PER_SIDE ** 2
        channel += 1
    return means


@compiled
def _largest_squares(red, green, blue, to_unusual, rows, cols):  # type: ignore[no-untyped-def]
    """Return the largest squared length of a token's samples after a map of (3, 4), float32."""
    to_first, to_second, to_third = to_unusual[0], to_unusual[1], to_unusual[2]
    largest = np.empty((rows, cols), np.float32)
    line = np.empty(SAMPLES_PER_SIDE * cols, np.float32)
    for row in range(rows):
        line[:] = 0.0
        for sample in range(SAMPLES_PER_SIDE * row + 1, SAMPLES_PER_SIDE * (row + 1) + 1):
            reds, greens, blues = red[sample], green[sample], blue[sample]
            # A loop over the channels in this one would keep the compiler from working on several
            # places at once: ten times slower.
            for place in range(len(line)):
                r = np.float32(reds[place + 1])
                g = np.float32(greens[place + 1])
                b = np.float32(blues[place + 1])
                first = to_first[0] * r + to_first[1] * g + to_first[2] * b + to_first[3]
                second = to_second[0] * r + to_second[1] * g + to_second[2] * b + to_second[3]
                third = to_third[0] * r + to_third[1] * g + to_third[2] * b + to_third[3]
                squared = first * first + second * second + third * third
                line[place] = squared if squared > line[place] else line[place]
        for col in range(cols):
            largest[row, col] = line[SAMPLES_PER_SIDE * col]
            for place in range(SAMPLES_PER_SIDE * col + 1, SAMPLES_PER_SIDE * (col + 1)):
                largest[row, col] = max(largest[row, col], line[place])
    return largest


def _median_of_rows(values: np.ndarray) -> np.ndarray:
    """Return ``numpy.median(values, axis=1)``, ten times as fast."""
    middle = values.shape[1] // 2
    parted = np.partition(values, middle, axis=1)
    upper = parted[:, middle]
    if values.shape[1] % 2:
        return upper
    return (parted[:, :middle].max(axis=1) + upper) / 2


def event_contrast(activity: np.ndarray, noise_floor: float) -> np.ndarray:
    """
    Return the contrast of the events of each token with noise and with its surroundings.

    With e = max(0, activity - noise floor) and a = the mean activity of the 7 x 7 tokens around
    (edges are repeated): e / (e + noise floor + 2 a), in [0, 1). A moving camera makes events
    everywhere; where all tokens have equally many, none gets more than 1/3. ``activity`` is
    float32, shape (rows, cols), at least 0, and not changed.
    """
    above = np.maximum(activity - np.float32(noise_floor), 0.0)
    side = (AROUND_TOKENS, AROUND_TOKENS)
    around = cv2.blur(activity, side, borderType=cv2.BORDER_REPLICATE)
    total = above + np.float32(noise_floor) + AROUND_WEIGHT * around
    return np.divide(above, total, out=np.zeros_like(above), where=above > 0.0)


def combine(saliency: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """
    Return saliency + (contrast + largest contrast of the 3 x 3 tokens) / 2, both (rows, cols).

    So what a moving edge encloses counts as moving, and so does the background beside a moving
    object, but not that beside one at rest: which tokens are kept tells a model what moves.
    """
    nearby = cv2.dilate(contrast, np.ones((3, 3), np.uint8))
    return saliency + np.float32(EVENT_WEIGHT) * (contrast + nearby)
