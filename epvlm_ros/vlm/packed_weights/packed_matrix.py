"""The layout of packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

FLOAT8 = torch.float8_e4m3fn
_MIDDLE = 8  # of the numbers 0 to 15, what stands for 0 where there are no zero points


@dataclass(frozen=True)
class PackedMatrix:
    """
    A matrix (outputs, inputs) of small numbers, ``(number - zero) * scale`` each.

    The columns of a row are divided into groups of equal size, which share scale and zero; the
    last group is filled up. A column of 4 bits lies in the low half of a byte if it is of the
    first half of its group, and in the high half if of the second: bytes in a row are columns in
    a row, whichever half is taken.

    Parameters
    ----------
    numbers : torch.Tensor
        uint8 (rows, groups, group size / 2) for 4 bits, else int8 or float8_e4m3fn (rows, groups,
        group size).
    scales : torch.Tensor
        Of any float type, (rows, groups).
    zeros : torch.Tensor, optional
        (rows, groups); without them 8 for 4 bits, and 0 for 8 bits.
    num_columns : int
        How many columns there are without what fills up the last group.
    order : torch.Tensor, optional
        int64 (num_columns,): of the matrix, which column the first one here is, and so on.

    """

    numbers: Tensor
    scales: Tensor
    zeros: Tensor | None
    num_columns: int
    order: Tensor | None = None

    @classmethod
    def of(
        cls, numbers: Tensor, bits: int, group_size: int, scales: Tensor,
        zeros: Tensor | None = None, order: Tensor | None = None,
    ) -> PackedMatrix:
        """
        Pack numbers (rows, columns).

        For 4 bits they are 0 to 15, for 8 bits -128 to 127 or float8. ``group_size`` is one of
        columns; ``order`` says which column of the matrix each one is.
        """
        rows, columns = numbers.shape
        num_groups = -(-columns // group_size)
        if group_size % 2 and bits == 4:
            if num_groups > 1:
                raise ValueError(f'groups have {group_size} columns: give an even number')
            group_size += 1
        if scales.shape != (rows, num_groups):
            raise ValueError(
                f'{rows} x {columns} numbers have {tuple(scales.shape)} scales: '
                f'{(rows, num_groups)} belong to groups of {group_size}')
        kind = numbers.dtype if numbers.dtype == FLOAT8 else (
            torch.uint8 if bits == 4 else torch.int8)
        grouped = torch.zeros(rows, num_groups * group_size, dtype=kind, device=numbers.device)
        grouped[:, :columns] = numbers
        grouped = grouped.unflatten(1, (num_groups, group_size))
        if bits == 4:
            low, high = grouped.chunk(2, dim=2)
            grouped = low | high << 4
        if zeros is not None:
            zeros = zeros.contiguous()
            if not bool((zeros != (_MIDDLE if bits == 4 else 0)).any()):
                zeros = None
        return cls(grouped, scales.contiguous(), zeros, columns, order)

    @classmethod
    def stacked(cls, matrices: Sequence[PackedMatrix]) -> PackedMatrix:
        """
        Put matrices of the same columns on top of each other.

        Raises a ValueError if their groups, types or orders differ.
        """
        first, zeros = matrices[0], None
        for other in matrices[1:]:
            if (first.numbers.shape[1:], first.numbers.dtype, first.num_columns) != (
                    other.numbers.shape[1:], other.numbers.dtype, other.num_columns):
                raise ValueError('their weights are packed in different ways')
            orders = [matrix.order for matrix in (first, other) if matrix.order is not None]
            if len(orders) == 1 or len(orders) == 2 and not torch.equal(*orders):
                raise ValueError('their columns are in different orders')
        if any(matrix.zeros is not None for matrix in matrices):
            middle = _MIDDLE if first.bits == 4 else 0
            zeros = torch.cat([
                torch.full_like(matrix.scales, middle, dtype=torch.int16)
                if matrix.zeros is None else matrix.zeros for matrix in matrices])
        return cls(
            torch.cat([matrix.numbers for matrix in matrices]),
            torch.cat([matrix.scales for matrix in matrices]), zeros, first.num_columns,
            first.order)

    @property
    def bits(self) -> int:
        """Return how many bits a number has."""
        return 4 if self.numbers.dtype == torch.uint8 else 8

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns)."""
        return self.numbers.shape[0], self.num_columns

    @property
    def num_bytes(self) -> int:
        """Return how much memory it takes."""
        return sum(item.nbytes for item in (self.numbers, self.scales, self.zeros, self.order)
                   if item is not None)

    def to(self, device: torch.device | str) -> PackedMatrix:
        """Return it on a device."""
        return replace(
            self, numbers=self.numbers.to(device), scales=self.scales.to(device),
            zeros=None if self.zeros is None else self.zeros.to(device),
            order=None if self.order is None else self.order.to(device))

    def rows(self, indices: Tensor | slice) -> PackedMatrix:
        """Return some rows."""
        return replace(
            self, numbers=self.numbers[indices], scales=self.scales[indices],
            zeros=None if self.zeros is None else self.zeros[indices])

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return (rows, columns), computed in float32 and rounded to ``dtype``."""
        numbers, zeros = self.numbers, self.zeros
        if self.bits == 4:
            numbers = torch.cat([numbers & 15, numbers >> 4], dim=2)
        exact = numbers.float()
        if zeros is not None:
            exact -= zeros.float()[..., None]
        elif self.bits == 4:
            exact -= _MIDDLE
        exact *= self.scales.float()[..., None]
        weights = exact.flatten(1)[:, :self.num_columns].to(dtype)
        if self.order is None:
            return weights
        ordered = torch.empty_like(weights)
        ordered[:, self.order] = weights
        return ordered
