"""Memory from the configuration alone, against the library's shapes and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epvlm_ros.cli import main
from epvlm_ros.cli.plan import read_memory
from epvlm_ros.vlm.checkpoint import load, load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.memory_plan import plan_memory, stored_bits, weight_bytes
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
from packed_checkpoints import FORMATS
from published_configs import PUBLISHED_CONFIGS
import pytest
from qwen_checkpoints import make_model, require_embedded_model, save_checkpoint, write_json
import torch
from transformers import AutoModelForImageTextToText


@pytest.mark.parametrize('name', [
    name if name in ('Qwen2.5-VL-3B', 'Qwen3-VL-2B') else
    pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED_CONFIGS])
def test_weights_are_those_of_the_library(name: str) -> None:
    with torch.device('meta'):
        model = AutoModelForImageTextToText.from_config(PUBLISHED_CONFIGS[name])
    expected = 2 * sum(weight.numel() for weight in model.parameters())  # bfloat16
    assert weight_bytes(PUBLISHED_CONFIGS[name], 'as_stored', 2) == pytest.approx(
        expected, rel=0.002)


@pytest.mark.parametrize('name, num_tokens, expected_mb', [
    # what torch allocated on an H200, bfloat16, all tokens kept: docs/benchmarks.md
    ('Qwen2-VL-2B', 256, 4673), ('Qwen2-VL-2B', 391, 4705), ('Qwen2-VL-2B', 1196, 4882),
    ('Qwen2-VL-2B', 2691, 5207), ('Qwen2-VL-7B', 1196, 17317), ('Qwen2-VL-7B', 2691, 17771)])
def test_totals_are_those_measured(name: str, num_tokens: int, expected_mb: float) -> None:
    plan = plan_memory(PUBLISHED_CONFIGS[name], VlmConfig(), num_tokens, on_gpu=True)
    assert plan.total / 1e6 == pytest.approx(expected_mb, rel=0.01)


@pytest.mark.parametrize('name, weights, expected_mb', [
    # as above, in the functions recorded as CUDA graphs, an image of 1280 x 720
    ('Qwen2-VL-2B', 'as_stored', 4844), ('Qwen2-VL-2B', 'int8', 2872),
    ('Qwen2-VL-2B', 'int4', 2256), ('Qwen2-VL-7B', 'as_stored', 17308),
    ('Qwen2-VL-7B', 'int8', 9419), ('Qwen2-VL-7B', 'int4', 6319)])
def test_totals_of_packed_weights_are_those_measured(
    name: str, weights: str, expected_mb: float,
) -> None:
    config = VlmConfig(weights=weights)
    plan = plan_memory(PUBLISHED_CONFIGS[name], config, 1196, on_gpu=True)
    assert plan.total / 1e6 == pytest.approx(expected_mb, rel=0.015)


@pytest.mark.parametrize('num_tokens, expected_mb', [(1196, 826), (2691, 1856)])
def test_a_scene_is_as_large_as_measured(num_tokens: int, expected_mb: float) -> None:
    config = VlmConfig(scene_memory=True)
    plan = plan_memory(PUBLISHED_CONFIGS['Qwen2-VL-2B'], config, num_tokens, on_gpu=True)
    assert plan.scene / 1e6 == pytest.approx(expected_mb, rel=0.01)
    alone = plan_memory(
        PUBLISHED_CONFIGS['Qwen2-VL-2B'], VlmConfig(scene_memory=True, memory_context='alone'),
        num_tokens, on_gpu=True)
    # 2 x 28 layers x 256 numbers of 2 bytes, and 1,536 of 2: a token of the language model
    assert alone.scene == (num_tokens + 64) * (28672 + 3072)


@pytest.mark.parametrize('weights', ['int8', 'int4'])
def test_a_loaded_model_is_as_large_as_planned(weights: str) -> None:
    require_embedded_model()
    model = load_checkpoint(VlmConfig(device='cpu', weights=weights, dtype='bfloat16')).model
    assert isinstance(model, SparseQwenVl)
    library = model.library_model
    tensors = {tensor.data_ptr(): tensor.nbytes
               for tensor in (*library.parameters(), *library.buffers())}
    # biases, norms and scales of rows count for more than in larger models
    assert weight_bytes(library.config, weights, 2) == pytest.approx(
        sum(tensors.values()), rel=0.05)


@pytest.mark.parametrize('name, expected', [
    ('awq', (4 + 24 / 16, 16.0)), ('gptq, 8 bits', (8 + 24 / 16, 16.0)),
    ('pack-quantized, W8A16', (8.0, 16.0)), ('fp8 in blocks', (8.0, 8.0))])
def test_bits_of_published_formats(name: str, expected: tuple[float, float]) -> None:
    config: Any = make_model('narrow').config
    config.quantization_config = FORMATS[name].quantization
    assert stored_bits(config, 2) == expected


@pytest.fixture(name='folder')
def folder_fixture(tmp_path: Path) -> Path:
    """Return a folder with the configuration of a model of 7B, and nothing else."""
    PUBLISHED_CONFIGS['Qwen2-VL-7B'].save_pretrained(tmp_path)
    write_json(tmp_path / 'preprocessor_config.json', {
        'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': 14, 'merge_size': 2,
        'temporal_patch_size': 2, 'size': {'shortest_edge': 3136, 'longest_edge': 12845056}})
    return tmp_path


def test_the_command_tells_what_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(['plan', '--model', str(folder), '--image', '1280x720', '--memory', '8GB'])
    first, heading, *rows, last = capsys.readouterr().out.splitlines()
    assert first.startswith('1196 visual tokens of 1280 x 720 px')
    assert [row.split()[:2] for row in rows] == [
        ['as_stored', '16.58'], ['int8', '8.29'], ['int4', '5.18']]
    assert [row.split().count('ok') for row in rows] == [0, 0, 3]
    assert last == ('in 8.0 GB fits at most: no scene: weights int4; scene alone: weights int4; '
                    'scene: weights int4')
    main(['plan', '--model', str(folder), '--memory', '4GB'])
    assert 'nothing; give a smaller model' in capsys.readouterr().out


@pytest.mark.parametrize('text, expected', [
    ('8GB', 8e9), ('7.5 GiB', 7.5 * 2 ** 30), ('800mb', 8e8), ('1000', 1000)])
def test_sizes_of_memory(text: str, expected: float) -> None:
    assert read_memory(text) == expected


@pytest.mark.parametrize('text', ['', 'GB', '-1GB', '0GB', '8 TB', '1e9'])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match='give a size such as 8GB'):
        read_memory(text)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_checkpoint(tmp_path, make_model('narrow'))
    monkeypatch.setattr(load, 'load_weights', None)
    monkeypatch.setattr(load, 'device_memory', lambda device: 50_000_000)
    with pytest.raises(ValueError) as error:
        load_checkpoint(VlmConfig(model=str(tmp_path), device='cpu'))
    assert 'it needs 0.1 GB (weights 0.00, ' in str(error.value)
    assert 'cpu has 0.1 GB: give a smaller model' in str(error.value)
