"""Small Qwen2-VL models, with random weights or embedded, and checkpoint folders of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from epvlm_ros.core.checkpoint import EMBEDDED_MODEL
from epvlm_ros.core.sparse_qwen_vl import VisionInput
import numpy as np
import pytest
from safetensors.torch import save_file
from tokenizers import decoders, pre_tokenizers, Tokenizer
from tokenizers.models import BPE
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer, PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration)

SPECIAL_TOKENS = (
    '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>',
    '<|image_pad|>', '<|video_pad|>')
END_OF_TEXT, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO = range(256, 263)
VOCABULARY_SIZE = 272  # 256 bytes, the special tokens and some that nobody uses
PATCH_VALUES = 3 * 2 * 14 * 14

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    '<|vision_start|><|image_pad|><|vision_end|>'
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}')

# Different in every size that the sparse forward could mix up, down to the M-RoPE sections.
VISION_SHAPES: dict[str, dict[str, Any]] = {
    'narrow': {'depth': 2, 'embed_dim': 48, 'num_heads': 3, 'mlp_ratio': 2, 'hidden_size': 48},
    'wide': {'depth': 3, 'embed_dim': 64, 'num_heads': 2, 'mlp_ratio': 4, 'hidden_size': 80},
}
TEXT_SHAPES: dict[str, dict[str, Any]] = {
    'narrow': {
        'hidden_size': 48, 'intermediate_size': 80, 'num_hidden_layers': 3,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'mrope_section': [2, 2, 2]},
    'wide': {
        'hidden_size': 80, 'intermediate_size': 112, 'num_hidden_layers': 2,
        'num_attention_heads': 5, 'num_key_value_heads': 1, 'mrope_section': [2, 3, 3]},
}
SHAPES = tuple(VISION_SHAPES)  # with random weights
EMBEDDED = 'embedded'
MODELS = (*SHAPES, EMBEDDED)


def make_config(shape: str) -> Qwen2VLConfig:
    """Return the configuration of one of ``SHAPES``."""
    text = dict(TEXT_SHAPES[shape])
    rope = {'rope_type': 'default', 'mrope_section': text.pop('mrope_section'),
            'rope_theta': 10000.0}
    return Qwen2VLConfig(
        text_config={
            **text, 'vocab_size': VOCABULARY_SIZE, 'rope_parameters': rope,
            'max_position_embeddings': 2048, 'bos_token_id': END_OF_TEXT,
            'eos_token_id': TURN_END},
        vision_config=dict(VISION_SHAPES[shape]),
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END, tie_word_embeddings=shape == 'narrow')


def make_model(
    shape: str, attention: Any = 'sdpa', seed: int = 0,
) -> Qwen2VLForConditionalGeneration:
    """
    Return one of ``MODELS`` in float32.

    Random weights are of a size that keeps the signal, so that every position matters.
    """
    if shape == EMBEDDED:
        require_embedded_model()
        return Qwen2VLForConditionalGeneration.from_pretrained(
            EMBEDDED_MODEL, dtype=torch.float32, attn_implementation=attention)
    config = make_config(shape)
    config._attn_implementation = attention
    model = Qwen2VLForConditionalGeneration(config).eval()
    model.set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
    return model


def require_embedded_model() -> None:
    """Skip the test where the embedded checkpoint is absent."""
    if not (EMBEDDED_MODEL / 'model.safetensors').is_file():
        pytest.skip(f'no embedded checkpoint: {EMBEDDED_MODEL} has no model.safetensors')


def make_prompt_for(shape: str, num_visual_tokens: int) -> torch.Tensor:
    """Return a prompt for one of ``MODELS``; int64, 1-D."""
    if shape != EMBEDDED:
        return make_prompt(num_visual_tokens)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_MODEL)
    text = tokenizer.apply_chat_template(
        [{'role': 'user', 'content': [
            {'type': 'image'}, {'type': 'text', 'text': 'what color is the moving circle ?'}]}],
        tokenize=False, add_generation_prompt=True)
    image = tokenizer.convert_ids_to_tokens(make_model(shape).config.image_token_id)
    text = text.replace(image, image * num_visual_tokens)
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False))


def make_prompt(num_visual_tokens: int, question: str = 'what moves?') -> torch.Tensor:
    """Return the prompt that ``CHAT_TEMPLATE`` makes, written out by hand; int64, 1-D."""
    return torch.tensor([
        TURN_START, *b'user\n', VISION_START, *[IMAGE] * num_visual_tokens, VISION_END,
        *question.encode(), TURN_END, *b'\n', TURN_START, *b'assistant\n'])


def make_vision(rows: int, cols: int, keep_ratio: float, seed: int = 0) -> VisionInput:
    """Return random patches, of which a random part is kept."""
    random = np.random.default_rng(seed)
    num_tokens = rows * cols
    num_kept = max(1, round(keep_ratio * num_tokens))
    kept_indices = np.sort(random.permutation(num_tokens)[:num_kept])
    pixels = random.normal(size=(4 * num_tokens, PATCH_VALUES)).astype(np.float32)
    return VisionInput(torch.from_numpy(pixels), rows, cols, kept_indices)


def library_inputs(
    vision: VisionInput, prompt_ids: Tensor, image_token_id: int = IMAGE,
) -> dict[str, Tensor]:
    """Return what the library's own forward takes."""
    return {
        'input_ids': prompt_ids[None], 'pixel_values': vision.pixel_values,
        'image_grid_thw': torch.tensor([[1, 2 * vision.rows, 2 * vision.cols]]),
        'mm_token_type_ids': (prompt_ids == image_token_id).int()[None],
        'attention_mask': torch.ones_like(prompt_ids)[None]}


def save_checkpoint(folder: Path, model: Qwen2VLForConditionalGeneration) -> Path:
    """Write a checkpoint folder as transformers saves it today, and return it."""
    model.generation_config.eos_token_id = [TURN_END, END_OF_TEXT]
    model.save_pretrained(folder)
    make_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    write_json(folder / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': 14, 'merge_size': 2,
        'temporal_patch_size': 2,
        'size': {'shortest_edge': 56 * 56, 'longest_edge': 28 * 28 * 64}})
    return folder


def make_tokenizer(chat_template: str | None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes, where the id of a byte is its value."""
    # the byte-level alphabet of BPE writes each byte as one printable character
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(256 + place): byte for place, byte in enumerate(others)})
    tokenizer = Tokenizer(BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<|im_end|>', pad_token='<|endoftext|>',
        additional_special_tokens=list(SPECIAL_TOKENS), chat_template=chat_template)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON."""
    path.write_text(json.dumps(content), encoding='utf-8')


def save_original_checkpoint(folder: Path, model: Qwen2VLForConditionalGeneration) -> Path:
    """
    Write a checkpoint folder laid out as Qwen2-VL-2B-Instruct is on the hub, and return it.

    That is: sizes of the language model at the top level of config.json, other weight names,
    chat_template.json beside the processor, min_pixels and max_pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, vision = model.config.text_config, model.config.vision_config
    names = (
        'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
        'num_key_value_heads', 'vocab_size', 'max_position_embeddings', 'rms_norm_eps',
        'hidden_act', 'bos_token_id', 'eos_token_id', 'use_sliding_window')
    rope = text.rope_parameters
    write_json(folder / 'config.json', {
        **{name: getattr(text, name) for name in names},
        'architectures': ['Qwen2VLForConditionalGeneration'], 'model_type': 'qwen2_vl',
        'image_token_id': IMAGE, 'video_token_id': VIDEO, 'vision_start_token_id': VISION_START,
        'vision_end_token_id': VISION_END, 'vision_token_id': 261, 'sliding_window': 32768,
        'max_window_layers': 28, 'attention_dropout': 0.0, 'initializer_range': 0.02,
        'tie_word_embeddings': model.config.tie_word_embeddings, 'torch_dtype': 'bfloat16',
        'transformers_version': '4.41.2', 'use_cache': True, 'rope_theta': rope['rope_theta'],
        'rope_scaling': {'type': 'mrope', 'mrope_section': rope['mrope_section']},
        'vision_config': {
            'depth': vision.depth, 'embed_dim': vision.embed_dim, 'mlp_ratio': vision.mlp_ratio,
            'num_heads': vision.num_heads, 'in_chans': 3, 'hidden_size': vision.hidden_size,
            'patch_size': 14, 'spatial_merge_size': 2, 'spatial_patch_size': 14,
            'temporal_patch_size': 2}})
    write_json(folder / 'generation_config.json', {
        'bos_token_id': END_OF_TEXT, 'pad_token_id': END_OF_TEXT, 'do_sample': True,
        'eos_token_id': [TURN_END, END_OF_TEXT], 'temperature': 0.01, 'top_k': 1,
        'top_p': 0.001, 'repetition_penalty': 1.0})
    weights = {}
    for name, weight in model.state_dict().items():
        if name == 'lm_head.weight' and model.config.tie_word_embeddings:
            continue
        name = name.replace('model.visual.', 'visual.')
        weights[name.replace('model.language_model.', 'model.')] = weight.contiguous()
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
    make_tokenizer(chat_template=None).save_pretrained(folder)
    write_json(folder / 'chat_template.json', {'chat_template': CHAT_TEMPLATE})
    write_json(folder / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessor', 'min_pixels': 3136,
        'max_pixels': 12845056, 'patch_size': 14, 'temporal_patch_size': 2, 'merge_size': 2,
        'image_mean': [0.48145466, 0.4578275, 0.40821073],
        'image_std': [0.26862954, 0.26130258, 0.27577711]})
    return folder
