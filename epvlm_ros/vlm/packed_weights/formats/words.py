"""Numbers of a few bits in words of 32 bits."""

from __future__ import annotations

import torch
from torch import Tensor


def unpack_words(words: Tensor, bits: int, axis: int) -> Tensor:
    """Return the numbers of int32 words (a, b), int32, lowest bits first along ``axis``."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    shifts = shifts[:, None] if axis == 0 else shifts
    numbers = (words.unsqueeze(axis + 1) >> shifts) & ((1 << bits) - 1)
    return numbers.flatten(axis, axis + 1)


def find_order(group_indices: Tensor | None, group_size: int) -> Tensor | None:
    """
    Return which column comes first if the groups are to follow each other; None if they do.

    ``group_indices``, integers (columns,), say of which group each column is. Raises a ValueError
    if a group has too many or too few.
    """
    if group_indices is None:
        return None
    indices = group_indices.long()
    in_order = torch.arange(len(indices), device=indices.device) // group_size
    if torch.equal(indices, in_order):
        return None
    order = indices.argsort(stable=True)
    if not torch.equal(indices[order], in_order):
        raise ValueError(
            f'g_idx makes groups that have not {group_size} columns each: give a checkpoint that '
            'is packed with desc_act false')
    return order
