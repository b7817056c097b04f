"""
Checkpoints in the layouts in which the makers published their models, with a few small layers.

The keys of each file, the names of the files, the order of the special tokens, where templates
lie, number type and parts of the weights are those of the published models; sizes, vocabulary and
texts are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from qwen_checkpoints import write_json
from safetensors.torch import save_file
from tokenizers import pre_tokenizers, Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2Tokenizer

CONTROL_TOKENS = (
    '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>',
    '<|box_start|>', '<|box_end|>', '<|quad_start|>', '<|quad_end|>', '<|vision_start|>',
    '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>')
PLAIN_TOKENS = (
    '<tool_call>', '</tool_call>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>')
NUM_MERGED = 320  # ids of bytes and words; control tokens follow, as they do at 151643
SENTENCES = (
    'what is moving in front of the robot?', 'the red ball is moving to the left.',
    'how many objects are there in the picture?', 'there are two boxes and a ball on the ground.',
    'which color is the moving circle?', 'the left one stands still, the right one is moving.')
SYSTEM = 'You help a robot.'

# A template of the processor: knows images, and says by what a user's turn begins.
IMAGE_TEMPLATE = (
    '{% set images = namespace(count=0) %}{% for message in messages %}'
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + SYSTEM
    + '<|im_end|>\n{% endif %}'
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part %}{% set images.count = images.count + 1 %}"
    '{% if add_vision_id %}Picture {{ images.count }}: {% endif %}'
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in part %}{{ part['text'] }}"
    '{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}'
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}')
# A template of the tokenizer of Qwen2.5-VL: knows tools and text, and fails on a list of parts.
TEXT_TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}"
    "{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content "
    "+ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}")


@dataclass(frozen=True)
class Published:
    """What differs between the published models of one family."""

    model_type: str
    num_parts: int  # files of weights; one has no index
    ties_embeddings: bool
    vocabulary_size: int  # more than the tokenizer has, as published
    penalty: float


PUBLISHED = {
    'Qwen2-VL-2B-Instruct': Published('qwen2_vl', 2, True, 352, 1.0),
    'Qwen2-VL-7B-Instruct': Published('qwen2_vl', 5, False, 368, 1.0),
    'Qwen2.5-VL-3B-Instruct': Published('qwen2_5_vl', 2, True, 352, 1.05),
    'Qwen2.5-VL-7B-Instruct': Published('qwen2_5_vl', 5, False, 368, 1.05),
    'Qwen3-VL-2B-Instruct': Published('qwen3_vl', 1, True, 352, 1.0),
    'Qwen3-VL-4B-Instruct': Published('qwen3_vl', 2, True, 352, 1.0),
    'Qwen3-VL-8B-Instruct': Published('qwen3_vl', 4, False, 352, 1.0),
}


def token_id(token: str) -> int:
    """Return the id of one of ``CONTROL_TOKENS``."""
    return NUM_MERGED + CONTROL_TOKENS.index(token)


def save_published_checkpoint(folder: Path, name: str, seed: int = 0) -> Path:
    """Write one of ``PUBLISHED`` with random weights, and return the folder."""
    published = PUBLISHED[name]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'config.json', make_config(published))
    write_json(folder / 'generation_config.json', {
        'bos_token_id': token_id('<|endoftext|>'), 'pad_token_id': token_id('<|endoftext|>'),
        'do_sample': True, 'eos_token_id': [token_id('<|im_end|>'), token_id('<|endoftext|>')],
        'repetition_penalty': published.penalty, 'temperature': 0.1, 'top_p': 0.001, 'top_k': 1,
        'transformers_version': '4.37.0'})
    save_tokenizer(folder, published)
    write_json(folder / 'chat_template.json', {'chat_template': IMAGE_TEMPLATE})
    save_processors(folder, published)
    save_weights(folder, published, seed)
    return folder


def make_config(published: Published) -> dict[str, Any]:
    """Return config.json."""
    tokens = {
        'image_token_id': token_id('<|image_pad|>'), 'video_token_id': token_id('<|video_pad|>'),
        'vision_start_token_id': token_id('<|vision_start|>'),
        'vision_end_token_id': token_id('<|vision_end|>')}
    ends = {'bos_token_id': token_id('<|endoftext|>'), 'eos_token_id': token_id('<|im_end|>')}
    text = {
        'attention_dropout': 0.0, **ends, 'hidden_act': 'silu', 'hidden_size': 48,
        'initializer_range': 0.02, 'intermediate_size': 80, 'num_attention_heads': 4,
        'num_hidden_layers': 3, 'num_key_value_heads': 2, 'rms_norm_eps': 1e-06,
        'use_cache': True, 'vocab_size': published.vocabulary_size}
    if published.model_type == 'qwen3_vl':
        return {
            'architectures': ['Qwen3VLForConditionalGeneration'], 'model_type': 'qwen3_vl',
            'text_config': {
                **text, 'attention_bias': False, 'dtype': 'bfloat16', 'head_dim': 16,
                'max_position_embeddings': 262144, 'model_type': 'qwen3_vl_text',
                'rope_scaling': {
                    'mrope_interleaved': True, 'mrope_section': [4, 2, 2],
                    'rope_type': 'default'},
                'rope_theta': 5000000,
                **({'tie_word_embeddings': True} if published.ties_embeddings else {})},
            'tie_word_embeddings': published.ties_embeddings,
            'transformers_version': '4.57.0.dev0', **tokens,
            'vision_config': {
                'deepstack_visual_indexes': [0, 2], 'depth': 3,
                'hidden_act': 'gelu_pytorch_tanh', 'hidden_size': 48, 'in_channels': 3,
                'initializer_range': 0.02, 'intermediate_size': 80, 'model_type': 'qwen3_vl',
                'num_heads': 3, 'num_position_embeddings': 36, 'out_hidden_size': 48,
                'patch_size': 16, 'spatial_merge_size': 2, 'temporal_patch_size': 2}}
    top = {
        **text, **tokens, 'vision_token_id': token_id('<|vision_pad|>'),
        'model_type': published.model_type, 'tie_word_embeddings': published.ties_embeddings,
        'torch_dtype': 'bfloat16', 'transformers_version': '4.41.2', 'use_sliding_window': False,
        'sliding_window': 32768, 'rope_theta': 1000000.0,
        'rope_scaling': {'type': 'mrope', 'mrope_section': [2, 2, 2]}}
    if published.model_type == 'qwen2_vl':
        return {
            **top, 'architectures': ['Qwen2VLForConditionalGeneration'],
            'max_position_embeddings': 32768, 'max_window_layers': 28,
            'vision_config': {
                'depth': 2, 'embed_dim': 48, 'mlp_ratio': 2, 'num_heads': 3, 'in_chans': 3,
                'hidden_size': 48, 'patch_size': 14, 'spatial_merge_size': 2,
                'spatial_patch_size': 14, 'temporal_patch_size': 2}}
    return {
        **top, 'architectures': ['Qwen2_5_VLForConditionalGeneration'],
        'max_position_embeddings': 128000, 'max_window_layers': 70,
        'vision_config': {
            'depth': 4, 'hidden_act': 'silu', 'hidden_size': 48, 'intermediate_size': 80,
            'num_heads': 3, 'in_chans': 3, 'out_hidden_size': 48, 'patch_size': 14,
            'spatial_merge_size': 2, 'spatial_patch_size': 14, 'window_size': 112,
            'fullatt_block_indexes': [1, 3], 'tokens_per_second': 2, 'temporal_patch_size': 2}}


def save_tokenizer(folder: Path, published: Published) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json and merges.txt."""
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(SENTENCES * 2, BpeTrainer(
        vocab_size=NUM_MERGED, min_frequency=1, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert trained.get_vocab_size() == NUM_MERGED
    trained.model.save(str(folder))  # vocab.json, merges.txt
    merges: Any = [tuple(pair) for pair in json.loads(trained.to_str())['model']['merges']]
    tokenizer: Any = Qwen2Tokenizer(vocab=trained.get_vocab(), merges=merges)
    tokenizer.add_tokens(list(CONTROL_TOKENS), special_tokens=True)
    tokenizer.add_tokens(list(PLAIN_TOKENS))
    tokenizer.save_pretrained(folder)
    added = {
        str(NUM_MERGED + place): {
            'content': token, 'lstrip': False, 'normalized': False, 'rstrip': False,
            'single_word': False, 'special': token in CONTROL_TOKENS}
        for place, token in enumerate((*CONTROL_TOKENS, *PLAIN_TOKENS))}
    write_json(folder / 'tokenizer_config.json', {
        'add_bos_token': False, 'add_prefix_space': False, 'added_tokens_decoder': added,
        'additional_special_tokens': list(CONTROL_TOKENS[1:]), 'bos_token': None,
        'chat_template': TEXT_TEMPLATE if published.model_type == 'qwen2_5_vl'
        else IMAGE_TEMPLATE,
        'clean_up_tokenization_spaces': False, 'eos_token': '<|im_end|>', 'errors': 'replace',
        'model_max_length': 131072, 'pad_token': '<|endoftext|>', 'split_special_tokens': False,
        'tokenizer_class': 'Qwen2Tokenizer', 'unk_token': None})


def save_processors(folder: Path, published: Published) -> None:
    """Write preprocessor_config.json, and that of videos where there is one."""
    if published.model_type == 'qwen3_vl':
        half = {
            'patch_size': 16, 'temporal_patch_size': 2, 'merge_size': 2,
            'image_mean': [0.5] * 3, 'image_std': [0.5] * 3, 'processor_class': 'Qwen3VLProcessor',
            'size': {'longest_edge': 16777216, 'shortest_edge': 65536}}
        write_json(folder / 'preprocessor_config.json', {
            **half, 'image_processor_type': 'Qwen2VLImageProcessorFast'})
        write_json(folder / 'video_preprocessor_config.json', {
            **half, 'video_processor_type': 'Qwen3VLVideoProcessor',
            'size': {'longest_edge': 25165824, 'shortest_edge': 4096}})
        return
    write_json(folder / 'preprocessor_config.json', {
        'min_pixels': 3136, 'max_pixels': 12845056, 'patch_size': 14, 'temporal_patch_size': 2,
        'merge_size': 2, 'image_mean': [0.48145466, 0.4578275, 0.40821073],
        'image_std': [0.26862954, 0.26130258, 0.27577711],
        'image_processor_type': 'Qwen2VLImageProcessor',
        'processor_class': 'Qwen2VLProcessor' if published.model_type == 'qwen2_vl'
        else 'Qwen2_5_VLProcessor'})


def save_weights(folder: Path, published: Published, seed: int) -> None:
    """Write random bfloat16 weights under the published names, in parts with an index."""
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, weight in model.state_dict().items():
        if name == 'lm_head.weight' and published.ties_embeddings:
            continue
        if published.model_type != 'qwen3_vl':
            name = name.replace('model.visual.', 'visual.')
            name = name.replace('model.language_model.', 'model.')
        noise = torch.randn(weight.shape, generator=generator)
        weights[name] = (
            1.5 * noise / weight[0].numel() ** 0.5 if weight.ndim > 1
            else weight + 0.1 * noise).to(torch.bfloat16).contiguous()
    if published.num_parts == 1:
        save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
        return
    weight_map = {}
    for part, names in enumerate(_split(list(weights), published.num_parts), start=1):
        file_name = f'model-{part:05d}-of-{published.num_parts:05d}.safetensors'
        save_file({name: weights[name] for name in names}, folder / file_name,
                  metadata={'format': 'pt'})
        weight_map.update(dict.fromkeys(names, file_name))
    total = sum(weight.nbytes for weight in weights.values())
    write_json(folder / 'model.safetensors.index.json', {
        'metadata': {'total_size': total}, 'weight_map': weight_map})


def _split(names: list[str], num_parts: int) -> Iterator[list[str]]:
    length = -(-len(names) // num_parts)
    for start in range(0, len(names), length):
        yield names[start:start + length]
