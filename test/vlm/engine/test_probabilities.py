"""Confidence of answers, and choices, against the logits of the library on whole sequences."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.engine.chosen import Chosen
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseBackend, SparseQwenVl, VisionInput
from epvlm_ros.vlm.sparse_qwen.sampling import read_tokens
from epvlm_ros.vlm.sparse_qwen.text_scores import pack, PackedTexts
import numpy as np
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_prompt, make_vision, require_embedded_model,
    save_original_checkpoint)
from qwen_shapes import END_OF_TEXT, TURN_END
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


@pytest.mark.long
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


def bytes_of(text: str) -> Tensor:
    """Return the token ids of a text: those of the test checkpoints are its bytes."""
    return torch.tensor(list(text.encode()))


def library_total(
    model: Any, vision: VisionInput, prompt_ids: Tensor, text: str, end_token_ids: list[int],
) -> float:
    """Return the log-probability of a text and any end token behind it, by the library."""
    ids = list(text.encode())
    table = library_log_probabilities(model, vision, prompt_ids, ids)
    total = sum(float(table[place, token_id]) for place, token_id in enumerate(ids))
    return total + math.log(sum(math.exp(float(table[-1, end])) for end in end_token_ids))


WORDS = ('yes', 'no', 'a', 'a red circle', 'a green circle', 'nothing', 'ä', 'two', 'the left one')


@pytest.mark.long
@pytest.mark.parametrize(
    'attention', ['sdpa', pytest.param('eager', marks=pytest.mark.slow)])
@pytest.mark.parametrize('shape', FAMILIES)
def test_a_hundred_questions_choose_as_the_library_does(shape: str, attention: str) -> None:
    num_questions = 17  # of six cases: 102
    model = make_model(shape, attention)
    backends: list[SparseBackend] = [
        SparseQwenVl(model), CudaGraphQwenVl(SparseQwenVl(model), cache_tokens=512)]
    random = np.random.default_rng(len(shape))
    ends = [TURN_END, END_OF_TEXT]
    for number in range(num_questions):
        vision = make_vision(2, 2, 1.0, seed=number, shape=shape)
        prompt_ids = make_prompt(4, f'question {number}?')
        choices = random.permutation(WORDS)[:random.integers(2, 6)].tolist()
        expected = [library_total(model, vision, prompt_ids, text, ends) for text in choices]
        best, second = sorted(expected, reverse=True)[:2]
        assert best - second > TOLERANCE  # else rounding might choose
        backend = backends[number % 2]
        state = backend.prefill(prompt_ids, vision, backend.encode(vision))
        chosen = Chosen.of(
            choices, backend.score_texts(state, [bytes_of(text) for text in choices], ends))
        shares = np.exp(np.array(expected) - best)
        assert chosen.text == choices[expected.index(best)]
        assert chosen.probabilities == pytest.approx(shares / shares.sum(), abs=TOLERANCE)
        assert sum(chosen.probabilities) == pytest.approx(1.0, abs=1e-12)
        assert list(backend.decode(state, (), 3)) == list(  # nothing was left in its cache
            backend.decode(backend.prefill(prompt_ids, vision, backend.encode(vision)), (), 3))


def test_many_long_texts_are_scored_in_several_passes() -> None:
    model, vision, prompt_ids = make_model('narrow'), make_vision(2, 2, 1.0), make_prompt(4)
    backend = SparseQwenVl(model)
    texts = [bytes_of(f'{number} ' + 'ab' * number) for number in range(0, 60, 3)]
    assert [len(packed.texts) for packed in pack(texts)] == [13, 5, 2]
    state = backend.prefill(prompt_ids, vision, backend.encode(vision))
    for text, score in zip(texts, backend.score_texts(state, texts, [TURN_END])):
        expected = library_total(
            model, vision, prompt_ids, bytes(text.tolist()).decode(), [TURN_END])
        assert score.log_probability == pytest.approx(expected, abs=1e-3)


def test_texts_see_the_prompt_and_themselves_only() -> None:
    packed = PackedTexts([torch.tensor([5, 6]), torch.tensor([7])])
    assert packed.ids.tolist() == [5, 6, 7]
    assert packed.positions(9)[2, 0].tolist() == [9, 10, 9]
    seen = packed.attention_mask(1, torch.float32)[0, 0] == 0.0
    assert seen.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize('has_memory', [False, True])
def test_an_engine_chooses(engine: VlmEngine, has_memory: bool) -> None:
    engine.reconfigure(replace(engine.config, scene_memory=has_memory))
    moment = Moment(IMAGE_RGB, None, 1)
    pieces: list[str] = []
    first = engine.answer_about(
        [moment], 'what moves?', choices=WORDS, on_text=pieces.append, keep_ratio=1.0)
    again = engine.answer_about(
        [moment], 'what moves?', choices=WORDS[::-1], keep_ratio=1.0)  # from the prefix
    assert first.text in WORDS and pieces == [first.text]
    assert (first.num_generated_tokens, first.ending, len(first.probabilities)) == (0, 'end', 9)
    assert sum(first.probabilities) == pytest.approx(1.0)
    assert first.text == WORDS[first.probabilities.index(max(first.probabilities))] == again.text
    assert again.probabilities == pytest.approx(first.probabilities[::-1], abs=TOLERANCE)
    assert first.mean_log_probability < 0.0 and not math.isnan(first.first_token_margin)
    assert engine.answer_about([moment], 'what moves?').probabilities == ()
    engine.reconfigure(replace(engine.config, scene_memory=False))


def test_choices_end_at_the_deadline_and_when_they_are_not_wanted(engine: VlmEngine) -> None:
    late = engine.answer(IMAGE_RGB, 'what moves?', None, choices=WORDS, deadline_s=1e-9)
    assert (late.ending, late.text, late.probabilities) == ('deadline', '', ())
    checks = iter([False] * 6 + [True] * 100)  # in the middle of the layers
    ended = engine.answer(
        IMAGE_RGB, 'why?', None, choices=WORDS, should_stop=lambda: next(checks))
    assert (ended.ending, ended.probabilities) == ('stopped', ())


@pytest.mark.parametrize('choices, words', [
    (['yes'], 'there are 1 choices: give 2 to 64'), ([str(n) for n in range(65)], '65 choices'),
    (['yes', ' '], 'choice 1 is empty'), (['yes', 'no', 'yes'], "choice 2 is 'yes' again"),
    (['yes', 'no '], "choice 1 is 'no '"), (['yes', 'n\no'], r"choice 1 is 'n\\no'"),
    (['yes', 'n' * 201], 'choice 1 has 201 characters: give at most 200'),
    (['yes', 'no<|im_end|>'], 'a choice holds control tokens')])
def test_choices_at_fault_are_refused(
    engine: VlmEngine, choices: list[str], words: str,
) -> None:
    with pytest.raises(ValueError, match=words):
        engine.answer(IMAGE_RGB, 'what moves?', None, choices=choices)


def test_choices_that_are_the_same_to_the_model_are_refused() -> None:
    require_embedded_model()
    engine = VlmEngine.from_config(VlmConfig(device='cpu'))
    with pytest.raises(ValueError, match="cannot tell the choice 'zzyzx' from 'qqxqq'"):
        engine.answer(IMAGE_RGB, 'what moves ?', None, choices=['qqxqq', 'zzyzx'])
