"""Registration: which cell of the image every pixel of the event sensor sees."""

from __future__ import annotations

from typing import Sequence

from epvlm_ros.core.activity import grid_shape
import numpy as np


def make_cell_lookup(
    sensor_size: tuple[int, int],
    image_size: tuple[int, int],
    cell_size_px: int,
    homography: np.ndarray | Sequence[float] | None = None,
    scale_to_image: bool = True,
) -> np.ndarray:
    """
    Map the centre of every sensor pixel to a cell of the image's activity grid.

    Pixel centres have whole coordinates. A sensor scaled to the image has its outer edges on the
    image's edges: ``x_image = (x + 0.5) * image_width / sensor_width - 0.5``.

    Parameters
    ----------
    sensor_size, image_size : tuple of int
        Height and width, in pixels. The sensor may have size 0.
    cell_size_px : int
        Side of a cell, in image pixels.
    homography : array_like, optional
        3 x 3, or 9 numbers row by row, from (x, y, 1) to image pixels, applied after the
        scaling. The identity if left out.
    scale_to_image : bool
        Whether the sensor is scaled to the size of the image first.

    Returns
    -------
    numpy.ndarray
        int32 of shape (sensor_height, sensor_width): index of the cell, row by row, or -1 where
        the pixel sees nothing of the image.

    Raises
    ------
    ValueError
        If a size is out of range or the homography is not 3 x 3, finite and invertible.

    """
    (sensor_height, sensor_width), (image_height, image_width) = sensor_size, image_size
    if min(sensor_size) < 0:
        raise ValueError(f'sensor is {sensor_height} x {sensor_width} px: give 0 or more')
    num_cols = grid_shape(image_height, image_width, cell_size_px)[1]
    matrix = _check_homography(homography)
    y, x = np.mgrid[:sensor_height, :sensor_width].astype(np.float64)
    if scale_to_image and sensor_height and sensor_width:
        x = (x + 0.5) * image_width / sensor_width - 0.5
        y = (y + 0.5) * image_height / sensor_height - 0.5
    depth = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    # The sign of a homography means nothing: in front is where the middle of the sensor is.
    if depth.size and depth.mean() < 0:
        matrix, depth = -matrix, -depth
    is_visible = depth > 0
    depth = np.where(is_visible, depth, 1.0)
    # Edges of a pixel are half a pixel away from its centre.
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / depth + 0.5
    v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / depth + 0.5
    is_visible &= (u >= 0) & (u < image_width) & (v >= 0) & (v < image_height)
    u, v = np.where(is_visible, u, 0.0), np.where(is_visible, v, 0.0)
    cells = (v // cell_size_px) * num_cols + u // cell_size_px
    return np.where(is_visible, cells, -1).astype(np.int32)


def find_pixel_density(
    sensor_size: tuple[int, int],
    image_size: tuple[int, int],
    homography: np.ndarray | Sequence[float] | None = None,
    scale_to_image: bool = True,
) -> float:
    """
    Return how many sensor pixels see one pixel of the image, at the middle of the sensor.

    Parameters and errors are those of `make_cell_lookup`; a sensor without pixels has density 1.
    """
    matrix = _check_homography(homography)
    if min(sensor_size) < 1:
        return 1.0
    (sensor_height, sensor_width), (image_height, image_width) = sensor_size, image_size
    if scale_to_image:
        scale = np.diag([image_width / sensor_width, image_height / sensor_height, 1.0])
        matrix = matrix @ scale
    x, y = sensor_width / 2.0, sensor_height / 2.0
    depth = matrix[2] @ (x, y, 1.0)
    # The area that a small area is mapped to, by the Jacobian of a homography.
    return float(abs(depth ** 3 / np.linalg.det(matrix)))


def _check_homography(homography: np.ndarray | Sequence[float] | None) -> np.ndarray:
    if homography is None:
        return np.eye(3)
    matrix = np.asarray(homography, np.float64)
    if matrix.size != 9:
        raise ValueError(f'homography has {matrix.size} numbers: give 9, row by row')
    matrix = matrix.reshape(3, 3)
    if not np.all(np.isfinite(matrix)) or np.linalg.matrix_rank(matrix) < 3:
        raise ValueError(
            f'homography {matrix.tolist()} is not invertible: give the matrix from event pixels '
            'to image pixels')
    return matrix
