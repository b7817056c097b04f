"""Prefixes and states whose keys and values are in the static cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from epvlm_ros.vlm.sparse_qwen import PromptPrefix
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
