"""The encoder and the patch merger as a function of fixed shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epvlm_ros.vlm.cuda_graphs.attention import FastestAttention
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.weights import EncoderWeights, Mlp
from torch import Tensor

Attention = Callable[[Tensor], Tensor]
# takes queries, keys and values (patches, 3 * heads * head_dim) and the number of the layer
LayerAttention = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class EncoderInput:
    """What a function reads."""

    patches: Tensor  # (patches, values of a patch), in the number type of the weights
    places: Tensor  # int64 (patches, 2), row and column in the full image
    image_cu_seqlens: Tensor  # int32 (images + 2,), bounds of the images and of the padding
    window_cu_seqlens: Tensor  # int32 (tokens + 2,), bounds of the windows
    entries: Tensor  # int64 (patches, 4), which learned positions each patch has
    shares: Tensor  # float32 (patches, 4), how much of each


def encode(
    weights: EncoderWeights, operations: Operations, inputs: EncoderInput, attention: Attention,
    window_attention: Attention,
) -> list[Tensor]:
    """
    Return the visual features, and then those of layers in the middle.

    Each of shape (patches / patches_per_token, dim of the language model). An attention takes
    (patches, 3, heads, head_dim), rotated, and returns (patches, heads * head_dim).
    """
    cos, sin = rotation_of(weights, inputs.places)

    def attend(merged: Tensor, number: int) -> Tensor:
        qkv = merged.unflatten(1, (3, weights.num_heads, weights.head_dim))
        operations.apply_rope(qkv[:, :2].flatten(1, 2), cos, sin)
        return (window_attention if number in weights.windowed else attention)(qkv)

    hidden = operations.multiply(inputs.patches, weights.patches)
    if weights.learned_positions is not None:
        hidden += mix_positions(weights.learned_positions, inputs.entries, inputs.shares)
    return run_layers(weights, operations, hidden, attend)


def rotation_of(weights: EncoderWeights, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (patches, head_dim / 2) of rows and columns (patches, 2)."""
    angles = (places[:, :, None].float() * weights.inverse_frequencies).flatten(1)
    return angles.cos(), angles.sin()


def mix_positions(learned: Tensor, entries: Tensor, shares: Tensor) -> Tensor:
    """Return the learned position of each patch; all as in ``EncoderInput``."""
    return (learned[entries] * shares[:, :, None]).sum(1).to(learned.dtype)


def run_layers(
    weights: EncoderWeights, operations: Operations, hidden: Tensor, attend: LayerAttention,
) -> list[Tensor]:
    """Run embedded patches, which change, through all layers and the merger; see ``encode``."""
    delta, deepstack = None, []
    for number, layer in enumerate(weights.layers):
        normed = operations.add_norm(hidden, delta, layer.norm_before_attention)
        mixed = attend(operations.multiply(normed, layer.qkv), number)
        delta = operations.multiply(mixed, layer.out)
        normed = operations.add_norm(hidden, delta, layer.norm_before_mlp)
        activated = operations.activated_linear(normed, layer.mlp)
        delta = operations.multiply(activated, layer.mlp.down)
        if number in weights.deepstack:
            hidden, delta = hidden + delta, None
            merger = weights.deepstack[number]
            side_by_side = hidden.view(-1, len(merger.norm.weight))
            deepstack.append(_merge(
                operations, merger.mlp, operations.add_norm(side_by_side, None, merger.norm)))
    normed = operations.add_norm(hidden, delta, weights.merger.norm)
    return [_merge(operations, weights.merger.mlp, normed), *deepstack]


def _merge(operations: Operations, mlp: Mlp, normed: Tensor) -> Tensor:
    side_by_side = normed.view(-1, mlp.up.weight.shape[1])
    activated = operations.activated_linear(side_by_side, mlp)
    return operations.multiply(activated, mlp.down)


def attend_to_all(qkv: Tensor, attend: FastestAttention) -> Tensor:
    """Let every patch attend to every other."""
    query, key, value = qkv.permute(1, 2, 0, 3)[:, None]  # (3, 1, heads, patches, head_dim)
    return attend(query, key, value)[0].transpose(0, 1).flatten(1)
