"""Event counts on a grid of the image: what the events half gives and the model half takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ActivityGrid:
    """
    Event counts of one time window on a grid of the image.

    ``counts`` is float32 of shape (rows, cols), 0 or more. Cell (row, col) covers the image pixels
    from ``row * cell_size_px`` to ``(row + 1) * cell_size_px`` (exclusive), likewise for columns;
    the last row and column may reach beyond the image. The window is in the clock of the maker.
    ``pixel_density`` is the number of sensor pixels per image pixel: with it, counts of sensors of
    any resolution can be compared.
    """

    counts: np.ndarray
    cell_size_px: int
    image_height: int
    image_width: int
    window_start_ns: int
    window_end_ns: int
    pixel_density: float = 1.0

    def __post_init__(self) -> None:
        shape = grid_shape(self.image_height, self.image_width, self.cell_size_px)
        if self.counts.shape != shape:
            raise ValueError(
                f'counts have shape {self.counts.shape}: {self.image_height} x {self.image_width} '
                f'pixels in cells of {self.cell_size_px} make {shape}')

    @property
    def num_events(self) -> float:
        """Return the sum of all counts; not whole if the window cuts through time bins."""
        return float(self.counts.sum(dtype=np.float64))


def grid_shape(image_height: int, image_width: int, cell_size_px: int) -> tuple[int, int]:
    """Return rows and columns of the grid of an image; ValueError if a size is not positive."""
    if min(image_height, image_width, cell_size_px) < 1:
        raise ValueError(
            f'image is {image_height} x {image_width} px in cells of {cell_size_px} px: give '
            'sizes of 1 or more')
    return -(-image_height // cell_size_px), -(-image_width // cell_size_px)
