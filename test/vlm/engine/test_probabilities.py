"""Confidence of answers, and choices, against the logits of the library on whole sequences."""

from __future__ import annotations

import math
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseBackend, SparseQwenVl, VisionInput
from epvlm_ros.vlm.sparse_qwen.sampling import read_tokens
import numpy as np
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_prompt, make_vision, save_original_checkpoint)
import torch
from torch import Tensor

FAMILIES = ('narrow', 'qwen2.5 narrow', 'qwen3 narrow')
WAYS = [Sampling(), Sampling(temperature=1.5, top_p=0.9, seed=4, repetition_penalty=1.3)]
TOLERANCE = 1e-4


def library_log_probabilities(
    model: Any, vision: VisionInput, prompt_ids: Tensor, answer_ids: list[int],
) -> Tensor:
    """Return those of every token of the vocabulary, in each place of an answer and behind it."""
    whole = torch.cat([prompt_ids, torch.tensor(answer_ids, dtype=torch.int64)])
    with torch.no_grad():
        logits = model(**library_inputs(vision, whole)).logits[0, len(prompt_ids) - 1:]
    return torch.log_softmax(logits.double(), dim=-1)


@pytest.mark.parametrize('has_graphs', [False, True])
@pytest.mark.parametrize('sampling', WAYS)
@pytest.mark.parametrize('shape', FAMILIES)
def test_tokens_have_the_librarys_probabilities(
    shape: str, sampling: Sampling, has_graphs: bool,
) -> None:
    model, vision, prompt_ids = make_model(shape), make_vision(3, 4, 1.0, shape=shape), \
        make_prompt(12)
    backend: SparseBackend = SparseQwenVl(model)
    if has_graphs:
        backend = CudaGraphQwenVl(SparseQwenVl(model), cache_tokens=512)
    tokens = list(backend.decode(
        backend.prefill(prompt_ids, vision, backend.encode(vision)), (), 12, sampling))
    table = library_log_probabilities(model, vision, prompt_ids, tokens)
    expected = [float(row[token]) for row, token in zip(table, tokens)]
    assert [token.log_probability for token in tokens] == pytest.approx(expected, abs=TOLERANCE)
    others = [float(value) for token_id, value in enumerate(table[0]) if token_id != tokens[0]]
    assert tokens[0].margin == pytest.approx(expected[0] - max(others), abs=TOLERANCE)


def test_answers_side_by_side_have_the_same_probabilities() -> None:
    model, vision = SparseQwenVl(make_model('narrow')), make_vision(3, 4, 0.5)
    prompts = [make_prompt(12, question) for question in ('what moves?', '?')]
    prefix = model.prefill_image(prompts[0], vision, model.encode(vision))
    texts = [prefix.text_after(prompt_ids) for prompt_ids in prompts]
    alone = [list(model.decode(model.extend(prefix, text), (), 6)) for text in texts]
    together = list(model.decode_together(model.extend_together(prefix, texts), (), 6))
    for place, step in enumerate(together):
        for number, token in step:
            assert token == alone[number][place]
            assert token.log_probability == pytest.approx(
                alone[number][place].log_probability, abs=TOLERANCE)


def test_log_probability_and_margin_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]).log() + 7.0
    best, second = read_tokens(logits, torch.tensor([[0], [1]]))
    assert (best, second) == (0, 1)
    assert best.log_probability == pytest.approx(math.log(0.5), abs=1e-6)
    assert second.log_probability == pytest.approx(math.log(0.3), abs=1e-6)
    assert best.margin == pytest.approx(math.log(0.5 / 0.3), abs=1e-6)
    assert second.margin == pytest.approx(math.log(0.3 / 0.5), abs=1e-6)  # not the likeliest


@pytest.fixture(scope='module', name='engine')
def engine_fixture(tmp_path_factory: pytest.TempPathFactory) -> VlmEngine:
    folder = save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('narrow'))
    return VlmEngine.from_config(VlmConfig(model=str(folder), device='cpu', max_new_tokens=5))


IMAGE_RGB = np.random.default_rng(5).integers(0, 256, (84, 112, 3), dtype=np.uint8)


def test_an_answer_has_the_mean_of_its_tokens(engine: VlmEngine) -> None:
    model = engine._model
    seen: list[Any] = []
    decode = model.decode

    def watched(*arguments: Any) -> Any:
        for token in decode(*arguments):
            seen.append(token)
            yield token

    model.decode = watched  # type: ignore[method-assign]
    try:
        answer = engine.answer(IMAGE_RGB, 'what moves?', None)
    finally:
        del model.decode  # type: ignore[attr-defined]
    assert len(seen) == answer.num_generated_tokens == 5
    assert answer.mean_log_probability == pytest.approx(
        sum(token.log_probability for token in seen) / 5)
    assert answer.mean_log_probability < 0.0
    assert answer.first_token_margin == seen[0].margin > 0.0


def test_no_token_has_no_probability(engine: VlmEngine) -> None:
    answer = engine.answer(IMAGE_RGB, 'what moves?', None, should_stop=lambda: True)
    assert (answer.mean_log_probability, answer.first_token_margin) == (0.0, 0.0)
