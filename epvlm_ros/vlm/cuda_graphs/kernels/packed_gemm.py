"""Triton kernel for products with some tokens and weights of 4 and 8 bits, on tensor cores."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.unpacking import (
    load_groups, unpack_bytes, unpack_halves)
import triton
import triton.language as tl


@triton.jit
def _add_product(
    total, weights, values, columns, inside_columns, inside_tokens, num_columns,
):
    mask = inside_tokens[None, :] & (inside_columns & (columns < num_columns))[:, None]
    return tl.dot(
        weights.to(values.dtype.element_ty),
        tl.load(values + columns[:, None], mask=mask, other=0.0), total, input_precision='ieee')


@triton.jit
def packed_gemm_kernel(
    values, numbers, scales, zeros, bias, result, num_tokens, num_rows, num_columns,
    num_groups, group_bytes, num_parts,
    FOUR_BITS: tl.constexpr, FLOAT8: tl.constexpr, HAS_ZEROS: tl.constexpr,
    HAS_BIAS: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, PTX: tl.constexpr,
):
    """
    Multiply some rows with some tokens a program; weights are rounded as those of plain matrices.

    A group of columns takes ``group_bytes``, of which BLOCK are read at a time.
    ``result`` (parts, tokens, rows) is to be summed up; parts have equal numbers of blocks.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    tokens = tl.program_id(1).to(tl.int64) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    part = tl.program_id(2)
    inside_rows, inside_tokens = rows < num_rows, tokens < num_tokens
    token_values = values + tokens[None, :] * num_columns
    total = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    blocks = (group_bytes + BLOCK - 1) // BLOCK
    each = num_groups * blocks // num_parts
    for step in tl.range(0, each, num_stages=STAGES):
        at = part * each + step
        group = at // blocks
        inner = (at % blocks) * BLOCK + tl.arange(0, BLOCK)
        inside = inner < group_bytes
        groups = rows * num_groups + group
        packed = tl.load(
            numbers + groups[:, None] * group_bytes + inner[None, :],
            mask=inside_rows[:, None] & inside[None, :], other=0)
        scale, zero = load_groups(
            scales, zeros, groups, inside_rows, FOUR_BITS, HAS_ZEROS)
        if FOUR_BITS:
            low, high = unpack_halves(packed, PTX)
            columns = group * (2 * group_bytes) + inner
            total = _add_product(
                total, (low - zero[:, None]) * scale[:, None], token_values, columns, inside,
                inside_tokens, num_columns)
            total = _add_product(
                total, (high - zero[:, None]) * scale[:, None], token_values,
                columns + group_bytes, inside, inside_tokens, num_columns)
        else:
            weights = (unpack_bytes(packed, FLOAT8, PTX) - zero[:, None]) * scale[:, None]
            total = _add_product(
                total, weights, token_values, group * group_bytes + inner, inside, inside_tokens,
                num_columns)
    if HAS_BIAS:
        first = tl.load(bias + rows, mask=inside_rows, other=0.0).to(tl.float32)
        total += tl.where(part == 0, first, 0.0)[:, None]
    offset = part.to(tl.int64) * num_tokens * num_rows
    tl.store(
        result + offset + tokens[None, :] * num_rows + rows[:, None],
        total.to(result.dtype.element_ty), mask=inside_rows[:, None] & inside_tokens[None, :])
