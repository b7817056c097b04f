"""Plain weights made 8 and 4 bits small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
import torch
from torch import Tensor
from torch.nn import functional

# What makes a small matrix of a plain one, or leaves it; by the name of its module.
Rounding = Callable[[str, Tensor], Optional[PackedMatrix]]
GROUP_SIZE = 128  # columns that share scale and zero point, with 4 bits
_SHRINKS = (1.0, 0.9, 0.8)  # of the range that 0 to 15 cover
_NUMBERS_AT_ONCE = 2 ** 20  # so that what is computed on the way is small
_LAYERS, _ENCODER = 'model.language_model.layers.', 'model.visual.'
_EMBEDDING, _HEAD = 'model.language_model.embed_tokens', 'lm_head'
_LEARNED_POSITIONS = 'model.visual.pos_embed'


def find_rounding(weights: str) -> Rounding | None:
    """
    Return what the parameter ``weights`` asks for; None for as_stored.

    With int8 all linear layers and the embedding have 8 bits, with int4 those in the layers of
    the language model 4.
    """
    if weights == 'as_stored':
        return None

    def round_matrix(name: str, matrix: Tensor) -> PackedMatrix | None:
        if name == _LEARNED_POSITIONS or not name.startswith(
                (_LAYERS, _ENCODER, _EMBEDDING, _HEAD)):
            return None
        if weights == 'int4' and name.startswith(_LAYERS):
            return round_to_four_bits(matrix)
        return round_to_eight_bits(matrix)

    return round_matrix


def round_to_eight_bits(matrix: Tensor) -> PackedMatrix:
    """Return -127 to 127 with a scale for each row of (rows, columns), nearest."""
    scales = matrix.abs().amax(dim=1, keepdim=True).float() / 127.0
    numbers = torch.empty(matrix.shape, dtype=torch.int8, device=matrix.device)
    num_rows = _rows_at_once(matrix.shape[1])
    for part, rows, row_scales in zip(*(
            item.split(num_rows) for item in (numbers, matrix, scales))):
        part.copy_((rows.float() / _not_zero(row_scales)).round())
    return PackedMatrix.of(numbers, 8, matrix.shape[1], scales)


def round_to_four_bits(matrix: Tensor, group_size: int = GROUP_SIZE) -> PackedMatrix:
    """
    Return 0 to 15 with a scale and a zero point for each group of a row of (rows, columns).

    Of some ranges up to that of the group, the one with the least sum of squared errors is taken:
    a few large numbers are cut off where all others gain by it.
    """
    rows, columns = matrix.shape
    num_groups = -(-columns // group_size)
    padding = (0, num_groups * group_size - columns)
    numbers = matrix.new_empty(rows, columns, dtype=torch.uint8)
    scales = matrix.new_empty(rows, num_groups, dtype=torch.float16)
    zeros = matrix.new_empty(rows, num_groups, dtype=torch.uint8)
    for start in range(0, rows, _rows_at_once(columns)):
        part = slice(start, start + _rows_at_once(columns))
        groups = functional.pad(matrix[part].float(), padding).unflatten(1, (-1, group_size))
        found, scales[part], zeros[part] = _round_groups(groups)
        numbers[part] = found.flatten(1)[:, :columns]
    return PackedMatrix.of(numbers, 4, group_size, scales, zeros)


def _rows_at_once(columns: int) -> int:
    return max(1, _NUMBERS_AT_ONCE // columns)


def _round_groups(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return numbers as ``groups``, and their scales and zeros (rows, groups)."""
    low = groups.amin(dim=2, keepdim=True).clamp(max=0.0)
    high = groups.amax(dim=2, keepdim=True).clamp(min=0.0)
    best: tuple[Tensor, ...] = ()
    for shrink in _SHRINKS:
        scales = _not_zero(((high - low) * (shrink / 15.0)).half().float())
        zeros = (-low * shrink / scales).round().clamp(0, 15)
        numbers = (groups / scales + zeros).round().clamp(0, 15)
        errors = ((numbers - zeros) * scales - groups).square().sum(dim=2, keepdim=True)
        found = (errors, numbers, scales, zeros)
        best = found if not best else tuple(
            torch.where(errors < best[0], new, old) for new, old in zip(found, best))
    _, numbers, scales, zeros = best
    return numbers, scales.squeeze(2), zeros.squeeze(2)


def _not_zero(scales: Tensor) -> Tensor:
    """Return scales that can be divided by: where all numbers are 0, any one does."""
    return torch.where(scales == 0.0, 1.0, scales)
