"""Sizes that inputs are padded to, and memory for inputs of any size."""

from __future__ import annotations

from torch import Tensor


class GrowingRows:
    """
    Memory that functions share; one that is made for more than there is gets more.

    Those that were made before keep the memory that they know.
    """

    def __init__(self, like: Tensor, width: int) -> None:
        self._rows = like.new_zeros(0, width)

    def first(self, num_rows: int) -> Tensor:
        """Return so many rows, filled with numbers."""
        if len(self._rows) < num_rows:
            self._rows = self._rows.new_zeros(num_rows, self._rows.shape[1])
        return self._rows[:num_rows]


def padded_size(num_tokens: int, smallest: int, steps: int) -> int:
    """
    Return the next of a few sizes, all multiples of ``smallest``.

    For large numbers there are so many ``steps`` of sizes between a number and its double.
    """
    step = max(smallest, (1 << (num_tokens.bit_length() - 1)) // steps)
    return -(-num_tokens // step) * step
