"""Measures, block by block, how far activity still is from the edges that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import cv2
from epvlm_ros.events.calibration.alignment import Alignment
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
import numpy as np

_BLUR_PX = 1.0
_NUM_ROWS, _NUM_COLS = 6, 8
_REACH_PX = 6
_MIN_PEAK = 0.35
_MIN_CURVATURE = 0.004  # of correlation a squared pixel: flatter is along an edge


@dataclass(frozen=True, eq=False)
class Blocks:
    """Shifts (row, column) in working pixels of the blocks that could be measured, and where."""

    shifts: np.ndarray  # (blocks, 2)
    places: np.ndarray  # (blocks, 2), row and column of the block

    def __len__(self) -> int:
        return len(self.shifts)

    @property
    def mean_distance(self) -> float:
        """Return the mean length of the shifts, in working pixels; NaN without blocks."""
        return float(np.hypot(*self.shifts.T).mean()) if len(self) else float('nan')

    @property
    def are_spread(self) -> bool:
        """Return whether there are blocks in all four quarters of the image."""
        quarters = {
            (row >= _NUM_ROWS / 2, col >= _NUM_COLS / 2) for row, col in self.places.tolist()}
        return len(quarters) == 4


def match_blocks(frames: Sequence[AlignmentFrame], alignment: Alignment) -> Blocks:
    """
    Find the shift of every block of the image at which activity fits its edges best.

    Each block is correlated on its own with the activity around it, the surfaces of all frames are
    added, and the peak is found to a part of a pixel. Along a straight edge nothing is measured:
    there only the shift across it counts. Use frames that the alignment was not fitted to. Shifts
    are positive where activity lies too far down and right.
    """
    activities = [alignment.warped(frame, _BLUR_PX) for frame in frames]
    targets = [frame.target(_BLUR_PX) for frame in frames]
    height, width = targets[0].shape
    shifts, places = [], []
    for row in range(_NUM_ROWS):
        for col in range(_NUM_COLS):
            top, bottom = _bounds(height, row, _NUM_ROWS)
            left, right = _bounds(width, col, _NUM_COLS)
            surface = _surface(activities, targets, top, bottom, left, right)
            shift = None if surface is None else _find_peak(surface)
            if shift is not None:
                shifts.append(shift)
                places.append((row, col))
    return Blocks(np.reshape(shifts, (-1, 2)), np.reshape(places, (-1, 2)))


def _bounds(side: int, index: int, num: int) -> tuple[int, int]:
    """Return the bounds of a block along one side; what is sought around it is in the image."""
    return (max(side * index // num, _REACH_PX),
            max(min(side * (index + 1) // num, side - _REACH_PX), 0))


def _surface(
    activities: Sequence[np.ndarray], targets: Sequence[np.ndarray], top: int, bottom: int,
    left: int, right: int,
) -> np.ndarray | None:
    """Return the mean correlation over all shifts, weighted by the texture of each frame."""
    total: np.ndarray | None = None
    weights = 0.0
    for activity, target in zip(activities, targets):
        block = np.ascontiguousarray(target[top:bottom, left:right])
        around = activity[top - _REACH_PX:bottom + _REACH_PX,
                          left - _REACH_PX:right + _REACH_PX]
        if not (block.size and np.isfinite(around).all()):
            continue
        weight = float(block.std())
        surface = weight * cv2.matchTemplate(
            np.ascontiguousarray(around), block, cv2.TM_CCOEFF_NORMED)
        total = surface if total is None else total + surface
        weights += weight
    return total / weights if total is not None and weights > 0 else None


def _find_peak(surface: np.ndarray) -> np.ndarray | None:
    """Return the shift (row, column) of the peak, None where there is none."""
    row, col = np.unravel_index(np.argmax(surface), surface.shape)
    last = 2 * _REACH_PX
    if not (0 < row < last and 0 < col < last) or surface[row, col] < _MIN_PEAK:
        return None
    near = surface[row - 1:row + 2, col - 1:col + 2].astype(np.float64)
    slope = np.array([near[2, 1] - near[0, 1], near[1, 2] - near[1, 0]]) / 2
    mixed = (near[2, 2] + near[0, 0] - near[2, 0] - near[0, 2]) / 4
    curvature = -np.array([
        [near[2, 1] - 2 * near[1, 1] + near[0, 1], mixed],
        [mixed, near[1, 2] - 2 * near[1, 1] + near[1, 0]]])
    values, directions = np.linalg.eigh(curvature)
    if values[1] < _MIN_CURVATURE:
        return None
    shift = np.array([row, col], np.float64) - _REACH_PX
    steps = np.clip(directions.T @ slope / np.maximum(values, _MIN_CURVATURE), -1, 1)
    along = directions.T @ shift + steps
    return directions @ np.where(values >= _MIN_CURVATURE, along, 0.0)
