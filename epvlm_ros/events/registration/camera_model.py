"""A calibrated camera: pixels to rays and back, with the distortion of its lens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import cv2
from epvlm_ros.clean_text import clean_text
import numpy as np

# Numbers of coefficients that each model of sensor_msgs/CameraInfo may have.
_NUM_COEFFICIENTS = {
    'plumb_bob': (0, 4, 5), 'rational_polynomial': (0, 8, 12, 14), 'equidistant': (0, 4)}
_SAME_MODEL = {'': 'plumb_bob', 'fisheye': 'equidistant'}
# Most steps, and pixels: a strong distortion takes more than 100 at the corners.
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-4)
_NUM_ANGLES = 2001  # of the table in which the search for an angle begins
_NUM_NEWTON_STEPS = 3
_MAX_ROUND_TRIP_PX = 0.05
_MAX_RADIUS = 20.0  # x / z: 87 degrees off the axis


def fits_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two sizes (height, width) have one ratio, up to rounding to whole pixels."""
    (height, width), (other_height, other_width) = size, other
    scale = max(other_height, other_width) / max(height, width)
    return abs(height * scale - other_height) <= 1.0 and abs(width * scale - other_width) <= 1.0


@dataclass(frozen=True, eq=False)
class CameraModel:
    """
    One camera as ``sensor_msgs/CameraInfo`` describes it.

    ``height`` and ``width`` are the size of the calibrated pictures, in pixels. ``matrix`` is K, 3
    x 3 in pixels, where pixel centres are whole. ``distortion`` is D in OpenCV's order; empty is a
    lens without distortion. ``distortion_model`` is 'plumb_bob', 'rational_polynomial' or
    'equidistant' ('fisheye' is the same).

    Raises ValueError if K is zero (not calibrated), the model is unknown or a number is wrong.
    """

    height: int
    width: int
    matrix: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.empty(0))
    distortion_model: str = 'plumb_bob'

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        distortion = np.array(self.distortion, np.float64).ravel()
        model = _SAME_MODEL.get(self.distortion_model, self.distortion_model)
        if min(self.height, self.width) < 1:
            raise ValueError(
                f'the calibration is for {self.width} x {self.height} px: calibrate the camera')
        if matrix.size != 9 or not np.all(np.isfinite(matrix)):
            raise ValueError(f'K is {matrix.tolist()}: give 9 finite numbers, row by row')
        matrix = matrix.reshape(3, 3)
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or not np.array_equal(matrix[2], (0, 0, 1)):
            raise ValueError(f'K is {matrix.tolist()}: the camera is not calibrated, calibrate it')
        if model not in _NUM_COEFFICIENTS:
            raise ValueError(
                f'distortion_model is {clean_text(self.distortion_model)!r}: give one of '
                f'{", ".join(_NUM_COEFFICIENTS)}')
        if distortion.size not in _NUM_COEFFICIENTS[model] or not np.all(np.isfinite(distortion)):
            numbers = ' or '.join(map(str, _NUM_COEFFICIENTS[model]))
            raise ValueError(
                f'D of {model} is {clean_text(str(distortion.tolist()))}: give {numbers} finite '
                'numbers')
        object.__setattr__(self, 'matrix', matrix)
        object.__setattr__(self, 'distortion', distortion)
        object.__setattr__(self, 'distortion_model', model)

    def scaled_to(self, size: tuple[int, int]) -> CameraModel:
        """
        Return the model for pictures of another size (height, width) and the same field of view.

        Raises ValueError if the sides have another ratio: the pictures are cut, and nothing says
        where.
        """
        height, width = size
        if (height, width) == (self.height, self.width):
            return self
        if min(size) < 1 or not fits_aspect((self.height, self.width), size):
            raise ValueError(
                f'the calibration is for {self.width} x {self.height} px, the stream has '
                f'{width} x {height}: calibrate the camera at this size')
        scale = np.array([width / self.width, height / self.height])
        matrix = self.matrix.copy()
        matrix[0, 1] *= scale[0]
        matrix[[0, 1], [0, 1]] *= scale
        matrix[:2, 2] = (matrix[:2, 2] + 0.5) * scale - 0.5
        return replace(self, height=height, width=width, matrix=matrix)

    def to_rays(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return where the rays of pixels meet the plane at distance 1.

        ``u`` and ``v`` are column and row in pixels, of shape (num,). Returns x / z and y / z,
        float64 (num,), NaN where the model has no such ray.
        """
        x, y = self._undistort(u, v)
        u_again, v_again = self._distort(x, y)
        # False for NaN, too. Iteration may have gone astray beyond the model's validity.
        is_good = np.hypot(u_again - u, v_again - v) < _MAX_ROUND_TRIP_PX
        is_good &= np.hypot(x, y) < self._max_radius()
        return np.where(is_good, x, np.nan), np.where(is_good, y, np.nan)

    def to_pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return column and row of the pixels that see the points (x, y, 1).

        ``x`` and ``y`` have shape (num,). The results are float64 (num,), not bounded by the
        picture; NaN where the model does not hold any more, and for NaN.
        """
        u, v = self._distort(x, y)
        # False for NaN, too.
        is_good = np.hypot(x, y) < self._max_radius()
        return np.where(is_good, u, np.nan), np.where(is_good, v, np.nan)

    def _max_radius(self) -> float:
        """Return up to which x / z the distortion only grows; beyond, a polynomial turns back."""
        radius = np.linspace(0.0, _MAX_RADIUS, 20001)
        u, _ = self._distort(radius, np.zeros_like(radius))
        inwards = np.flatnonzero(np.diff(u) <= 0)
        return float(radius[inwards[0]]) if inwards.size else _MAX_RADIUS

    def _undistort(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = _as_points(u, v)
        if points.size == 0:
            return points[:, 0, 0], points[:, 0, 1]
        if self.distortion_model == 'equidistant':
            return self._undistort_equidistant(points[:, 0, 0], points[:, 0, 1])
        rays = cv2.undistortPointsIter(
            points, self.matrix, self.distortion, np.eye(3), np.eye(3), _CRITERIA)
        return rays[:, 0, 0], rays[:, 0, 1]

    def _undistort_equidistant(
        self, u: np.ndarray, v: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve for the angle; OpenCV takes none whose image lies beyond 90 degrees."""
        x = (u - self.matrix[0, 2]) / self.matrix[0, 0]
        y = (v - self.matrix[1, 2]) / self.matrix[1, 1]
        bent = np.hypot(x, y)
        angles = np.linspace(0.0, np.arctan(self._max_radius()), _NUM_ANGLES)
        angle = np.interp(bent, self._bend(angles)[0], angles)
        with np.errstate(divide='ignore', invalid='ignore'):  # beyond the last angle
            for _ in range(_NUM_NEWTON_STEPS):
                value, slope = self._bend(angle)
                angle = angle - (value - bent) / slope
            stretch = np.where(bent > 0.0, np.tan(angle) / bent, 1.0)
        return x * stretch, y * stretch

    def _bend(self, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the radius, in focal lengths, of angles in an equidistant lens, and its slope."""
        k1, k2, k3, k4 = self._four_coefficients
        squared = angle * angle
        value = 1.0 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4)))
        slope = 1.0 + squared * (
            3.0 * k1 + squared * (5.0 * k2 + squared * (7.0 * k3 + squared * 9.0 * k4)))
        return angle * value, slope

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = _as_points(x, y)
        if points.size == 0:
            return points[:, 0, 0], points[:, 0, 1]
        if self.distortion_model == 'equidistant':
            pixels = cv2.fisheye.distortPoints(points, self.matrix, self._four_coefficients)
        else:
            ahead = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
            no_motion = np.zeros(3)
            pixels = cv2.projectPoints(
                ahead, no_motion, no_motion, self.matrix, self.distortion)[0]
        return pixels[:, 0, 0], pixels[:, 0, 1]

    @property
    def _four_coefficients(self) -> np.ndarray:
        return np.resize(self.distortion, 4) if self.distortion.size else np.zeros(4)


def camera_from_info(message: Any) -> CameraModel:
    """
    Make the model of a camera from its ``sensor_msgs/CameraInfo``.

    Binning is handled by the size of the stream, in `CameraModel.scaled_to`. Raises ValueError if
    the camera is not calibrated, or its region of interest is not the whole picture.
    """
    binning = max(message.binning_x, 1), max(message.binning_y, 1)
    if binning[0] != binning[1]:
        raise ValueError(f'binning is {binning[0]} x {binning[1]}: bin rows and columns alike')
    roi = message.roi
    is_whole = (roi.x_offset, roi.y_offset) == (0, 0) and (
        (roi.width, roi.height) in ((0, 0), (message.width, message.height)))
    if not is_whole:
        raise ValueError(
            f'the region of interest is {roi.width} x {roi.height} px at ({roi.x_offset}, '
            f'{roi.y_offset}) of {message.width} x {message.height}: send whole pictures')
    return CameraModel(
        message.height, message.width, np.array(message.k, np.float64),
        np.array(message.d, np.float64), message.distortion_model)


def _as_points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return two columns of numbers as OpenCV wants its points: (num, 1, 2)."""
    return np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=-1)[:, None]
