"""Modules that take the places of the library's where weights are packed; in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
import torch
from torch import nn, Tensor
from torch.nn import functional

MAX_UNPACKED = 2 ** 24  # weights at a time: an output layer is as large as ten others
_PARTS = ('numbers', 'scales', 'zeros', 'order')


class _Packed(nn.Module):
    """Holds a ``PackedMatrix`` in buffers, so that it moves with the model."""

    numbers: Tensor
    scales: Tensor
    zeros: Tensor | None
    order: Tensor | None

    def __init__(self, matrix: PackedMatrix) -> None:
        super().__init__()
        self._num_columns = matrix.num_columns
        for name in _PARTS:
            self.register_buffer(name, getattr(matrix, name))

    @property
    def matrix(self) -> PackedMatrix:
        """Return the weights."""
        return PackedMatrix(
            self.numbers, self.scales, self.zeros, self._num_columns, self.order)

    @matrix.setter
    def matrix(self, matrix: PackedMatrix) -> None:
        for name in _PARTS:
            setattr(self, name, getattr(matrix, name))

    def extra_repr(self) -> str:
        """Tell sizes and bits."""
        return f'{self.matrix.shape[0]} x {self.matrix.shape[1]} of {self.matrix.bits} bits'


class PackedLinear(_Packed):
    """A linear layer; some rows of the matrix at a time are unpacked for each product."""

    def __init__(self, matrix: PackedMatrix, bias: Tensor | None) -> None:
        super().__init__(matrix)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """Multiply, in the type of the values."""
        return multiply(values, self.matrix, self.bias)


class PackedEmbedding(_Packed):
    """An embedding of tokens; the rows that are asked for are unpacked."""

    def __init__(self, matrix: PackedMatrix, dtype: torch.dtype) -> None:
        super().__init__(matrix)
        self._dtype = dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return (..., columns) of int64 token ids (...)."""
        rows = self.matrix.rows(token_ids.flatten())
        return rows.unpack(self._dtype).unflatten(0, token_ids.shape)


def multiply(values: Tensor, matrix: PackedMatrix, bias: Tensor | None) -> Tensor:
    """Return (..., rows) of (..., columns); some rows of the matrix at a time are unpacked."""
    num_rows, columns = matrix.shape
    size = max(1, MAX_UNPACKED // columns)
    if num_rows <= size:
        return functional.linear(values, matrix.unpack(values.dtype), bias)
    result = values.new_empty(*values.shape[:-1], num_rows)
    for start in range(0, num_rows, size):
        part = slice(start, start + size)
        result[..., part] = functional.linear(
            values, matrix.rows(part).unpack(values.dtype), None if bias is None else bias[part])
    return result


def stack(modules: Sequence[PackedLinear]) -> PackedMatrix:
    """
    Put the matrices of modules on top of each other; each keeps its part of the memory.

    Raises a ValueError if they are packed in different ways.
    """
    stacked, start = PackedMatrix.stacked([module.matrix for module in modules]), 0
    for module in modules:
        num_rows = module.matrix.shape[0]
        module.matrix = stacked.rows(slice(start, start + num_rows))
        start += num_rows
    return stacked


def count_weights(model: nn.Module) -> int:
    """Return how many packed weights a model has; those that are shared count once."""
    matrices = [module.matrix for module in model.modules() if isinstance(module, _Packed)]
    shapes = {matrix.numbers.data_ptr(): matrix.shape for matrix in matrices}
    return sum(rows * columns for rows, columns in shapes.values())
