"""
Triton kernel for products with some tokens and weights of 4 and 8 bits, on tensor cores.

Numbers of 4 and 8 bits are exact in the types of tensor cores. So they are multiplied as they are,
and scales are met once a group by the sums, not by each weight.
"""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.unpacking import (
    load_groups, unpack_exact_bytes, unpack_exact_halves)
import triton
import triton.language as tl


@triton.jit
def _add_product(
    total, weights, values, columns, inside_columns, inside_tokens, num_columns,
    WHOLE: tl.constexpr,
):
    mask = inside_tokens[None, :]
    if not WHOLE:
        mask = mask & (inside_columns & (columns < num_columns))[:, None]
    return tl.dot(
        weights, tl.load(values + columns[:, None], mask=mask, other=0.0), total,
        input_precision='ieee')


@triton.jit
def packed_gemm_kernel(
    values, numbers, scales, zeros, bias, result, num_tokens, num_rows, num_columns,
    num_groups, group_bytes, num_parts,
    FOUR_BITS: tl.constexpr, FLOAT8: tl.constexpr, HAS_ZEROS: tl.constexpr,
    HAS_BIAS: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr, GROUP_BLOCKS: tl.constexpr, ONE_GROUP: tl.constexpr,
    WHOLE: tl.constexpr, STAGES: tl.constexpr, PTX: tl.constexpr,
):
    """
    Multiply some rows with some tokens a program.

    A group of columns takes ``group_bytes``, of which BLOCK are read at a time, GROUP_BLOCKS
    times; with ONE_GROUP there is but one. WHOLE: no block or group is filled up. ``result``
    (parts, tokens, rows) is to be summed up; parts have equal numbers of blocks.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    tokens = tl.program_id(1).to(tl.int64) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    part = tl.program_id(2)
    inside_rows, inside_tokens = rows < num_rows, tokens < num_tokens
    read_rows = tl.minimum(rows, num_rows - 1)  # the last one again, which is not stored
    values += tokens[None, :] * num_columns
    numbers += read_rows[:, None] * (num_groups * group_bytes)
    blocks = (group_bytes + BLOCK - 1) // BLOCK if ONE_GROUP else num_groups * GROUP_BLOCKS
    each = blocks // num_parts
    first_block = part * each
    kind: tl.constexpr = values.dtype.element_ty
    empty = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    total = empty
    if ONE_GROUP:
        scale, zero = load_groups(scales, zeros, rows, inside_rows, FOUR_BITS, HAS_ZEROS)
    for step in tl.range(0, each, num_stages=STAGES):
        at = first_block + step
        group = 0 if ONE_GROUP else at // GROUP_BLOCKS
        inner = (at if ONE_GROUP else at % GROUP_BLOCKS) * BLOCK + tl.arange(0, BLOCK)
        inside = inner < group_bytes
        places = numbers + (group * group_bytes + inner)[None, :]
        if WHOLE:
            packed = tl.load(places)
        else:
            packed = tl.load(places, mask=inside[None, :], other=0)
        if not ONE_GROUP:
            # some groups of a row lie side by side, so that most are in the nearest cache
            scale, zero = load_groups(
                scales, zeros, read_rows * num_groups + group, inside_rows, FOUR_BITS, HAS_ZEROS)
        summed = total if ONE_GROUP else empty
        if FOUR_BITS:
            low, high = unpack_exact_halves(packed, zero, PTX, kind)
            columns = group * (2 * group_bytes) + inner
            summed = _add_product(
                summed, low, values, columns, inside, inside_tokens, num_columns, WHOLE)
            summed = _add_product(
                summed, high, values, columns + group_bytes, inside, inside_tokens, num_columns,
                WHOLE)
        else:
            weights = unpack_exact_bytes(packed, zero, FLOAT8, HAS_ZEROS, PTX, kind)
            summed = _add_product(
                summed, weights, values, group * group_bytes + inner, inside, inside_tokens,
                num_columns, WHOLE)
        total = summed if ONE_GROUP else total + summed * scale[:, None]
    if ONE_GROUP:
        total *= scale[:, None]
    if HAS_BIAS:
        first = tl.load(bias + rows, mask=inside_rows, other=0.0).to(tl.float32)
        total += tl.where(part == 0, first, 0.0)[:, None]
    offset = part.to(tl.int64) * num_tokens * num_rows
    tl.store(
        result + offset + tokens[None, :] * num_rows + rows[:, None],
        total.to(result.dtype.element_ty), mask=inside_rows[:, None] & inside_tokens[None, :])
