"""Notices when event activity does not lie where the edges of the image are."""

from __future__ import annotations

from collections import deque
import math

import cv2
from epvlm_ros.activity_grid import ActivityGrid
import numpy as np

_NUM_OBSERVATIONS = 15
_MIN_OBSERVATIONS = 5
_MIN_DISAGREEING = 10  # clear shifts, each far off, but not two of them alike
# A moving edge has events only as far as it moves across itself: edges of one direction are
# compared at a time, and the direction that fits best is that of the motion.
_DIRECTIONS = tuple(math.radians(angle) for angle in (0.0, 45.0, 90.0, 135.0))
_MIN_EVENTS_PER_CELL = 0.2  # on average
_MIN_CORRELATION = 0.3
_MIN_MARGIN = 0.03  # of the peak above every other one
_MAX_SHIFT = 0.125  # of the sides of the grid
_MAX_SPREAD_CELLS = 1.0
_WARNING_CELLS = 1.5
_WARNING_PX = 6.0  # less is a fault of the time of a fast frame as often as of the place
_MIN_GRID_SIDE = 12
_MIN_REACH_CELLS = 4


class RegistrationMonitor:
    """
    Compares activity with edges now and then, and says if one is shifted against the other.

    It says nothing while too little moves, or while hardly any observation is clear.
    """

    def __init__(self) -> None:
        self._shifts: deque[tuple[float, float] | None] = deque(maxlen=_NUM_OBSERVATIONS)
        self._layout: tuple[int, int, int] | None = None

    def observe(self, grey: np.ndarray, activity: ActivityGrid) -> None:
        """
        Take one frame and its activity; once a second is enough.

        ``grey`` is uint8 of shape (image_height, image_width), not changed. Raises ValueError if
        the activity is for an image of another size.
        """
        if grey.shape != (activity.image_height, activity.image_width):
            raise ValueError(
                f'the frame is {grey.shape}, its activity for {activity.image_height} x '
                f'{activity.image_width} px: give a frame with its own activity')
        layout = (*grey.shape, activity.cell_size_px)
        if layout != self._layout:
            self._layout = layout
            self._shifts.clear()
        self._shifts.append(_measure_shift(grey, activity))

    def reset(self) -> None:
        """Forget what was observed, as after the registration was changed."""
        self._shifts.clear()

    @property
    def shift_px(self) -> tuple[float, float] | None:
        """
        Return by how many image pixels (rows, columns) activity lies below and right of its edges.

        The median of the latest observations; None while they are too few or disagree.
        """
        shifts = np.array([shift for shift in self._shifts if shift is not None])
        if len(shifts) < _MIN_OBSERVATIONS or self._layout is None:
            return None
        middle = np.median(shifts, axis=0)
        spread_px = np.median(np.hypot(*(shifts - middle).T))
        if spread_px > _MAX_SPREAD_CELLS * self._layout[2]:
            return None
        return float(middle[0]), float(middle[1])

    @property
    def warning(self) -> str:
        """Return what is wrong and the remedy, '' if nothing is known to be wrong."""
        shifts = [shift for shift in self._shifts if shift is not None]
        if self._layout is None or not shifts:
            return ''
        shift, limit_px = self.shift_px, max(_WARNING_CELLS * self._layout[2], _WARNING_PX)
        if shift is None:
            distance_px = float(np.median(np.hypot(*np.transpose(shifts))))
            if len(shifts) < _MIN_DISAGREEING or distance_px <= limit_px:
                return ''
            return (
                f'event activity lies about {distance_px:.0f} px beside the edges of the image, '
                'each time elsewhere: it is of another time; are the clocks of event camera and '
                'camera the same, and is window_offset right?')
        distance_px = math.hypot(*shift)
        if distance_px <= limit_px:
            return ''
        return (
            f'event activity lies {distance_px:.0f} px beside the edges of the image '
            f'({shift[0]:+.0f} px down, {shift[1]:+.0f} px right): registration or window_offset '
            'is off; measure them with epvlm calibrate')


def _measure_shift(grey: np.ndarray, activity: ActivityGrid) -> tuple[float, float] | None:
    """Return by how many pixels (rows, columns) activity is shifted, None if that is not clear."""
    counts = activity.counts
    if min(counts.shape) < _MIN_GRID_SIDE or counts.mean() < _MIN_EVENTS_PER_CELL:
        return None
    seen = _spectrum(_smooth(np.sqrt(counts)))
    best: np.ndarray | None = None
    for edges in _edges_on_grid(grey, activity):
        surface = np.fft.irfft2(seen * np.conj(_spectrum(_smooth(edges))), _padded(counts.shape))
        near = _central_part(surface, counts.shape)
        if best is None or near.max() > best.max():
            best = near
    assert best is not None
    return _clear_peak(best, activity.cell_size_px)


def _edges_on_grid(grey: np.ndarray, activity: ActivityGrid) -> list[np.ndarray]:
    """Return for every direction of motion the mean change across the pixels of each cell."""
    cell = activity.cell_size_px
    rows, cols = activity.counts.shape
    # The last cells may reach beyond the image, where there are no edges.
    padded = cv2.copyMakeBorder(
        grey, 0, rows * cell - grey.shape[0], 0, cols * cell - grey.shape[1],
        cv2.BORDER_REPLICATE)
    brightness = np.log(padded.astype(np.float32) + 20.0)
    along_x = cv2.Sobel(brightness, cv2.CV_32F, 1, 0, scale=1 / 8)
    along_y = cv2.Sobel(brightness, cv2.CV_32F, 0, 1, scale=1 / 8)
    return [
        np.sqrt(cv2.resize(
            np.abs(math.cos(angle) * along_x + math.sin(angle) * along_y), (cols, rows),
            interpolation=cv2.INTER_AREA))
        for angle in _DIRECTIONS]


def _smooth(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(cv2.getOptimalDFTSize(2 * side) for side in shape)


def _spectrum(picture: np.ndarray) -> np.ndarray:
    """Return the spectrum of a picture without its mean, of length 1."""
    picture = picture - picture.mean()
    length = max(float(np.linalg.norm(picture)), 1e-6)
    return np.fft.rfft2(picture / length, _padded(picture.shape))


def _central_part(surface: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the correlation at shifts within the range, no shift in the middle."""
    reach = tuple(max(_MIN_REACH_CELLS, int(_MAX_SHIFT * side)) for side in shape)
    return np.roll(surface, reach, (0, 1))[:2 * reach[0] + 1, :2 * reach[1] + 1]


def _clear_peak(surface: np.ndarray, cell_size_px: int) -> tuple[float, float] | None:
    rows, cols = surface.shape
    row, col = (int(index) for index in np.unravel_index(np.argmax(surface), surface.shape))
    peak = surface[row, col]
    if peak < _MIN_CORRELATION or not (0 < row < rows - 1 and 0 < col < cols - 1):
        return None
    highest_near = cv2.dilate(surface, np.ones((3, 3)))
    is_other = (surface >= highest_near)
    is_other[max(row - 1, 0):row + 2, max(col - 1, 0):col + 2] = False
    if is_other.any() and surface[is_other].max() > peak - _MIN_MARGIN:
        return None
    down = _parabola_top(*surface[row - 1:row + 2, col])
    right = _parabola_top(*surface[row, col - 1:col + 2])
    return (
        (row - rows // 2 + down) * cell_size_px, (col - cols // 2 + right) * cell_size_px)


def _parabola_top(left: float, middle: float, right: float) -> float:
    """Return where the parabola through three values at -1, 0 and 1 is highest, -0.5 to 0.5."""
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
