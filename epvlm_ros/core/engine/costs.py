"""What the prefill of an answer costs, in FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.core.engine.frame_memory import SelectedFrame
from epvlm_ros.core.flops import language_model_flops, ModelShape, prefill_flops
from epvlm_ros.core.sparse_qwen_vl import PromptPrefix
import numpy as np


@dataclass(frozen=True)
class PrefillCosts:
    """FLOPs as in ``EngineAnswer``: on all tokens, on the kept ones, and known before."""

    dense: int
    used: int
    reused: int


def count_costs(
    shape: ModelShape, frame: SelectedFrame, num_prompt_tokens: int, known: PromptPrefix | None,
) -> PrefillCosts:
    """
    Count the prefill of a question about a frame.

    Parameters
    ----------
    shape : ModelShape
        The model.
    frame : SelectedFrame
        The frame.
    num_prompt_tokens : int
        Tokens of the dense prompt.
    known : PromptPrefix or None
        The part of the prompt that was computed before, if any.

    """
    grid, kept_indices = frame.grid, frame.selection.kept_indices
    num_text_tokens = num_prompt_tokens - grid.num_tokens
    dense, used = (
        prefill_flops(shape, len(indices), num_text_tokens,
                      window_sizes=shape.window_sizes(indices, grid.cols))
        for indices in (np.arange(grid.num_tokens), kept_indices))
    if known is None:
        return PrefillCosts(dense, used, 0)
    computed = language_model_flops(
        shape, num_prompt_tokens - len(known.token_ids), num_before=known.num_tokens_kept)
    return PrefillCosts(dense, used, used - computed)
