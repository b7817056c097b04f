"""Where in the image every pixel of the event sensor looks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Sequence

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.registration.camera_model import CameraModel, fits_aspect
from epvlm_ros.events.registration.homography_file import load_homography_file
import numpy as np

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class Registration(ABC):
    """Says where in the image every pixel of the event sensor looks."""

    @abstractmethod
    def map_pixels(
        self, x: np.ndarray, y: np.ndarray, sensor_size: tuple[int, int],
        image_size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Map positions on the event sensor to positions in the image.

        Parameters
        ----------
        x, y : numpy.ndarray
                Column and row on the sensor, in pixels (centres are whole), of shapes that
            broadcast; not
            changed.
        sensor_size, image_size : tuple of int
            Height and width, in pixels.

        Returns
        -------
        tuple of numpy.ndarray
                Column and row in the image, float64, not bounded by the image; NaN where the pixel
            sees
            nothing that the camera could see.

        Raises
        ------
        ValueError
            If the registration was made for sizes that these cannot be scaled to.

        """


class HomographyRegistration(Registration):
    """
    A plane homography from event pixels to image pixels.

    Parameters
    ----------
    homography : array_like
            3 x 3, or 9 numbers row by row, of any scale and sign; invertible, else ValueError. The
        middle
        of the sensor is in front of the camera.
    scale_to_image : bool
        Whether the sensor is scaled to the size of the image first, edge onto edge:
        ``x_image = (x + 0.5) * image_width / sensor_width - 0.5``.
    made_for : tuple, optional
        Sizes ((height, width) of sensor, then image) that the homography was made for, without
        ``scale_to_image``. Streams of other sizes are scaled, as by binning, or refused if their
        sides have another ratio.

    """

    def __init__(
        self, homography: np.ndarray | Sequence[float] = IDENTITY, scale_to_image: bool = True,
        made_for: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ) -> None:
        if made_for is not None and scale_to_image:
            raise ValueError('made_for is given: set scale_to_image to false')
        self.homography = _check_homography(homography)
        self.scale_to_image = scale_to_image
        self.made_for = made_for

    def map_pixels(
        self, x: np.ndarray, y: np.ndarray, sensor_size: tuple[int, int],
        image_size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map positions on the event sensor to positions in the image, see `Registration`."""
        matrix = self.matrix(sensor_size, image_size)
        # The sign of a homography means nothing: in front is where the middle of the sensor is.
        middle = (sensor_size[1] - 1) / 2, (sensor_size[0] - 1) / 2, 1.0
        if matrix[2] @ middle < 0:
            matrix = -matrix
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        u, v, depth = (_weigh(row, x, y) for row in matrix)
        depth = np.where(depth > 0, depth, np.nan)
        return u / depth, v / depth

    def matrix(self, sensor_size: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
        """Return the 3 x 3 matrix for these sizes; ValueError as `Registration.map_pixels`."""
        if self.scale_to_image:
            return self.homography @ scaling(sensor_size, image_size)
        if self.made_for is None:
            return self.homography
        for name, made, given in zip(
                ('event sensor', 'image'), self.made_for, (sensor_size, image_size)):
            if min(given) > 0 and not fits_aspect(made, given):
                raise ValueError(
                    f'the registration was made for an {name} of {made[1]} x {made[0]} px, the '
                    f'stream has {given[1]} x {given[0]}: calibrate again with this {name}')
        made_sensor, made_image = self.made_for
        return scaling(made_image, image_size) @ self.homography @ scaling(
            sensor_size, made_sensor)


class CameraRegistration(Registration):
    """
    Two calibrated cameras that look at a scene of one depth.

    The ray of an event pixel meets the plane at ``depth_m`` before the image camera, along its
    optical axis, and the point is projected into the image; both lens distortions are included.

    Parameters
    ----------
    event_camera, image_camera : CameraModel
        Both calibrations; streams of other sizes are scaled if the ratio of the sides fits.
    transform : array_like
            4 x 4 rigid motion, else ValueError: a point of the event camera's frame (metres; x
        right, y
        down, z ahead) in the frame of the image camera.
    depth_m : float
        Distance of the scene, above 0, else ValueError.

    """

    def __init__(
        self, event_camera: CameraModel, image_camera: CameraModel,
        transform: np.ndarray | Sequence[Sequence[float]], depth_m: float,
    ) -> None:
        if not (np.isfinite(depth_m) and depth_m > 0):
            raise ValueError(f'depth is {depth_m} m: give the distance of the scene, above 0')
        self.event_camera, self.image_camera = event_camera, image_camera
        self.transform = _check_transform(transform)
        self.depth_m = float(depth_m)

    def map_pixels(
        self, x: np.ndarray, y: np.ndarray, sensor_size: tuple[int, int],
        image_size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Map positions on the event sensor to positions in the image, see `Registration`."""
        x, y = np.broadcast_arrays(x, y)
        shape = x.shape
        if np.size(x) == 0:
            return np.empty(shape), np.empty(shape)
        event_camera = self.event_camera.scaled_to(sensor_size)
        image_camera = self.image_camera.scaled_to(image_size)
        ray_x, ray_y = event_camera.to_rays(np.ravel(x), np.ravel(y))
        rotation, origin = self.transform[:3, :3], self.transform[:3, 3]
        directions = rotation @ np.stack([ray_x, ray_y, np.ones_like(ray_x)])  # (3, pixels)
        with np.errstate(divide='ignore', invalid='ignore'):
            distance = (self.depth_m - origin[2]) / directions[2]
            # The plane must lie ahead of the event camera, too.
            distance = np.where((distance > 0) & np.isfinite(distance), distance, np.nan)
        points = origin[:, None] + distance * directions
        u, v = image_camera.to_pixels(points[0] / self.depth_m, points[1] / self.depth_m)
        return u.reshape(shape), v.reshape(shape)


def make_registration(config: EventSyncConfig) -> Registration | None:
    """
    Make the registration of a configuration; None for ``camera_info``, which comes by messages.

    Raises ValueError if the homography or the file is unusable.
    """
    if config.registration == 'camera_info':
        return None
    if config.registration == 'homography':
        return HomographyRegistration(config.homography, config.scale_to_image)
    return load_registration(config.registration_file)


def load_registration(path: str | Path) -> HomographyRegistration:
    """
    Read the registration that ``epvlm calibrate`` wrote.

    Raises ValueError, naming file, key and remedy, if it cannot be read or lacks something.
    """
    content = load_homography_file(path)
    try:
        return HomographyRegistration(
            content.homography, scale_to_image=False,
            made_for=(content.sensor_size, content.image_size))
    except ValueError as error:
        raise ValueError(f'{path}: key homography: {error}') from None


def _weigh(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the weighted sum of x, y and 1; a weight of 0 leaves its array out of the work."""
    total: np.ndarray = weights[2]
    for weight, values in zip(weights, (x, y)):
        if weight:
            total = total + weight * values
    return total


def scaling(from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """Return the 3 x 3 scaling that puts the edges of one size onto those of another."""
    scale_y, scale_x = (to / max(origin, 1) for origin, to in zip(from_size, to_size))
    return np.array([
        [scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5],
        [0.0, 0.0, 1.0]])


def _check_homography(homography: np.ndarray | Sequence[float]) -> np.ndarray:
    matrix = np.array(homography, np.float64)
    if matrix.size != 9:
        raise ValueError(f'homography has {matrix.size} numbers: give 9, row by row')
    matrix = matrix.reshape(3, 3)
    if not np.all(np.isfinite(matrix)) or np.linalg.matrix_rank(matrix) < 3:
        raise ValueError(
            f'homography {matrix.tolist()} is not invertible: give the matrix from event pixels '
            'to image pixels')
    return matrix


def _check_transform(transform: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    matrix = np.array(transform, np.float64)
    if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)):
        raise ValueError(f'transform is {matrix.tolist()}: give 4 x 4 finite numbers')
    rotation = matrix[:3, :3]
    if not (np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
            and np.linalg.det(rotation) > 0 and np.allclose(matrix[3], (0, 0, 0, 1))):
        raise ValueError(
            f'transform {matrix.tolist()} is not a rotation and a shift: give the pose of the '
            'event camera in the frame of the image camera')
    return matrix
