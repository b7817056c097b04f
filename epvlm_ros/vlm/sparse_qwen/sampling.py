"""Which token comes next, given the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
    TopPLogitsWarper)


@dataclass(frozen=True)
class Sampling:
    """
    How the next token is chosen; by default the most probable one.

    Parameters
    ----------
    temperature : float
        0 takes the most probable token; above, tokens are drawn, the more evenly the higher.
    top_p : float
        Tokens are drawn from the fewest that have this probability together.
    seed : int
        The same seed draws the same answer to the same question.
    repetition_penalty : float
        Factor, from 1 on, by which tokens of the prompt and of the answer so far lose.

    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0


GREEDY = Sampling()


class TokenChooser:
    """
    Chooses the tokens of one or several answers, each as if it were alone.

    Parameters
    ----------
    sampling : Sampling
        How.
    prompts : sequence of torch.Tensor
        int64, shape (tokens,), the prompt of each answer.
    device : torch.device
        Where the logits are.

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

    def choose(self, logits: Tensor) -> list[int]:
        """
        Return the next token of each answer.

        Parameters
        ----------
        logits : torch.Tensor
            Shape (answers, vocabulary); not changed.

        """
        if self._processors:
            logits = self._processors(self._ids, logits.float().clone())
        if self._draws:
            chosen = torch.cat([
                torch.multinomial(row, 1, generator=generator)
                for row, generator in zip(logits.softmax(dim=-1), self._generators)])
        else:
            chosen = logits.argmax(dim=-1)
        if self._ids is not None:
            self._ids = torch.cat([self._ids, chosen[:, None]], dim=1)
        return chosen.tolist()

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the answers only."""
        self._generators = [self._generators[row] for row in rows]
        if self._ids is not None:
            self._ids = self._ids[rows]


def _stack(prompts: Sequence[Tensor]) -> Tensor:
    """Return prompts as rows; a shorter one repeats its end, which no penalty counts twice."""
    longest = max(len(ids) for ids in prompts)
    return torch.stack([
        torch.cat([ids, ids[-1:].expand(longest - len(ids))]) for ids in prompts])
