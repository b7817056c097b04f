"""How the next token is chosen from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """
    Greedy or random choice.

    Parameters
    ----------
    temperature : float
        0 takes the most probable token; above, probabilities are those of logits divided by it.
    top_p : float
        In (0, 1]: only the most probable tokens that together have this probability are chosen
        from.
    seed : int
        The same seed gives the same answer to the same logits.

    Raises
    ------
    ValueError
        If a number is out of its range.

    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0.0:
            raise ValueError(f'temperature is {self.temperature}: give 0 or more')
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f'top_p is {self.top_p}: give more than 0 and at most 1')

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is random."""
        return self.temperature == 0.0

    def draw(self, num_tokens: int) -> Tensor:
        """
        Return the random numbers of an answer.

        Returns
        -------
        torch.Tensor
            float32 on the CPU, shape (num_tokens,), in [0, 1), one for each token; a longer answer
            begins with the numbers of a shorter one.

        """
        # one by one: how torch fills a tensor depends on its size
        generator = torch.Generator().manual_seed(self.seed)
        numbers = [float(torch.rand(1, generator=generator)) for _ in range(num_tokens)]
        return torch.tensor(numbers, dtype=torch.float32)

    def choose(self, logits: Tensor, drawn: Tensor) -> int:
        """
        Return the next token.

        Parameters
        ----------
        logits : torch.Tensor
            Shape (vocabulary,); not changed.
        drawn : torch.Tensor
            Shape (1,), one of the numbers of ``draw``; not used if greedy.

        """
        if self.is_greedy:
            return int(most_probable(logits))
        temperature, top_p = (
            torch.tensor([value], device=logits.device) for value in (
                self.temperature, self.top_p))
        return int(sample(logits, temperature, top_p, drawn.to(logits.device)))


GREEDY = Sampling()


def most_probable(logits: Tensor) -> Tensor:
    """Return the index of the largest of ``logits`` (vocabulary,), int64 of shape (1,)."""
    return logits.argmax(dim=0, keepdim=True)


def sample(logits: Tensor, temperature: Tensor, top_p: Tensor, drawn: Tensor) -> Tensor:
    """
    Return the index of a random token.

    Parameters
    ----------
    logits : torch.Tensor
        Shape (vocabulary,); not changed.
    temperature, top_p : torch.Tensor
        Shape (1,), see ``Sampling``; temperature above 0.
    drawn : torch.Tensor
        Shape (1,), a random number in [0, 1).

    Returns
    -------
    torch.Tensor
        int64, shape (1,).

    """
    ordered, indices = (logits.float() / temperature).sort(descending=True)
    probabilities = ordered.softmax(dim=0)
    up_to = probabilities.cumsum(dim=0)
    # kept: what is not yet beyond top_p before the token itself; the first one always is
    num_kept = ((up_to - probabilities) < top_p).sum(dim=0, keepdim=True)
    mass = up_to.gather(0, num_kept - 1)
    place = torch.searchsorted(up_to, drawn * mass, right=True)
    return indices.gather(0, torch.minimum(place, num_kept - 1))
