"""Small models, with random weights or embedded, and checkpoint folders of them."""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl, VisionInput
import numpy as np
import pytest
from qwen_shapes import (
    END_OF_TEXT, IMAGE, make_config, patch_size_of, Shape, SHAPES, SPECIAL_TOKENS, TURN_END,
    TURN_START, VIDEO, VISION_END, VISION_START)
from safetensors.torch import save_file
from tokenizers import decoders, pre_tokenizers, Tokenizer
from tokenizers.models import BPE
import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    '<|vision_start|><|image_pad|><|vision_end|>'
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}')

EMBEDDED = 'embedded'
MODELS = (*SHAPES, EMBEDDED)
needs_gpu = pytest.mark.gpu


def make_model(shape: str | Shape, attention: Any = 'sdpa', seed: int = 0) -> Any:
    """
    Return one of ``MODELS``, or a model of another shape, in float32.

    Random weights are of a size that keeps the signal, so that every position matters.
    """
    if shape == EMBEDDED:
        require_embedded_model()
        return AutoModelForImageTextToText.from_pretrained(
            EMBEDDED_MODEL, dtype=torch.float32, attn_implementation=attention)
    config = make_config(shape)
    config._attn_implementation = attention
    model = AutoModelForImageTextToText.from_config(config).eval()
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


def with_lengths(cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """
    Append to each case, which begins with one of ``MODELS``, the length of its answer.

    128 tokens in the first case of each family, else 24; that the others agree for 128 as well is
    left to the slow tests.
    """
    lengthened, families = [], {'embedded'}
    for case in cases:
        family = SHAPES[case[0]].model_type if case[0] in SHAPES else 'embedded'
        if family not in families:
            families.add(family)
            lengthened.append(pytest.param(*case, 128, marks=pytest.mark.long))
        else:
            lengthened += [(*case, 24), pytest.param(*case, 128, marks=pytest.mark.slow)]
    return lengthened


def library_of(engine: VlmEngine) -> Any:
    """Return the library's model in an eager engine."""
    model = engine._model
    assert isinstance(model, SparseQwenVl)
    return model.library_model


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


def make_moments_prompt(
    shape: str, num_moments: int, num_visual_tokens: int, seconds_between: float = 1.0,
    question: str = 'what moves?',
) -> torch.Tensor:
    """Return a prompt about moments of so many tokens each, by hand; int64, 1-D."""
    if shape != EMBEDDED and SHAPES[shape].model_type == 'qwen3_vl':
        video = [
            token for moment in range(num_moments) for token in (
                *f'<{moment * seconds_between:.1f} seconds>'.encode(), VISION_START,
                *[VIDEO] * num_visual_tokens, VISION_END)]
    else:
        video = [VISION_START, *[VIDEO] * (num_moments * num_visual_tokens), VISION_END]
    return torch.tensor([
        TURN_START, *b'user\n', *video, *question.encode(), TURN_END, *b'\n', TURN_START,
        *b'assistant\n'])


def make_vision(
    rows: int, cols: int, keep_ratio: float, seed: int = 0, *, shape: str = 'narrow',
    num_moments: int = 1, seconds_between: float = 1.0,
) -> VisionInput:
    """Return random patches for one of ``MODELS``, of which a random part is kept."""
    random = np.random.default_rng(seed)
    num_tokens = num_moments * rows * cols
    num_kept = max(1, round(keep_ratio * num_tokens))
    kept_indices = np.sort(random.permutation(num_tokens)[:num_kept])
    num_values = 3 * 2 * patch_size_of(shape) ** 2
    pixels = random.normal(size=(4 * num_tokens, num_values)).astype(np.float32)
    return VisionInput(
        torch.from_numpy(pixels), rows, cols, kept_indices, num_moments, seconds_between)


def library_inputs(
    vision: VisionInput, prompt_ids: Tensor, image_token_id: int = IMAGE,
) -> dict[str, Tensor]:
    """Return what the library's own forward takes."""
    grid = torch.tensor([[vision.num_moments, 2 * vision.rows, 2 * vision.cols]])
    inputs = {'input_ids': prompt_ids[None], 'attention_mask': torch.ones_like(prompt_ids)[None]}
    if vision.num_moments > 1:
        return {
            **inputs, 'pixel_values_videos': vision.pixel_values, 'video_grid_thw': grid,
            'mm_token_type_ids': 2 * (prompt_ids == VIDEO).int()[None]}
    return {
        **inputs, 'pixel_values': vision.pixel_values, 'image_grid_thw': grid,
        'mm_token_type_ids': (prompt_ids == image_token_id).int()[None]}


def save_checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """Write a checkpoint folder whose parts transformers saved one by one, and return it."""
    model.generation_config.eos_token_id = [TURN_END, END_OF_TEXT]
    model.save_pretrained(folder)
    make_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    patch_size = model.config.vision_config.patch_size
    write_json(folder / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': patch_size,
        'merge_size': 2, 'temporal_patch_size': 2,
        'size': {'shortest_edge': 56 * 56, 'longest_edge': (2 * patch_size) ** 2 * 64}})
    return folder


def save_processor_checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """Write a checkpoint folder as transformers does with a processor today, and return it."""
    save_checkpoint(folder, model)
    parts = folder / 'preprocessor_config.json'
    write_json(folder / 'processor_config.json', {
        'image_processor': json.loads(parts.read_text(encoding='utf-8')),
        'video_processor': {'video_processor_type': 'Qwen2VLVideoProcessor'}})
    parts.unlink()
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


def save_original_checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """
    Write a checkpoint folder laid out as the makers published their models, and return it.

    That is, up to Qwen2.5-VL: sizes of the language model at the top level of config.json, other
    weight names, min_pixels and max_pixels. In all families: chat_template.json beside the
    processor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'config.json', original_config(model))
    write_json(folder / 'generation_config.json', {
        'bos_token_id': END_OF_TEXT, 'pad_token_id': END_OF_TEXT, 'do_sample': True,
        'eos_token_id': [TURN_END, END_OF_TEXT], 'temperature': 0.01, 'top_k': 1,
        'top_p': 0.001, 'repetition_penalty': 1.0})
    is_qwen3 = model.config.model_type == 'qwen3_vl'
    weights = {}
    for name, weight in model.state_dict().items():
        if name == 'lm_head.weight' and model.config.tie_word_embeddings:
            continue
        if not is_qwen3:
            name = name.replace('model.visual.', 'visual.')
            name = name.replace('model.language_model.', 'model.')
        weights[name] = weight.contiguous()
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
    make_tokenizer(chat_template=None).save_pretrained(folder)
    write_json(folder / 'chat_template.json', {'chat_template': CHAT_TEMPLATE})
    cut = {'temporal_patch_size': 2, 'merge_size': 2}
    write_json(folder / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessorFast', 'patch_size': 16, **cut,
        'size': {'shortest_edge': 65536, 'longest_edge': 16777216},
        'image_mean': [0.5] * 3, 'image_std': [0.5] * 3,
    } if is_qwen3 else {
        'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': 14, **cut,
        'min_pixels': 3136, 'max_pixels': 12845056,
        'image_mean': [0.48145466, 0.4578275, 0.40821073],
        'image_std': [0.26862954, 0.26130258, 0.27577711]})
    return folder


def original_config(model: PreTrainedModel) -> dict[str, Any]:
    """Return config.json as the makers of each family wrote it."""
    config = model.config
    text, vision = config.text_config.to_dict(), config.vision_config.to_dict()
    rope = text.pop('rope_parameters')
    top = {
        'architectures': [type(model).__name__], 'model_type': config.model_type,
        'image_token_id': IMAGE, 'video_token_id': VIDEO, 'vision_start_token_id': VISION_START,
        'vision_end_token_id': VISION_END, 'tie_word_embeddings': config.tie_word_embeddings}
    text_names = [
        'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
        'num_key_value_heads', 'vocab_size', 'max_position_embeddings', 'rms_norm_eps',
        'hidden_act', 'bos_token_id', 'eos_token_id', 'attention_dropout', 'initializer_range',
        'use_cache', 'head_dim', 'attention_bias', 'use_sliding_window']
    sizes = {name: text[name] for name in text_names if name in text}
    vision = {name: vision[name] for name in (
        'depth', 'embed_dim', 'mlp_ratio', 'num_heads', 'hidden_size', 'hidden_act',
        'intermediate_size', 'out_hidden_size', 'patch_size', 'spatial_merge_size',
        'temporal_patch_size', 'window_size', 'fullatt_block_indexes', 'tokens_per_second',
        'num_position_embeddings', 'deepstack_visual_indexes') if name in vision}
    if config.model_type == 'qwen3_vl':
        scaling = {name: rope[name] for name in ('rope_type', 'mrope_section')}
        return {
            **top, 'vision_config': {**vision, 'model_type': 'qwen3_vl', 'in_channels': 3},
            'text_config': {
                **sizes, 'model_type': 'qwen3_vl_text', 'rope_theta': rope['rope_theta'],
                'rope_scaling': {**scaling, 'mrope_interleaved': True}}}
    return {
        **top, **sizes, 'sliding_window': 32768, 'max_window_layers': 28,
        'torch_dtype': 'bfloat16', 'transformers_version': '4.41.2',
        'rope_theta': rope['rope_theta'],
        'rope_scaling': {'type': 'mrope', 'mrope_section': rope['mrope_section']},
        'vision_config': {
            **vision, 'in_chans': 3, 'spatial_patch_size': vision['patch_size'],
            **({'model_type': 'qwen2_5_vl'} if config.model_type == 'qwen2_5_vl' else {})}}
