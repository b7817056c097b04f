"""
Floating point operations of a prefill, counted from the shape of the model.

Convention: 2 for each multiply-add of the matrix products (linear layers, patch embedding,
attention scores and their weighted sum), nothing for norms, activations, position embeddings,
softmax and table look-ups, as torch's FLOP counter does; the output layer on the last token
only. Attention in the encoder counts as it is executed: all pairs of patches, in a layer with
windows all pairs within each window. Attention in the language model counts as the full
square, which is what torch counts, or as the lower triangle that causality needs
(``causal=True``), the convention of published tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from epvlm_ros.vlm.patch_grid import order_by_window
import numpy as np


@dataclass(frozen=True)
class ModelShape:
    """
    The sizes of a model that its FLOPs depend on; of the heads only their sums matter.

    Parameters
    ----------
    encoder_depth, encoder_dim, encoder_mlp_dim : int
        Layers of the encoder, their width and that of their MLP.
    encoder_mlp_matrices : int
        Matrices of that MLP: 2, or 3 if it is gated.
    num_windowed_layers : int
        Layers of the encoder that attend within windows.
    window_size : int
        Side of a window in visual tokens; 0 without windows.
    num_mergers : int
        Patch mergers: one for the embeddings, and one for each feature of a middle layer.
    patch_values, patches_per_token : int
        Numbers of one patch, and patches of one visual token.
    depth, dim, query_dim, key_value_dim, mlp_dim : int
        Layers of the language model, their width, that of all queries, of all keys and of the
        MLP.
    vocabulary_size : int
        Width of the output layer.

    """

    encoder_depth: int
    encoder_dim: int
    encoder_mlp_dim: int
    encoder_mlp_matrices: int
    num_windowed_layers: int
    window_size: int
    num_mergers: int
    patch_values: int
    patches_per_token: int
    depth: int
    dim: int
    query_dim: int
    key_value_dim: int
    mlp_dim: int
    vocabulary_size: int

    @classmethod
    def from_config(cls, config: Any) -> ModelShape:
        """
        Read the sizes from a configuration of transformers.

        Parameters
        ----------
        config : transformers.PreTrainedConfig
            Of Qwen2-VL, Qwen2.5-VL or Qwen3-VL; not changed; no weights are needed.

        """
        vision, text = config.vision_config, config.text_config
        # only Qwen2-VL has embed_dim, and its hidden_size is that of the language model
        embed_dim = getattr(vision, 'embed_dim', None)
        head_dim = getattr(text, 'head_dim', None) or text.hidden_size // text.num_attention_heads
        full_layers = set(getattr(vision, 'fullatt_block_indexes', range(vision.depth)))
        window_size_px = getattr(vision, 'window_size', 0)
        return cls(
            encoder_depth=vision.depth,
            encoder_dim=embed_dim or vision.hidden_size,
            encoder_mlp_dim=(
                int(embed_dim * vision.mlp_ratio) if embed_dim else vision.intermediate_size),
            encoder_mlp_matrices=3 if config.model_type == 'qwen2_5_vl' else 2,
            num_windowed_layers=len(set(range(vision.depth)) - full_layers),
            window_size=window_size_px // vision.spatial_merge_size // vision.patch_size,
            num_mergers=1 + len(getattr(vision, 'deepstack_visual_indexes', ())),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size ** 2,
            patches_per_token=vision.spatial_merge_size ** 2,
            depth=text.num_hidden_layers,
            dim=text.hidden_size,
            query_dim=text.num_attention_heads * head_dim,
            key_value_dim=text.num_key_value_heads * head_dim,
            mlp_dim=text.intermediate_size,
            vocabulary_size=text.vocab_size)

    def window_sizes(self, kept_indices: np.ndarray, cols: int) -> np.ndarray | None:
        """
        Return how many kept tokens lie in each window; None for a model without windows.

        Parameters
        ----------
        kept_indices : numpy.ndarray
            int64, ascending ``row * cols + col``; not changed.
        cols : int
            Columns of the grid of visual tokens.

        """
        if not self.num_windowed_layers:
            return None
        return order_by_window(kept_indices, cols, self.window_size)[1]


def encoder_flops(
    shape: ModelShape, num_visual_tokens: int, window_sizes: Iterable[int] | None = None,
    image_sizes: Iterable[int] | None = None,
) -> int:
    """
    Count patch embedding, encoder blocks and patch mergers on so many visual tokens.

    Parameters
    ----------
    shape : ModelShape
        The model.
    num_visual_tokens : int
        Tokens that are computed on.
    window_sizes : iterable of int, optional
        How many of them lie in each window, see ``ModelShape.window_sizes``.
    image_sizes : iterable of int, optional
        How many of them lie in each of several images, which do not attend to each other.

    Raises
    ------
    ValueError
        If the model has windows and their sizes are not given or do not add up.

    """
    sizes = [] if window_sizes is None else [int(size) for size in window_sizes]
    if shape.num_windowed_layers and sum(sizes) != num_visual_tokens:
        raise ValueError(
            f'the windows hold {sum(sizes)} of {num_visual_tokens} visual tokens: give '
            'window_sizes, how many lie in each window')
    patches = num_visual_tokens * shape.patches_per_token
    dim, merged_dim = shape.encoder_dim, shape.encoder_dim * shape.patches_per_token
    # qkv, projection and MLP, per patch
    linear = dim * (4 * dim + shape.encoder_mlp_matrices * shape.encoder_mlp_dim)
    images = [num_visual_tokens] if image_sizes is None else image_sizes
    pairs_in_images = sum((int(size) * shape.patches_per_token) ** 2 for size in images)
    pairs_in_windows = sum((size * shape.patches_per_token) ** 2 for size in sizes)
    pairs = (shape.num_windowed_layers * pairs_in_windows
             + (shape.encoder_depth - shape.num_windowed_layers) * pairs_in_images)
    blocks = shape.encoder_depth * patches * linear + 2 * pairs * dim  # scores, weighted sum
    merger = num_visual_tokens * merged_dim * (merged_dim + shape.dim)
    return 2 * (patches * shape.patch_values * dim + blocks + shape.num_mergers * merger)


def language_model_flops(
    shape: ModelShape, num_tokens: int, *, num_before: int = 0, causal: bool = False,
) -> int:
    """
    Count the language model on so many visual and text tokens of a prompt.

    Parameters
    ----------
    shape : ModelShape
        The model.
    num_tokens : int
        Kept visual tokens and text tokens together.
    num_before : int
        Tokens of the prompt that stand before them and were computed earlier.
    causal : bool
        Count only pairs of a token with itself and those before it, not the full square.

    """
    dim = shape.dim
    pairs = num_tokens * num_before + (
        num_tokens * (num_tokens + 1) // 2 if causal else num_tokens ** 2)
    linear = dim * (2 * shape.query_dim + 2 * shape.key_value_dim + 3 * shape.mlp_dim)
    layer = num_tokens * linear + 2 * pairs * shape.query_dim
    return 2 * (shape.depth * layer + dim * shape.vocabulary_size)


def prefill_flops(
    shape: ModelShape, num_visual_tokens: int, num_text_tokens: int, *,
    window_sizes: Iterable[int] | None = None, image_sizes: Iterable[int] | None = None,
    causal: bool = False,
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
    window_sizes, image_sizes : iterable of int, optional
        See ``encoder_flops``.
    causal : bool
        See ``language_model_flops``.

    Raises
    ------
    ValueError
        See ``encoder_flops``.

    """
    num_tokens = num_visual_tokens + num_text_tokens
    return (encoder_flops(shape, num_visual_tokens, window_sizes, image_sizes)
            + language_model_flops(shape, num_tokens, causal=causal))
