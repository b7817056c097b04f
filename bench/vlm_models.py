"""Models, prompts and pictures for the benchmarks of the vision-language model."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.packed_weights import PackedEmbedding, PackedLinear, PackedMatrix
from epvlm_ros.vlm.packed_weights.rounding import GROUP_SIZE
from epvlm_ros.vlm.sparse_qwen import SparseBackend, SparseQwenVl, VisionInput
from epvlm_ros.vlm.token_selection import token_budget
import numpy as np
import torch
from torch import nn, Tensor
from transformers import (
    AutoModelForImageTextToText, Qwen2VLConfig, Qwen2VLForConditionalGeneration)

# Rows and columns of visual tokens.
GRIDS = {'448x448': (16, 16), '640x480': (17, 23), '1280x720': (26, 46), '1920x1080': (39, 69)}
# Of the 40 tokens of text 15 stand before the image, as in the chat template of Qwen2-VL.
NUM_TEXT_BEFORE, NUM_TEXT_AFTER = 15, 25
_ROPE = {'rope_type': 'default', 'mrope_section': [16, 24, 24], 'rope_theta': 1e6}
_TEXT: dict[str, dict[str, Any]] = {
    '2b': {'hidden_size': 1536, 'num_hidden_layers': 28, 'num_attention_heads': 12,
           'num_key_value_heads': 2, 'intermediate_size': 8960, 'vocab_size': 151936},
    '7b': {'hidden_size': 3584, 'num_hidden_layers': 28, 'num_attention_heads': 28,
           'num_key_value_heads': 4, 'intermediate_size': 18944, 'vocab_size': 152064}}
_VISION = {'depth': 32, 'embed_dim': 1280, 'num_heads': 16, 'mlp_ratio': 4}
# The width of everything divided by ten or more, to try a benchmark out on a CPU.
_SMALL_TEXT = {'hidden_size': 96, 'num_hidden_layers': 3, 'num_attention_heads': 3,
               'num_key_value_heads': 1, 'intermediate_size': 192, 'vocab_size': 2000}
ATTENTIONS = ('eager', 'sdpa')  # back ends of the library, the one that it chooses itself last
SHAPES = ('2b', '7b', 'small', 'embedded')


def load_model(shape: str, device: str, weights: str = 'as_stored') -> Any:
    """
    Return the library's model: random weights, or the embedded checkpoint.

    Random ones are in bfloat16, or packed as the parameter ``weights`` says.
    """
    if shape == 'embedded':
        dtype = torch.float32 if device == 'cpu' else torch.bfloat16
        model: Any = AutoModelForImageTextToText.from_pretrained(
            EMBEDDED_MODEL, dtype=dtype, attn_implementation='sdpa')
        return model.to(device).eval()
    is_small = shape == 'small'
    text = _SMALL_TEXT if is_small else _TEXT[shape]
    vision = {**_VISION, 'hidden_size': text['hidden_size']}
    rope = dict(_ROPE)
    options: dict[str, Any] = {}
    if is_small:
        vision.update({'depth': 2, 'embed_dim': 64, 'num_heads': 4})
        rope['mrope_section'] = [4, 6, 6]
        options = {'image_token_id': 1999, 'bos_token_id': 0, 'eos_token_id': 1}
    config = Qwen2VLConfig(
        vision_config=vision, text_config={**text, 'rope_parameters': rope},
        tie_word_embeddings=shape != '7b', **options)
    default = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if is_small and device == 'cpu' else torch.bfloat16)
    try:
        with torch.device(device if weights == 'as_stored' else 'meta'):
            model = Qwen2VLForConditionalGeneration(config).eval()
        if weights != 'as_stored':
            fill_with_packed_weights(model, weights, device)
    finally:
        torch.set_default_dtype(default)
    return model


def fill_with_packed_weights(model: Any, weights: str, device: str) -> None:
    """Give a model on no device random weights, packed as ``rounding`` would do it."""
    dtype = torch.get_default_dtype()
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            is_layer = name.startswith('model.language_model.layers.')
            rows, columns = module.weight.shape
            matrix = random_matrix(
                rows, columns, 4 if weights == 'int4' and is_layer else 8, device)
            packed: nn.Module = PackedEmbedding(matrix, dtype)
            if isinstance(module, nn.Linear):
                bias = None if module.bias is None else torch.zeros(matrix.shape[0], device=device)
                packed = PackedLinear(matrix, bias)
            model.set_submodule(name, packed)
        elif any(tensor.is_meta for tensor in (
                *module.parameters(recurse=False), *module.buffers(recurse=False))):
            module.to_empty(device='cpu', recurse=False)
            model._init_weights(module)
            module.to(device)
    if model.config.tie_word_embeddings:
        model.set_output_embeddings(PackedLinear(model.get_input_embeddings().matrix, None))


def random_matrix(rows: int, columns: int, bits: int, device: str) -> PackedMatrix:
    """Return random numbers with a standard deviation of 0.02, groups as in ``rounding``."""
    if bits == 8:
        numbers = torch.randint(-127, 128, (rows, 1, columns), dtype=torch.int8, device=device)
        scales = torch.full((rows, 1), 0.02 / 73.3, dtype=torch.float32, device=device)
        return PackedMatrix(numbers, scales, None, columns)
    groups = -(-columns // GROUP_SIZE)
    numbers = torch.randint(
        0, 256, (rows, groups, GROUP_SIZE // 2), dtype=torch.uint8, device=device)
    scales = torch.full((rows, groups), 0.02 / 4.6, dtype=torch.float16, device=device)
    zeros = torch.randint(7, 9, (rows, groups), dtype=torch.uint8, device=device)
    return PackedMatrix(numbers, scales, zeros, columns)


def make_prompt(config: Any, num_visual_tokens: int, seed: int = 0) -> Tensor:
    """Return 40 random tokens of text around an image."""
    random = np.random.default_rng(seed)
    text = torch.from_numpy(random.integers(2, 30, NUM_TEXT_BEFORE + NUM_TEXT_AFTER))
    image = torch.full((num_visual_tokens,), config.image_token_id)
    return torch.cat([text[:NUM_TEXT_BEFORE], image, text[NUM_TEXT_BEFORE:]])


def make_vision(
    config: Any, rows: int, cols: int, keep_ratio: float, device: str = 'cpu', seed: int = 0,
) -> VisionInput:
    """Return patches of noise, an even share of the tokens kept."""
    num_tokens = rows * cols
    budget = token_budget(keep_ratio, num_tokens)
    kept = np.floor(np.arange(budget) * num_tokens / budget).astype(np.int64)
    random = np.random.default_rng(seed)
    pixels = random.standard_normal(
        (4 * num_tokens, ModelShape.from_config(config).patch_values), dtype=np.float32)
    return VisionInput(torch.from_numpy(pixels).to(device), rows, cols, kept)


def prompt_logits(model: SparseBackend, prompt_ids: Tensor, vision: VisionInput) -> Tensor:
    """Return the logits after the prompt, float32."""
    logits: Tensor = model.prefill(prompt_ids, vision, model.encode(vision)).logits
    return logits.float()


def library_logits(library: Any, prompt_ids: Tensor, vision: VisionInput) -> dict[str, Tensor]:
    """Return the logits after the prompt by each attention of the library, float32."""
    model, logits = SparseQwenVl(library), {}
    for attention in ATTENTIONS:
        library.set_attn_implementation(attention)
        logits[attention] = prompt_logits(model, prompt_ids, vision)
    return logits
