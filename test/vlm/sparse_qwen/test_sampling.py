"""Drawn and penalised tokens are those of the library's own generation."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen import Sampling, SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.sampling import Sampler
import pytest
from qwen_checkpoints import library_inputs, make_model, make_prompt, make_vision
import torch

pytestmark = pytest.mark.long

ANSWER_LENGTH = 64
CPU = torch.device('cpu')
WAYS = [
    Sampling(repetition_penalty=1.05), Sampling(repetition_penalty=1.5),
    Sampling(temperature=0.8, seed=3), Sampling(temperature=1.5, top_p=0.7, seed=4),
    Sampling(temperature=0.6, top_p=0.9, seed=5, repetition_penalty=1.2)]


def answer(model: SparseQwenVl, sampling: Sampling, question: str = 'what moves?') -> list[int]:
    vision, prompt_ids = make_vision(3, 4, keep_ratio=1.0), make_prompt(12, question)
    state = model.prefill(prompt_ids, vision, model.encode(vision))
    return list(model.decode(state, (), ANSWER_LENGTH, sampling))


@pytest.mark.parametrize('sampling', WAYS)
def test_tokens_are_those_of_the_library(sampling: Sampling) -> None:
    model, vision, prompt_ids = make_model('narrow'), make_vision(3, 4, 1.0), make_prompt(12)
    chosen = answer(SparseQwenVl(model), sampling)
    options: dict[str, Any] = {'do_sample': False}
    if sampling.temperature:
        # the library draws from the generator of the process, which starts with a seed alike
        torch.manual_seed(sampling.seed)
        options = {'do_sample': True, 'temperature': sampling.temperature,
                   'top_p': sampling.top_p, 'top_k': 0}
    generated = model.generate(
        **library_inputs(vision, prompt_ids), **options,
        repetition_penalty=sampling.repetition_penalty, max_new_tokens=ANSWER_LENGTH,
        min_new_tokens=ANSWER_LENGTH, eos_token_id=None, pad_token_id=0)
    assert chosen == generated[0, len(prompt_ids):].tolist()
    assert chosen != answer(SparseQwenVl(make_model('narrow')), Sampling())


def test_the_seed_decides() -> None:
    model = SparseQwenVl(make_model('narrow'))
    first, other = (Sampling(temperature=1.0, seed=seed) for seed in (1, 2))
    assert answer(model, first) == answer(model, first) != answer(model, other)


@pytest.mark.parametrize('sampling', WAYS)
def test_answers_drawn_together_are_those_drawn_alone(sampling: Sampling) -> None:
    model, vision = SparseQwenVl(make_model('narrow')), make_vision(3, 4, keep_ratio=1.0)
    questions = ['what moves?', '?', 'how many circles are there']
    alone = [answer(model, sampling, question) for question in questions]
    prompts = [make_prompt(12, question) for question in questions]
    prefix = model.prefill_image(prompts[0], vision, model.encode(vision))
    state = model.extend_together(prefix, [prefix.text_after(ids) for ids in prompts])
    ends = {alone[1][9]}
    together: list[list[int]] = [[], [], []]
    for tokens in model.decode_together(state, ends, ANSWER_LENGTH, sampling):
        for number, token_id in tokens:
            together[number].append(token_id)

    def cut(token_ids: list[int]) -> list[int]:
        place = next((i for i, token_id in enumerate(token_ids) if token_id in ends), None)
        return token_ids[:place]

    assert together == [cut(token_ids) for token_ids in alone]
    assert len(together[1]) < ANSWER_LENGTH


@pytest.mark.long
def test_what_is_drawn_follows_the_probabilities() -> None:
    # by hand: 0.5, 0.3, 0.2; of these 0.8 are the first two, as 5 to 3
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for top_p, expected in ((1.0, [0.5, 0.3, 0.2]), (0.75, [0.625, 0.375, 0.0])):
        sampler = Sampler(
            Sampling(temperature=1.0, top_p=top_p, seed=7), [torch.tensor([0])], CPU)
        counts = torch.bincount(
            torch.tensor([sampler.next_tokens(logits)[0] for _ in range(4000)]), minlength=3)
        assert (counts / 4000 - torch.tensor(expected)).abs().max() < 0.03  # 4 standard errors


def test_the_penalty_counts_prompt_and_answer() -> None:
    # by hand: halved where positive, doubled where negative, for the tokens 0 and 3
    logits = torch.tensor([[3.0, 2.0, 1.9, -1.0]])
    sampler = Sampler(Sampling(repetition_penalty=2.0), [torch.tensor([0, 3])], CPU)
    assert [sampler.next_tokens(logits)[0] for _ in range(3)] == [1, 2, 0]
    assert logits.tolist() == [[3.0, 2.0, pytest.approx(1.9), -1.0]]
