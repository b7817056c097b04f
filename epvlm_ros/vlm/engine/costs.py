"""What the prefill of an answer costs, in FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.vlm.engine.moment import SelectedMoments
from epvlm_ros.vlm.flops import language_model_flops, ModelShape, prefill_flops
from epvlm_ros.vlm.sparse_qwen import PromptPrefix
import numpy as np


@dataclass(frozen=True)
class PrefillCosts:
    """FLOPs as in ``EngineAnswer``: on all tokens, on the kept ones, and known before."""

    dense: int
    used: int
    reused: int


def count_costs(
    shape: ModelShape, selected: SelectedMoments, num_prompt_tokens: int,
    known: PromptPrefix | None, flops_refresh: int = 0,
) -> PrefillCosts:
    """
    Count the prefill of a question, whose dense prompt has so many tokens.

    ``known`` is the part of it that was computed before, if any: all up to the end of the images,
    or what stands before them; ``flops_refresh`` went into it for this question.
    """
    num_text_tokens = num_prompt_tokens - selected.num_tokens
    all_indices = np.arange(selected.grid.num_tokens)
    dense = _count(shape, selected, [all_indices] * len(selected.moments), num_text_tokens)
    kept = [selection.kept_indices for selection in selected.selections]
    used = _count(shape, selected, kept, num_text_tokens)
    if known is None:
        return PrefillCosts(dense, used, 0)
    num_kept = sum(len(indices) for indices in kept) + num_text_tokens
    computed = flops_refresh + language_model_flops(
        shape, num_kept - known.num_tokens_kept, num_before=known.num_tokens_kept)
    if not known.holds_image:
        computed += used - language_model_flops(shape, num_kept)
    return PrefillCosts(dense, used, used - computed)


def _count(
    shape: ModelShape, selected: SelectedMoments, kept: list[np.ndarray], num_text_tokens: int,
) -> int:
    sizes = [len(indices) for indices in kept]
    windows = [shape.window_sizes(indices, selected.grid.cols) for indices in kept]
    window_sizes = [size for window in windows if window is not None for size in window]
    return prefill_flops(
        shape, sum(sizes), num_text_tokens, window_sizes=window_sizes, image_sizes=sizes)
