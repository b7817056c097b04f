"""Tables of a registration: which cell of the image every pixel of the event sensor sees."""

from __future__ import annotations

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.events.registration.mapping import Registration
import numpy as np

_ROWS_AT_A_TIME = 16
_NUM_DENSITY_POINTS = 33  # a side; odd, so that the middle of the sensor is one of them


def make_cell_lookup(
    registration: Registration, sensor_size: tuple[int, int], image_size: tuple[int, int],
    cell_size_px: int,
) -> np.ndarray:
    """
    Map the centre of every sensor pixel to a cell of the image's activity grid.

    Parameters
    ----------
    registration : Registration
        Where event pixels are in the image.
    sensor_size, image_size : tuple of int
        Height and width, in pixels. The sensor may have size 0.
    cell_size_px : int
        Side of a cell, in image pixels.

    Returns
    -------
    numpy.ndarray
        int32 of shape (sensor_height, sensor_width): cell index, row by row, or -1 where the pixel
        sees nothing of the image.

    Raises
    ------
    ValueError
        If a size is out of range or the registration is for other sizes.

    """
    (sensor_height, sensor_width), (image_height, image_width) = sensor_size, image_size
    if min(sensor_size) < 0:
        raise ValueError(f'sensor is {sensor_height} x {sensor_width} px: give 0 or more')
    num_cols = grid_shape(image_height, image_width, cell_size_px)[1]
    lookup = np.empty(sensor_size, np.int32)
    if not lookup.size:
        return lookup
    # Some rows at a time: the many arrays on the way stay in the cache.
    for top in range(0, sensor_height, _ROWS_AT_A_TIME):
        part = lookup[top:top + _ROWS_AT_A_TIME]
        y, x = np.ogrid[top:top + len(part), :sensor_width]
        u, v = registration.map_pixels(x, y, sensor_size, image_size)
        part[:] = _find_cells(u, v, image_size, cell_size_px, num_cols)
    return lookup


def _find_cells(
    u: np.ndarray, v: np.ndarray, image_size: tuple[int, int], cell_size_px: int, num_cols: int,
) -> np.ndarray:
    image_height, image_width = image_size
    # Edges of a pixel are half a pixel away from its centre.
    u, v = u + 0.5, v + 0.5
    # False for NaN, too.
    is_col, is_row = (u >= 0) & (u < image_width), (v >= 0) & (v < image_height)
    col = (np.where(is_col, u, 0.0) // cell_size_px).astype(np.int32)
    row = (np.where(is_row, v, 0.0) // cell_size_px).astype(np.int32)
    return np.where(is_row & is_col, row * num_cols + col, -1)


def find_pixel_density(
    registration: Registration, sensor_size: tuple[int, int], image_size: tuple[int, int],
) -> float:
    """
    Return how many sensor pixels see one pixel of the image, at the middle of the sensor.

    If the middle sees nothing, the closest pixel that sees something counts; 1 if there is none.
    Parameters and errors are those of `make_cell_lookup`.
    """
    if min(sensor_size) < 1:
        return 1.0
    rows, cols = (
        np.linspace(0.0, side - 1.0, _NUM_DENSITY_POINTS) for side in sensor_size)
    y, x = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing='ij'))
    # The area that a small area around each point is mapped to.
    step = 1e-3
    offsets_x, offsets_y = np.array([[step, -step, 0, 0], [0, 0, step, -step]])[..., None]
    u, v = registration.map_pixels(x + offsets_x, y + offsets_y, sensor_size, image_size)
    area = np.abs((u[0] - u[1]) * (v[2] - v[3]) - (u[2] - u[3]) * (v[0] - v[1]))
    area = np.where(np.isfinite(area) & (area > 0), area / (2 * step) ** 2, np.nan)
    if np.isnan(area).all():
        return 1.0
    from_middle = np.hypot(x - (sensor_size[1] - 1) / 2, y - (sensor_size[0] - 1) / 2)
    return float(1.0 / area[np.argmin(np.where(np.isnan(area), np.inf, from_middle))])
