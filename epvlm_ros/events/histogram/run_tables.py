"""
Tables of the cells that the events of a run of up to 16 neighbouring pixels lie in.

They are made of the look-up table of a registration, for runs along rows or columns. If rows stay
rows and columns columns (any scale and offset, no rotation), a cell is the sum of a part for the
line and a part for the position, and two small tables do. Any other registration gets the
stretches of pixels that share a cell, line by line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LONGEST_RUN_PX = 16
_BLOCK_PX = 32

POSITION_DTYPE = np.dtype([
    ('cell', np.int32),  # to be added to that of the line
    ('ends', np.uint32),  # bit i: the cell of pixel position + i ends with it
])
BLOCK_DTYPE = np.dtype([  # of 32 positions on a line
    ('ends', np.uint64),  # bit i: the stretch of pixel 32 * block + i ends with it
    ('first', np.int64),  # index of the first stretch that reaches into the block
])


class SeparableTable(NamedTuple):
    """
    Cells of a registration without rotation: ``line_cells[line] + positions[position].cell``.

    ``line_cells`` is int32 of shape (num_lines,), -1 for a line outside the image.
    ``positions`` is of POSITION_DTYPE and shape (length,); those from ``start`` to ``stop``
    (exclusive) see the image. From one cell to the next on a line the index rises by ``step``.
    A run of 16 pixels reaches into at most ``cells_per_run`` cells.
    """

    line_cells: np.ndarray
    positions: np.ndarray
    start: int
    stop: int
    step: int
    cells_per_run: int


class StretchTable(NamedTuple):
    """
    Cells of any registration: stretches of pixels of one line that share a cell.

    ``blocks`` is of BLOCK_DTYPE and shape (num_lines, num_blocks), ``cells`` int32 of shape
    (num_stretches + some,), -1 where a stretch lies outside the image.
    """

    blocks: np.ndarray
    cells: np.ndarray


def make_separable_table(cell_lookup: np.ndarray, step: int) -> SeparableTable | None:
    """
    Make the small tables of a registration without rotation.

    ``cell_lookup`` is int32 (num_lines, length): cell index, or -1 outside the image. ``step`` is
    by how much the index rises from a cell to the next along a line.

    Returns None if cells are no sum of two parts, are not passed one by one along a line, or if no
    pixel sees the image.
    """
    is_inside = cell_lookup >= 0
    lines, columns = np.flatnonzero(is_inside.any(axis=1)), np.flatnonzero(is_inside.any(axis=0))
    if not lines.size or columns[-1] - columns[0] + 1 != columns.size:
        return None
    start, stop = int(columns[0]), int(columns[-1]) + 1
    line_cells = np.where(is_inside[:, start], cell_lookup[:, start], -1).astype(np.int32)
    parts = cell_lookup[lines[0]] - cell_lookup[lines[0], start]
    steps = np.diff(parts[start:stop])
    if not np.all((steps == 0) | (steps == step)):
        return None
    expected = np.full_like(cell_lookup, -1)
    expected[lines, start:stop] = line_cells[lines, np.newaxis] + parts[start:stop]
    if not np.array_equal(expected, cell_lookup):
        return None
    positions = np.zeros(cell_lookup.shape[1], POSITION_DTYPE)
    positions['cell'][start:stop] = parts[start:stop]
    positions['cell'][stop:] = parts[stop - 1]
    is_end = np.ones(cell_lookup.shape[1] + _BLOCK_PX, np.bool_)
    is_end[:start] = False
    is_end[start:stop - 1] = steps != 0
    for bit in range(_BLOCK_PX):
        positions['ends'] |= is_end[bit:bit + positions.size].astype(np.uint32) << np.uint32(bit)
    widest = min(LONGEST_RUN_PX, stop - start) - 1
    cells = positions['cell'][start:stop]
    cells_per_run = int((cells[widest:] - cells[:cells.size - widest]).max()) // step + 1
    return SeparableTable(line_cells, positions, start, stop, step, cells_per_run)


def make_stretch_table(cell_lookup: np.ndarray) -> StretchTable:
    """
    Make the table of any registration.

    ``cell_lookup`` is int32 (num_lines, length): cell index, or -1 outside the image. The table of
    a sensor without pixels is empty.
    """
    num_lines, length = cell_lookup.shape
    num_blocks = -(-length // _BLOCK_PX)
    # Two blocks more than there are, so that 64 bits from the start of any block exist.
    is_end = np.ones((num_lines, (num_blocks + 1) * _BLOCK_PX), np.bool_)
    is_end[:, :max(length - 1, 0)] = cell_lookup[:, 1:] != cell_lookup[:, :-1]
    bits = np.packbits(is_end, axis=1, bitorder='little').view('<u4').astype(np.uint64)
    blocks = np.zeros((num_lines, num_blocks), BLOCK_DTYPE)
    blocks['ends'] = bits[:, :-1] | bits[:, 1:] << np.uint64(_BLOCK_PX)
    is_end = is_end[:, :length]
    # The stretch that reaches into a block is as many as end before it.
    num_ends = np.zeros(num_lines * length + 1, np.int64)
    np.cumsum(is_end, out=num_ends[1:])
    starts = np.arange(num_lines)[:, np.newaxis] * length
    blocks['first'] = num_ends[starts + np.arange(num_blocks) * _BLOCK_PX]
    # A loop may look at the cells behind those of a run.
    cells = np.concatenate([cell_lookup[is_end], np.full(LONGEST_RUN_PX, -1)])
    return StretchTable(blocks, cells.astype(np.int32))
