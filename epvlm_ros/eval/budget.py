"""Budgets of visual tokens: a share of the tokens, or of the FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.vlm.flops import ModelShape, prefill_flops
from epvlm_ros.vlm.token_selection import rank_uniformly, token_budget, TokenFeatures
import numpy as np


@dataclass(frozen=True)
class Budget:
    """A budget: 'keep' a share of the tokens, (0, 1], or 'saved', of the FLOPs, [0, 1)."""

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind == 'keep' and not 0.0 < self.value <= 1.0:
            raise ValueError(f'--keep {self.value}: give more than 0 and at most 1')
        if self.kind == 'saved' and not 0.0 <= self.value < 1.0:
            raise ValueError(f'--saved {self.value}: give at least 0 and less than 1')

    @property
    def name(self) -> str:
        """Return for example 'keep 0.5' or 'saved 0.65'."""
        return f'{self.kind} {self.value:g}'

    def num_tokens(self, shape: ModelShape, rows: int, cols: int, num_text_tokens: int) -> int:
        """
        Return how many visual tokens of a grid may be kept, at least one.

        ``num_text_tokens`` are all other tokens of the prompt, which are always computed on.

        Raises
        ------
        ValueError
            If not even one token fits the budget.

        """
        if self.kind == 'keep':
            return token_budget(self.value, rows * cols)
        most = (1.0 - self.value) * count_flops(shape, rows, cols, rows * cols, num_text_tokens)
        low, high = 0, rows * cols  # low fits, or is none at all; more than high does not
        while low < high:
            middle = (low + high + 1) // 2
            if count_flops(shape, rows, cols, middle, num_text_tokens) <= most:
                low = middle
            else:
                high = middle - 1
        if not low:
            raise ValueError(
                f'--saved {self.value:g} cannot be: the text alone needs more than the rest of '
                'the FLOPs; give less, or larger images')
        return low


def count_flops(
    shape: ModelShape, rows: int, cols: int, num_kept: int, num_text_tokens: int,
) -> int:
    """
    Count encoder and prefill on ``num_kept`` visual tokens.

    With window attention the FLOPs depend on where the tokens are: here they are spread evenly,
    which is cheapest; answers have the FLOPs of the actual tokens.
    """
    kept = np.sort(rank_uniformly(TokenFeatures(rows, cols))[:num_kept])
    return prefill_flops(
        shape, num_kept, num_text_tokens, window_sizes=shape.window_sizes(kept, cols))
