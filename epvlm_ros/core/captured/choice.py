"""Tokens that are chosen on the device, and their way to the host."""

from __future__ import annotations

from typing import Any

from epvlm_ros.core.sampling import sample, Sampling
import torch
from torch import Tensor


class RandomChoice:
    """Draws tokens with numbers that lie on the device before the answer begins."""

    def __init__(self, device: torch.device, capacity: int) -> None:
        self._drawn = torch.zeros(capacity + 1, device=device)
        self._temperature = torch.ones(1, device=device)
        self._top_p = torch.ones(1, device=device)

    def start(self, sampling: Sampling, num_tokens: int) -> None:
        """Get ready for an answer."""
        if sampling.is_greedy:
            return
        self._drawn[:num_tokens] = sampling.draw(num_tokens).to(self._drawn.device)
        self._temperature.fill_(sampling.temperature)
        self._top_p.fill_(sampling.top_p)

    def choose(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return the token with this index in the answer; both int64 of shape (1,)."""
        return sample(
            logits, self._temperature, self._top_p, self._drawn.index_select(0, index))


class TokenOnItsWay:
    """A token on its way to the host."""

    def __init__(self, token: Tensor) -> None:
        self._event: Any = None
        if token.is_cuda:
            self._value = torch.empty(1, dtype=token.dtype, pin_memory=True)
            self._value.copy_(token, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._value = token.clone()

    def wait(self) -> int:
        """Return it once it is computed."""
        if self._event is not None:
            self._event.synchronize()
        return int(self._value[0])
