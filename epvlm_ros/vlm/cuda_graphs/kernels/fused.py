"""The same operations on a GPU, one kernel each."""

from __future__ import annotations

import math

from epvlm_ros.vlm.cuda_graphs.attention import PartAttention
from epvlm_ros.vlm.cuda_graphs.kernels import (
    attention, gemv, part_attention, pointwise, skinny_gemm)
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.weights import Linear, Mlp, Norm
import torch
from torch import Tensor
import triton

_LOG2_E = math.log2(math.e)
NUM_SPLITS = 8  # parts of the cache that are attended to side by side
_MAX_PART_PROGRAMS = 1024  # beyond so many programs there are fewer parts
# Where the cache is long and there is not yet work for all processors there are more parts.
_SHORT_CACHE, _NUM_LONG_SPLITS, _MAX_LONG_PROGRAMS = 2048, 16, 128
# Sizes are the fastest of those measured on an H200 with the shapes of Qwen2-VL-2B and 7B.
MAX_SKINNY_TOKENS = 64  # up to so many a product is bound by reading its matrix
_BLOCK_ROWS = 64  # of a product of a few tokens
# Wider models keep the memory busy as they are; further programs that read only disturb them.
MAX_PROGRAMMATIC_LAUNCH_DIM = 2048


class FusedOperations(Operations):
    """
    See ``Operations``.

    With ``programmatic_launch`` the kernels of a step start while the one before is at work, and
    read what does not depend on it (programmatic dependent launch).
    """

    least_bound = _SHORT_CACHE  # keys are seen up to the last one: it decides on parts alone

    def __init__(self, *, programmatic_launch: bool = False) -> None:
        self._programmatic_launch = programmatic_launch
        self._arrived: Tensor | None = None

    def add_norm(self, hidden: Tensor, delta: Tensor | None, norm: Norm) -> Tensor:
        """Add and normalize."""
        tokens, dim = hidden.shape
        normed = torch.empty_like(hidden)
        pointwise.add_norm_kernel[(tokens,)](
            hidden, delta, norm.weight, norm.bias, normed, dim, norm.eps,
            PARTS=0 if delta is None else len(delta) if delta.ndim == 3 else 1,
            IS_LAYER_NORM=norm.bias is not None, BLOCK=triton.next_power_of_2(dim))
        return normed

    def activate(self, values: Tensor, activation: str) -> Tensor:
        """Return the activation."""
        if activation == 'quick_gelu':
            pointwise.quick_gelu_kernel[(triton.cdiv(values.numel(), 2048),)](
                values, values.numel(), BLOCK=2048)
            return values
        if activation != 'gated_silu':
            return super().activate(values, activation)
        tokens, width = values.shape[0], values.shape[1] // 2
        result = values.new_empty(tokens, width)
        pointwise.gated_silu_kernel[(tokens, triton.cdiv(width, 1024))](
            values, result, width, BLOCK=1024)
        return result

    def split_k_linear(self, values: Tensor, linear: Linear) -> Tensor:
        """Return a product, of a few tokens split over its columns."""
        if not _is_skinny(values):
            return super().split_k_linear(values, linear)
        (tokens, columns), rows = values.shape, linear.weight.shape[0]
        block_columns = 128 if columns > 4096 else 64
        row_blocks = triton.cdiv(rows, _BLOCK_ROWS)
        splits = _num_splits(row_blocks, triton.cdiv(columns, block_columns), values.device)
        result = values.new_empty(splits, tokens, rows, dtype=torch.float32)
        skinny_gemm.split_k_linear_kernel[(row_blocks, splits)](
            values, linear.weight, linear.bias, result, tokens, rows, NUM_COLUMNS=columns,
            HAS_BIAS=linear.bias is not None, PARTS=splits,
            **_skinny_sizes(values, _BLOCK_ROWS, block_columns, most_stages=6))
        return result

    def activated_linear(self, values: Tensor, mlp: Mlp) -> Tensor:
        """Return the activation after a product."""
        if not _is_skinny(values) or mlp.up.bias is not None or mlp.activation != 'gated_silu':
            return super().activated_linear(values, mlp)
        (tokens, columns), rows = values.shape, mlp.up.weight.shape[0] // 2
        result = values.new_empty(tokens, rows)
        skinny_gemm.gated_linear_kernel[(triton.cdiv(rows, _BLOCK_ROWS),)](
            values, mlp.up.weight, result, tokens, rows, NUM_COLUMNS=columns,
            **_skinny_sizes(values, 2 * _BLOCK_ROWS, 64, most_stages=4))
        return result

    def apply_rope(self, values: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotate in place."""
        tokens, num_heads, dim = values.shape
        assert values.stride()[1:] == (dim, 1)
        pointwise.rope_kernel[(tokens,)](
            values, cos, sin, values.stride(0), num_heads, dim // 2,
            BLOCK_HEADS=triton.next_power_of_2(num_heads),
            BLOCK_HALF=triton.next_power_of_2(dim // 2))

    def apply_rope_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        places: Tensor,
    ) -> Tensor:
        """Rotate queries, store keys and values."""
        dim = cache.head_dim
        num_heads = qkv.shape[1] // dim - 2 * cache.num_heads
        pointwise.rope_and_store_kernel[(len(qkv),)](
            qkv, cos, sin, cache.keys[layer], cache.values[layer], places, cache.capacity,
            num_heads, cache.num_heads, dim // 2,
            BLOCK_HEADS=triton.next_power_of_2(num_heads),
            BLOCK_KEY_HEADS=triton.next_power_of_2(cache.num_heads),
            BLOCK_HALF=triton.next_power_of_2(dim // 2))
        return qkv[:, :num_heads * dim].unflatten(1, (num_heads, dim))

    def attend_to_cache(
        self, queries: Tensor, cache: StaticCache, layer: int, places: Tensor, bound: int,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Attend up to each token itself."""
        tokens, heads, dim = queries.shape
        assert queries.stride()[1:] == (dim, 1)
        group = heads // cache.num_heads
        block = min(64, max(16, triton.next_power_of_2(tokens * group)))
        row_blocks = triton.cdiv(tokens * group, block)
        splits = _num_cache_splits(bound, row_blocks * cache.num_heads)
        parts, sums = self._scratch(queries, tokens * heads, dim, splits)
        attention.prompt_attention_kernel[(cache.num_heads, splits, row_blocks)](
            queries, cache.keys[layer], cache.values[layer], places,
            None if visible is None else visible.view(torch.uint8), parts, sums,
            cache.capacity, _LOG2_E / dim ** 0.5, tokens * group, queries.stride(0), dim // 2,
            GROUP=group, SPLITS=splits, BLOCK_ROWS=block, BLOCK_KEYS=64,
            BLOCK_HALF=max(16, triton.next_power_of_2(dim // 2)), HAS_MASK=visible is not None)
        result = queries.new_empty(tokens, heads * dim)
        attention.combine_kernel[(triton.cdiv(tokens * heads, 4),)](
            parts, sums, result, tokens * heads, dim, SPLITS=splits, BLOCK_ROWS=4,
            BLOCK=triton.next_power_of_2(dim))
        return result

    def merge_parts(self, mixed: Tensor, sums: Tensor) -> Tensor:
        """Weigh parts of the keys against each other."""
        num_parts, heads, tokens, dim = mixed.shape
        assert mixed.stride(3) == 1 and sums.is_contiguous()
        result = mixed.new_empty(tokens, heads, dim)
        attention.merge_parts_kernel[(triton.cdiv(result.numel(), 1024),)](
            mixed, sums, result, *mixed.stride()[:3], tokens, result.numel(), PARTS=num_parts,
            HEADS=heads, DIM=dim, BLOCK=1024)
        return result

    def find_part_kernels(
        self, query: Tensor, key: Tensor, value: Tensor,
    ) -> dict[str, PartAttention]:
        """Return what this card has."""
        return part_attention.find_kernels(query, key, value)

    def linear(self, hidden: Tensor, norm: Norm | None, linear: Linear) -> Tensor:
        """Return a product after a norm."""
        result = hidden.new_empty(1, linear.weight.shape[0])
        self._gemv(hidden, norm, linear, result, adds=False)
        return result

    def linear_add(self, values: Tensor, linear: Linear, hidden: Tensor) -> None:
        """Add a product to the residual stream."""
        self._gemv(values, None, linear, hidden, adds=True)

    def gated_linear(self, hidden: Tensor, norm: Norm, mlp: Mlp) -> Tensor:
        """Return the activation after a norm and a product."""
        rows, columns = mlp.up.weight.shape[0] // 2, hidden.shape[1]
        if mlp.up.bias is not None or mlp.activation != 'gated_silu' or norm.bias is not None:
            return super().gated_linear(hidden, norm, mlp)
        result = hidden.new_empty(1, rows)
        most_columns = MAX_PROGRAMMATIC_LAUNCH_DIM if self._programmatic_launch else 512
        gemv.gated_gemv_kernel[(rows,)](
            hidden, norm.weight, mlp.up.weight, result, rows, norm.eps, NUM_COLUMNS=columns,
            BLOCK_ROWS=1, BLOCK_COLUMNS=min(most_columns, triton.next_power_of_2(columns)),
            BLOCK_NORM=triton.next_power_of_2(columns), num_warps=1, **self._launch)
        return result

    def attend_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        cursor: Tensor, bound: int,
    ) -> Tensor:
        """Append one token and attend."""
        dim = cache.head_dim
        heads = qkv.shape[1] // dim - 2 * cache.num_heads
        group = heads // cache.num_heads
        splits = _num_cache_splits(bound, cache.num_heads)
        parts, sums = self._scratch(qkv, heads, dim, splits)
        if self._arrived is None:
            self._arrived = torch.zeros(cache.num_heads, dtype=torch.int32, device=qkv.device)
        result = qkv.new_empty(1, heads * dim)
        attention.step_attention_kernel[(cache.num_heads, splits)](
            qkv, cos, sin, cursor, cache.keys[layer], cache.values[layer], parts, sums,
            self._arrived, result, cache.capacity, _LOG2_E / dim ** 0.5, heads, cache.num_heads,
            dim // 2, GROUP=group, SPLITS=splits,
            BLOCK_ROWS=max(16, triton.next_power_of_2(group)), BLOCK_KEYS=32,
            BLOCK_HALF=max(16, triton.next_power_of_2(dim // 2)),
            BLOCK_DIM=triton.next_power_of_2(dim), **self._launch)
        return result

    @property
    def _launch(self) -> dict[str, bool]:
        return launch_options(self._programmatic_launch)

    def _scratch(
        self, like: Tensor, rows: int, dim: int, splits: int,
    ) -> tuple[Tensor, Tensor]:
        return (torch.empty(rows, splits, dim, device=like.device),
                torch.empty(rows, splits, 2, device=like.device))

    def _gemv(
        self, values: Tensor, norm: Norm | None, linear: Linear, result: Tensor, *, adds: bool,
    ) -> None:
        rows, columns = linear.weight.shape
        if columns > 4096:
            block_rows, block_columns, num_warps = 4, 1024, 8
        elif self._programmatic_launch and columns <= MAX_PROGRAMMATIC_LAUNCH_DIM:
            # rows are read whole
            block_rows, block_columns, num_warps = 8 if rows < 2 ** 15 else 4, columns, 4
        else:
            block_rows, block_columns, num_warps = 4, 512, 4
        gemv.gemv_kernel[(triton.cdiv(rows, block_rows),)](
            values, None if norm is None else norm.weight, linear.weight, linear.bias, result,
            rows, 0.0 if norm is None else norm.eps, NUM_COLUMNS=columns,
            HAS_NORM=norm is not None, HAS_BIAS=linear.bias is not None, ADDS=adds,
            BLOCK_ROWS=block_rows,
            BLOCK_COLUMNS=triton.next_power_of_2(min(block_columns, columns)),
            BLOCK_NORM=triton.next_power_of_2(columns), num_warps=num_warps, **self._launch)


def launch_options(starts_early: bool) -> dict[str, bool]:
    """Return the options of a kernel that may start early; older cards do not know one of them."""
    return {'PROGRAMMATIC_LAUNCH': starts_early, **({'launch_pdl': True} if starts_early else {})}


def _is_skinny(values: Tensor) -> bool:
    return (len(values) <= MAX_SKINNY_TOKENS and values.dtype != torch.float32
            and values.is_contiguous())


def device_properties(device: torch.device) -> dict[str, int]:
    """Return what the driver says of a GPU."""
    properties: dict[str, int] = triton.runtime.driver.active.utils.get_device_properties(
        device.index)
    return properties


def _skinny_sizes(
    values: Tensor, rows_read: int, block_columns: int, most_stages: int,
) -> dict[str, int]:
    """Return sizes of a kernel for a few tokens: those that were fastest, if the card has room."""
    block_tokens = max(16, triton.next_power_of_2(len(values)))
    stage_bytes = block_columns * (rows_read + block_tokens) * values.element_size()
    room = device_properties(values.device)['max_shared_mem']
    return {'BLOCK_TOKENS': block_tokens, 'BLOCK_ROWS': _BLOCK_ROWS,
            'BLOCK_COLUMNS': block_columns, 'num_warps': 4,
            'STAGES': max(1, min(most_stages, room // stage_bytes))}


def _num_cache_splits(bound: int, num_programs: int) -> int:
    """Return how many parts a cache is attended to in, by so many programs each."""
    if bound > _SHORT_CACHE and num_programs * _NUM_LONG_SPLITS <= _MAX_LONG_PROGRAMS:
        return _NUM_LONG_SPLITS
    # many rows keep all processors busy without parts, which have to be written and read
    splits = NUM_SPLITS
    while splits > 1 and num_programs * splits > _MAX_PART_PROGRAMS:
        splits //= 2
    return splits


def _num_splits(row_blocks: int, column_blocks: int, device: torch.device) -> int:
    """Return how many equal parts of the columns give each processor at most one program."""
    processors = device_properties(device)['multiprocessor_count']
    return max(splits for splits in range(1, column_blocks + 1)
               if column_blocks % splits == 0
               and (splits == 1 or row_blocks * splits <= processors))
