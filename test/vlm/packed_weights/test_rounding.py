"""Plain weights made small at load: where, how exactly, and what a model computes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl, with_cuda_graphs
from epvlm_ros.vlm.packed_weights import modules, PackedEmbedding, PackedLinear
from epvlm_ros.vlm.packed_weights.rounding import round_to_eight_bits, round_to_four_bits
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseQwenVl
from packed_checkpoints import save_packed_checkpoint
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_prompt, make_vision, save_original_checkpoint, write_json)
import torch
from torch import nn, Tensor

PROMPT = make_prompt(15)


def test_eight_bits_by_hand() -> None:
    packed = round_to_eight_bits(torch.tensor([[1.27, -0.504, 0.0], [0.0, 0.0, 0.0]]))
    assert packed.numbers[:, 0].tolist() == [[127, -50, 0], [0, 0, 0]]
    expected = torch.tensor([[1.27, -0.5, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(packed.unpack(torch.float32), expected, atol=1e-7)


def test_four_bits_by_hand() -> None:
    # two groups of four columns, the last one filled up; -5 to 10 and 0 to 7.5 need no rounding
    packed = round_to_four_bits(torch.tensor([[-5.0, 10.0, 0.0, 3.0, 7.5, 0.0, 0.5]]), 4)
    # column by column: 0, 15, 5, 8 with zero 5; then 15, 0, 1 and one more with zero 0
    assert packed.numbers.tolist() == [[[0 | 5 << 4, 15 | 8 << 4], [15 | 1 << 4, 0]]]
    assert packed.scales.tolist() == [[1.0, 0.5]] and packed.zeros is not None
    assert packed.zeros.tolist() == [[5, 0]]
    expected = [[-5.0, 10.0, 0.0, 3.0, 7.5, 0.0, 0.5]]
    assert packed.unpack(torch.float32).tolist() == expected


def test_four_bits_cut_off_what_is_rare() -> None:
    matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    groups = matrix.unflatten(1, (2, 128))
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    step = (high - low) / 15
    zero = (-low / step).round()
    nearest = ((((groups / step).round() + zero).clamp(0, 15) - zero) * step).flatten(1)
    found = round_to_four_bits(matrix).unpack(torch.float32)
    errors = [(item - matrix).norm() / matrix.norm() for item in (found, nearest)]
    assert errors[0] < 0.97 * errors[1] < 0.11


def test_a_large_matrix_is_unpacked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    matrix, bias = torch.randn(37, 64, generator=random), torch.randn(37, generator=random)
    values = torch.randn(2, 3, 64, generator=random)
    packed = PackedLinear(round_to_four_bits(matrix, 16), bias)
    expected = values @ packed.matrix.unpack(torch.float32).T + bias
    monkeypatch.setattr(modules, 'MAX_UNPACKED', 10 * 64)  # 10, 10, 10 and 7 rows
    assert torch.allclose(packed(values), expected, atol=1e-5)


def load(folder: Path, **config: Any) -> SparseQwenVl:
    model = load_checkpoint(VlmConfig(model=str(folder), device='cpu', **config)).model
    assert isinstance(model, SparseQwenVl)
    return model


def unpack(model: Any, packed: SparseQwenVl) -> Any:
    """Give the library's model the weights that the packed ones stand for."""
    for name, module in packed.library_model.named_modules():
        if isinstance(module, (PackedLinear, PackedEmbedding)):
            model.get_submodule(name).weight.data = module.matrix.unpack(torch.float32)
    return model


def bits_of(model: SparseQwenVl, part: str) -> set[int | str]:
    """Return how many bits the linear layers and embeddings of a part of the model have."""
    return {module.matrix.bits if isinstance(module, (PackedLinear, PackedEmbedding))
            else type(module).__name__
            for name, module in model.library_model.named_modules() if name.startswith(part)
            and isinstance(module, (PackedLinear, PackedEmbedding, nn.Linear, nn.Embedding))}


def tokens_of(model: SparseQwenVl, vision: Any) -> list[int]:
    state = model.prefill(PROMPT, vision, model.encode(vision))
    return list(model.decode(state, (), 64, Sampling(repetition_penalty=1.2)))


@pytest.mark.parametrize('shape, weights', [
    (shape, weights) if weights == turn else pytest.param(shape, weights, marks=pytest.mark.slow)
    for shape, turn in (('narrow', 'int8'), ('qwen2.5 wide', 'int4'), ('qwen3 narrow', 'int4'))
    for weights in ('int8', 'int4')])
def test_a_model_computes_with_its_small_weights(
    shape: str, weights: str, tmp_path: Path,
) -> None:
    model = make_model(shape)
    packed = load(save_original_checkpoint(tmp_path / 'model', model), weights=weights)
    assert bits_of(packed, 'model.language_model.layers') == {4 if weights == 'int4' else 8}
    positions = {'Embedding'} if shape.startswith('qwen3') else set()
    assert bits_of(packed, 'model.visual') == {8} | positions
    assert bits_of(packed, 'model.language_model.embed') == bits_of(packed, 'lm_head') == {8}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    unpack(model, packed)
    for name, tensor in model.state_dict().items():
        error = (tensor - before[name]).norm() / before[name].norm()
        most = 0.11 if weights == 'int4' and 'language_model.layers' in name else 0.01
        assert error <= most, name
    vision = make_vision(3, 5, keep_ratio=1.0, shape=shape)
    with torch.no_grad():
        expected = model(**library_inputs(vision, PROMPT)).logits[0]
    logits: Tensor = packed.prompt_logits(PROMPT, vision, packed.encode(vision))
    assert (logits - expected).abs().max() <= 1e-4
    few = make_vision(3, 5, keep_ratio=0.5, shape=shape)
    tokens = tokens_of(packed, few)
    assert tokens == tokens_of(SparseQwenVl(model), few) and len(set(tokens)) > 10


@pytest.fixture(scope='module', name='plain')
def plain_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original_checkpoint(tmp_path_factory.mktemp('plain'), make_model('narrow'))


def test_an_output_layer_that_is_the_embedding_is_stored_once(plain: Path) -> None:
    library: Any = load(plain, weights='int8').library_model
    head, embedding = library.lm_head, library.model.language_model.embed_tokens
    assert isinstance(head, PackedLinear) and isinstance(embedding, PackedEmbedding)
    assert head.numbers.data_ptr() == embedding.numbers.data_ptr()


def test_the_number_of_parameters_stays(plain: Path) -> None:
    assert load(plain, weights='int4').description == load(plain).description


def test_what_is_not_packed_in_a_published_checkpoint_is_made_small(tmp_path: Path) -> None:
    save_packed_checkpoint(tmp_path, 'narrow', 'awq')
    model = load(tmp_path, weights='int8')
    assert bits_of(model, 'model.language_model.layers') == {4}
    assert bits_of(model, 'model.visual') == bits_of(model, 'lm_head') == {8}


def test_weights_of_another_library_are_not_packed_twice(tmp_path: Path) -> None:
    folder = tmp_path / 'model'
    save_original_checkpoint(folder, make_model('narrow'))
    config = {'model_type': 'qwen2_vl', 'quantization_config': {
        'quant_method': 'bitsandbytes', 'load_in_4bit': True}}
    stored = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    write_json(folder / 'config.json', {**stored, **config})
    with pytest.raises(ValueError, match='give weights as_stored'):
        load(folder, weights='int8')


@pytest.mark.parametrize('weights', ['int8', 'int4'])
def test_they_run_in_the_recorded_functions(plain: Path, weights: str) -> None:
    eager = load(plain, weights=weights)
    vision = make_vision(3, 5, keep_ratio=0.5)
    expected = eager.prefill(PROMPT, vision, eager.encode(vision))
    graphs = with_cuda_graphs(eager, (0.5,), 256)
    assert isinstance(graphs, CudaGraphQwenVl)
    found = graphs.prefill(PROMPT, vision, graphs.encode(vision))
    assert (found.logits - expected.logits).abs().max() <= 1e-4
    tokens = list(eager.decode(expected, (), 24, Sampling(repetition_penalty=1.2)))
    assert list(graphs.decode(found, (), 24, Sampling(repetition_penalty=1.2))) == tokens
