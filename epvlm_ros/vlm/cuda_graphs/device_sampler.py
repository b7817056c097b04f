"""Sampling on the device, and the copy of a token to the host."""

from __future__ import annotations

from typing import Any, NamedTuple

from epvlm_ros.vlm.sparse_qwen import Sampling, Token
import torch
from torch import Tensor


class SamplerKind(NamedTuple):
    """Which sampling operations an answer needs; each kind has CUDA graphs of its own."""

    draws: bool
    penalizes: bool

    @classmethod
    def of(cls, sampling: Sampling) -> SamplerKind:
        """Return the kind of a sampling."""
        return cls(sampling.temperature > 0.0, sampling.repetition_penalty != 1.0)


class DeviceSampler:
    """
    Samples the tokens of one answer with random numbers that are on the device before it begins.

    As ``Sampler`` of the eager run, except that a seed gives other random numbers.
    """

    def __init__(self, vocabulary_size: int, max_tokens: int, device: torch.device) -> None:
        self._seen = torch.zeros(vocabulary_size, dtype=torch.bool, device=device)
        self._drawn = torch.zeros(max_tokens, device=device)
        self._temperature, self._top_p, self._penalty = torch.ones(3, 1, device=device)

    def start(self, sampling: Sampling, prompt_ids: Tensor, num_tokens: int) -> None:
        """Get ready for an answer of so many tokens."""
        kind = SamplerKind.of(sampling)
        if kind.penalizes:
            self._seen.zero_()
            self._seen[prompt_ids.to(self._seen.device)] = True
            self._penalty.fill_(sampling.repetition_penalty)
        if kind.draws:
            self._drawn[:num_tokens] = draw(sampling.seed, num_tokens).to(self._drawn.device)
            self._temperature.fill_(sampling.temperature)
            self._top_p.fill_(sampling.top_p)

    def next_token(self, logits: Tensor, index: Tensor, kind: SamplerKind) -> Tensor:
        """
        Return the token with this index in the answer; both int64, shape (1,).

        ``logits``, float32, shape (vocabulary,), are not changed; ``kind`` is that of ``start``.
        """
        if kind.penalizes:
            reduced = torch.where(logits < 0, logits * self._penalty, logits / self._penalty)
            logits = torch.where(self._seen, reduced, logits)
        if kind.draws:
            token = sample(
                logits, self._temperature, self._top_p, self._drawn.index_select(0, index))
        else:
            token = logits.argmax(dim=0, keepdim=True)
        if kind.penalizes:
            self._seen.index_fill_(0, token, True)
        return token


def draw(seed: int, num_tokens: int) -> Tensor:
    """
    Return random numbers in [0, 1), float32 on the CPU, shape (num_tokens,).

    A longer answer begins with the numbers of a shorter one.
    """
    # one by one: how torch fills a tensor depends on its size
    generator = torch.Generator().manual_seed(seed)
    numbers = [float(torch.rand(1, generator=generator)) for _ in range(num_tokens)]
    return torch.tensor(numbers, dtype=torch.float32)


def sample(logits: Tensor, temperature: Tensor, top_p: Tensor, drawn: Tensor) -> Tensor:
    """
    Return the index of a random token, int64, shape (1,).

    ``logits`` of shape (vocabulary,) are not changed; the others have shape (1,): temperature
    above 0, ``top_p`` as in ``Sampling``, ``drawn`` a random number in [0, 1).
    """
    ordered, indices = (logits.float() / temperature).sort(descending=True)
    probabilities = ordered.softmax(dim=0)
    up_to = probabilities.cumsum(dim=0)
    # kept: what is not yet beyond top_p before the token itself; the first one always is
    num_kept = ((up_to - probabilities) < top_p).sum(dim=0, keepdim=True).clamp(min=1)
    mass = up_to.gather(0, num_kept - 1)
    place = torch.searchsorted(up_to, drawn * mass, right=True)
    return indices.gather(0, torch.minimum(place, num_kept - 1))


class PendingToken:
    """
    A token on its way to the host, copied when the device gets to it.

    ``values`` are its id, log-probability and margin, float64 (3,), which holds any id.
    """

    def __init__(self, values: Tensor) -> None:
        self._event: Any = None
        if values.is_cuda:
            self._values = torch.empty(3, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(values.device))
        else:
            self._values = values.clone()

    def wait(self) -> Token:
        """Return it once it is computed."""
        if self._event is not None:
            self._event.synchronize()
        token_id, log_probability, margin = self._values.tolist()
        return Token(int(token_id), log_probability, margin)
