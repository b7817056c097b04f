"""Triton kernels for packed weights against plain torch; in Triton's interpreter without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
import os
from typing import Any

from epvlm_ros.vlm.packed_weights import PackedMatrix
from epvlm_ros.vlm.packed_weights.rounding import round_to_eight_bits, round_to_four_bits
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')  # read when kernels are declared
triton: Any = pytest.importorskip('triton')

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
RANDOM = torch.Generator().manual_seed(0)


def make_matrices() -> Iterator[Any]:
    """Yield matrices with and without zero points, whose last groups are whole or not."""
    for rows, columns, group_size in ((37, 256, 128), (20, 200, 64)):
        matrix = torch.randn(rows, columns, generator=RANDOM)
        yield pytest.param(round_to_four_bits(matrix, group_size), id=f'4 bits, {columns}')
        yield pytest.param(round_to_eight_bits(matrix), id=f'8 bits, {columns}')
    numbers = torch.randint(0, 16, (24, 96), generator=RANDOM)
    scales = torch.rand(24, 3, generator=RANDOM)
    yield pytest.param(PackedMatrix.of(numbers, 4, 32, scales), id='4 bits, symmetric')


@pytest.mark.parametrize('num_tokens', [1, 5])
@pytest.mark.parametrize('matrix', make_matrices())
def test_products_are_those_of_plain_torch(matrix: PackedMatrix, num_tokens: int) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels import packed_products

    (rows, columns), matrix = matrix.shape, matrix.to(DEVICE)
    num_groups, group_bytes = matrix.numbers.shape[1:]
    values = torch.randn(num_tokens, columns, generator=RANDOM).to(DEVICE)
    bias = torch.randn(rows, generator=RANDOM).to(DEVICE)
    expected = values @ matrix.unpack(torch.float32).T + bias
    result = torch.full((num_tokens, rows), 3.0, device=DEVICE)
    options = {'NUM_GROUPS': num_groups, 'GROUP': group_bytes, 'FOUR_BITS': matrix.bits == 4,
               'HAS_ZEROS': matrix.zeros is not None, 'HAS_BIAS': True, 'BLOCK': 32}
    tensors = (values, matrix.numbers, matrix.scales, matrix.zeros, bias, result)
    if num_tokens == 1:
        packed_products.packed_gemv_kernel[(triton.cdiv(rows, 4),)](
            *tensors, rows, columns, ADDS=True, BLOCK_ROWS=4, **options)
        result -= 3.0  # what was there is added to
    else:
        packed_products.packed_linear_kernel[(triton.cdiv(rows, 16), 1)](
            *tensors, num_tokens, rows, columns, BLOCK_TOKENS=16, BLOCK_ROWS=16, **options)
    # a GPU may multiply in TF32
    tolerance = 1e-4 if DEVICE == 'cpu' else 0.02
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()
