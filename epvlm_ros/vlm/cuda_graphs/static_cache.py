"""Keys and values in memory that stays where it is."""

from __future__ import annotations

from torch import Tensor


class StaticCache:
    """
    Keys and values of so many layers, in ``capacity`` places each.

    They have number type and device of the tensor ``like``.
    """

    def __init__(
        self, num_layers: int, num_heads: int, head_dim: int, capacity: int, like: Tensor,
    ) -> None:
        self.num_heads, self.head_dim, self.capacity = num_heads, head_dim, capacity
        # zeros: masked places must hold numbers, since 0 times NaN is NaN
        self.both = like.new_zeros(2, num_layers, num_heads, capacity, head_dim)

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
