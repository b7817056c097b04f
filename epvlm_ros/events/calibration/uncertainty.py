"""
How far off an alignment may be: how sharp its maximum is, and how far its parts disagree.

The correlation is a sum over regions of frames, and its gradient is zero at the maximum. How far
the gradients of the regions scatter around zero, and how fast the gradient changes with each
parameter, gives the covariance inverse(K) G inverse(K) of White, "Maximum Likelihood Estimation of
Misspecified Models" (Econometrica 1982). Pixels of a region err alike in all frames (parallax, the
border of a thing), and pixels of a frame in all regions (its stamp): G is the sum of both.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Sequence

from epvlm_ros.events.calibration.alignment import (
    Alignment, derivatives, has_gradient, normalisation, unit)
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
import numpy as np

_BLUR_PX = 1.0
_NUM_ROWS, _NUM_COLS = 6, 8
_NUM_PARAMETERS = 8  # beside the time offset
_RIDGE = 1e-9  # keeps what nothing determines finite, and large: there no gradient scatters


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """
    Standard error of an alignment, as a root mean square over the image in working pixels.

    ``mean_px`` is all of it, ``timed_px`` what were left if the time offset were known.
    ``angle_deg`` is the direction in which most of the latter lies, -90 to 90 from the rows
    downwards, and ``share_along`` its share of the variance there, 0.5 to 1.
    """

    mean_px: float
    timed_px: float
    angle_deg: float
    share_along: float


def estimate_uncertainty(
    frames: Sequence[AlignmentFrame], alignment: Alignment,
) -> Uncertainty:
    """Estimate the standard error of an alignment to ``frames``, one or more."""
    size = frames[0].expected.shape
    curvature, scores = _curvature_and_scores(frames, alignment)
    scatter = _scatter(scores.sum(axis=0)) + _scatter(scores.sum(axis=2).T)
    every = np.arange(_NUM_PARAMETERS + 1)
    all_px = _displacement_covariance(curvature, scatter, every, size)
    timed_px = _displacement_covariance(curvature, scatter, every[:-1], size)
    variances, directions = np.linalg.eigh(timed_px)
    col, row = directions[:, -1]
    return Uncertainty(
        math.sqrt(np.trace(all_px)), math.sqrt(np.trace(timed_px)),
        math.degrees(math.atan2(row, col) % math.pi + math.pi / 2) % 180 - 90,
        float(variances[-1] / max(variances.sum(), 1e-12)))


def _curvature_and_scores(
    frames: Sequence[AlignmentFrame], alignment: Alignment,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curvature, and the gradient of every (frame, parameter, region)."""
    height, width = frames[0].expected.shape
    region = (np.arange(height) * _NUM_ROWS // height)[:, None] * _NUM_COLS \
        + np.arange(width) * _NUM_COLS // width
    curvature = np.zeros((_NUM_PARAMETERS + 1,) * 2)
    scores = []
    for frame in frames:
        warped, target = alignment.warped(frame, _BLUR_PX), frame.target(_BLUR_PX)
        inside = has_gradient(warped)
        activity, norm = unit(warped[inside])
        edges, edge_norm = unit(target[inside])
        along_activity, along_edges = (
            _changes(derivatives(picture, frame.flow, inside, _NUM_PARAMETERS), values, length)
            for picture, values, length in (
                (warped, activity, norm), (target, edges, edge_norm)))
        # One factor from the events and one from the image: the noise of neither is curvature.
        product = (along_edges @ along_activity.T).astype(np.float64)
        curvature += (product + product.T) / 2
        rest = edges - float(activity @ edges) * activity
        scores.append([np.bincount(region[inside], change * rest, _NUM_ROWS * _NUM_COLS)
                       for change in along_activity])
    return curvature, np.array(scores)


def _changes(columns: np.ndarray, values: np.ndarray, length: float) -> np.ndarray:
    """Return how unit ``values`` change where their picture changes by ``columns``."""
    columns = columns - columns.mean(axis=1, keepdims=True)
    return (columns - np.outer(columns @ values, values)) / length


def _scatter(sums: np.ndarray) -> np.ndarray:
    """Return the covariance of the total of independent sums (parameters, sums)."""
    sums = sums[:, sums.any(axis=0)]
    num = sums.shape[1]
    if num < 2:
        return np.zeros((len(sums),) * 2)
    sums = sums - sums.mean(axis=1, keepdims=True)
    return sums @ sums.T * num / (num - 1)


def _displacement_covariance(
    curvature: np.ndarray, scatter: np.ndarray, free: np.ndarray, size: tuple[int, ...],
) -> np.ndarray:
    """Return the mean covariance (column, row) over the image if ``free`` parameters are."""
    chosen = np.ix_(free, free)
    ridge = _RIDGE * np.trace(curvature) * np.eye(free.size)
    inverse = np.linalg.pinv(curvature[chosen] + ridge)
    # What nothing determines scatters as much for its curvature, the ridge, as all the rest.
    dispersion = np.trace(scatter[chosen]) / max(np.trace(curvature[chosen]), 1e-30)
    covariance = np.zeros(curvature.shape)
    covariance[chosen] = inverse @ (scatter[chosen] + dispersion * ridge) @ inverse
    scale = normalisation(size)
    total = np.zeros((2, 2))
    places = np.linspace(-0.9, 0.9, 5)
    for y in places:
        for x in places:
            moved = np.array([
                [x, y, 1, 0, 0, 0, -x * x, -x * y, 0], [0, 0, 0, x, y, 1, -x * y, -y * y, 0]])
            moved /= [[scale[0, 0]], [scale[1, 1]]]
            total += moved @ covariance @ moved.T
    return total / places.size ** 2
