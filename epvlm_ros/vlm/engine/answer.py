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

    Parameters
    ----------
    text : str
        The answer; of an answer that was cut off, what there was.
    kept_indices : numpy.ndarray
        int64, ascending ``(moment * rows + row) * cols + col`` of the visual tokens that were
        computed on.
    num_moments : int
        Images that the answer is about.
    rows, cols : int
        The grid of visual tokens of one image.
    num_tokens, num_tokens_kept : int
        Visual tokens of all images, and those computed on.
    flops_dense, flops_used : int
        Encoder and prefill on all tokens, and on the kept ones, see ``flops``; what the first
        question about a frame costs.
    flops_reused : int
        The part of ``flops_used`` that had been computed before the question, or for another
        one about the same frame.
    time_to_first_token_s : float
        From the call to the first token of the answer, preprocessing included; the time to
        the end if there was none.
    total_time_s : float
        From the call to the end.
    num_generated_tokens : int
        Tokens of the text.
    fallback : str
        One of ``selection.FALLBACKS``: what was used in place of the configured rule, in the
        latest moment.
    ending : str
        ``end``, ``limit`` (``max_new_tokens``), ``deadline`` or ``stopped``
        (``should_stop``).

    """

    text: str
    kept_indices: np.ndarray
    num_moments: int
    rows: int
    cols: int
    num_tokens: int
    num_tokens_kept: int
    flops_dense: int
    flops_used: int
    flops_reused: int
    time_to_first_token_s: float
    total_time_s: float
    num_generated_tokens: int
    fallback: str
    ending: str

    @property
    def flops_saved(self) -> float:
        """Share of the dense prefill that was not computed, 0 to 1, reuse not counted."""
        return 1.0 - self.flops_used / self.flops_dense

    @property
    def stopped(self) -> bool:
        """Whether ``should_stop`` ended it."""
        return self.ending == AT_STOP
