"""Recording what the first questions about images of a known size will need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import logging

from epvlm_ros.vlm.cuda_graphs.model import CapturedQwenVl
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.sparse_qwen import GREEDY, Sampling, VisionInput
import numpy as np
import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_TEXT_LENGTHS = range(0, 64, 16)  # tokens that questions are longer than the shortest one


def record(
    model: CapturedQwenVl, shortest_prompt_ids: Tensor, rows: int, cols: int,
    numbers_kept: Iterable[int], sampling: Sampling = GREEDY,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """
    Ask about an empty picture, twice each, with the questions of usual lengths.

    Parameters
    ----------
    model : CapturedQwenVl
        Its recordings are made.
    shortest_prompt_ids : torch.Tensor
        int64, shape (tokens,), the dense prompt of the shortest question.
    rows, cols : int
        The grid of visual tokens.
    numbers_kept : iterable of int
        How many of them are computed on.
    sampling : Sampling
        How tokens will be chosen.
    should_stop : callable
        Tells between two questions whether to leave out the others.

    """
    shape, num_tokens = ModelShape.from_config(model.config), rows * cols
    pixels = torch.zeros(num_tokens * model.merge_size ** 2, shape.patch_values)
    for num_kept in sorted(set(numbers_kept), reverse=True):  # the largest takes the memory
        kept = np.floor(np.arange(num_kept) * num_tokens / num_kept).astype(np.int64)
        vision = VisionInput(pixels, rows, cols, kept)
        for extra in _TEXT_LENGTHS:
            if should_stop():
                return
            prompt_ids = torch.cat([
                shortest_prompt_ids, shortest_prompt_ids[-1:].expand(extra)])
            for _ in range(2):
                state = model.prefill(prompt_ids, vision, model.encode(vision))
                list(model.decode(state, (), 3, sampling))
                text_ids = state.prefix.text_after(prompt_ids)
                list(model.decode(model.ask(state.prefix, text_ids), (), 2, sampling))
    _log.info('%d x %d tokens: %d recordings', rows, cols, model.num_recordings)
