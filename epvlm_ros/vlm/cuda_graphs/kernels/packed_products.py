"""Products with packed weights: which kernel, of which sizes, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import logging
from typing import Any

from epvlm_ros.vlm.cuda_graphs.attention import shortest_ms
from epvlm_ros.vlm.cuda_graphs.kernels.packed_gemm import packed_gemm_kernel
from epvlm_ros.vlm.cuda_graphs.kernels.packed_gemv import packed_gemv_kernel
from epvlm_ros.vlm.cuda_graphs.kernels.unpacking import INTERPRETED, unpack_kernel
from epvlm_ros.vlm.cuda_graphs.weights import Linear, Norm
from epvlm_ros.vlm.packed_weights import multiply, PackedMatrix
import torch
from torch import Tensor
from torch.nn import functional
import triton
from triton.errors import TritonError
from triton.runtime.errors import OutOfResources

_log = logging.getLogger(__name__)
_MOST_CHUNK = 16  # bytes that a thread reads at a time
_UNPACKED_AT_ONCE = 2 ** 24  # weights that stay in the cache of the device until they are met
_TOLERANCE = 0.02  # largest ||difference|| / ||result||; of bfloat16 about 0.003, of a bug 1
_NUM_TRIED = 24  # tokens of the trial of a kernel for a few
_MANY_ROWS = 2 ** 14  # enough to keep all processors busy with a warp for four of them
_FEW_ROWS = 64  # of a program of the kernel for a few tokens
# (tokens, rows, warps, stages) of a program of the kernel for many tokens.
_GEMM_SIZES = ((64, 128, 8, 4), (128, 128, 8, 3))
_Sizes = dict[str, int]


class PackedProducts:
    """
    Products with packed weights on a GPU.

    A kernel is compared with plain torch at its first use with a matrix of a shape and format,
    and left out where it differs. ``launches`` are by bits the options of kernels that may start
    early.
    """

    def __init__(
        self, launches: dict[int, dict[str, bool]], num_processors: Callable[[Tensor], int],
    ) -> None:
        self._launches, self._num_processors = launches, num_processors
        self._is_right: dict[Any, bool] = {}
        self._choices: dict[Any, str] = {}

    def can_run_token(self, values: Tensor, matrix: PackedMatrix) -> bool:
        """Tell whether ``run_token`` can be used."""
        groups, group = matrix.numbers.shape[1:]
        fills_up = matrix.num_columns != groups * group * 8 // matrix.bits
        in_words = _chunks(matrix)['CHUNK'] % 4 == 0
        return len(values) == 1 and not fills_up and in_words and self._trusts(
            'one token', values, matrix, self._try_token)

    def run_token(
        self, values: Tensor, norm: Norm | None, linear: Linear, result: Tensor, *,
        adds: bool = False, is_gated: bool = False, sizes: _Sizes | None = None,
    ) -> None:
        """Multiply with one token, see ``packed_gemv_kernel``."""
        matrix = _packed(linear)
        values, rows = _ordered(values, matrix), result.shape[1]
        chunks = _chunks(matrix)
        sizes = sizes or token_sizes(rows, chunks['NUM_CHUNKS'], matrix.bits, is_gated)
        packed_gemv_kernel[(triton.cdiv(rows, sizes['BLOCK_ROWS']),)](
            values, None if norm is None else norm.weight, matrix.numbers.view(torch.int32),
            matrix.scales, matrix.zeros, linear.bias, result, rows,
            0.0 if norm is None else norm.eps, **chunks, **_format(matrix),
            HAS_NORM=norm is not None, HAS_BIAS=linear.bias is not None, ADDS=adds,
            GATED=is_gated, PTX=_uses_ptx(chunks), **sizes, **self._launches[matrix.bits])

    def can_run_few(self, values: Tensor, matrix: PackedMatrix) -> bool:
        """Tell whether ``run_few`` can be used."""
        return self._trusts('few tokens', values, matrix, self._try_few)

    def run_few(self, values: Tensor, linear: Linear, sizes: _Sizes | None = None) -> Tensor:
        """Multiply with a few tokens; returns parts (parts, tokens, rows) to be summed up."""
        sizes = sizes or few_sizes(_packed(linear), self._num_processors(values))
        return _run_gemm(
            values, linear, BLOCK_TOKENS=max(16, triton.next_power_of_2(len(values))), **sizes)

    def run_many(self, values: Tensor, linear: Linear) -> Tensor:
        """Multiply with any number of tokens, in the fastest way for them."""
        matrix = _packed(linear)
        if not self._trusts('unpacking', values, matrix, self._try_unpacking):
            return multiply(values, matrix, linear.bias)
        ways: dict[str, Callable[[], Tensor]] = {
            'unpacked': partial(self._run_unpacked, values, linear)}
        if values.is_cuda and values.dtype != torch.float32:
            if matrix.shape[0] > 2 * _rows_at_once(matrix):
                ways['unpacked in parts'] = partial(self._run_in_parts, values, linear)
            for sizes in _GEMM_SIZES:
                ways[f'packed {sizes[0]} x {sizes[1]}'] = partial(
                    _run_many, values, linear, *sizes)
        key = _key(values, matrix), len(values)
        if key not in self._choices:
            if len(ways) == 1 or torch.cuda.is_current_stream_capturing():
                return ways['unpacked']()
            self._choices[key] = _find_fastest(ways, key)
        return ways[self._choices[key]]()

    def embed(self, matrix: PackedMatrix, token_ids: Tensor, like: Tensor) -> Tensor:
        """Return rows of a matrix (tokens, columns)."""
        if matrix.order is None and self._trusts(
                'unpacking', like, matrix, self._try_unpacking):
            return unpack(matrix, like.dtype, token_ids)
        return matrix.rows(token_ids).unpack(like.dtype)

    def _run_unpacked(self, values: Tensor, linear: Linear) -> Tensor:
        matrix = _packed(linear)
        return functional.linear(
            _ordered(values, matrix), unpack(matrix, values.dtype), linear.bias)

    def _run_in_parts(self, values: Tensor, linear: Linear) -> Tensor:
        """Unpack so many rows at a time that they stay in the cache of the device."""
        matrix = _packed(linear)
        values = _ordered(values, matrix)
        result = values.new_empty(len(values), matrix.shape[0])
        size = _rows_at_once(matrix)
        for start in range(0, matrix.shape[0], size):
            part = slice(start, start + size)
            weights = unpack(matrix.rows(part), values.dtype)
            if linear.bias is None:
                torch.mm(values, weights.T, out=result[:, part])
            else:
                torch.addmm(linear.bias[part], values, weights.T, out=result[:, part])
        return result

    def _trusts(
        self, name: str, like: Tensor, matrix: PackedMatrix,
        run: Callable[[Tensor, PackedMatrix], tuple[Tensor, Tensor]],
    ) -> bool:
        key = (name, *_key(like, matrix))
        if key not in self._is_right:
            if like.is_cuda and torch.cuda.is_current_stream_capturing():
                return False
            self._is_right[key] = _agrees(name, matrix, lambda: run(like, matrix))
        return self._is_right[key]

    def _try_token(self, like: Tensor, matrix: PackedMatrix) -> tuple[Tensor, Tensor]:
        values = _draw(1, matrix, like)
        result = values.new_empty(1, matrix.shape[0])
        self.run_token(values, None, Linear(matrix), result)
        return result, multiply(values, matrix, None)

    def _try_few(self, like: Tensor, matrix: PackedMatrix) -> tuple[Tensor, Tensor]:
        values = _draw(_NUM_TRIED, matrix, like)
        return self.run_few(values, Linear(matrix)).sum(0), multiply(values, matrix, None)

    def _try_unpacking(self, like: Tensor, matrix: PackedMatrix) -> tuple[Tensor, Tensor]:
        rows = torch.arange(0, matrix.shape[0], max(1, matrix.shape[0] // 256))
        part = matrix.rows(rows.to(matrix.numbers.device))
        expected = part.unpack(like.dtype)
        return unpack(part, like.dtype), (
            expected if matrix.order is None else expected[:, matrix.order])


def token_sizes(num_rows: int, num_chunks: int, bits: int, is_gated: bool) -> _Sizes:
    """
    Return the sizes of a program of the kernel for one token.

    As on an H200 for the shapes of 2B and 7B: with many rows a warp of its own for four of them,
    with few rows a longer part of each of them at a time.
    """
    rows = 2 * num_rows if is_gated else num_rows
    if rows >= _MANY_ROWS:
        sizes = 4, 16, 1
    elif bits == 4:
        sizes = (8, 64, 4) if num_chunks <= 64 else (4, 128, 4)
    elif num_chunks <= 128:
        sizes = 4, 128, 4
    else:
        sizes = (4, 32, 4) if num_chunks <= 256 else (4, 64, 4)
        if rows <= 2048:
            sizes = 2, 64, 4
    block = min(sizes[1], triton.next_power_of_2(num_chunks))
    return {'BLOCK_ROWS': sizes[0], 'BLOCK_CHUNKS': block, 'num_warps': sizes[2]}


def few_sizes(matrix: PackedMatrix, num_processors: int) -> _Sizes:
    """
    Return the sizes of a program of the kernel for a few tokens, and how many parts.

    Of those tried on an H200 for the shapes of 2B and 7B, 16 and 48 tokens, the fastest or at
    most 7% slower: many small programs, and longer reads of each for 8 bits and many rows.
    """
    rows = matrix.shape[0]
    groups, group = matrix.numbers.shape[1:]
    is_long = matrix.bits == 8 and rows >= _MANY_ROWS
    block = min(128 if is_long else 64, max(16, triton.next_power_of_2(group)))
    steps = groups * triton.cdiv(group, block)
    programs = (2 if is_long else 4) * num_processors // triton.cdiv(rows, _FEW_ROWS)
    most = max(1, min(programs, steps // 2))
    parts = max(parts for parts in range(1, most + 1) if steps % parts == 0)
    return {'parts': parts, 'BLOCK_ROWS': _FEW_ROWS, 'BLOCK': block, 'num_warps': 4, 'STAGES': 3}


def _run_many(
    values: Tensor, linear: Linear, tokens: int, rows: int, num_warps: int, stages: int,
) -> Tensor:
    return _run_gemm(values, linear, 1, BLOCK_TOKENS=tokens, BLOCK_ROWS=rows, BLOCK=64,
                     num_warps=num_warps, STAGES=stages)[0]


def _run_gemm(values: Tensor, linear: Linear, parts: int, **sizes: int) -> Tensor:
    """Return (parts, tokens, rows); float32 if there is more than one."""
    matrix, tokens = _packed(linear), len(values)
    rows, columns = matrix.shape
    groups, group = matrix.numbers.shape[1:]
    values = _ordered(values, matrix).contiguous()
    result = values.new_empty(
        parts, tokens, rows, dtype=torch.float32 if parts > 1 else values.dtype)
    grid = triton.cdiv(rows, sizes['BLOCK_ROWS']), triton.cdiv(tokens, sizes['BLOCK_TOKENS'])
    packed_gemm_kernel[(*grid, parts)](
        values, *_tensors(matrix), linear.bias, result, tokens, rows, columns, groups, group,
        parts, **_format(matrix), HAS_BIAS=linear.bias is not None,
        GROUP_BLOCKS=1 if groups == 1 else triton.cdiv(group, sizes['BLOCK']),
        ONE_GROUP=groups == 1,
        WHOLE=group % sizes['BLOCK'] == 0 and columns == groups * group * 8 // matrix.bits,
        PTX=_uses_ptx(_chunks(matrix)), **sizes)
    return result


def unpack(matrix: PackedMatrix, dtype: torch.dtype, rows: Tensor | None = None) -> Tensor:
    """Return all rows or some, their columns in the order in which they are packed."""
    chunks, num_rows = _chunks(matrix), matrix.shape[0] if rows is None else len(rows)
    block = min(256, triton.next_power_of_2(chunks['NUM_CHUNKS']))
    result = torch.empty(
        num_rows, matrix.num_columns, dtype=dtype, device=matrix.numbers.device)
    unpack_kernel[(num_rows, triton.cdiv(chunks['NUM_CHUNKS'], block))](
        *_tensors(matrix), rows, result, matrix.num_columns, chunks['NUM_CHUNKS'],
        chunks['GROUP_CHUNKS'], CHUNK=chunks['CHUNK'], **_format(matrix),
        HAS_ROWS=rows is not None, BLOCK_CHUNKS=block, PTX=_uses_ptx(chunks))
    return result


def _find_fastest(ways: dict[str, Callable[[], Tensor]], key: Any) -> str:
    expected = ways['unpacked']()
    times_ms: dict[str, float] = {}
    for name, run in ways.items():
        try:
            if name == 'unpacked' or _agrees(name, None, lambda: (run(), expected)):
                times_ms[name] = shortest_ms(run)
        except OutOfResources as error:
            _log.debug('no product %s: it does not fit on this card: %s', name, error)
    fastest = min(times_ms, key=lambda name: times_ms[name])
    _log.info('product of %s tokens with packed weights %s: %s of %s ms', key[1], key[0], fastest,
              {name: round(time_ms, 4) for name, time_ms in times_ms.items()})
    return fastest


def _agrees(
    name: str, matrix: PackedMatrix | None, run: Callable[[], tuple[Tensor, Tensor]],
) -> bool:
    """Tell whether two results are equal up to rounding; a warning says so if they are not."""
    try:
        found, expected = (part.float() for part in run())
        error = float((found - expected).norm() / expected.norm())
        if error <= _TOLERANCE:
            return True
        reason = f'it differs from plain torch by {error:.3g} of the norm'
    except (RuntimeError, TritonError) as caught:
        if isinstance(caught, torch.OutOfMemoryError) or (
                matrix is None and isinstance(caught, OutOfResources)):
            raise
        reason = str(caught)
    _log.warning('the kernel for packed weights, %s, is left out%s: %s', name,
                 '' if matrix is None else f' with {matrix.bits} bits', reason)
    return False


def _packed(linear: Linear) -> PackedMatrix:
    assert isinstance(linear.weight, PackedMatrix)
    return linear.weight


def _ordered(values: Tensor, matrix: PackedMatrix) -> Tensor:
    return values if matrix.order is None else values.index_select(1, matrix.order)


def _rows_at_once(matrix: PackedMatrix) -> int:
    return max(1, _UNPACKED_AT_ONCE // matrix.num_columns)


def _draw(num_tokens: int, matrix: PackedMatrix, like: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(num_tokens, matrix.num_columns, generator=random)
    return values.to(like.device, like.dtype)


def _key(like: Tensor, matrix: PackedMatrix) -> tuple[Any, ...]:
    zeros = None if matrix.zeros is None else matrix.zeros.dtype
    return (tuple(matrix.numbers.shape), matrix.num_columns, matrix.numbers.dtype,
            matrix.scales.dtype, zeros, like.dtype, like.device)


def _tensors(matrix: PackedMatrix) -> tuple[Tensor, Tensor, Tensor | None]:
    numbers = matrix.numbers
    return (numbers.view(torch.uint8) if numbers.dtype.is_floating_point else numbers,
            matrix.scales, matrix.zeros)


def _format(matrix: PackedMatrix) -> dict[str, bool]:
    return {'FOUR_BITS': matrix.bits == 4, 'FLOAT8': matrix.numbers.dtype.is_floating_point,
            'HAS_ZEROS': matrix.zeros is not None}


def _chunks(matrix: PackedMatrix) -> _Sizes:
    """Return how many chunks of a row and of a group are read at once, and their bytes."""
    groups, group = matrix.numbers.shape[1:]
    chunk = min(_MOST_CHUNK, group & -group)  # the largest power of two that divides a group
    return {'NUM_CHUNKS': groups * group // chunk, 'GROUP_CHUNKS': group // chunk,
            'CHUNK': chunk}


def _uses_ptx(chunks: _Sizes) -> bool:
    return not INTERPRETED and chunks['CHUNK'] >= 4  # as many as one instruction takes
