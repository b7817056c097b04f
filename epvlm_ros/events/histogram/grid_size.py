"""How fine the activity grid of an image is, and how much memory it may take."""

from __future__ import annotations

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.events.config import EventSyncConfig

# Multiples of each other, so that they divide the tokens of a model (28 or 32 pixels a side, or
# more of a large image, which models scale down) about as well as 4 pixels do.
_CELL_SIZES_PX = (4, 8, 16, 32, 64)
_MAX_CELLS = 1 << 16  # 1280 x 800 pixels in cells of 4
_MAX_SIDE = 65535  # cells, as messages count them
_MEGABYTE = 1_000_000
SPARE_ROWS = 3  # behind the cells of a time bin, which loops add zeros to


def find_cell_size(config: EventSyncConfig, image_height: int, image_width: int) -> int:
    """
    Return the side of a cell, in image pixels, of the grid of an image.

    Raises ValueError if the time bins of that grid would take more than ``max_grid_memory``.
    """
    size_px = config.cell_size
    if size_px == 0:
        size_px = next((size_px for size_px in _CELL_SIZES_PX if _count_cells(
            image_height, image_width, size_px) <= _MAX_CELLS), _CELL_SIZES_PX[-1])
    rows, cols = grid_shape(image_height, image_width, size_px)
    num_bins = round(config.history_length / config.bin_length) + 1
    memory = num_bins * (rows + SPARE_ROWS) * cols * 2 / _MEGABYTE
    if memory > config.max_grid_memory or max(rows, cols) > _MAX_SIDE:
        raise ValueError(
            f'an image of {image_width} x {image_height} px in cells of {size_px} px takes '
            f'{memory:,.0f} MB of event counts ({num_bins:,} time bins): give a larger cell_size '
            f'or bin_length, a shorter history_length or a larger max_grid_memory '
            f'({config.max_grid_memory:g} MB)')
    return size_px


def _count_cells(image_height: int, image_width: int, cell_size_px: int) -> int:
    rows, cols = grid_shape(image_height, image_width, cell_size_px)
    return rows * cols
