"""Questions about empty pictures, so that those about images of a known size are fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseBackend, VisionInput
import numpy as np
import torch
from torch import Tensor

_TEXT_LENGTHS = range(0, 64, 16)  # tokens that questions are longer than the shortest one


def ask_about_empty_pictures(
    model: SparseBackend, shortest_prompt_ids: Tensor, rows: int, cols: int,
    numbers_kept: Iterable[int], sampling: Sampling, should_stop: Callable[[], bool],
) -> None:
    """Ask twice each, with questions of the usual lengths; see ``SparseBackend.warm_up``."""
    shape, num_tokens = ModelShape.from_config(model.info.config), rows * cols
    pixels = torch.zeros(num_tokens * model.info.merge_size ** 2, shape.patch_values)
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
                list(model.decode(model.extend(state.prefix, text_ids), (), 2, sampling))
