"""Prefixes and states whose keys and values are in the static cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from epvlm_ros.vlm.sparse_qwen import PromptLayout, PromptPrefix
from torch import Tensor


@dataclass
class CudaGraphState:
    """Where the one answer in the static cache stands; see ``DecodingState``."""

    logits: Tensor
    next_position: int
    prompt_ids: Tensor
    prefix: PromptPrefix
    number: int  # counts prompts: outdated once another prompt has taken the cache
    num_tokens: int  # in the cache


@dataclass(frozen=True, eq=False)
class CudaGraphPrefix(PromptPrefix):
    """A prefix whose keys and values are parts of one tensor."""

    saved: Tensor = field(kw_only=True)  # see ``StaticCache.copy_first``

    @classmethod
    def of(cls, layout: PromptLayout, saved: Tensor) -> CudaGraphPrefix:
        """Return the prefix of a prompt up to its image, given the states of its kept tokens."""
        return cls(
            layout.prompt_ids, saved.shape[3], layout.next_position,
            _Layers(saved), saved=saved)


@dataclass(frozen=True)
class _Layers:
    """Keys and values of each layer, cut out when they are needed: that takes 0.1 ms."""

    saved: Tensor

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((keys[None], values[None]) for keys, values in zip(*self.saved))
