"""Which pixels a visual token shows, and whether two pictures differ there."""

from __future__ import annotations

import cv2
from epvlm_ros.sim.rearrangement import VISIBLE_LEVELS
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np


def differing_tokens(one: np.ndarray, other: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Return in which tokens two noise-free pictures differ visibly.

    Parameters
    ----------
    one, other : numpy.ndarray
        uint8, shape (height, width, 3).
    grid : PatchGrid
        Their visual tokens.

    Returns
    -------
    numpy.ndarray
        bool, shape (tokens,): some pixel differs by more than ``VISIBLE_LEVELS``.

    """
    difference = cv2.absdiff(one, other)
    by_row = np.maximum.reduceat(difference, _starts(grid.rows, len(one)), axis=0).max(axis=2)
    by_token = np.maximum.reduceat(by_row, _starts(grid.cols, one.shape[1]), axis=1)
    return np.asarray(by_token.reshape(-1) > VISIBLE_LEVELS)


def copy_tokens(
    source: np.ndarray, target: np.ndarray, tokens: np.ndarray, grid: PatchGrid,
) -> None:
    """Copy the pixels of some tokens, int64 indices, from one picture into another."""
    rows = [*_starts(grid.rows, len(source)), len(source)]
    cols = [*_starts(grid.cols, source.shape[1]), source.shape[1]]
    for row, col in zip(*np.divmod(tokens, grid.cols)):
        inside = (slice(rows[row], rows[row + 1]), slice(cols[col], cols[col + 1]))
        target[inside] = source[inside]


def _starts(num_tokens: int, length: int) -> np.ndarray:
    return np.arange(num_tokens) * length // num_tokens
