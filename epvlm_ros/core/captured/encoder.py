"""The encoder and the patch merger as a function of fixed shapes."""

from __future__ import annotations

from collections.abc import Callable

from epvlm_ros.core.captured.attention import FastestAttention
from epvlm_ros.core.captured.operations import Operations
from epvlm_ros.core.captured.weights import EncoderWeights
import torch
from torch import Tensor
from torch.nn import functional

Attention = Callable[[Tensor], Tensor]


def encode(
    weights: EncoderWeights, operations: Operations, patches: Tensor, places: Tensor,
    attention: Attention, window_attention: Attention,
) -> Tensor:
    """
    Return the visual features.

    Parameters
    ----------
    weights : EncoderWeights
        The model.
    operations : Operations
        What it is made of.
    patches : torch.Tensor
        Shape (patches, values of a patch), in the number type of the weights.
    places : torch.Tensor
        int64, shape (patches, 2), row and column of each in the full image.
    attention : callable
        Takes (patches, 3, heads, head_dim), turned, and returns (patches, heads * head_dim).
    window_attention : callable
        The same, for the layers that attend within windows.

    Returns
    -------
    torch.Tensor
        Shape (patches / patches_per_token, dim of the language model).

    """
    angles = (places[:, :, None].float() * weights.inverse_frequencies).flatten(1)
    cos, sin = angles.cos(), angles.sin()  # (patches, head_dim / 2): rows, then columns
    hidden = functional.linear(patches, *weights.patches)
    delta = None
    for number, layer in enumerate(weights.layers):
        normed = operations.add_norm(hidden, delta, layer.norm_before_attention)
        qkv = functional.linear(normed, *layer.qkv).unflatten(
            1, (3, weights.num_heads, weights.head_dim))
        operations.rotate(qkv[:, :2].flatten(1, 2), cos, sin)
        mixed = (window_attention if number in weights.windowed else attention)(qkv)
        delta = functional.linear(mixed, *layer.out)
        normed = operations.add_norm(hidden, delta, layer.norm_before_mlp)
        activated = operations.activate(
            functional.linear(normed, *layer.mlp.up), layer.mlp.activation)
        delta = functional.linear(activated, *layer.mlp.down)
    normed = operations.add_norm(hidden, delta, weights.merger_norm)
    side_by_side = normed.reshape(len(patches) // weights.patches_per_token, -1)
    activated = operations.activate(
        functional.linear(side_by_side, *weights.merger.up), weights.merger.activation)
    return functional.linear(activated, *weights.merger.down)


def attend_to_all(qkv: Tensor, attend: FastestAttention) -> Tensor:
    """Let every patch attend to every other."""
    query, key, value = qkv.permute(1, 2, 0, 3)[:, None]  # (3, 1, heads, patches, head_dim)
    return attend(query, key, value)[0].transpose(0, 1).flatten(1)
