"""What the engine returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# How an answer ended; every value of EngineAnswer.ending.
AT_ITS_END = 'end'  # the model said all
AT_TOKEN_LIMIT = 'limit'
AT_DEADLINE = 'deadline'
AT_STOP = 'stopped'
IN_MEMORY = 'memory'  # SceneReport.use


@dataclass(frozen=True, eq=False)
class SceneReport:
    """
    What an answer says of the scene in memory.

    Attributes
    ----------
    use : str
        ``IN_MEMORY``, or why the frame was computed by itself.
    num_refreshed, num_stale, num_doubtful : int
        Tokens computed for this answer; known to have changed since they were computed; that may
        have, since events were lost.
    oldest_age_ns : int
        Age of the oldest token.
    flops_refresh, flops_updates : int
        Of the update for this answer, and of all others since the answer before.
    ages_ns : numpy.ndarray
        int64, (tokens,), -1 for an unknown one; empty where the scene was not used.

    """

    use: str
    num_refreshed: int = 0
    num_stale: int = 0
    num_doubtful: int = 0
    oldest_age_ns: int = 0
    flops_refresh: int = 0
    flops_updates: int = 0
    ages_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def is_used(self) -> bool:
        """Whether the answer is about the scene in memory."""
        return self.use == IN_MEMORY


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
    mean_log_probability: float  # of these, see ``Token``; 0 if there are none
    first_token_margin: float  # likewise
    fallback: str  # one of FALLBACKS, in place of the configured selection of the latest moment
    ending: str  # one of AT_...
    first_token_id: int | None = None  # of the text as it was generated, None if nothing was
    probabilities: tuple[float, ...] = ()  # of each choice, see ``chosen``; in all 1
    scene: SceneReport | None = None  # of the scene in memory; None where there is none
    model: str = ''  # that wrote it

    @property
    def flops_saved(self) -> float:
        """Share of the dense prefill that was not computed, 0 to 1, reuse not counted."""
        return 1.0 - self.flops_used / self.flops_dense

    @property
    def stopped(self) -> bool:
        """Whether ``should_stop`` ended it."""
        return self.ending == AT_STOP
