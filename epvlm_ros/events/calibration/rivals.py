"""
Shifts at which events fit the edges nearly as well: the scene repeats itself.

The correlation over all shifts is that of pictures of which only part is seen, by Fourier
transforms: Padfield, "Masked Object Registration in the Fourier Domain" (TIP 2012).
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
from epvlm_ros.events.calibration.alignment import Alignment
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
import numpy as np

_BLUR_PX = 2.0
_NUM_FRAMES = 6
_MIN_RATIO = 0.7  # to the best: images without repetition stay below 0.5
_MIN_OVERLAP = 0.35  # of what the sensor sees of the image
_REACH = 2  # working pixels around the found alignment that belong to it


class Rival(NamedTuple):
    """A shift (columns, rows) in working pixels, and its correlation as a share of the best."""

    shift: tuple[int, int]
    ratio: float


def find_rival(frames: Sequence[AlignmentFrame], alignment: Alignment) -> Rival | None:
    """Return the best other shift that fits nearly as well as ``alignment``, None without one."""
    chosen = frames[::-(-len(frames) // _NUM_FRAMES)]
    surface = np.fft.fftshift(sum(_correlation(frame, alignment) for frame in chosen))
    middle = np.array(surface.shape) // 2
    near = tuple(slice(at - _REACH, at + _REACH + 1) for at in middle)
    best = float(surface[near].max())
    _, labels = cv2.connectedComponents((surface >= _MIN_RATIO * best).astype(np.uint8))
    own = np.unique(labels[near])
    others = np.where(np.isin(labels, [0, *own]), -np.inf, surface)
    row, col = np.unravel_index(np.argmax(others), others.shape)
    if not np.isfinite(others[row, col]):
        return None
    return Rival((int(col - middle[1]), int(row - middle[0])), float(others[row, col]) / best)


def _correlation(frame: AlignmentFrame, alignment: Alignment) -> np.ndarray:
    """Return the correlation at every shift, -1 where too little would overlap."""
    activity, target = alignment.warped(frame, _BLUR_PX), frame.target(_BLUR_PX)
    seen = np.isfinite(activity)
    if not seen.any():
        return np.full(_padded(target.shape), -1.0, np.float32)
    # Without their means, sums of single precision stay exact enough.
    activity = np.where(seen, activity - activity[seen].mean(), 0).astype(np.float32)
    target = target - target.mean()
    of_activity, of_seen, of_activity_squared = map(
        _spectrum, (activity, seen.astype(np.float32), activity ** 2))
    of_target, of_all, of_target_squared = map(
        _spectrum, (target, np.ones_like(target), target ** 2))
    num = np.maximum(_shifted_product(of_seen, of_all), 1)
    sum_activity = _shifted_product(of_activity, of_all)
    sum_target = _shifted_product(of_seen, of_target)
    covariance = _shifted_product(of_activity, of_target) - sum_activity * sum_target / num
    variances = (
        _shifted_product(of_activity_squared, of_all) - sum_activity ** 2 / num,
        _shifted_product(of_seen, of_target_squared) - sum_target ** 2 / num)
    variance = np.prod([np.maximum(each, 1e-3 * each.max()) for each in variances], axis=0)
    correlation = covariance / np.sqrt(np.maximum(variance, 1e-12))
    correlation[num < _MIN_OVERLAP * seen.sum()] = -1
    return correlation


def _padded(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(cv2.getOptimalDFTSize(2 * side) for side in size)


def _spectrum(picture: np.ndarray) -> np.ndarray:
    padded = np.zeros(_padded(picture.shape), np.float32)
    padded[:picture.shape[0], :picture.shape[1]] = picture
    return cv2.dft(padded, nonzeroRows=picture.shape[0])


def _shifted_product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sum of products with ``other`` at every shift of ``one``, from spectra."""
    product = cv2.mulSpectrums(one, other, 0, conjB=True)
    return cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
