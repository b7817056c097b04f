"""Weights or numbers that are NaN or infinite end in an error, never in an answer."""

from __future__ import annotations

from pathlib import Path

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.model_error import ModelError, NonFiniteLogits
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseQwenVl, VisualFeatures
import numpy as np
import pytest
from qwen_checkpoints import (
    library_of, make_model, make_prompt, make_vision, save_original_checkpoint)
import torch

IMAGE = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope='module', name='folder')
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('narrow'))


@pytest.mark.parametrize('parameters', [{}, {'temperature': 1.0, 'repetition_penalty': 1.2}])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_one_bad_weight_is_an_error_that_says_so(
    folder: Path, value: float, parameters: dict[str, float],
) -> None:
    engine = VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', max_new_tokens=4, **parameters))  # type: ignore[arg-type]
    library = library_of(engine)
    with torch.no_grad():
        library.model.language_model.layers[0].mlp.down_proj.weight[3, 5] = value
    pieces: list[str] = []
    for _ in range(2):  # the second time, the image is known
        with pytest.raises(ModelError, match='NaN or infinite: its weights are damaged'):
            engine.answer(IMAGE, 'what moves?', None, on_text=pieces.append)
    with pytest.raises(NonFiniteLogits):
        engine.answer_all(IMAGE, ['?', 'what moves?'], None)
    assert pieces == []


@pytest.mark.parametrize('sampling', [
    Sampling(), Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.2)])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_cuda_graphs_raise_and_leave_nothing_behind(value: float, sampling: Sampling) -> None:
    eager = SparseQwenVl(make_model('wide'))
    graphs = CudaGraphQwenVl(eager, cache_tokens=256)
    small, large = make_vision(2, 3, 1.0, shape='wide'), make_vision(5, 9, 1.0, shape='wide')
    features = graphs.encode(small)
    state = graphs.prefill(make_prompt(6), small, features)
    expected = list(graphs.decode(state, (), 6, sampling))
    bad = graphs.encode(large)
    bad = VisualFeatures(torch.full_like(bad.tokens, value), bad.deepstack)
    state = graphs.prefill(make_prompt(45), large, bad)  # fills more of the cache than before
    with pytest.raises(NonFiniteLogits):
        next(iter(graphs.decode(state, (), 6, sampling)))
    state = graphs.extend(state.prefix, state.prefix.text_after(make_prompt(45, '?')))
    with pytest.raises(NonFiniteLogits):
        next(iter(graphs.decode(state, (), 6, sampling)))
    state = graphs.prefill(make_prompt(6), small, features)
    assert list(graphs.decode(state, (), 6, sampling)) == expected


def test_float16_that_overflows_is_an_error(folder: Path) -> None:
    engine = VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cpu', dtype='float16', max_new_tokens=4))
    library = library_of(engine)
    with torch.no_grad():
        library.lm_head.weight.mul_(torch.finfo(torch.float16).max / library.lm_head.weight.max())
    with pytest.raises(NonFiniteLogits, match='too large for float16'):
        engine.answer(IMAGE, 'what moves?', None)
