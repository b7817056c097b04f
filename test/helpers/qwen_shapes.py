"""Sizes of small models of every family, and the tokens that they know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig

SPECIAL_TOKENS = (
    '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>',
    '<|image_pad|>', '<|video_pad|>')
END_OF_TEXT, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO = range(256, 263)
VOCABULARY_SIZE = 272  # 256 bytes, the special tokens and some that nobody uses


@dataclass(frozen=True)
class Shape:
    """What the configuration of a small model is made of."""

    model_type: str
    vision: dict[str, Any]
    text: dict[str, Any]
    mrope_section: tuple[int, int, int]
    ties_embeddings: bool


NARROW_TEXT = {
    'hidden_size': 48, 'intermediate_size': 80, 'num_hidden_layers': 3, 'num_attention_heads': 4,
    'num_key_value_heads': 2}
WIDE_TEXT = {
    'hidden_size': 80, 'intermediate_size': 112, 'num_hidden_layers': 2, 'num_attention_heads': 5,
    'num_key_value_heads': 1}

# Different in every size that the sparse forward could mix up, down to the M-RoPE sections.
SHAPES: dict[str, Shape] = {
    'narrow': Shape(
        'qwen2_vl',
        {'depth': 2, 'embed_dim': 48, 'num_heads': 3, 'mlp_ratio': 2, 'hidden_size': 48},
        NARROW_TEXT, (2, 2, 2), True),
    'wide': Shape(
        'qwen2_vl',
        {'depth': 3, 'embed_dim': 64, 'num_heads': 2, 'mlp_ratio': 4, 'hidden_size': 80},
        WIDE_TEXT, (2, 3, 3), False),
    'qwen2.5 narrow': Shape(  # windows of 4 x 4 tokens, as in every published checkpoint
        'qwen2_5_vl',
        {'depth': 4, 'hidden_size': 48, 'num_heads': 3, 'intermediate_size': 80,
         'out_hidden_size': 48, 'window_size': 112, 'fullatt_block_indexes': [1, 3]},
        NARROW_TEXT, (2, 2, 2), True),
    'qwen2.5 wide': Shape(  # windows of 3 x 3 tokens
        'qwen2_5_vl',
        {'depth': 3, 'hidden_size': 64, 'num_heads': 2, 'intermediate_size': 112,
         'out_hidden_size': 80, 'window_size': 84, 'fullatt_block_indexes': [2]},
        WIDE_TEXT, (2, 3, 3), False),
    'qwen3 narrow': Shape(
        'qwen3_vl',
        {'depth': 3, 'hidden_size': 48, 'num_heads': 3, 'intermediate_size': 80,
         'out_hidden_size': 48, 'num_position_embeddings': 36,
         'deepstack_visual_indexes': [0, 2]},
        {**NARROW_TEXT, 'head_dim': 16}, (4, 2, 2), True),
    'qwen3 wide': Shape(
        'qwen3_vl',
        {'depth': 4, 'hidden_size': 64, 'num_heads': 2, 'intermediate_size': 112,
         'out_hidden_size': 80, 'num_position_embeddings': 49, 'deepstack_visual_indexes': [1]},
        {**WIDE_TEXT, 'head_dim': 12}, (2, 2, 2), False),
}


def make_config(name: str | Shape) -> Any:
    """Return the configuration of a shape, or of one of ``SHAPES``."""
    shape = SHAPES[name] if isinstance(name, str) else name
    rope: dict[str, Any] = {
        'rope_type': 'default', 'mrope_section': list(shape.mrope_section),
        'rope_theta': 10000.0}
    if shape.model_type == 'qwen3_vl':
        rope['mrope_interleaved'] = True
    return AutoConfig.for_model(
        shape.model_type,
        text_config={
            **shape.text, 'vocab_size': VOCABULARY_SIZE, 'rope_parameters': rope,
            'max_position_embeddings': 2048, 'bos_token_id': END_OF_TEXT,
            'eos_token_id': TURN_END},
        vision_config=dict(shape.vision),
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END, tie_word_embeddings=shape.ties_embeddings)


def patch_size_of(name: str) -> int:
    """Return the side of a patch in pixels; 14 for the embedded model too."""
    return 16 if name in SHAPES and SHAPES[name].model_type == 'qwen3_vl' else 14
