"""Ego motion: activity that a moving camera causes everywhere is background."""

from __future__ import annotations

from dataclasses import replace

import cv2
from epvlm_ros.activity_grid import ActivityGrid
import numpy as np

_BLOCKS_PER_SIDE = 12  # of the shorter side of the image
_WINDOW_BLOCKS = 7
_MAX_TIMES_IMAGE = 2.0  # the background of a place, as a multiple of that of the image


def remove_ego_motion(activity: ActivityGrid) -> ActivityGrid:
    """
    Subtract the activity that the surroundings of a place have as well.

    When the camera moves, so does the whole picture, and everything with texture makes events. The
    background of a place is the median activity of the 7 x 7 blocks about it (moved into the image
    at its edges), each a twelfth of the image's shorter side: a median does not follow an object
    that covers less than half of them. It is at most twice the median of the whole image, which is
    near zero when the camera stands still. Each cell keeps the share by which the mean of a block
    about it is above the background: ``counts * max(0, 1 - background / mean)``.

    Counts alone cannot tell texture from speed: a lone, strongly textured object at rest keeps
    much, a large moving object loses some. (The usual way, to warp events along the motion of the
    camera as in Mitrokhin et al., "Event-based Moving Object Detection and Tracking", IROS 2018,
    needs each event's time, which is not kept.)

    Returns a new grid of the same window: counts float32, between 0 and those given.
    """
    rows, cols = activity.counts.shape
    side = min(activity.image_height, activity.image_width) / _BLOCKS_PER_SIDE
    block = max(1, round(side / activity.cell_size_px))  # cells
    counts = activity.counts.astype(np.float32, copy=False)
    means = _block_means(counts, block)
    medians = np.minimum(_window_medians(means), _MAX_TIMES_IMAGE * np.median(means))
    background = medians.repeat(block, axis=0)[:rows].repeat(block, axis=1)[:, :cols]
    # Centred on each cell, so that an object does not depend on how blocks cut it.
    mean = cv2.blur(counts, (block, block), borderType=cv2.BORDER_REFLECT)
    above = np.maximum(mean - background, 0.0)
    share = np.divide(above, mean, out=np.ones_like(mean), where=mean > 0.0)
    return replace(activity, counts=counts * np.minimum(share, 1.0))


def _block_means(counts: np.ndarray, block: int) -> np.ndarray:
    """Return the mean over square blocks; those at the far edges may be smaller."""
    starts = [np.arange(0, size, block) for size in counts.shape]
    sums = np.add.reduceat(np.add.reduceat(counts, starts[0], axis=0), starts[1], axis=1)
    heights, widths = (
        np.diff(start, append=size) for start, size in zip(starts, counts.shape))
    return sums / np.outer(heights, widths).astype(np.float32)


def _window_medians(values: np.ndarray) -> np.ndarray:
    """Return the median of the window about each value, moved inside at the edges."""
    window = [min(_WINDOW_BLOCKS, size) for size in values.shape]
    views = np.lib.stride_tricks.sliding_window_view(values, window)
    medians = np.median(views, axis=(2, 3))
    return np.pad(medians, [((size - 1) // 2, size // 2) for size in window], mode='edge')
