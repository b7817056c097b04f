"""Sampling of the next token on the device."""

from __future__ import annotations

from collections import Counter
import math

from epvlm_ros.vlm.cuda_graphs.device_sampler import DeviceSampler, draw, sample, SamplerKind
from epvlm_ros.vlm.sparse_qwen import Sampling
from epvlm_ros.vlm.sparse_qwen.sampling import Sampler
import pytest
import torch
from torch import Tensor

# probabilities 0.5, 0.25, 0.15, 0.1 in another order
LOGITS = torch.tensor([math.log(0.15), math.log(0.5), math.log(0.1), math.log(0.25)])


def choose(drawn: float, temperature: float = 1.0, top_p: float = 1.0) -> int:
    return int(sample(LOGITS, *(torch.tensor([value]) for value in (temperature, top_p, drawn))))


def test_the_kind_of_a_sampling() -> None:
    assert SamplerKind.of(Sampling()) == (False, False)
    assert SamplerKind.of(Sampling(temperature=0.1)) == (True, False)
    assert SamplerKind.of(Sampling(repetition_penalty=1.05)) == (False, True)


@pytest.mark.parametrize('drawn, token', [
    (0.0, 1), (0.49, 1), (0.51, 3), (0.74, 3), (0.76, 0), (0.89, 0), (0.91, 2), (0.9999, 2)])
def test_a_number_falls_into_the_share_of_a_token(drawn: float, token: int) -> None:
    assert choose(drawn) == token


@pytest.mark.parametrize('drawn, token', [(0.0, 1), (0.66, 1), (0.67, 3), (0.9999, 3)])
def test_top_p_leaves_the_head_of_the_distribution(drawn: float, token: int) -> None:
    # 0.5 + 0.25 reach 0.7; their shares of 0.75 are 2/3 and 1/3
    assert choose(drawn, top_p=0.7) == token


@pytest.mark.parametrize('drawn', [0.0, 0.5, 0.9999])
def test_top_p_always_leaves_one_token(drawn: float) -> None:
    assert choose(drawn, top_p=1e-6) == 1


def test_temperature_sharpens_and_flattens() -> None:
    # at temperature 0.5 probabilities are squared: 0.25 of 0.345 in all for the first one
    assert choose(0.72, temperature=0.5) == 1 and choose(0.73, temperature=0.5) == 3
    assert choose(0.30, temperature=100.0) == 3  # nearly a quarter each


def test_frequencies_follow_the_probabilities() -> None:
    drawn = torch.linspace(0.0, 1.0, 2001)[:-1]
    counts = Counter(choose(float(number)) for number in drawn)
    assert [counts[token] for token in range(4)] == pytest.approx([300, 1000, 200, 500], abs=2)


def test_logits_stay_as_they_are() -> None:
    before: Tensor = LOGITS.clone()
    choose(0.3)
    assert torch.equal(LOGITS, before)


def test_random_numbers_depend_on_the_seed_only() -> None:
    numbers = draw(7, 50)
    assert torch.equal(draw(7, 20), numbers[:20])
    assert not torch.equal(draw(8, 50), numbers)
    assert 0.0 <= float(numbers.min()) and float(numbers.max()) < 1.0


def test_the_repetition_penalty_equals_the_library_s() -> None:
    generator = torch.Generator().manual_seed(0)
    all_logits = torch.randn(20, 50, generator=generator)
    prompt_ids = torch.tensor([3, 7, 7, 49])
    sampling = Sampling(repetition_penalty=1.3)
    expected = Sampler(sampling, [prompt_ids], torch.device('cpu'))
    sampler = DeviceSampler(50, 20, torch.device('cpu'))
    sampler.start(Sampling(repetition_penalty=2.0), torch.arange(50), 20)  # all forgotten after
    sampler.start(sampling, prompt_ids, 20)
    chosen = [
        int(sampler.next_token(logits, torch.tensor([index]), SamplerKind.of(sampling)))
        for index, logits in enumerate(all_logits)]
    assert chosen == [expected.next_tokens(logits[None])[0] for logits in all_logits]
    assert chosen != all_logits.argmax(dim=1).tolist()
