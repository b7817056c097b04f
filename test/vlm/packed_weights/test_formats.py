"""Published formats of packed weights: each computes what its weights unpacked compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl, with_cuda_graphs
from epvlm_ros.vlm.packed_weights import PackedLinear
from epvlm_ros.vlm.packed_weights.rounding import round_to_eight_bits
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseBackend, SparseQwenVl
from packed_checkpoints import FORMATS, save_packed_checkpoint
import pytest
from qwen_checkpoints import library_inputs, make_prompt, make_vision, write_json
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

FAMILIES = ('narrow', 'qwen2.5 narrow', 'qwen3 narrow')
FAMILY_OF = dict(zip(('qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'), FAMILIES))
# Each format once, in one family after the other; the rest is slow.
CASES = [
    pytest.param(family, name, marks=() if turn % 3 == place else pytest.mark.slow)
    for turn, name in enumerate(FORMATS) for place, family in enumerate(FAMILIES)]
PROMPT = make_prompt(15)


def load(folder: Path, dtype: str = 'float32') -> SparseQwenVl:
    model = load_checkpoint(VlmConfig(model=str(folder), device='cpu', dtype=dtype)).model
    assert isinstance(model, SparseQwenVl)
    return model


def logits_of(model: SparseQwenVl, vision: Any) -> Tensor:
    return model.prompt_logits(PROMPT, vision, model.encode(vision)).float()


def tokens_of(model: SparseBackend) -> list[int]:
    """Return 64 tokens about a part of the visual tokens; a penalty makes them differ."""
    vision = make_vision(3, 5, keep_ratio=0.5, shape=FAMILY_OF[model.info.config.model_type])
    state = model.prefill(PROMPT, vision, model.encode(vision))
    return list(model.decode(state, (), 64, Sampling(repetition_penalty=1.2)))


@pytest.mark.parametrize('shape, name', CASES)
def test_packed_weights_compute_what_they_stand_for(
    shape: str, name: str, tmp_path: Path,
) -> None:
    unpacked = save_packed_checkpoint(tmp_path, shape, name)
    vision = make_vision(3, 5, keep_ratio=1.0, shape=shape)
    with torch.no_grad():
        expected = unpacked(**library_inputs(vision, PROMPT)).logits[0]
    model = load(tmp_path)
    kinds = {type(module) for module in model.library_model.model.language_model.modules()}
    assert PackedLinear in kinds and torch.nn.Linear not in kinds
    assert (logits_of(model, vision) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize('shape, name', [
    pytest.param(family, name, marks=() if (family, name) in (
        ('narrow', 'gptq, by activation'), ('qwen2.5 narrow', 'awq'),
        ('qwen3 narrow', 'fp8 in blocks')) else pytest.mark.slow)
    for name in FORMATS for family in FAMILIES])
def test_greedy_answers_are_those_of_the_weights_unpacked(
    shape: str, name: str, tmp_path: Path,
) -> None:
    unpacked = save_packed_checkpoint(tmp_path, shape, name, seed=1)
    tokens = tokens_of(load(tmp_path))
    assert tokens == tokens_of(SparseQwenVl(unpacked)) and len(set(tokens)) > 10


@pytest.mark.parametrize('name', ['awq', 'gptq', 'pack-quantized, W8A16', 'fp8 in blocks'])
def test_in_bfloat16_only_the_weights_are_rounded(name: str, tmp_path: Path) -> None:
    unpacked = save_packed_checkpoint(tmp_path, 'wide', name)
    for parameter in unpacked.parameters():  # and no frequencies of rotary embeddings
        parameter.data = parameter.data.bfloat16()
    vision = make_vision(3, 5, keep_ratio=0.5)
    model = load(tmp_path, 'bfloat16')
    expected = logits_of(SparseQwenVl(unpacked), vision)
    assert (logits_of(model, vision) - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize('shape, name', [
    ('narrow', 'gptq'), ('qwen2.5 narrow', 'fp8 in blocks'), ('qwen3 narrow', 'awq')])
def test_recorded_functions_compute_what_the_eager_model_does(
    shape: str, name: str, tmp_path: Path,
) -> None:
    save_packed_checkpoint(tmp_path, shape, name, seed=2)
    eager = load(tmp_path)
    vision = make_vision(3, 5, keep_ratio=0.5, shape=shape)
    expected, tokens = logits_of(eager, vision), tokens_of(eager)
    graphs = CudaGraphQwenVl(eager, cache_tokens=256)
    found = graphs.prefill(PROMPT, vision, graphs.encode(vision)).logits
    assert (found - expected[-1]).abs().max() <= 1e-4
    assert tokens_of(graphs) == tokens and len(set(tokens)) > 10
    assert torch.equal(logits_of(eager, vision), expected)  # its weights were moved, not changed


def test_matrices_in_different_formats_run_eagerly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', 'awq')
    eager = load(tmp_path)
    attention = eager.library_model.model.language_model.layers[1].self_attn
    matrix = attention.k_proj.matrix
    attention.k_proj.matrix = round_to_eight_bits(matrix.unpack(torch.float32))
    assert with_cuda_graphs(eager, (1.0,), 256) is eager
    assert 'not alike: their weights are packed in different ways' in caplog.text


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    config['quantization_config'].update(changes)
    write_json(path, config)


def load_error(folder: Path) -> str:
    with pytest.raises(ValueError) as error:
        load(folder)
    return str(error.value)


@pytest.mark.parametrize('name, changes, message', [
    ('awq', {'version': 'gemv'}, "AWQ with version 'gemv': give a checkpoint with version 'gemm'"),
    ('awq', {'group_size': 32}, 'config.json makes it'),
    ('gptq', {'bits': 3}, 'GPTQ with bits 3: give a checkpoint with 4 or 8'),
    ('gptq', {'bits': 8}, 'config.json makes it'),
    ('gptq', {'checkpoint_format': 'marlin'}, "GPTQ with checkpoint_format 'marlin'"),
    ('fp8 in blocks', {'weight_block_size': [16, 16]}, 'the scales have shape')])
def test_other_varieties_are_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path,
) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', name)
    change_config(tmp_path, **changes)
    error = load_error(tmp_path)
    assert message in error and '\n' not in error


def change_weights(folder: Path, change: Any) -> None:
    path = folder / 'model.safetensors'
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={'format': 'pt'})


FIRST = 'model.layers.0.self_attn.q_proj'


@pytest.mark.parametrize('change, message', [
    (lambda weights: weights.pop(f'{FIRST}.qzeros'), 'q_proj: qzeros is missing'),
    (lambda weights: weights.pop('model.norm.weight'),
     'weights are missing (1), such as model.language_model.norm.weight'),
    (lambda weights: [weights.pop(f'{FIRST}.{part}') for part in ('qweight', 'scales')],
     f'weights are missing (1), such as model.language_model.{FIRST[6:]}.weight'),
    (lambda weights: weights.update(more=torch.zeros(2)), 'no place in the model: .more'),
    (lambda weights: weights.update({'model.norm.weight': torch.zeros(3)}),
     'norm.weight has shape (3,), config.json makes it (48,)'),
    (lambda weights: weights[f'{FIRST}.scales'].fill_(float('inf')), 'NaN or infinite')])
def test_what_is_amiss_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', 'awq')
    change_weights(tmp_path, change)
    assert message in load_error(tmp_path)


def test_groups_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', 'gptq')
    change_weights(tmp_path, lambda weights: weights[f'{FIRST}.g_idx'].zero_())
    assert 'g_idx makes groups that have not 16 columns each' in load_error(tmp_path)


@pytest.mark.parametrize('number', [0x7F, 0xFF])
def test_float8_that_is_no_number_is_refused(number: int, tmp_path: Path) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', 'fp8 in blocks')
    change_weights(tmp_path, lambda weights: weights[f'{FIRST}.weight'].view(
        torch.uint8)[3, 5].fill_(number))
    assert 'holds NaN: the checkpoint is damaged' in load_error(tmp_path)
