"""
What vLLM's encoders take beside the kept patches: their places in the full image, and lengths.

Each function takes the encoder, the grids of the images in patches (time, rows, columns) and the
kept tokens of each (int64, 1-D), and returns the ``encoder_metadata`` of its ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.model_executor.layers.attention import MMEncoderAttention

EncoderInputs = Callable[[Any, list[list[int]], Sequence[Tensor]], dict[str, Any]]


def qwen2_vl_inputs(
    visual: Any, grids: list[list[int]], kept: Sequence[Tensor],
) -> dict[str, Any]:
    """Return rotary embeddings of the kept patches; each image is one sequence."""
    places = _places_of_patches(visual, grids, kept)
    cos, sin = visual.rot_pos_emb(grids)
    ends = torch.from_numpy(_ends(_count_patches(visual, kept)))
    return {
        'rotary_pos_emb_cos': cos[places], 'rotary_pos_emb_sin': sin[places],
        'cu_seqlens': ends.to(visual.device),
        'max_seqlen': visual.compute_attn_mask_seqlen(ends)}


def qwen3_vl_inputs(
    visual: Any, grids: list[list[int]], kept: Sequence[Tensor],
) -> dict[str, Any]:
    """Return also the learned positions, stretched over the full image."""
    places = _places_of_patches(visual, grids, kept)
    cos, sin = visual.rot_pos_emb(grids)
    ends, longest, lengths = _sequences(visual, _ends(_count_patches(visual, kept)))
    return {
        'pos_embeds': visual.fast_pos_embed_interpolate(grids)[places],
        'rotary_pos_emb_cos': cos[places], 'rotary_pos_emb_sin': sin[places],
        'cu_seqlens': ends, 'max_seqlen': longest, 'sequence_lengths': lengths}


def qwen2_5_vl_inputs(
    visual: Any, grids: list[list[int]], kept: Sequence[Tensor],
) -> dict[str, Any]:
    """
    Return also the order of the kept tokens by window, and where each window ends.

    The windows are those of the full image; one without a kept token is gone.
    """
    cos_parts: list[Tensor] = []
    sin_parts: list[Tensor] = []
    order, window_lengths, num_before = [], [], 0
    for (steps, rows, cols), indices in zip(grids, kept):
        cos, sin, dense_order, window_ends, _ = visual.get_rope_by_thw(steps, rows, cols)
        rank = torch.full((len(dense_order),), -1)
        rank[indices] = torch.arange(len(indices))
        rank = rank[dense_order.cpu()]  # of each token, window by window; -1 of those left out
        is_kept = rank >= 0
        for values, parts in ((cos, cos_parts), (sin, sin_parts)):
            of_tokens = values.unflatten(0, (-1, visual.spatial_merge_unit))
            parts.append(of_tokens[is_kept.to(values.device)].flatten(0, 1))
        order.append(rank[is_kept] + num_before)
        num_before += len(indices)
        # kept tokens up to the end of each window; ends are counted in patches
        ends = window_ends.cpu().long() // visual.spatial_merge_unit
        counts = np.diff(is_kept.cumsum(0)[ends - 1].numpy(), prepend=0)
        window_lengths += (counts[counts > 0] * visual.spatial_merge_unit).tolist()
    window_index = torch.cat(order)
    ends, longest, lengths = _sequences(visual, _ends(_count_patches(visual, kept)))
    window_ends, window_longest, lengths_window = _sequences(visual, _ends(window_lengths))
    return {
        'rotary_pos_emb_cos': torch.cat(cos_parts), 'rotary_pos_emb_sin': torch.cat(sin_parts),
        'window_index': window_index.to(visual.device),
        'reverse_indices': torch.argsort(window_index).to(visual.device),
        'cu_seqlens': ends, 'max_seqlen_full': longest, 'sequence_lengths_full': lengths,
        'cu_window_seqlens': window_ends, 'max_seqlen_window': window_longest,
        'sequence_lengths_window': lengths_window}


def _places_of_patches(
    visual: Any, grids: list[list[int]], kept: Sequence[Tensor],
) -> Tensor:
    """Return where the kept patches are among the patches of all images, on the device."""
    merge_unit = visual.spatial_merge_size ** 2
    tokens, num_before = [], 0
    for (steps, rows, cols), indices in zip(grids, kept):
        tokens.append(indices + num_before)
        num_before += steps * rows * cols // merge_unit
    patches = torch.cat(tokens)[:, None] * merge_unit + torch.arange(merge_unit)
    return patches.flatten().to(visual.device)


def _count_patches(visual: Any, kept: Sequence[Tensor]) -> list[int]:
    return [len(indices) * visual.spatial_merge_size ** 2 for indices in kept]


def _ends(lengths: Sequence[int]) -> np.ndarray:
    """Return where sequences of these lengths begin and end, int32 (sequences + 1,)."""
    return np.cumsum([0, *lengths], dtype=np.int32)


def _sequences(visual: Any, ends: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return ends, longest length and lengths as the attention of this machine takes them."""
    backend = visual.attn_backend
    return (
        MMEncoderAttention.maybe_recompute_cu_seqlens(
            backend, ends, visual.hidden_size, visual.tp_size, visual.device,
            fp8_padded_hidden_size=visual.fp8_padded_hidden_size),
        torch.tensor(MMEncoderAttention.compute_max_seqlen(backend, ends), dtype=torch.int32),
        MMEncoderAttention.maybe_compute_seq_lens(backend, ends, visual.device))
