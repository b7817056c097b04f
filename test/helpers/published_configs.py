"""Sizes of the published models, as in their config.json, and nothing else of them."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

_ROPE = {'rope_type': 'default', 'mrope_section': [16, 24, 24], 'rope_theta': 1000000.0}
_INTERLEAVED = {
    'rope_type': 'default', 'mrope_section': [24, 20, 20], 'rope_theta': 5000000,
    'mrope_interleaved': True}


def _make(
    model_type: str, text: tuple[int, ...], vision: dict[str, Any], vocabulary_size: int,
    ties_embeddings: bool,
) -> Any:
    """Return a configuration; ``text`` is width, MLP, layers, heads, heads of keys."""
    names = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
             'num_key_value_heads')
    more = {'head_dim': 128} if model_type == 'qwen3_vl' else {}
    return AutoConfig.for_model(
        model_type, text_config={
            **dict(zip(names, text)), 'vocab_size': vocabulary_size, **more,
            'rope_parameters': _INTERLEAVED if more else _ROPE},
        vision_config=vision, tie_word_embeddings=ties_embeddings)


def _qwen2(width: int) -> dict[str, Any]:
    return {'depth': 32, 'embed_dim': 1280, 'num_heads': 16, 'mlp_ratio': 4, 'hidden_size': width}


def _qwen25(width: int) -> dict[str, Any]:
    return {'depth': 32, 'hidden_size': 1280, 'num_heads': 16, 'intermediate_size': 3420,
            'out_hidden_size': width, 'fullatt_block_indexes': [7, 15, 23, 31],
            'window_size': 112}


PUBLISHED_CONFIGS: dict[str, Any] = {
    'Qwen2-VL-2B': _make('qwen2_vl', (1536, 8960, 28, 12, 2), _qwen2(1536), 151936, True),
    'Qwen2-VL-7B': _make('qwen2_vl', (3584, 18944, 28, 28, 4), _qwen2(3584), 152064, False),
    'Qwen2.5-VL-3B': _make(
        'qwen2_5_vl', (2048, 11008, 36, 16, 2), _qwen25(2048), 151936, True),
    'Qwen2.5-VL-7B': _make(
        'qwen2_5_vl', (3584, 18944, 28, 28, 4), _qwen25(3584), 152064, False),
    'Qwen3-VL-2B': _make('qwen3_vl', (2048, 6144, 28, 16, 8), {
        'depth': 24, 'hidden_size': 1024, 'intermediate_size': 4096, 'num_heads': 16,
        'out_hidden_size': 2048, 'deepstack_visual_indexes': [5, 11, 17]}, 151936, True),
    'Qwen3-VL-4B': _make('qwen3_vl', (2560, 9728, 36, 32, 8), {
        'depth': 24, 'hidden_size': 1024, 'intermediate_size': 4096, 'num_heads': 16,
        'out_hidden_size': 2560, 'deepstack_visual_indexes': [5, 11, 17]}, 151936, True),
    'Qwen3-VL-8B': _make('qwen3_vl', (4096, 12288, 36, 32, 8), {
        'depth': 27, 'hidden_size': 1152, 'intermediate_size': 4304, 'num_heads': 16,
        'out_hidden_size': 4096, 'deepstack_visual_indexes': [8, 16, 24]}, 151936, False),
}
