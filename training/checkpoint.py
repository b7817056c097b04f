"""Makes the small model, and writes it as a folder that the library loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from training.config import MAX_PIXELS, MIN_PIXELS
from training.tokenizer import (
    build_tokenizer, build_vocabulary, END, IMAGE, PADDING, VIDEO, VISION_END, VISION_START)
from transformers import (
    AutoTokenizer, GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration)

# Mean and spread of the pixel values that the image processor of Qwen2-VL takes away.
_EMBEDDING_STD = 0.1
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


def build_model_config() -> Qwen2VLConfig:
    """Return the architecture: 6 encoder layers and 8 language layers, 9.2 M parameters."""
    numbers = build_vocabulary()
    text = {
        'vocab_size': len(numbers), 'hidden_size': 256, 'intermediate_size': 640,
        'num_hidden_layers': 8, 'num_attention_heads': 4, 'num_key_value_heads': 2,
        'max_position_embeddings': 4096, 'rms_norm_eps': 1e-6,
        'bos_token_id': None, 'eos_token_id': numbers[END], 'pad_token_id': numbers[PADDING],
        'rope_parameters': {
            'rope_type': 'default', 'rope_theta': 10000.0, 'mrope_section': [8, 12, 12]},
    }
    vision = {
        'depth': 6, 'embed_dim': 192, 'hidden_size': 256, 'num_heads': 6, 'mlp_ratio': 4,
        'patch_size': 14, 'spatial_merge_size': 2, 'temporal_patch_size': 2}
    return Qwen2VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True,
        image_token_id=numbers[IMAGE], video_token_id=numbers[VIDEO],
        vision_start_token_id=numbers[VISION_START], vision_end_token_id=numbers[VISION_END])


def build_model() -> Qwen2VLForConditionalGeneration:
    """Return the model with random weights (torch's global generator)."""
    config = build_model_config()
    config._attn_implementation = 'sdpa'
    model = Qwen2VLForConditionalGeneration(config)
    # As wide as what they meet in the stream: words that start close together stay so for long.
    embeddings = model.get_input_embeddings().get_parameter('weight')
    torch.nn.init.normal_(embeddings, std=_EMBEDDING_STD)
    return model


def load_weights(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """
    Take over the weights of a checkpoint of the same architecture.

    Its vocabulary may be the first part of that of the model: the rest stays as it is.
    """
    saved = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    weights = saved.state_dict()
    numbers = AutoTokenizer.from_pretrained(folder, local_files_only=True).get_vocab()
    if not numbers.items() <= build_vocabulary().items():
        raise ValueError(f'{folder} has other words: give a checkpoint of this vocabulary')
    for name, drawn in model.state_dict().items():
        known = weights[name]
        if drawn.ndim and len(known) < len(drawn):  # rows of words
            weights[name] = torch.cat([known, drawn[len(known):].to(known.device)])
    model.load_state_dict(weights)


def _image_processor_config() -> dict[str, Any]:
    return {
        'image_processor_type': 'Qwen2VLImageProcessor', 'do_convert_rgb': True,
        'do_resize': True, 'resample': 3, 'do_rescale': True, 'rescale_factor': 1 / 255,
        'do_normalize': True, 'image_mean': list(IMAGE_MEAN), 'image_std': list(IMAGE_STD),
        'patch_size': 14, 'temporal_patch_size': 2, 'merge_size': 2,
        'size': {'shortest_edge': MIN_PIXELS, 'longest_edge': MAX_PIXELS},
    }


def save_checkpoint(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """
    Write weights (float16), configuration, tokenizer and image processor.

    The model itself is left as it is. The folder is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = build_vocabulary()
    config = build_model_config()
    copy = Qwen2VLForConditionalGeneration(config)
    copy.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
    copy.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=numbers[END], pad_token_id=numbers[PADDING])
    copy.half().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(
        json.dumps(_image_processor_config(), indent=2) + '\n')
