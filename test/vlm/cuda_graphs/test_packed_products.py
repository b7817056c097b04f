"""Triton kernels for packed weights against plain torch; in Triton's interpreter without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
import os
from typing import Any

from epvlm_ros.vlm.cuda_graphs.weights import Linear, Mlp, Norm
from epvlm_ros.vlm.packed_weights import PackedMatrix
from epvlm_ros.vlm.packed_weights.rounding import round_to_eight_bits, round_to_four_bits
import pytest
import torch
from torch import Tensor
from torch.nn import functional

pytest.importorskip('triton')
if not torch.cuda.is_available() and os.environ.get('TRITON_INTERPRET') != '1':
    pytest.skip('no GPU: set TRITON_INTERPRET=1 to interpret kernels', allow_module_level=True)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
HALF = torch.bfloat16 if DEVICE == 'cuda' else torch.float16  # which is interpreted
RANDOM = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


def make_matrices() -> Iterator[Any]:
    """Yield every format, with and without zero points, whose last groups are whole or not."""
    for rows, columns, group_size in ((38, 256, 128), (20, 200, 64), (22, 640, 128)):
        matrix = draw(rows, columns)
        yield pytest.param(round_to_four_bits(matrix, group_size), id=f'4 bits, {columns}')
        yield pytest.param(round_to_eight_bits(matrix), id=f'8 bits, {columns}')
    scales = torch.rand(24, 3, generator=RANDOM)
    numbers = torch.randint(0, 16, (24, 96), generator=RANDOM)
    yield pytest.param(PackedMatrix.of(numbers, 4, 32, scales), id='4 bits, symmetric')
    order = torch.randperm(96, generator=RANDOM)
    yield pytest.param(
        PackedMatrix.of(numbers, 4, 32, scales, order=order), id='4 bits, in another order')
    numbers = torch.randint(-128, 128, (24, 96), generator=RANDOM)
    zeros = torch.randint(-9, 9, (24, 3), generator=RANDOM).to(torch.int16)
    yield pytest.param(PackedMatrix.of(numbers, 8, 32, scales, zeros), id='8 bits, in groups')
    numbers = torch.arange(24 * 96).reshape(24, 96) % 254  # all but the two that are no numbers
    numbers += (numbers >= 127).long()
    yield pytest.param(PackedMatrix.of(
        numbers.to(torch.uint8).view(torch.float8_e4m3fn), 8, 96, scales[:, :1]), id='float8')


MATRICES = list(make_matrices())


def make_operations() -> Any:
    from epvlm_ros.vlm.cuda_graphs.kernels import PackedOperations
    return PackedOperations()


def assert_near(found: Tensor, expected: Tensor) -> None:
    # a GPU may multiply in TF32
    tolerance = 1e-4 if DEVICE == 'cpu' else 0.02
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize('num_tokens', [1, 5, 70])
@pytest.mark.parametrize('matrix', MATRICES)
def test_products_are_those_of_plain_torch(
    matrix: PackedMatrix, num_tokens: int, caplog: pytest.LogCaptureFixture,
) -> None:
    matrix, (rows, columns) = matrix.to(DEVICE), matrix.shape
    values, bias = draw(num_tokens, columns).to(DEVICE), draw(rows).to(DEVICE)
    expected = values @ matrix.unpack(torch.float32).T + bias
    operations, linear = make_operations(), Linear(matrix, bias)
    assert_near(operations.multiply(values, linear), expected)
    parts = operations.split_k_linear(values, linear)
    assert_near(parts.sum(0) if parts.ndim == 3 else parts, expected)
    assert not caplog.messages  # no kernel was left out


@pytest.mark.parametrize('matrix', MATRICES)
def test_products_in_16_bits_are_those_of_their_values(
    matrix: PackedMatrix, caplog: pytest.LogCaptureFixture,
) -> None:
    matrix = matrix.to(DEVICE)
    values = draw(5, matrix.shape[1]).to(DEVICE, HALF)
    expected = values.float() @ matrix.unpack(torch.float32).T
    found = make_operations().split_k_linear(values, Linear(matrix)).float()
    found = found.sum(0) if found.ndim == 3 else found
    assert (found - expected).norm() <= 0.004 * expected.norm()
    assert not caplog.messages


@pytest.mark.parametrize('num_rows, num_chunks, bits, is_gated, expected', [
    (2048, 48, 4, False, (8, 64, 4)), (2048, 96, 8, False, (4, 128, 4)),
    (1536, 280, 4, False, (4, 128, 4)), (1536, 560, 8, False, (2, 64, 4)),
    (8960, 48, 4, True, (4, 16, 1)), (151936, 96, 8, False, (4, 16, 1)),
    (4608, 224, 8, False, (4, 32, 4)), (3584, 592, 4, False, (4, 128, 4)),
    (3584, 1184, 8, False, (4, 64, 4))])
def test_sizes_for_one_token_are_the_fastest_measured(
    num_rows: int, num_chunks: int, bits: int, is_gated: bool, expected: tuple[int, int, int],
) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels.packed_products import token_sizes

    assert tuple(token_sizes(num_rows, num_chunks, bits, is_gated).values()) == expected


@pytest.mark.parametrize('num_rows, num_columns, bits, expected', [
    (2048, 1536, 4, (6, 64)), (1536, 8960, 4, (14, 64)), (17920, 1536, 4, (1, 64)),
    (4608, 3584, 4, (7, 64)), (3584, 18944, 4, (4, 64)), (37888, 3584, 4, (1, 64)),
    (2048, 1536, 8, (12, 64)), (1536, 8960, 8, (20, 64)), (17920, 1536, 8, (1, 128)),
    (3584, 3584, 8, (8, 64)), (3584, 18944, 8, (8, 64)), (37888, 3584, 8, (1, 128))])
def test_sizes_for_a_few_tokens_are_those_measured(
    num_rows: int, num_columns: int, bits: int, expected: tuple[int, int],
) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels.packed_products import few_sizes

    group, dtype = (64, torch.uint8) if bits == 4 else (num_columns, torch.int8)
    groups = num_columns * bits // 8 // group
    numbers = torch.empty(num_rows, groups, group, dtype=dtype, device='meta')
    matrix = PackedMatrix(numbers, numbers.new_empty(num_rows, groups), None, num_columns)
    sizes = few_sizes(matrix, num_processors=132)  # of an H200
    assert (sizes['parts'], sizes['BLOCK']) == expected
    assert (sizes['BLOCK_ROWS'], sizes['num_warps'], sizes['STAGES']) == (64, 4, 3)


@pytest.mark.parametrize('matrix', MATRICES)
def test_one_token_is_normalized_multiplied_and_added(
    matrix: PackedMatrix, caplog: pytest.LogCaptureFixture,
) -> None:
    matrix, (rows, columns) = matrix.to(DEVICE), matrix.shape
    hidden, bias = draw(1, columns).to(DEVICE), draw(rows).to(DEVICE)
    norm = Norm(draw(columns).to(DEVICE), None, 1e-6)
    weights = matrix.unpack(torch.float32)
    normed = norm.weight * hidden / (hidden.square().mean() + 1e-6).sqrt()
    operations = make_operations()
    assert_near(operations.linear(hidden, norm, Linear(matrix, bias)), normed @ weights.T + bias)
    assert_near(operations.linear(hidden, None, Linear(matrix)), hidden @ weights.T)
    result = draw(1, rows).to(DEVICE)
    expected = result + hidden @ weights.T + bias
    operations.linear_add(hidden, Linear(matrix, bias), result)
    assert_near(result, expected)
    gate, up = (normed @ weights.T).chunk(2, dim=1)
    mlp = Mlp(Linear(matrix), Linear(matrix), 'gated_silu')
    assert_near(operations.gated_linear(hidden, norm, mlp), functional.silu(gate) * up)
    assert not caplog.messages


@pytest.mark.parametrize('matrix', MATRICES)
def test_rows_are_unpacked_exactly(matrix: PackedMatrix) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels.packed_products import unpack

    if matrix.order is None:
        rows, matrix = torch.tensor([7, 0, 7, 19], device=DEVICE), matrix.to(DEVICE)
        expected = matrix.unpack(torch.float32)
        assert torch.allclose(unpack(matrix, torch.float32), expected, rtol=1e-6, atol=1e-6)
        assert torch.allclose(
            unpack(matrix, torch.float32, rows), expected[rows], rtol=1e-6, atol=1e-6)


def test_a_kernel_that_differs_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels import packed_products

    def wrong(*arguments: Any, **options: Any) -> Tensor:
        return 1.1 * right(*arguments, **options)

    right = packed_products._run_gemm
    monkeypatch.setattr(packed_products, '_run_gemm', wrong)
    matrix = round_to_eight_bits(draw(24, 64)).to(DEVICE)
    values, operations = draw(5, 64).to(DEVICE), make_operations()
    for _ in range(2):
        assert_near(operations.multiply(values, Linear(matrix)),
                    values @ matrix.unpack(torch.float32).T)
    warning, = caplog.messages
    assert 'few tokens, is left out with 8 bits: it differs' in warning
