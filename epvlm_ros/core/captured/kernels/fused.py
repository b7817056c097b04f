"""The same operations on a GPU, one kernel each."""

from __future__ import annotations

import math

from epvlm_ros.core.captured.cache import StaticCache
from epvlm_ros.core.captured.kernels import attention, pointwise, vector
from epvlm_ros.core.captured.operations import Operations
from epvlm_ros.core.captured.trial import check_operations
from epvlm_ros.core.captured.weights import DecoderWeights, Linear, Mlp, Norm
import torch
from torch import Tensor
import triton
from triton.errors import TritonError

_LOG2_E = math.log2(math.e)
NUM_SPLITS = 8  # parts of the cache that are attended to side by side


class FusedOperations(Operations):
    """See ``Operations``."""

    needs_bound = False

    def __init__(self) -> None:
        self._arrived: Tensor | None = None

    def add_norm(self, hidden: Tensor, delta: Tensor | None, norm: Norm) -> Tensor:
        """Add and normalize."""
        tokens, dim = hidden.shape
        normed = torch.empty_like(hidden)
        pointwise.add_norm_kernel[(tokens,)](
            hidden, delta, norm.weight, norm.bias, normed, dim, norm.eps,
            HAS_DELTA=delta is not None, IS_LAYER_NORM=norm.bias is not None,
            BLOCK=triton.next_power_of_2(dim))
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

    def rotate(self, values: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Turn in place."""
        tokens, num_heads, dim = values.shape
        assert values.stride()[1:] == (dim, 1)
        pointwise.rotate_kernel[(tokens,)](
            values, cos, sin, values.stride(0), num_heads, dim // 2,
            BLOCK_HEADS=triton.next_power_of_2(num_heads),
            BLOCK_HALF=triton.next_power_of_2(dim // 2))

    def rotate_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        offset: Tensor,
    ) -> Tensor:
        """Turn queries, store keys and values."""
        dim = cache.head_dim
        num_heads = qkv.shape[1] // dim - 2 * cache.num_heads
        pointwise.rotate_and_store_kernel[(len(qkv),)](
            qkv, cos, sin, cache.keys[layer], cache.values[layer], offset, cache.capacity,
            num_heads, cache.num_heads, dim // 2,
            BLOCK_HEADS=triton.next_power_of_2(num_heads),
            BLOCK_KEY_HEADS=triton.next_power_of_2(cache.num_heads),
            BLOCK_HALF=triton.next_power_of_2(dim // 2))
        return qkv[:, :num_heads * dim].unflatten(1, (num_heads, dim))

    def attend_to_cache(
        self, queries: Tensor, cache: StaticCache, layer: int, offset: Tensor, bound: int,
    ) -> Tensor:
        """Attend up to each token itself; ``bound`` does not matter."""
        tokens, heads, dim = queries.shape
        assert queries.stride()[1:] == (dim, 1)
        group = heads // cache.num_heads
        block = min(64, max(16, triton.next_power_of_2(tokens * group)))
        parts, sums = self._scratch(queries, tokens * heads, dim)
        attention.prompt_attention_kernel[
            (cache.num_heads, NUM_SPLITS, triton.cdiv(tokens * group, block))](
            queries, cache.keys[layer], cache.values[layer], offset, parts, sums,
            cache.capacity, _LOG2_E / dim ** 0.5, tokens * group, queries.stride(0), dim // 2,
            GROUP=group, SPLITS=NUM_SPLITS, BLOCK_ROWS=block, BLOCK_KEYS=64,
            BLOCK_HALF=max(16, triton.next_power_of_2(dim // 2)))
        result = queries.new_empty(tokens, heads * dim)
        attention.combine_kernel[(triton.cdiv(tokens * heads, 4),)](
            parts, sums, result, tokens * heads, dim, SPLITS=NUM_SPLITS, BLOCK_ROWS=4,
            BLOCK=triton.next_power_of_2(dim))
        return result

    def linear(self, hidden: Tensor, norm: Norm | None, linear: Linear) -> Tensor:
        """Return a product after a norm."""
        result = hidden.new_empty(1, len(linear.weight))
        self._vector_linear(hidden, norm, linear, result, adds=False)
        return result

    def linear_add(self, values: Tensor, linear: Linear, hidden: Tensor) -> None:
        """Add a product to the residual stream."""
        self._vector_linear(values, None, linear, hidden, adds=True)

    def gated_linear(self, hidden: Tensor, norm: Norm, mlp: Mlp) -> Tensor:
        """Return the activation after a norm and a product."""
        rows, columns = len(mlp.up.weight) // 2, hidden.shape[1]
        if mlp.up.bias is not None or mlp.activation != 'gated_silu' or norm.bias is not None:
            return super().gated_linear(hidden, norm, mlp)
        result = hidden.new_empty(1, rows)
        vector.vector_gated_kernel[(rows,)](
            hidden, norm.weight, mlp.up.weight, result, rows, norm.eps, NUM_COLUMNS=columns,
            BLOCK_ROWS=1, BLOCK_COLUMNS=min(512, triton.next_power_of_2(columns)),
            BLOCK_NORM=triton.next_power_of_2(columns), num_warps=1)
        return result

    def attend_and_store(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, cache: StaticCache, layer: int,
        cursor: Tensor, bound: int,
    ) -> Tensor:
        """Append one token and attend; ``bound`` does not matter."""
        dim = cache.head_dim
        heads = qkv.shape[1] // dim - 2 * cache.num_heads
        group = heads // cache.num_heads
        parts, sums = self._scratch(qkv, heads, dim)
        if self._arrived is None:
            self._arrived = torch.zeros(cache.num_heads, dtype=torch.int32, device=qkv.device)
        result = qkv.new_empty(1, heads * dim)
        attention.step_attention_kernel[(cache.num_heads, NUM_SPLITS)](
            qkv, cos, sin, cursor, cache.keys[layer], cache.values[layer], parts, sums,
            self._arrived, result, cache.capacity, _LOG2_E / dim ** 0.5, heads, cache.num_heads,
            dim // 2, GROUP=group, SPLITS=NUM_SPLITS,
            BLOCK_ROWS=max(16, triton.next_power_of_2(group)), BLOCK_KEYS=32,
            BLOCK_HALF=max(16, triton.next_power_of_2(dim // 2)),
            BLOCK_DIM=triton.next_power_of_2(dim))
        return result

    def _scratch(self, like: Tensor, rows: int, dim: int) -> tuple[Tensor, Tensor]:
        return (torch.empty(rows, NUM_SPLITS, dim, device=like.device),
                torch.empty(rows, NUM_SPLITS, 2, device=like.device))

    def _vector_linear(
        self, values: Tensor, norm: Norm | None, linear: Linear, result: Tensor, *, adds: bool,
    ) -> None:
        rows, columns = linear.weight.shape
        # the fastest of those that were tried on an H200 with the shapes of Qwen2-VL-2B
        block_columns, num_warps = (1024, 8) if columns > 4096 else (512, 4)
        vector.vector_linear_kernel[(triton.cdiv(rows, 4),)](
            values, None if norm is None else norm.weight, linear.weight, linear.bias, result,
            rows, 0.0 if norm is None else norm.eps, NUM_COLUMNS=columns,
            HAS_NORM=norm is not None, HAS_BIAS=linear.bias is not None, ADDS=adds,
            BLOCK_ROWS=4, BLOCK_COLUMNS=min(block_columns, triton.next_power_of_2(columns)),
            BLOCK_NORM=triton.next_power_of_2(columns), num_warps=num_warps)


def try_out(weights: DecoderWeights) -> FusedOperations:
    """
    Return the operations after they have shown that they compute what plain torch does.

    Raises
    ------
    RuntimeError
        If a kernel cannot be compiled for this card, does not fit on it or is wrong there.

    """
    operations = FusedOperations()
    try:
        with torch.cuda.device(weights.embedding.device):
            check_operations(weights, operations)
    except TritonError as error:
        raise RuntimeError(f'a kernel does not run on this card: {error}') from error
    return operations
