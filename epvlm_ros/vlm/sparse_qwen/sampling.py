"""Which token comes next, given the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

from epvlm_ros.vlm.model_error import NonFiniteLogits
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
    TopPLogitsWarper)


@dataclass(frozen=True)
class Sampling:
    """How the next token is sampled; greedy by default."""

    temperature: float = 0.0  # 0 is greedy; above, the more evenly the higher
    top_p: float = 1.0  # nucleus sampling threshold
    seed: int = 0  # the same seed gives the same answer to the same question
    repetition_penalty: float = 1.0  # at least 1, for tokens of the prompt and of the answer


GREEDY = Sampling()


class Token(int):
    """
    The id of a token of an answer, and what the model gave it.

    Of the logits by themselves: no penalty, no temperature and no nucleus counts. So answers can
    be compared that were sampled in different ways, and 0 is certainty.

    Attributes
    ----------
    log_probability : float
        Natural logarithm, at most 0.
    margin : float
        Log-probability above that of the likeliest other token, below 0 if that is likelier. NaN
        where it was not computed: only the first token of every answer has one.

    """

    log_probability: float
    margin: float

    def __new__(cls, token_id: int, log_probability: float, margin: float = math.nan) -> Token:
        """Make a token of its id."""
        token = super().__new__(cls, token_id)
        token.log_probability, token.margin = log_probability, margin
        return token


def log_probability_of(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return that of one token each, (answers, 1), of logits (answers, vocabulary)."""
    return logits.gather(-1, chosen) - logits.logsumexp(dim=-1, keepdim=True)


def margin_of(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return how far one token each, (answers, 1), is above all others; logits are as above."""
    others = logits.scatter(-1, chosen, -math.inf)
    return logits.gather(-1, chosen) - others.amax(dim=-1, keepdim=True)


class Sampler:
    """
    Samples the tokens of one or several answers, each as if it were alone.

    ``prompts`` are int64, shape (tokens,), one for each answer; logits are on ``device``.
    """

    def __init__(
        self, sampling: Sampling, prompts: Sequence[Tensor], device: torch.device,
    ) -> None:
        self._draws = sampling.temperature > 0.0
        self._processors: Any = LogitsProcessorList()
        self._ids: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
            self._ids = _stack(prompts).to(device)
        if self._draws:
            self._processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(sampling.top_p))
        self._generators = [
            torch.Generator(device).manual_seed(sampling.seed) for _ in prompts]

    def next_tokens(self, logits: Tensor) -> list[Token]:
        """
        Return the next token of each answer; logits (answers, vocabulary) are not changed.

        Raises ``NonFiniteLogits`` if some are no numbers to sample from.
        """
        if not bool(logits.isfinite().all()):
            raise NonFiniteLogits()
        logits = by_model = logits.float()
        if self._processors:
            logits = self._processors(self._ids, logits.clone())
        if self._draws:
            chosen = torch.cat([
                torch.multinomial(row, 1, generator=generator)
                for row, generator in zip(logits.softmax(dim=-1), self._generators)])
        else:
            chosen = logits.argmax(dim=-1)
        if self._ids is not None:
            self._ids = torch.cat([self._ids, chosen[:, None]], dim=1)
        return read_tokens(by_model, chosen[:, None])

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the answers only."""
        self._generators = [self._generators[row] for row in rows]
        if self._ids is not None:
            self._ids = self._ids[rows]


def read_tokens(logits: Tensor, chosen: Tensor) -> list[Token]:
    """Return tokens that were chosen, int64 (answers, 1), by logits (answers, vocabulary)."""
    together = torch.cat(  # float64 holds any id: all leave the device at once
        [chosen.double(), log_probability_of(logits, chosen), margin_of(logits, chosen)], dim=1)
    return [Token(int(token_id), *numbers) for token_id, *numbers in together.tolist()]


def _stack(prompts: Sequence[Tensor]) -> Tensor:
    """Return prompts as rows; a shorter one repeats its end, which no penalty counts twice."""
    longest = max(len(ids) for ids in prompts)
    return torch.stack([
        torch.cat([ids, ids[-1:].expand(longest - len(ids))]) for ids in prompts])
