"""Finds the homography and the time offset that bring events closest to moving edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import cv2
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
import numpy as np

_MAX_STEPS = 15
_MIN_STEP_PX = 0.01
_JUDGING_BLUR_PX = 1.5
# Where everything moves alike a time offset cannot be told from a shift: it stays near zero.
_OFFSET_PRIOR_S = 0.05
_PRIOR_WEIGHT = 1e-3


@dataclass(frozen=True, eq=False)
class Alignment:
    """
    The map from working image to working sensor (3 x 3), and the offset of the window.

    ``offset_s`` is the centre of the event window after the stamp of the frame, in seconds.
    """

    inverse: np.ndarray
    offset_s: float

    def warped(self, frame: AlignmentFrame, blur_px: float) -> np.ndarray:
        """Return the activity as float32 on the working image; NaN outside the sensor."""
        return warp(frame.activity(self.offset_s, blur_px), self.inverse, frame.expected.shape)

    def mean_correlation(self, frames: Sequence[AlignmentFrame]) -> float:
        """Return the mean over the frames of the correlation of activity and edges, -1 to 1."""
        return _objective(frames, self, _JUDGING_BLUR_PX)


def refine(
    frames: Sequence[AlignmentFrame], start: Alignment, blur_px: float, num_parameters: int,
) -> Alignment:
    """
    Maximise the correlation by damped Gauss-Newton steps.

    Starts at most a few times ``blur_px`` (the blur of activity and edges, in working pixels) from
    the maximum. ``num_parameters`` is 6 for an affine map, 8 for a homography; the time offset
    comes on top. The result is never worse than ``start``.
    """
    best, damping = start, 1e-3
    best_value = _objective(frames, best, blur_px)
    hessian, gradient = _normal_equations(frames, best, blur_px, num_parameters)
    for _ in range(_MAX_STEPS):
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian) + 1e-9), gradient)
        candidate = _moved(best, step, frames[0].expected.shape)
        value = _objective(frames, candidate, blur_px)
        if value > best_value:
            moved_px = mean_distance(best, candidate, frames[0].expected.shape)
            best, best_value, damping = candidate, value, damping / 4
            if moved_px < _MIN_STEP_PX:
                break
            hessian, gradient = _normal_equations(frames, best, blur_px, num_parameters)
        elif damping > 1e3:
            break
        else:
            damping *= 8
    return best


def _normal_equations(
    frames: Sequence[AlignmentFrame], alignment: Alignment, blur_px: float, num_parameters: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return Hessian and gradient of the mean correlation, by enhanced correlation."""
    num = num_parameters + 1
    hessian, gradient = np.zeros((num, num)), np.zeros(num)
    for frame in frames:
        warped = alignment.warped(frame, blur_px)
        inside = has_gradient(warped)
        if inside.sum() < 100:
            continue
        columns = derivatives(warped, frame.flow, inside, num_parameters)
        activity, norm = unit(warped[inside])
        target, _ = unit(frame.target(blur_px)[inside])
        # Each column without its mean and without its part along the activity itself, which
        # change no correlation, and divided by the norm: written out, to make no large arrays.
        rows = np.concatenate([columns, activity[None], target[None]])
        products = (rows @ rows.T).astype(np.float64)  # one call: starting threads may cost more
        mean, along = columns.mean(axis=1), products[:num, num] / norm
        square = products[:num, :num] / norm ** 2
        square -= np.outer(mean, mean) * (activity.size / norm ** 2) + np.outer(along, along)
        hessian += square / len(frames)
        gradient += (products[:num, -1] / norm - along * products[num, -1]) / len(frames)
    hessian[-1, -1] += _PRIOR_WEIGHT
    gradient[-1] -= _PRIOR_WEIGHT * alignment.offset_s / _OFFSET_PRIOR_S
    return hessian, gradient


def has_gradient(picture: np.ndarray) -> np.ndarray:
    """Return which pixels are finite with their four neighbours, bool (height, width)."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.erode(np.isfinite(picture).astype(np.uint8), cross) > 0


def derivatives(
    picture: np.ndarray, flow: np.ndarray, inside: np.ndarray, num_parameters: int,
) -> np.ndarray:
    """
    Return how a picture changes with each parameter, float32 (parameters + 1, pixels ``inside``).

    The picture is warped by a small homography before the present one:
    x' = (x + p0 x + p1 y + p2) / (1 + p6 x + p7 y), likewise y', in coordinates of -1 to 1.
    """
    normalise = normalisation(picture.shape)
    x, y = (grid[inside] for grid in _normalised_grid(picture.shape))
    along_y, along_x = (gradient[inside] for gradient in np.gradient(picture))
    flow = flow[inside]
    # Plain numbers keep arrays in single precision.
    scale_x, scale_y = float(normalise[0, 0]), float(normalise[1, 1])
    along_x, along_y = along_x / scale_x, along_y / scale_y
    radial = -(along_x * x + along_y * y)
    columns = [
        along_x * x, along_x * y, along_x, along_y * x, along_y * y, along_y,
        radial * x, radial * y][:num_parameters]
    # An edge is flow * time farther on in later events: the picture moves with it. The parameter
    # is the offset in units of its prior.
    moved = flow[:, 0] * scale_x * along_x + flow[:, 1] * scale_y * along_y
    return np.stack([*columns, -_OFFSET_PRIOR_S * moved])


def _moved(alignment: Alignment, step: np.ndarray, size: tuple[int, int]) -> Alignment:
    p = np.zeros(8)
    p[:step.size - 1] = step[:-1]
    change = np.array([[1 + p[0], p[1], p[2]], [p[3], 1 + p[4], p[5]], [p[6], p[7], 1.0]])
    normalise = normalisation(size)
    inverse = alignment.inverse @ np.linalg.inv(normalise) @ change @ normalise
    offset_s = alignment.offset_s + float(step[-1]) * _OFFSET_PRIOR_S
    return Alignment(inverse / inverse[2, 2], offset_s)


def _objective(frames: Sequence[AlignmentFrame], alignment: Alignment, blur_px: float) -> float:
    total = 0.0
    for frame in frames:
        warped = alignment.warped(frame, blur_px)
        inside = np.isfinite(warped)
        if inside.mean() > 0.25:
            total += unit(warped[inside])[0] @ unit(frame.target(blur_px)[inside])[0]
    prior = 0.5 * _PRIOR_WEIGHT * (alignment.offset_s / _OFFSET_PRIOR_S) ** 2
    return float(total) / len(frames) - prior


def unit(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return values without their mean, of length 1, and what the length was."""
    values = values - values.mean()
    length = max(float(np.sqrt(values @ values)), 1e-6)
    return values / length, length


def warp(picture: np.ndarray, inverse: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return what a picture shows at ``inverse`` of every pixel of ``size``; NaN outside of it."""
    return cv2.warpPerspective(
        picture, inverse, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=float('nan'))


def normalisation(size: tuple[int, ...]) -> np.ndarray:
    """Return the 3 x 3 map from pixels to coordinates of -1 to 1."""
    height, width = size
    return np.array([
        [2 / width, 0.0, (1 - width) / width], [0.0, 2 / height, (1 - height) / height],
        [0.0, 0.0, 1.0]])


def _normalised_grid(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    normalise = normalisation(size)
    y, x = np.mgrid[:size[0], :size[1]].astype(np.float32)
    return (x * float(normalise[0, 0]) + float(normalise[0, 2]),
            y * float(normalise[1, 1]) + float(normalise[1, 2]))


def mean_distance(one: Alignment, other: Alignment, size: tuple[int, ...]) -> float:
    """Return how far apart two alignments look on the sensor, in pixels."""
    y, x = (np.linspace(0, side - 1, 5) for side in size)
    points = np.stack([*(grid.ravel() for grid in np.meshgrid(x, y)), np.ones(25)])
    ends = [alignment.inverse @ points for alignment in (one, other)]
    first, second = (end[:2] / end[2] for end in ends)
    return float(np.hypot(*(first - second)).mean())
