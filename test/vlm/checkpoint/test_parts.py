"""Templates, image processors and skip lists as other versions of the library wrote them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.checkpoint.chat_template import read_chat_template
from epvlm_ros.vlm.checkpoint.weights import check_quantization
from epvlm_ros.vlm.config import VlmConfig
from published_checkpoints import save_published_checkpoint
import pytest
from qwen_checkpoints import write_json
from transformers import Qwen2VLProcessor
from transformers.quantizers.quantizers_utils import should_convert_module

LIST_FORM = [{'name': 'tool_use', 'template': 'tools'}, {'name': 'default', 'template': 'one'}]


@pytest.mark.parametrize('files, expected', [
    ({'chat_template.json': {'chat_template': 'one'}}, 'one'),
    ({'chat_template.json': {'chat_template': LIST_FORM}}, 'one'),
    ({'chat_template.json': {'chat_template': {'default': 'one', 'rag': 'two'}}}, 'one'),
    ({'chat_template.jinja': 'one'}, 'one'),
    # the library reads the older file first
    ({'chat_template.json': {'chat_template': 'one'}, 'chat_template.jinja': 'two'}, 'one'),
    ({'processor_config.json': {'chat_template': 'one'}, 'chat_template.jinja': 'two'}, 'one'),
    ({'processor_config.json': {'image_processor': {}}, 'chat_template.jinja': 'two'}, 'two'),
])
def test_the_processors_template_goes_first(
    files: dict[str, Any], expected: str, tmp_path: Path,
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(
            content if isinstance(content, str) else json.dumps(content), encoding='utf-8')
    tokenizer = SimpleNamespace(chat_template='text only')
    assert read_chat_template(tmp_path, tokenizer) == expected
    settings, _ = Qwen2VLProcessor.get_processor_dict(tmp_path, local_files_only=True)
    if isinstance(settings['chat_template'], str):
        assert settings['chat_template'] == expected


def test_the_tokenizers_template_comes_last(tmp_path: Path) -> None:
    for template in ('one', {'default': 'one', 'tool_use': 'tools'}):
        assert read_chat_template(tmp_path, SimpleNamespace(chat_template=template)) == 'one'


def test_bounds_under_older_names_are_the_same(tmp_path: Path) -> None:
    folder = save_published_checkpoint(tmp_path, 'Qwen2-VL-2B-Instruct')
    path = folder / 'preprocessor_config.json'
    settings = json.loads(path.read_text(encoding='utf-8'))
    del settings['min_pixels'], settings['max_pixels']
    write_json(path, {**settings, 'size': {'min_pixels': 3136, 'max_pixels': 200704}})
    checkpoint = load_checkpoint(VlmConfig(model=str(folder), device='cpu'))
    assert checkpoint.geometry.min_pixels == 3136 and checkpoint.geometry.max_pixels == 200704
    assert checkpoint.image_processor.size == {'shortest_edge': 3136, 'longest_edge': 200704}


@pytest.mark.parametrize('key, published', [
    ('modules_to_not_convert', ['visual']),  # AWQ of Qwen2-VL and Qwen2.5-VL
    ('llm_int8_skip_modules', ['visual', 'model.layers.1']),
    ('modules_to_not_convert', None)])
def test_published_skip_lists_hold_for_present_names(
    key: str, published: list[str] | None,
) -> None:
    config = SimpleNamespace(quantization_config={'quant_method': 'awq', key: published})
    check_quantization(config)
    names = config.quantization_config[key]
    language = 'model.language_model.layers.0.mlp.up_proj'
    if published is None:
        assert names is None
        return
    assert not should_convert_module('model.visual.blocks.0.attn.qkv', names)
    assert should_convert_module(language, names)
    assert should_convert_module('model.language_model.layers.2.mlp.up_proj', names)
    left = 'model.language_model.layers.1.mlp.up_proj'
    assert should_convert_module(left, names) == ('model.layers.1' not in published)


def test_patterns_of_compressed_tensors_are_completed() -> None:
    config = SimpleNamespace(quantization_config={
        'quant_method': 'compressed-tensors', 'ignore': ['re:visual.*', 'lm_head']})
    check_quantization(config)
    assert config.quantization_config['ignore'] == [
        're:visual.*', 'lm_head', 're:model.visual.*']


def test_an_end_that_never_comes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    folder = save_published_checkpoint(tmp_path, 'Qwen2-VL-2B-Instruct')
    write_json(folder / 'generation_config.json', {'eos_token_id': [151645, 151643]})
    load_checkpoint(VlmConfig(model=str(folder), device='cpu'))
    assert 'its end tokens are [151643, 151645], its vocabulary has 352' in caplog.text
