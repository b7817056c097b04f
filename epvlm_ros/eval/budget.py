"""How many tokens a budget leaves: a share of the tokens, or of the FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.vlm.flops import ModelShape, prefill_flops
from epvlm_ros.vlm.token_selection import rank_uniformly, token_budget, TokenFeatures
import numpy as np


@dataclass(frozen=True)
class Budget:
    """
    What a policy may spend: ``keep`` of the tokens, or all but ``saved`` of the FLOPs.

    Parameters
    ----------
    kind : str
        'keep' or 'saved'.
    value : float
        A share: of the tokens in (0, 1], or of the FLOPs of encoder and prefill in [0, 1).

    Raises
    ------
    ValueError
        If the share is out of its range.

    """

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
        Return how many visual tokens may be kept, at least one.

        Parameters
        ----------
        shape : ModelShape
            The model.
        rows, cols : int
            The grid of visual tokens.
        num_text_tokens : int
            All other tokens of the prompt; they are computed on in any case.

        Raises
        ------
        ValueError
            If not even one token is that cheap.

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
    Count encoder and prefill on so many visual tokens.

    In a model that attends within windows it matters where the tokens are: they are taken to
    be spread evenly, which is cheapest; what a policy's tokens cost is in the answer.
    """
    kept = np.sort(rank_uniformly(TokenFeatures(rows, cols))[:num_kept])
    return prefill_flops(
        shape, num_kept, num_text_tokens, window_sizes=shape.window_sizes(kept, cols))
