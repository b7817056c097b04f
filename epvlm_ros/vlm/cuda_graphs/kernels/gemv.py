"""
Triton kernels for products with a single token.

Such a product is bound by reading its matrix, and each launch costs about two microseconds: so
norm, product, activation and sum are one kernel. One that starts early reads the first part of its
matrix while the kernel before it is still at work.
"""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.programmatic_launch import wait_for_others
import triton
import triton.language as tl


@triton.jit
def _square_mean(hidden, NUM_COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    exact = tl.load(
        hidden + columns, mask=columns < NUM_COLUMNS, other=0.0).to(tl.float32)
    return tl.sum(exact * exact, axis=0) / NUM_COLUMNS


@triton.jit
def _load_input(
    hidden, norm, inverse, columns, inside, HAS_NORM: tl.constexpr,
):
    values = tl.load(hidden + columns, mask=inside, other=0.0)
    if HAS_NORM:
        scale = tl.load(norm + columns, mask=inside, other=0.0)
        values = (values.to(tl.float32) * inverse).to(values.dtype) * scale
    return values.to(tl.float32)[None, :]


@triton.jit
def gemv_kernel(
    hidden, norm, matrix, bias, result, num_rows, eps,
    NUM_COLUMNS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    BLOCK_NORM: tl.constexpr, PROGRAMMATIC_LAUNCH: tl.constexpr,
):
    """Multiply some rows a program, after a norm or none, and add what ``result`` holds."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = (rows < num_rows)[:, None]
    first = tl.arange(0, BLOCK_COLUMNS)
    places = matrix + rows[:, None] * NUM_COLUMNS + first[None, :]
    # a part of the matrix is always on its way while the one before it is multiplied
    weights = tl.load(
        places, mask=inside_rows & (first < NUM_COLUMNS)[None, :], other=0.0,
        eviction_policy='evict_first')
    wait_for_others(PROGRAMMATIC_LAUNCH)
    inverse = 1.0
    if HAS_NORM:
        inverse = tl.rsqrt(_square_mean(hidden, NUM_COLUMNS, BLOCK_NORM) + eps)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for start in tl.range(0, NUM_COLUMNS, BLOCK_COLUMNS):
        columns = start + first
        part = weights
        if BLOCK_COLUMNS < NUM_COLUMNS:
            following = columns + BLOCK_COLUMNS
            weights = tl.load(
                places + start + BLOCK_COLUMNS, other=0.0, eviction_policy='evict_first',
                mask=inside_rows & (following < NUM_COLUMNS)[None, :])
        total += part.to(tl.float32) * _load_input(
            hidden, norm, inverse, columns, columns < NUM_COLUMNS, HAS_NORM)
    summed = tl.sum(total, axis=1)
    if HAS_BIAS:
        summed += tl.load(bias + rows, mask=rows < num_rows, other=0.0).to(tl.float32)
    product = summed.to(result.dtype.element_ty)
    if ADDS:
        product += tl.load(result + rows, mask=rows < num_rows, other=0.0)
    tl.store(result + rows, product, mask=rows < num_rows)


@triton.jit
def gated_gemv_kernel(
    hidden, norm, matrix, result, num_rows, eps,
    NUM_COLUMNS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    BLOCK_NORM: tl.constexpr, PROGRAMMATIC_LAUNCH: tl.constexpr,
):
    """Multiply some rows of gate and values a program, after a norm; gate the one by the other."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = (rows < num_rows)[:, None]
    first = tl.arange(0, BLOCK_COLUMNS)
    places = matrix + rows[:, None] * NUM_COLUMNS + first[None, :]
    below = num_rows.to(tl.int64) * NUM_COLUMNS  # from a gate to what it gates
    mask = inside_rows & (first < NUM_COLUMNS)[None, :]
    gate = tl.load(places, mask=mask, other=0.0, eviction_policy='evict_first')
    up = tl.load(places + below, mask=mask, other=0.0, eviction_policy='evict_first')
    wait_for_others(PROGRAMMATIC_LAUNCH)
    inverse = tl.rsqrt(_square_mean(hidden, NUM_COLUMNS, BLOCK_NORM) + eps)
    gates = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    ups = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for start in tl.range(0, NUM_COLUMNS, BLOCK_COLUMNS):
        columns = start + first
        gate_part, up_part = gate, up
        if BLOCK_COLUMNS < NUM_COLUMNS:
            mask = inside_rows & (columns + BLOCK_COLUMNS < NUM_COLUMNS)[None, :]
            following = places + start + BLOCK_COLUMNS
            gate = tl.load(following, mask=mask, other=0.0, eviction_policy='evict_first')
            up = tl.load(following + below, mask=mask, other=0.0, eviction_policy='evict_first')
        values = _load_input(hidden, norm, inverse, columns, columns < NUM_COLUMNS, True)
        gates += gate_part.to(tl.float32) * values
        ups += up_part.to(tl.float32) * values
    kind = result.dtype.element_ty
    gate_sum = tl.sum(gates, axis=1).to(kind).to(tl.float32)
    up_sum = tl.sum(ups, axis=1).to(kind)
    activated = (gate_sum * tl.sigmoid(gate_sum)).to(kind) * up_sum
    tl.store(result + rows, activated, mask=rows < num_rows)
