"""
Objectness of tokens: how likely they are to show a part of an object, of any kind.

From two of the cues of Alexe, Deselaers and Ferrari ("What is an object?", CVPR 2010): density of
edges, here of colours too, and colour contrast; and events, which find what moves.
"""

from __future__ import annotations

import cv2
from epvlm_ros.compiled import compiled
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.token_selection.saliency import (
    combine, event_contrast, OPPONENT_COLOURS, saliency_of_samples, sample_image, SAMPLES_PER_SIDE)
import numpy as np

NEARBY_TOKENS = 0.8  # standard deviation of the blur: tokens of an object support each other
BLUR_SIDE = 7
SALIENCY_WEIGHT = 2.0  # against the edge density of an average token
EVENT_WEIGHT = 0.5  # of the events of an average token, likewise
# Squared length of a difference of red, green and blue in opponent colours, as a matrix.
_METRIC = np.array(OPPONENT_COLOURS, np.float32).T @ np.array(OPPONENT_COLOURS, np.float32)


def image_objectness(image_rgb: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Return the edge density and colour contrast of each token.

    With t = mean gradient of the opponent colours over the 4 x 4 samples of a token (its length,
    by central differences): t / mean t, blurred over tokens, + 2 saliency.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    grid : PatchGrid
        The tokens of this image; another size is a ValueError.

    Returns
    -------
    numpy.ndarray
        float32, shape (grid.rows, grid.cols), at least 0, all 0 for an image of one colour.

    """
    grid.check_image(image_rgb)
    samples = sample_image(image_rgb, grid)
    edges = _blur_over_mean(_mean_gradients(*samples, _METRIC))
    return edges + np.float32(SALIENCY_WEIGHT) * saliency_of_samples(samples, grid)


def add_events(objectness: np.ndarray, activity: np.ndarray, noise_floor: float) -> np.ndarray:
    """
    Return objectness with the events of each token and of those beside it.

    With e = max(0, activity - noise floor): objectness + (e / mean e, blurred) / 2, and the
    contrast of events as ``combine`` adds it. So few tokens with events, as of an object before a
    still camera, count much each, and those of a moving camera hardly more than the edges that
    make them. All are float32, shape (rows, cols), and not changed.
    """
    above = np.maximum(activity - np.float32(noise_floor), 0.0)
    moving = objectness + np.float32(EVENT_WEIGHT) * _blur_over_mean(above)
    return combine(moving, event_contrast(activity, noise_floor))


def _blur_over_mean(values: np.ndarray) -> np.ndarray:
    """Return values, at least 0, over their mean and blurred; zeros if all are."""
    blurred = cv2.GaussianBlur(
        values, (BLUR_SIDE, BLUR_SIDE), NEARBY_TOKENS, borderType=cv2.BORDER_REPLICATE)
    total = values.sum()
    return blurred * np.float32(values.size / total) if total > 0.0 else blurred


@compiled
def _mean_gradients(red, green, blue, metric):  # type: ignore[no-untyped-def]
    """Return the mean gradient over the samples of each token, which lie in a border of one."""
    rows, cols = (red.shape[0] - 2) // SAMPLES_PER_SIDE, (red.shape[1] - 2) // SAMPLES_PER_SIDE
    rr, gg, bb = metric[0, 0], metric[1, 1], metric[2, 2]
    two = np.float32(2.0)  # a plain 2 would make all of it float64
    rg, rb, gb = two * metric[0, 1], two * metric[0, 2], two * metric[1, 2]
    means = np.empty((rows, cols), np.float32)
    line = np.empty(SAMPLES_PER_SIDE * cols, np.float32)
    for row in range(rows):
        line[:] = 0.0
        for sample in range(SAMPLES_PER_SIDE * row + 1, SAMPLES_PER_SIDE * (row + 1) + 1):
            red_above, reds, red_below = red[sample - 1], red[sample], red[sample + 1]
            green_above, greens, green_below = green[sample - 1], green[sample], green[sample + 1]
            blue_above, blues, blue_below = blue[sample - 1], blue[sample], blue[sample + 1]
            for place in range(len(line)):
                r = np.float32(red_below[place + 1]) - np.float32(red_above[place + 1])
                g = np.float32(green_below[place + 1]) - np.float32(green_above[place + 1])
                b = np.float32(blue_below[place + 1]) - np.float32(blue_above[place + 1])
                x = np.float32(reds[place + 2]) - np.float32(reds[place])
                y = np.float32(greens[place + 2]) - np.float32(greens[place])
                z = np.float32(blues[place + 2]) - np.float32(blues[place])
                line[place] += np.sqrt(
                    rr * (r * r + x * x) + gg * (g * g + y * y) + bb * (b * b + z * z)
                    + rg * (r * g + x * y) + rb * (r * b + x * z) + gb * (g * b + y * z))
        for col in range(cols):
            total = np.float32(0.0)
            for place in range(SAMPLES_PER_SIDE * col, SAMPLES_PER_SIDE * (col + 1)):
                total += line[place]
            means[row, col] = total / np.float32(SAMPLES_PER_SIDE ** 2)
    return means
