"""
How much memory a model needs, from its configuration alone.

Sizes of weights, caches and scenes are exact but for norms and biases. Activations are a model of
what torch allocated for the shapes of 2B and 7B on a GPU: the largest layer's tensors, two copies
of the states of the image, its pixels, and a fixed part.
"""

from __future__ import annotations

from dataclasses import dataclass
import os
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.packed_weights.modules import MAX_UNPACKED
import torch

WEIGHTS = ('as_stored', 'int8', 'int4')
GIGABYTE = 1e9
_FIXED_BYTES = 100_000_000  # tables of rotary embeddings, scratch of the libraries, logits
_TEXT_TOKENS = 128  # of a prompt beside its image
_UNPACKING_BYTES = 8 * MAX_UNPACKED  # what unpacks some rows of a matrix in plain torch
_GROUP_BITS = 24  # of scale and zero point of a group


@dataclass(frozen=True)
class MemoryPlan:
    """What a model needs, in bytes; ``scene`` is that of a scene in memory or 0."""

    weights: int
    cache: int
    activations: int
    scene: int

    @property
    def total(self) -> int:
        """Return all of it."""
        return self.weights + self.cache + self.activations + self.scene

    def __str__(self) -> str:
        parts = [f'{name} {value / GIGABYTE:.2f}' for name, value in (
            ('weights', self.weights), ('cache', self.cache), ('activations', self.activations),
            ('scene in memory', self.scene)) if value]
        return f'{self.total / GIGABYTE:.1f} GB ({", ".join(parts)})'


def plan_memory(
    model_config: Any, config: VlmConfig, num_tokens: int, *, on_gpu: bool,
    dtype: torch.dtype = torch.bfloat16,
) -> MemoryPlan:
    """
    Return what a model needs to answer about images of so many visual tokens, all of them kept.

    Parameters
    ----------
    model_config : transformers.PreTrainedConfig
        Of the checkpoint.
    config : VlmConfig
        ``weights``, ``cache_tokens``, ``scene_memory``, ``memory_context``, ``max_new_tokens``
        and ``acceleration`` count.
    num_tokens : int
        Of the largest image; 0 leaves out what depends on it.
    on_gpu, dtype
        Where and in which type is computed.

    """
    shape, size = ModelShape.from_config(model_config), dtype.itemsize
    is_packed = config.weights != 'as_stored' or bool(_quantization(model_config))
    states = 2 * shape.depth * shape.key_value_dim * size  # of a token in the language model
    # a matrix for a prompt, and at first use the rows that a kernel is compared with
    cache_tokens = config.cache_tokens
    unpacking = largest_matrix(shape) * size + _UNPACKING_BYTES
    if not on_gpu or config.acceleration == 'eager':
        unpacking = _UNPACKING_BYTES
        # grows with the prompt, and is copied as it does
        cache_tokens = 2 * (num_tokens + _TEXT_TOKENS + config.max_new_tokens)
    per_token = _activations(shape, size) + 2 * states
    scene = 0
    if config.scene_memory and num_tokens:
        scene = (num_tokens + _TEXT_TOKENS // 2) * (
            states + shape.num_mergers * shape.dim * size)
        if config.memory_context == 'scene':
            scene += (num_tokens + 1) * shape.patches_per_token * (
                2 * shape.encoder_depth * shape.encoder_dim * size)
    return MemoryPlan(
        weights=weight_bytes(model_config, config.weights, size), cache=cache_tokens * states,
        activations=_FIXED_BYTES + num_tokens * per_token + (
            unpacking if is_packed else 0), scene=scene)


def weight_bytes(model_config: Any, weights: str, size: int) -> int:
    """Return the memory of the weights; those that are not packed have ``size`` bytes."""
    shape = ModelShape.from_config(model_config)
    layers, encoder, embeddings = count_weights(shape, is_tied(model_config))
    layer_bits, encoder_bits = stored_bits(model_config, size)
    other_bits = 8.0 * size
    if weights != 'as_stored':
        small = 4 + _GROUP_BITS / 128 if weights == 'int4' else 8.0
        layer_bits = layer_bits if _quantization(model_config) else small
        encoder_bits, other_bits = min(encoder_bits, 8.0), 8.0
    return int((layers * layer_bits + encoder * encoder_bits + embeddings * other_bits) / 8)


def count_weights(shape: ModelShape, ties_embeddings: bool) -> tuple[int, int, int]:
    """Return how many weights the matrices of language model, encoder and embeddings have."""
    layers = shape.depth * shape.dim * (
        2 * shape.query_dim + 2 * shape.key_value_dim + 3 * shape.mlp_dim)
    merged = shape.encoder_dim * shape.patches_per_token
    encoder = (
        shape.encoder_depth * shape.encoder_dim * (
            4 * shape.encoder_dim + shape.encoder_mlp_matrices * shape.encoder_mlp_dim)
        + shape.patch_values * shape.encoder_dim
        + shape.num_mergers * merged * (merged + shape.dim))
    return layers, encoder, shape.vocabulary_size * shape.dim * (1 if ties_embeddings else 2)


def largest_matrix(shape: ModelShape) -> int:
    """Return how many weights are unpacked at once for a prompt: those of gate and values."""
    return max(2 * shape.mlp_dim * shape.dim,
               shape.encoder_mlp_matrices * shape.encoder_mlp_dim * shape.encoder_dim)


def is_tied(model_config: Any) -> bool:
    """Return whether the output layer shares the weights of the embedding."""
    return bool(model_config.tie_word_embeddings)


def stored_bits(model_config: Any, size: int) -> tuple[float, float]:
    """Return the bits of a weight in the layers of the language model, and in the encoder."""
    quantization = _quantization(model_config)
    plain = 8.0 * size
    if not quantization:
        return plain, plain
    method = quantization.get('quant_method')
    if method == 'fp8':
        return 8.0, 8.0
    if method == 'compressed-tensors':
        schemes = list((quantization.get('config_groups') or {}).values())
        quantization = (schemes[0].get('weights') or {}) if schemes else {}
    bits = quantization.get('bits') or quantization.get('num_bits')
    if bits is None:
        bits = 4 if quantization.get('load_in_4bit') else 8
    group_size = quantization.get('group_size') or 0
    return bits + (_GROUP_BITS / group_size if group_size > 0 else 0.0), plain


def device_memory(device: str) -> int:
    """Return how many bytes of memory a device has, whoever uses them."""
    if device.startswith('cuda'):
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _activations(shape: ModelShape, size: int) -> int:
    """Return the bytes of a visual token: those of a layer's tensors, and of its pixels."""
    encoder = shape.patches_per_token * (
        shape.encoder_mlp_matrices * shape.encoder_mlp_dim + 5 * shape.encoder_dim)
    language = 3 * (shape.mlp_dim + shape.dim) + shape.query_dim + 2 * shape.key_value_dim
    pixels = shape.patches_per_token * shape.patch_values * (4 + size)
    return max(encoder, language) * size + pixels


def _quantization(model_config: Any) -> dict[str, Any]:
    return getattr(model_config, 'quantization_config', None) or {}
