"""
Floating point operations of a Qwen2-VL prefill, counted from the shape of the model.

Convention: 2 for each multiply-add of the matrix products (linear layers, patch embedding,
attention scores and their weighted sum), nothing for norms, activations, rotary embeddings,
softmax and table look-ups, as torch's FLOP counter does; the output layer on the last token
only. Attention in the language model counts as the full square, which is what torch counts, or as
the lower triangle that causality needs (``causal=True``), the convention of published tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a Qwen2-VL model that its FLOPs depend on; no heads, they cancel out."""

    encoder_depth: int
    encoder_dim: int
    encoder_mlp_dim: int
    patch_values: int
    patches_per_token: int
    depth: int
    dim: int
    key_value_dim: int
    mlp_dim: int
    vocabulary_size: int

    @classmethod
    def from_config(cls, config: Any) -> ModelShape:
        """
        Read the sizes from a ``transformers.Qwen2VLConfig``.

        Parameters
        ----------
        config : transformers.Qwen2VLConfig
            Not changed; no weights are needed.

        """
        vision, text = config.vision_config, config.text_config
        head_dim = text.hidden_size // text.num_attention_heads
        return cls(
            encoder_depth=vision.depth,
            encoder_dim=vision.embed_dim,
            encoder_mlp_dim=int(vision.embed_dim * vision.mlp_ratio),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size ** 2,
            patches_per_token=vision.spatial_merge_size ** 2,
            depth=text.num_hidden_layers,
            dim=text.hidden_size,
            key_value_dim=text.num_key_value_heads * head_dim,
            mlp_dim=text.intermediate_size,
            vocabulary_size=text.vocab_size)


def encoder_flops(shape: ModelShape, num_visual_tokens: int) -> int:
    """Count patch embedding, encoder blocks and patch merger on so many visual tokens."""
    patches = num_visual_tokens * shape.patches_per_token
    dim, merged_dim = shape.encoder_dim, shape.encoder_dim * shape.patches_per_token
    linear = dim * (4 * dim + 2 * shape.encoder_mlp_dim)  # qkv, projection and MLP, per patch
    attention = 2 * patches * dim  # scores and weighted sum, per patch
    block = patches * (linear + attention)
    merger = num_visual_tokens * merged_dim * (merged_dim + shape.dim)
    return 2 * (patches * shape.patch_values * dim + shape.encoder_depth * block + merger)


def language_model_flops(shape: ModelShape, num_tokens: int, *, causal: bool = False) -> int:
    """
    Count the language model on a prompt of so many visual and text tokens.

    Parameters
    ----------
    shape : ModelShape
        The model.
    num_tokens : int
        Kept visual tokens and text tokens together.
    causal : bool
        Count only pairs of a token with itself and those before it, not the full square.

    """
    dim = shape.dim
    pairs = num_tokens * (num_tokens + 1) // 2 if causal else num_tokens ** 2
    linear = dim * (2 * dim + 2 * shape.key_value_dim + 3 * shape.mlp_dim)
    layer = num_tokens * linear + 2 * pairs * dim
    return 2 * (shape.depth * layer + dim * shape.vocabulary_size)


def prefill_flops(
    shape: ModelShape, num_visual_tokens: int, num_text_tokens: int, *, causal: bool = False,
) -> int:
    """
    Count everything up to the first token of an answer.

    Parameters
    ----------
    shape : ModelShape
        The model.
    num_visual_tokens : int
        Visual tokens that are computed on: all, or the kept ones.
    num_text_tokens : int
        All other tokens of the prompt.
    causal : bool
        See ``language_model_flops``.

    """
    num_tokens = num_visual_tokens + num_text_tokens
    return (encoder_flops(shape, num_visual_tokens)
            + language_model_flops(shape, num_tokens, causal=causal))
