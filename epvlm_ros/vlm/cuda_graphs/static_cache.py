"""Keys and values in memory that stays where it is."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights
import torch
from torch import Tensor


class StaticCache:
    """Keys and values of one prompt and its answer, at most ``capacity`` tokens."""

    def __init__(self, weights: DecoderWeights, capacity: int) -> None:
        self.num_heads, self.head_dim = weights.num_key_value_heads, weights.head_dim
        self.capacity = capacity
        # zeros: masked places must hold numbers, since 0 times NaN is NaN
        self.both = torch.zeros(
            (2, len(weights.layers), self.num_heads, capacity, self.head_dim),
            dtype=weights.embedding.dtype, device=weights.embedding.device)

    @property
    def keys(self) -> Tensor:
        """Shape (layers, heads, capacity, head_dim)."""
        return self.both[0]

    @property
    def values(self) -> Tensor:
        """Shape (layers, heads, capacity, head_dim)."""
        return self.both[1]

    def copy_first(self, num_tokens: int) -> Tensor:
        """Return a copy of the first tokens, shape (2, layers, heads, num_tokens, head_dim)."""
        return self.both[:, :, :, :num_tokens].clone()

    def restore_first(self, saved: Tensor) -> None:
        """Take back what ``copy_first`` returned."""
        self.both[:, :, :, :saved.shape[3]].copy_(saved)
