"""
Running change of each cell of the image: events above the noise floor.

What a pixel does by itself comes at an even rate; change comes in bursts, or adds up where it is
slow. So counts of short, middle and long intervals are compared with the noise floor of the block
of cells that they lie in, and what exceeds it by more than chance is change. A long interval sees
slow motion that drowns in the noise of a short one; a short one sees what is over before the
noise of a minute would hide it.
"""

from __future__ import annotations

from epvlm_ros.time_units import SECOND
import numpy as np

INTERVAL_NS = SECOND // 50
_SCALES = (1, 25, 400)  # lengths in intervals: 20 ms, 0.5 s, 8 s
_BLOCK = 4  # cells along a side: enough events for a floor, few enough to place a change
# Standard deviations above the floor that chance reaches about once a minute somewhere, and what
# the long tail of small counts adds (Cornish and Fisher, for a Poisson count).
_SIGNIFICANCE = 5.5
_TAIL = (_SIGNIFICANCE ** 2 - 1.0) / 6.0
_FLOOR_INTERVALS = 500  # over which a floor is averaged, 10 s
_LASTING = 0.1  # of what stands out becomes noise in each long interval: a hot pixel is no change
_FIRST_QUANTILE = 0.25  # of the blocks: most of a scene is still when one begins to watch
_LARGEST_FLOOR_HZ = 20.0  # of a pixel: more is no noise, but a camera in motion


class ChangeAccumulator:
    """
    Scores of change on a grid of cells, interval by interval.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the cells.
    pixels_per_cell : float
        Sensor pixels that see one cell, above 0.

    """

    def __init__(self, shape: tuple[int, int], pixels_per_cell: float) -> None:
        rows, cols = shape
        self._blocks = (-(-rows // _BLOCK), -(-cols // _BLOCK))
        self._largest_floor = (
            _LARGEST_FLOOR_HZ * pixels_per_cell * _BLOCK ** 2 * INTERVAL_NS / SECOND)
        self._floor: np.ndarray | None = None  # events of a block in an interval
        self._totals = np.zeros(shape, np.float64)
        self._sums = [np.zeros(shape, np.float32) for _ in _SCALES[1:]]
        self._scored = [np.zeros(self._blocks, np.float32) for _ in _SCALES[1:]]
        self._floors_before: list[np.ndarray] = []  # when each longer interval began
        self._num_intervals = 0

    @property
    def scores(self) -> np.ndarray:
        """Return the running score of each cell, uint16, (rows, cols), modulo 65536."""
        return np.floor(self._totals % 65536.0).astype(np.uint16)

    def add_interval(self, counts: np.ndarray) -> None:
        """
        Score the next interval of ``INTERVAL_NS``.

        Parameters
        ----------
        counts : numpy.ndarray
            float32, shape (rows, cols), its events; not changed.

        """
        in_blocks = self._sum_blocks(counts)
        if self._floor is None:
            first = float(np.quantile(in_blocks, _FIRST_QUANTILE))
            self._floor = np.full(self._blocks, min(first, self._largest_floor), np.float32)
            self._floors_before = [self._floor.copy() for _ in self._sums]
        self._num_intervals += 1
        num_learned = min(self._num_intervals, _FLOOR_INTERVALS)
        excess = self._excess(in_blocks, self._floor, 1, num_learned)
        self._credit(counts, in_blocks, excess)
        for index, length in enumerate(_SCALES[1:]):
            self._sums[index] += counts
            self._scored[index] += excess
            if self._num_intervals % length == 0:
                self._score_long(index, length)
        self._learn_floor(in_blocks, excess, 1.0 / num_learned)

    def _score_long(self, index: int, length: int) -> None:
        """Credit what a longer interval has above its floor, less what was credited before."""
        assert self._floor is not None
        counts = self._sums[index]
        if self._num_intervals > length:  # at first the floor is still being learned
            before = self._floors_before[index]
            in_blocks = self._sum_blocks(counts)
            num_learned = min(self._num_intervals - length, _FLOOR_INTERVALS)
            excess = self._excess(in_blocks, before, length, num_learned)
            more = np.maximum(excess - self._scored[index], 0.0)
            self._credit(counts, in_blocks, more)
            for longer in range(index + 1, len(self._scored)):
                self._scored[longer] += more
            lasting = before + _LASTING * (in_blocks / length - before)
            self._floor = np.where(excess > 0.0, lasting, self._floor)  # it was no noise
        counts.fill(0.0)
        self._scored[index].fill(0.0)
        self._floors_before[index] = self._floor.copy()

    def _excess(
        self, in_blocks: np.ndarray, floor: np.ndarray, length: int, num_learned: int,
    ) -> np.ndarray:
        """Return what blocks have above a floor that was learned over so many intervals."""
        expected = floor * length
        # of the count and of the floor, which is uncertain even where nothing came
        variance = (expected + length / num_learned) * (1.0 + length / num_learned)
        above = in_blocks - expected
        bound = _SIGNIFICANCE * np.sqrt(variance) + _TAIL
        return np.where(above > bound, above, 0.0).astype(np.float32)

    def _credit(
        self, counts: np.ndarray, in_blocks: np.ndarray, excess: np.ndarray,
    ) -> None:
        """Share the excess of each block among its cells, as their events are shared."""
        if not excess.any():
            return
        share = excess / np.maximum(in_blocks, 1e-6)
        rows, cols = counts.shape
        self._totals += counts * np.repeat(
            np.repeat(share, _BLOCK, axis=0), _BLOCK, axis=1)[:rows, :cols]

    def _learn_floor(
        self, in_blocks: np.ndarray, excess: np.ndarray, rate: float,
    ) -> None:
        assert self._floor is not None
        # what stands out is no noise
        quiet = np.where(excess > 0.0, self._floor, in_blocks)
        self._floor += rate * (quiet - self._floor)
        np.minimum(self._floor, self._largest_floor, out=self._floor)

    def _sum_blocks(self, counts: np.ndarray) -> np.ndarray:
        rows, cols = counts.shape
        height, width = (size * _BLOCK for size in self._blocks)
        padded = np.zeros((height, width), np.float32)
        padded[:rows, :cols] = counts
        return padded.reshape(
            self._blocks[0], _BLOCK, self._blocks[1], _BLOCK).sum(axis=(1, 3))
