"""What the engine returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# How an answer ended; every value of EngineAnswer.ending.
AT_ITS_END = 'end'  # the model said all
AT_TOKEN_LIMIT = 'limit'
AT_DEADLINE = 'deadline'
AT_STOP = 'stopped'


@dataclass(frozen=True)
class EngineAnswer:
    """
    An answer and what it cost.

    ``flops_dense`` and ``flops_used`` are those of encoder and prefill on all tokens and on the
    kept ones, see ``flops``: what the first question about a frame costs. ``flops_reused`` is the
    part of ``flops_used`` that was computed before, or for another question about the frame.
    """

    text: str  # as far as it came
    kept_indices: np.ndarray  # int64, ascending ``(moment * rows + row) * cols + col``
    num_moments: int
    rows: int  # of visual tokens of one image
    cols: int
    num_tokens: int  # visual tokens of all images
    num_tokens_kept: int  # those computed on
    flops_dense: int
    flops_used: int
    flops_reused: int
    time_to_first_token_s: float  # from the call on; to the end if there was no token
    total_time_s: float
    num_generated_tokens: int
    fallback: str  # one of FALLBACKS, in place of the configured selection of the latest moment
    ending: str  # one of AT_...

    @property
    def flops_saved(self) -> float:
        """Share of the dense prefill that was not computed, 0 to 1, reuse not counted."""
        return 1.0 - self.flops_used / self.flops_dense

    @property
    def stopped(self) -> bool:
        """Whether ``should_stop`` ended it."""
        return self.ending == AT_STOP
