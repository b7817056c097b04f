"""The engine with CUDA graphs: the same answers, and graphs captured before the first one."""

from __future__ import annotations

from dataclasses import replace
import logging

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl, with_cuda_graphs
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import numpy as np
import pytest
from qwen_checkpoints import make_model, require_embedded_model
import torch

SIZE = (112, 168)  # height and width
QUESTIONS = ('what color is the moving circle ?', 'how many objects are there ?', 'what moves ?')


def make_engine(config: VlmConfig, *, cuda_graphs: bool) -> VlmEngine:
    require_embedded_model()
    checkpoint = load_checkpoint(config)
    if cuda_graphs:
        assert isinstance(checkpoint.model, SparseQwenVl)
        model = with_cuda_graphs(checkpoint.model, (config.keep_ratio,), config.cache_tokens)
        assert isinstance(model, CudaGraphQwenVl)
        checkpoint = replace(checkpoint, model=model)
    return VlmEngine(checkpoint, config)


def make_frame(seed: int) -> tuple[np.ndarray, ActivityGrid]:
    random = np.random.default_rng(seed)
    picture = random.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    counts = random.poisson(3.0, grid_shape(*SIZE, 4)).astype(np.float32)
    return picture, ActivityGrid(counts, 4, *SIZE, 0, 50_000_000)


@pytest.mark.long
@pytest.mark.parametrize('changes', [
    {}, {'repetition_penalty': 1.3}, {'cache_tokens': 64}], ids=['', 'penalty', 'little room'])
def test_answers_are_those_of_the_eager_engine(changes: dict[str, float]) -> None:
    config = VlmConfig(device='cpu', keep_ratio=0.5, max_new_tokens=16, **changes)
    eager, graphs = (make_engine(config, cuda_graphs=cuda_graphs) for cuda_graphs in (False, True))
    for seed in range(1 if changes else 2):
        frame = make_frame(seed)
        for question in QUESTIONS:  # the second and third reuse what was computed of the frame
            expected = eager.answer(frame[0], question, frame[1])
            answer = graphs.answer(frame[0], question, frame[1])
            assert answer.text == expected.text and answer.text
            assert answer.flops_reused == expected.flops_reused
            assert answer.ending == expected.ending
        # an answer that nobody wants any more leaves nothing behind
        graphs.answer(frame[0], QUESTIONS[0], frame[1], should_stop=lambda: True)
        together = graphs.answer_all(frame[0], QUESTIONS, frame[1])
        assert [answer.text for answer in together] == [
            graphs.answer(frame[0], question, frame[1]).text for question in QUESTIONS]


def test_a_seed_draws_the_same_answer_again() -> None:
    config = VlmConfig(device='cpu', temperature=3.0, max_new_tokens=12)
    engine = make_engine(config, cuda_graphs=True)
    picture, activity = make_frame(0)

    def ask(seed: int) -> str:
        engine.reconfigure(replace(config, seed=seed))
        return engine.answer(picture, QUESTIONS[0], activity).text

    assert ask(1) == ask(1) != ask(2)


@pytest.mark.long
def test_the_warm_up_goes_through_the_sizes(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(
        VlmConfig(device='cpu', warm_up_sizes='336x252'), cuda_graphs=True)
    with caplog.at_level(logging.INFO, 'epvlm_ros.vlm.cuda_graphs'):
        engine.warm_up()
    # by hand: tokens of 28 pixels
    assert [message for message in caplog.messages if 'CUDA graphs' in message] == [
        '9 x 12 tokens: 0 CUDA graphs']


def test_a_model_without_captured_functions_runs_eagerly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library_model = make_model('narrow')
    library_model.config.text_config.hidden_act = 'gelu'
    model = SparseQwenVl(library_model)
    assert with_cuda_graphs(model, (0.5,), 256) is model
    assert 'runs eagerly' in caplog.text and 'activation gelu' in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_cpu_runs_eagerly() -> None:
    require_embedded_model()
    assert type(load_checkpoint(VlmConfig()).model) is SparseQwenVl
