"""The published layouts: ids, pixels and answers equal those of the library."""

import json
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.prompt import PromptBuilder
import numpy as np
from published_checkpoints import PUBLISHED, save_published_checkpoint, token_id
import pytest
import torch
from transformers import (
    AutoModelForImageTextToText, AutoTokenizer, Qwen2VLImageProcessorPil, Qwen2VLProcessor)

pytestmark = pytest.mark.long

QUESTION = 'what is moving in front of the robot?'
# Qwen3-VL makes at least 65536 pixels of it, more than there are
PICTURE = np.random.default_rng(5).integers(0, 256, (90, 150, 3), dtype=np.uint8)


@pytest.mark.parametrize('name', PUBLISHED)
def test_ids_pixels_and_answers_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    folder = save_published_checkpoint(tmp_path / name, name)
    settings, _ = Qwen2VLProcessor.get_processor_dict(folder, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    pixels = Qwen2VLImageProcessorPil.from_pretrained(folder)(
        images=[PICTURE], return_tensors='pt')
    text = tokenizer.apply_chat_template(
        [{'role': 'user', 'content': [
            {'type': 'image'}, {'type': 'text', 'text': QUESTION}]}],
        chat_template=settings['chat_template'], tokenize=False, add_generation_prompt=True)
    num_tokens = len(pixels['pixel_values']) // 4
    ids = tokenizer(
        text.replace('<|image_pad|>', '<|image_pad|>' * num_tokens), return_tensors='pt')
    # the whole template was understood: a turn of the system, one image, the question
    assert text.count('<|image_pad|>') == 1 and QUESTION in text and 'You help a robot.' in text

    config = VlmConfig(
        model=str(folder), device='cpu', keep_ratio=1.0, max_new_tokens=64, dtype='float32')
    checkpoint = load_checkpoint(config)
    prompt = PromptBuilder(
        checkpoint.tokenizer, checkpoint.chat_template, token_id('<|image_pad|>'))
    assert prompt.prompt_ids(QUESTION, num_tokens).tolist() == ids['input_ids'][0].tolist()
    made = checkpoint.image_processor(images=[PICTURE], return_tensors='pt')
    assert torch.equal(made['pixel_values'], pixels['pixel_values'])
    grid = checkpoint.geometry.grid(*PICTURE.shape[:2])
    assert pixels['image_grid_thw'].tolist() == [[1, 2 * grid.rows, 2 * grid.cols]]

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert model.generation_config.repetition_penalty == PUBLISHED[name].penalty
    image = token_id('<|image_pad|>')
    generated = model.generate(
        **ids, **pixels, mm_token_type_ids=(ids['input_ids'] == image).int(),
        do_sample=False, max_new_tokens=64, min_new_tokens=None, temperature=None, top_p=None,
        top_k=None)[0, ids['input_ids'].shape[1]:]
    answer = VlmEngine(checkpoint, config).answer(PICTURE, QUESTION, None)
    expected = generated.tolist()
    assert len(set(expected)) > 3  # not one token over and over
    assert answer.num_generated_tokens == len(expected) == 64
    assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_the_parts_are_those_of_the_published_models(tmp_path: Path) -> None:
    folder = save_published_checkpoint(tmp_path, 'Qwen2.5-VL-7B-Instruct')
    assert sorted(path.name for path in folder.iterdir()) == [
        'chat_template.json', 'config.json', 'generation_config.json', 'merges.txt',
        *(f'model-0000{part}-of-00005.safetensors' for part in range(1, 6)),
        'model.safetensors.index.json', 'preprocessor_config.json', 'tokenizer.json',
        'tokenizer_config.json', 'vocab.json']
    index = json.loads((folder / 'model.safetensors.index.json').read_text(encoding='utf-8'))
    assert {'lm_head.weight', 'model.embed_tokens.weight', 'visual.blocks.0.attn.qkv.bias'} <= (
        set(index['weight_map']))
