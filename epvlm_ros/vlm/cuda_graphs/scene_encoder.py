"""The encoder on some tokens of a scene, which see all known ones, of fixed shapes."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.attention import FastestAttention
from epvlm_ros.vlm.cuda_graphs.encoder import run_layers
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.scene_buffers import EncoderBuffers
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.weights import EncoderWeights
import torch
from torch import Tensor
from torch.nn import functional

_MOST_WINDOWS = 256  # whose keys and values are copied at a time


def refresh_encoder(
    weights: EncoderWeights, operations: Operations, buffers: EncoderBuffers, tokens: Tensor,
    patches: Tensor, attention: FastestAttention, is_whole: bool,
) -> list[Tensor]:
    """
    Compute some tokens anew in their places and return their features, see ``encode``.

    Parameters
    ----------
    weights, operations
        Of the encoder.
    buffers : EncoderBuffers
        The scene; changed.
    tokens : torch.Tensor
        int64 (tokens,), which; padding is the one behind the last.
    patches : torch.Tensor
        Shape (tokens * patches_per_token, values of a patch).
    attention : FastestAttention
        Where all keys are seen.
    is_whole : bool
        Whether all tokens are known, these included.

    """
    per_token = weights.patches_per_token
    slots = _patches_of(tokens, per_token)
    buffers.known.index_fill_(0, tokens, True)
    buffers.known[-1:].fill_(False)
    cos, sin = buffers.cos.index_select(0, slots), buffers.sin.index_select(0, slots)
    hidden = operations.multiply(patches, weights.patches)
    if buffers.learned is not None:
        hidden += buffers.learned.index_select(0, slots)
    mask = None if is_whole else _repeat(buffers.known[:-1], per_token)[None, None, None]
    within_windows = _WindowAttention(buffers, tokens, per_token)

    def attend(qkv: Tensor, number: int) -> Tensor:
        cache = buffers.cache
        queries = operations.apply_rope_and_store(qkv, cos, sin, cache, number, slots)
        if number in weights.windowed:
            return within_windows(queries, cache, number)
        rows = queries.transpose(0, 1)[None]  # (1, heads, patches, head_dim)
        keys, values = (part[number, None, :, :-per_token] for part in (cache.keys, cache.values))
        if mask is None:
            mixed = attention(rows, keys, values)
        else:
            mixed = functional.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
        return mixed[0].transpose(0, 1).flatten(1)

    return run_layers(weights, operations, hidden, attend)


class _WindowAttention:
    """Lets patches attend to the known ones of their window."""

    def __init__(self, buffers: EncoderBuffers, tokens: Tensor, per_token: int) -> None:
        if buffers.window_tokens is None:
            return
        seen = buffers.window_tokens.index_select(0, tokens)  # (tokens, tokens of a window)
        self._slots = _patches_of(seen, per_token)  # (tokens, patches of a window)
        # padding has to see something: itself
        visible = buffers.known[seen] | (seen == tokens[:, None])
        self._visible = _repeat(visible, per_token)

    def __call__(self, queries: Tensor, cache: StaticCache, number: int) -> Tensor:
        """Take (patches, heads, head_dim), return (patches, heads * head_dim)."""
        num_tokens = len(self._slots)
        by_token = queries.unflatten(0, (num_tokens, -1)).permute(2, 0, 1, 3)
        mixed = []
        for start in range(0, num_tokens, _MOST_WINDOWS):
            part = slice(start, start + _MOST_WINDOWS)
            slots = self._slots[part]
            keys, values = (
                states[number].index_select(1, slots.flatten()).unflatten(1, slots.shape)
                for states in (cache.keys, cache.values))  # (heads, tokens, patches, head_dim)
            mixed.append(functional.scaled_dot_product_attention(
                by_token[:, part], keys, values, attn_mask=self._visible[None, part, None]))
        return torch.cat(mixed, dim=1).permute(1, 2, 0, 3).flatten(0, 1).flatten(1)


def _patches_of(tokens: Tensor, per_token: int) -> Tensor:
    """Return the patches of tokens (..., tokens), (..., tokens * per_token)."""
    inside = torch.arange(per_token, device=tokens.device)
    return (tokens[..., None] * per_token + inside).flatten(-2)


def _repeat(values: Tensor, times: int) -> Tensor:
    """Return each value so many times, along the last axis."""
    return values[..., None].expand(*values.shape, times).flatten(-2)
