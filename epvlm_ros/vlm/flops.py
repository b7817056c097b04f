"""
FLOPs of a prefill, counted from the sizes of the model.

As in torch's FLOP counter, each multiply-add of a matrix product counts 2 (linear layers, patch
embedding, attention scores and their weighted sum), everything else 0; the output layer runs on
the last token only. Encoder attention counts all pairs of patches, or all pairs within each
window. Language model attention counts the full square, as torch does, or the lower triangle
(``causal=True``), as published tables do.
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
    The sizes that the FLOPs of a model depend on.

    Parameters
    ----------
    encoder_mlp_matrices : int
        2, or 3 if the MLP of the encoder is gated.
    window_size : int
        Side of an attention window in visual tokens; 0 without windows.
    num_mergers : int
        Patch mergers: one for the embeddings, one for each DeepStack feature.
    patch_values, patches_per_token : int
        Numbers per patch, patches per visual token.
    query_dim, key_value_dim : int
        Width of all heads together.

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
        """Read the sizes from a transformers configuration of any supported family."""
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

        ``kept_indices`` are int64, ascending ``row * cols + col``.
        """
        if not self.num_windowed_layers:
            return None
        return order_by_window([kept_indices], cols, self.window_size)[1]


def encoder_flops(
    shape: ModelShape, num_visual_tokens: int, window_sizes: Iterable[int] | None = None,
    image_sizes: Iterable[int] | None = None,
) -> int:
    """
    Count patch embedding, encoder blocks and patch mergers on the kept visual tokens.

    Parameters
    ----------
    shape : ModelShape
        Sizes of the model.
    num_visual_tokens : int
        Kept ones, of all images.
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
    images = [num_visual_tokens] if image_sizes is None else image_sizes
    return _encoder_flops(
        shape, num_visual_tokens, sum(int(size) ** 2 for size in images),
        sum(size ** 2 for size in sizes))


def _encoder_flops(
    shape: ModelShape, num_visual_tokens: int, pairs_in_images: int, pairs_in_windows: int,
) -> int:
    """Count the encoder; pairs are of visual tokens that attend and are attended to."""
    patches = num_visual_tokens * shape.patches_per_token
    dim, merged_dim = shape.encoder_dim, shape.encoder_dim * shape.patches_per_token
    # qkv, projection and MLP, per patch
    linear = dim * (4 * dim + shape.encoder_mlp_matrices * shape.encoder_mlp_dim)
    pairs = shape.patches_per_token ** 2 * (
        shape.num_windowed_layers * pairs_in_windows
        + (shape.encoder_depth - shape.num_windowed_layers) * pairs_in_images)
    blocks = shape.encoder_depth * patches * linear + 2 * pairs * dim  # scores, weighted sum
    merger = num_visual_tokens * merged_dim * (merged_dim + shape.dim)
    return 2 * (patches * shape.patch_values * dim + blocks + shape.num_mergers * merger)


def language_model_flops(
    shape: ModelShape, num_tokens: int, *, num_before: int = 0, causal: bool = False,
) -> int:
    """
    Count the language model on a prompt.

    Parameters
    ----------
    shape : ModelShape
        Sizes of the model.
    num_tokens : int
        Kept visual tokens and text tokens together.
    num_before : int
        Tokens before them in the prompt that were computed earlier.
    causal : bool
        Count the lower triangle of attention, not the full square.

    """
    pairs = num_tokens * num_before + (
        num_tokens * (num_tokens + 1) // 2 if causal else num_tokens ** 2)
    return _layer_flops(shape, num_tokens, pairs) + 2 * shape.dim * shape.vocabulary_size


def _layer_flops(shape: ModelShape, num_tokens: int, pairs: int) -> int:
    """Count the layers of the language model; pairs attend and are attended to."""
    linear = shape.dim * (2 * shape.query_dim + 2 * shape.key_value_dim + 3 * shape.mlp_dim)
    return 2 * shape.depth * (num_tokens * linear + 2 * pairs * shape.query_dim)


def prefill_flops(
    shape: ModelShape, num_visual_tokens: int, num_text_tokens: int, *,
    window_sizes: Iterable[int] | None = None, image_sizes: Iterable[int] | None = None,
    causal: bool = False,
) -> int:
    """
    Count everything up to the first token of an answer.

    Arguments and errors are those of ``encoder_flops`` and ``language_model_flops``.
    """
    num_tokens = num_visual_tokens + num_text_tokens
    return (encoder_flops(shape, num_visual_tokens, window_sizes, image_sizes)
            + language_model_flops(shape, num_tokens, causal=causal))


def refresh_flops(
    shape: ModelShape, refreshed: np.ndarray, known: np.ndarray, cols: int, *,
    num_text_tokens: int, runs_text: bool = False, attends_to_scene: bool = True,
    causal: bool = False,
) -> int:
    """
    Count an update of a scene in memory: encoder and language model on the refreshed tokens.

    Parameters
    ----------
    shape : ModelShape
        Sizes of the model.
    refreshed : numpy.ndarray
        int64, ascending ``row * cols + col`` of the tokens that are computed; none cost nothing.
    known : numpy.ndarray
        bool, shape (tokens,): which are known afterwards, the refreshed ones among them.
    cols : int
        Columns of the token grid.
    num_text_tokens : int
        Of the prompt, before the image.
    runs_text : bool
        Whether these are computed as well, as when a scene begins.
    attends_to_scene : bool
        Whether the encoder's patches attend to those of all known tokens, or only to each other.
    causal : bool
        Count what stands before each token in the language model, not all that is known.

    Raises
    ------
    ValueError
        If a refreshed token is not known afterwards.

    """
    if not known[refreshed].all():
        missing = refreshed[~known[refreshed]][0]
        raise ValueError(f'token {missing} is refreshed and not known: mark it as known')
    if not len(refreshed):
        return 0
    attended = np.flatnonzero(known) if attends_to_scene else refreshed
    window_pairs = 0
    if shape.num_windowed_layers:
        across = -(-cols // shape.window_size)
        of_each = [np.bincount(
            tokens // cols // shape.window_size * across + tokens % cols // shape.window_size,
            minlength=len(known)) for tokens in (refreshed, attended)]
        window_pairs = int(of_each[0] @ of_each[1])
    encoder = _encoder_flops(shape, len(refreshed), len(refreshed) * len(attended), window_pairs)
    # How many visual tokens each refreshed one attends to, then the text.
    visible = np.cumsum(known)[refreshed] if causal else np.full(len(refreshed), known.sum())
    pairs = int(visible.sum()) + len(refreshed) * num_text_tokens
    num_run = len(refreshed)
    if runs_text:
        num_run += num_text_tokens
        pairs += (num_text_tokens * (num_text_tokens + 1) // 2 if causal
                  else num_text_tokens * (num_text_tokens + int(known.sum())))
    return encoder + _layer_flops(shape, num_run, pairs)
