"""
Running change of each cell of the image: events above the noise floor.

What a pixel does by itself comes at an even rate; change comes in bursts, or adds up where it is
slow. So counts of short and of longer intervals are compared with the noise floor of the block
of cells that they lie in, and what exceeds it by more than chance is change. A long interval sees
slow motion that drowns in the noise of a short one; a short one sees what is over before the
noise of a minute would hide it.
"""

from __future__ import annotations

from epvlm_ros.events.histogram.change_kernels import (
    add_to, BLOCK, credit, find_excess, learn_floor, read_scores, sum_blocks)
from epvlm_ros.time_units import SECOND
import numpy as np

INTERVAL_NS = SECOND // 50
# An interval of 0.5 s, eight of which are one of 4 s, four of which are one of 16 s: an edge of a
# pixel a second crosses a block in that time, and stands out from its noise the most.
_LONGER_NS, _RATIOS = SECOND // 2, (1, 8, 4)
_FLOOR_NS = 30 * SECOND  # over which a floor is averaged
_LASTING = 0.1  # of what stands out becomes noise in each long interval: a hot pixel is no change
_FIRST_QUANTILE = 0.25  # of the blocks: most of a scene is still when one begins to watch
_LARGEST_FLOOR_HZ = 20.0  # of a pixel: more is no noise, but a camera in motion


class _LongInterval:
    """What a longer interval has counted and credited so far."""

    def __init__(self, length: int, shape: tuple[int, int], blocks: tuple[int, int]) -> None:
        self.length = length  # in intervals
        self.counts = np.zeros(shape, np.float32)
        self.scored = np.zeros(blocks)  # excess
        self.floor = np.zeros(blocks)  # when it began


class ChangeAccumulator:
    """
    Scores of change on a grid of cells, interval by interval.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the cells.
    pixels_per_cell : float
        Sensor pixels that see one cell, above 0.
    interval_ns : int
        Length of an interval.

    """

    def __init__(
        self, shape: tuple[int, int], pixels_per_cell: float, interval_ns: int = INTERVAL_NS,
    ) -> None:
        blocks = (-(-shape[0] // BLOCK), -(-shape[1] // BLOCK))
        self._largest_floor = (
            _LARGEST_FLOOR_HZ * pixels_per_cell * BLOCK ** 2 * interval_ns / SECOND)
        self._floor_intervals = max(1, _FLOOR_NS // interval_ns)
        self._floor: np.ndarray | None = None  # events of a block in an interval
        self._totals = np.zeros(shape, np.float64)
        self._in_blocks, self._excess = np.zeros(blocks), np.zeros(blocks)
        lengths = np.cumprod([max(1, round(_LONGER_NS / interval_ns)), *_RATIOS[1:]])
        self._longer = [_LongInterval(int(length), shape, blocks) for length in lengths]
        self._num_intervals = 0

    @property
    def scores(self) -> np.ndarray:
        """Return the running score of each cell, uint16, (rows, cols), modulo 65536."""
        scores = np.empty(self._totals.shape, np.uint16)
        read_scores(self._totals, scores)
        return scores

    def add_interval(self, counts: np.ndarray) -> None:
        """
        Score the next interval.

        Parameters
        ----------
        counts : numpy.ndarray
            uint16 or float32, shape (rows, cols), C-contiguous, its events; not changed.

        """
        sum_blocks(counts, self._in_blocks)
        floor = self._floor
        if floor is None:
            floor = self._floor = self._guess_floor()
        self._num_intervals += 1
        num_learned = self._count_learned(0)
        if find_excess(self._in_blocks, floor, 1, num_learned, self._excess):
            credit(counts, self._in_blocks, self._excess, self._totals)
            for longer in self._longer:
                longer.scored += self._excess
        rate = 1.0 / min(self._num_intervals, self._floor_intervals)
        learn_floor(self._in_blocks, self._excess, rate, self._largest_floor, floor)
        add_to(self._longer[0].counts, counts)
        for interval, next_longer in zip(self._longer, [*self._longer[1:], None]):
            if self._num_intervals % interval.length:
                break
            if next_longer is not None:
                add_to(next_longer.counts, interval.counts)
            self._score_longer(interval, floor)

    def _count_learned(self, length: int) -> int:
        """
        Return of how many intervals' worth the floor was when those of ``length`` began.

        An average that forgets at a rate is as good as one over twice as many as it remembers.
        """
        return min(self._num_intervals - length, 2 * self._floor_intervals)

    def _guess_floor(self) -> np.ndarray:
        first = min(float(np.quantile(self._in_blocks, _FIRST_QUANTILE)), self._largest_floor)
        for longer in self._longer:
            longer.floor.fill(first)
        return np.full_like(self._in_blocks, first)

    def _score_longer(self, interval: _LongInterval, floor: np.ndarray) -> None:
        """Credit what a longer interval has above its floor, less what was credited before."""
        if self._num_intervals > interval.length:  # at first the floor is still being learned
            in_blocks, excess = self._in_blocks, self._excess
            sum_blocks(interval.counts, in_blocks)
            num_learned = self._count_learned(interval.length)
            if find_excess(in_blocks, interval.floor, interval.length, num_learned, excess):
                more = np.maximum(excess - interval.scored, 0.0)
                credit(interval.counts, in_blocks, more, self._totals)
                for longer in self._longer:
                    longer.scored += more
                lasting = interval.floor + _LASTING * (
                    in_blocks / interval.length - interval.floor)
                np.copyto(floor, np.minimum(lasting, self._largest_floor), where=excess > 0.0)
        interval.counts.fill(0.0)
        interval.scored.fill(0.0)
        np.copyto(interval.floor, floor)
