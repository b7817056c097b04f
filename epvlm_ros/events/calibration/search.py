"""Searches the alignment of events and edges on a coarse grid, all shifts at once."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple, Sequence

import cv2
from epvlm_ros.events.calibration.alignment import Alignment, unit, warp
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame, WorkingSize
import numpy as np

_SIDE = 120  # maps are reduced to this width or less
_BLUR_PX = 1.5  # in reduced pixels
_SCALES = tuple(1.04 ** power for power in range(-6, 7))
_ANGLES = tuple(math.radians(angle) for angle in range(-8, 9, 2))
MAX_SEARCH_OFFSET_S = 0.05
_OFFSETS_S = tuple(share * MAX_SEARCH_OFFSET_S for share in (-1.0, -0.5, 0.0, 0.5, 1.0))
_MAX_SHIFT = 0.25  # of the width
_NUM_FRAMES = 6
SEARCH_LIMITS = (
    f'turned by up to {math.degrees(_ANGLES[-1]):.0f} degrees, {_SCALES[0]:.1f} to '
    f'{_SCALES[-1]:.1f} times as large as scaled to the width of the image, shifted by up to '
    f'{_MAX_SHIFT:.0%} of that, {MAX_SEARCH_OFFSET_S:g} s early or late')
_MIN_GAIN, _MIN_FLIP_CORRELATION = 1.3, 0.3
# How a sensor may be mounted that the search does not try: from its pixels to upright ones.
FLIPS = {
    'mirrored left to right': np.diag([-1.0, 1.0, 1.0]),
    'mirrored top to bottom': np.diag([1.0, -1.0, 1.0]),
    'upside down': np.diag([-1.0, -1.0, 1.0]),
    'on its side, turned to the left': np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0, 0, 1]]),
    'on its side, turned to the right': np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0, 0, 1]]),
}


class _Found(NamedTuple):
    correlation: float  # mean over the frames, -1 to 1
    alignment: Alignment
    scale: float
    angle: float


def search(frames: Sequence[AlignmentFrame], working: WorkingSize) -> Alignment:
    """
    Search shift, rotation, scale and time offset on a coarse grid, and return the best.

    A Fourier transform tries all shifts of one combination at once. Needs at least one frame, all
    of the size ``working``.
    """
    grid = _Grid(frames, working, _NUM_FRAMES)
    rough = grid.rough()
    # Around the best of every second scale and angle.
    scales, angles = (
        values[max(values.index(value) - 1, 0):values.index(value) + 2]
        for values, value in ((_SCALES, rough.scale), (_ANGLES, rough.angle)))
    return grid.best_of(rough.alignment.offset_s, scales, angles).alignment


def find_flip(frames: Sequence[AlignmentFrame], working: WorkingSize) -> str | None:
    """Return the key of ``FLIPS`` by which events fit clearly better than upright, or None."""
    grid = _Grid(frames, working, _NUM_FRAMES // 2)
    found = {
        name: max(grid.best_of(offset_s, _SCALES[::2], _ANGLES[::2], flip).correlation
                  for offset_s in _OFFSETS_S[::2])
        for name, flip in (*FLIPS.items(), ('', None))}
    best = max(found, key=lambda name: found[name])
    is_clear = found[best] > max(_MIN_GAIN * found[''], _MIN_FLIP_CORRELATION)
    return best if is_clear else None


class _Grid:
    """Frames whose edges are transformed once, to be compared with many warps of the events."""

    def __init__(
        self, frames: Sequence[AlignmentFrame], working: WorkingSize, num_frames: int,
    ) -> None:
        self._frames = frames[::-(-len(frames) // num_frames)]
        self._working = working
        self._reduction = min(1.0, _SIDE / max(working.image_size))
        self._blur_px = _BLUR_PX / self._reduction
        self._size = tuple(max(round(side * self._reduction), 1) for side in working.image_size)
        reach = max(int(_MAX_SHIFT * self._size[1]), 1)
        self._reach = min(reach, self._size[0] - 1), reach  # rows, columns
        self._padded = tuple(
            cv2.getOptimalDFTSize(side + most) for side, most in zip(self._size, self._reach))
        self._shrink = np.diag([1 / self._reduction, 1 / self._reduction, 1.0])
        self._shrink[:2, 2] = 0.5 / self._reduction - 0.5
        self._targets = [
            self._spectrum(warp(frame.target(self._blur_px), self._shrink, self._size))
            for frame in self._frames]

    def rough(self) -> _Found:
        """Return the best of all offsets, for every second scale and angle."""
        return max(
            (self.best_of(offset_s, _SCALES[::2], _ANGLES[::2]) for offset_s in _OFFSETS_S),
            key=lambda found: found.correlation)

    def best_of(
        self, offset_s: float, scales: Sequence[float], angles: Sequence[float],
        flip: np.ndarray | None = None,
    ) -> _Found:
        """Return the best of some scales and angles at one offset."""
        activities = [frame.activity(offset_s, self._blur_px) for frame in self._frames]
        best = _Found(-math.inf, Alignment(np.eye(3), 0.0), 1.0, 0.0)
        for scale, angle in itertools.product(scales, angles):
            inverse = _similarity(self._working, scale, angle, flip)
            row, col, value = self._peak(np.sum([
                cv2.mulSpectrums(
                    self._spectrum(warp(activity, inverse @ self._shrink, self._size)),
                    target, 0, conjB=True)
                for target, activity in zip(self._targets, activities)], axis=0))
            if value > best.correlation:
                # The activity lies (row, col) too far down and right in the reduced image.
                shift = np.eye(3)
                shift[:2, 2] = col / self._reduction, row / self._reduction
                best = _Found(value, Alignment(inverse @ shift, offset_s), scale, angle)
        return best

    def _spectrum(self, picture: np.ndarray) -> np.ndarray:
        inside = np.isfinite(picture)
        flat = np.zeros(self._padded, np.float32)
        if inside.any():
            flat[:self._size[0], :self._size[1]][inside] = unit(picture[inside])[0]
        return cv2.dft(flat, nonzeroRows=self._size[0])

    def _peak(self, spectrum: np.ndarray) -> tuple[int, int, float]:
        """Return row and column shift of the highest value within the range of shifts."""
        surface = cv2.dft(spectrum, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
        rows, cols = self._reach
        near = np.roll(surface, (rows, cols), (0, 1))[:2 * rows + 1, :2 * cols + 1]
        row, col = np.unravel_index(np.argmax(near), near.shape)
        return int(row) - rows, int(col) - cols, float(near[row, col]) / len(self._frames)


def _similarity(
    working: WorkingSize, scale: float, angle: float, flip: np.ndarray | None,
) -> np.ndarray:
    """Return the map from working image to working sensor, about the middle of both."""
    if flip is not None and flip[0, 0] == 0:  # the long sides of both see the same
        scale *= max(working.sensor_size) / working.sensor_size[1] \
            * working.image_size[1] / max(working.image_size)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    to_middle, from_middle = np.eye(3), np.eye(3)
    to_middle[:2, 2] = [-(side - 1) / 2 for side in working.image_size[::-1]]
    from_middle[:2, 2] = [(side - 1) / 2 for side in working.sensor_size[::-1]]
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return from_middle @ (turn if flip is None else flip @ turn) @ to_middle
