"""
Triton kernels for products with weights of 4 and 8 bits, unpacked in registers.

A group of columns of 4 bits lies in half as many bytes: their low halves are the first half of
the group and their high halves the second, so both halves meet inputs that lie in a row.

No operation uses them yet: sizes are to be found and the self-check to be passed on a card.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def packed_gemv_kernel(
    values, numbers, scales, zeros, bias, result, num_rows, num_columns,
    NUM_GROUPS: tl.constexpr, GROUP: tl.constexpr, FOUR_BITS: tl.constexpr,
    HAS_ZEROS: tl.constexpr, HAS_BIAS: tl.constexpr, ADDS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """
    Multiply some rows a program with one token, in float32.

    GROUP is how many bytes a group of columns takes, BLOCK how many of them are read at a time.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = rows < num_rows
    total = tl.zeros((BLOCK_ROWS, BLOCK), dtype=tl.float32)
    parts: tl.constexpr = (GROUP + BLOCK - 1) // BLOCK
    for step in tl.range(0, NUM_GROUPS * parts):
        group = step // parts
        inner = (step % parts) * BLOCK + tl.arange(0, BLOCK)
        at = rows * NUM_GROUPS + group
        packed = tl.load(
            numbers + at[:, None] * GROUP + inner[None, :], other=0,
            mask=inside_rows[:, None] & (inner < GROUP)[None, :], eviction_policy='evict_first')
        scale = tl.load(scales + at, mask=inside_rows, other=0.0).to(tl.float32)[:, None]
        zero = tl.zeros((BLOCK_ROWS, 1), dtype=tl.float32)
        if HAS_ZEROS:
            zero = tl.load(zeros + at, mask=inside_rows, other=0).to(tl.float32)[:, None]
        elif FOUR_BITS:
            zero += 8.0
        if FOUR_BITS:
            first = group * 2 * GROUP + inner
            second = first + GROUP
            low = tl.load(values + first, mask=(inner < GROUP) & (first < num_columns), other=0.0)
            high = tl.load(
                values + second, mask=(inner < GROUP) & (second < num_columns), other=0.0)
            product = ((packed & 15).to(tl.float32) - zero) * low.to(tl.float32)[None, :]
            product += ((packed >> 4).to(tl.float32) - zero) * high.to(tl.float32)[None, :]
        else:
            first = group * GROUP + inner
            low = tl.load(values + first, mask=(inner < GROUP) & (first < num_columns), other=0.0)
            product = (packed.to(tl.float32) - zero) * low.to(tl.float32)[None, :]
        total += scale * product
    summed = tl.sum(total, axis=1)
    if HAS_BIAS:
        summed += tl.load(bias + rows, mask=inside_rows, other=0.0).to(tl.float32)
    product = summed.to(result.dtype.element_ty)
    if ADDS:
        product += tl.load(result + rows, mask=inside_rows, other=0.0)
    tl.store(result + rows, product, mask=inside_rows)


@triton.jit
def packed_linear_kernel(
    values, numbers, scales, zeros, bias, result, num_tokens, num_rows, num_columns,
    NUM_GROUPS: tl.constexpr, GROUP: tl.constexpr, FOUR_BITS: tl.constexpr,
    HAS_ZEROS: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Multiply some rows a program with some tokens on the tensor cores; weights are rounded."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    tokens = tl.program_id(1) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    inside_rows, inside_tokens = rows < num_rows, tokens < num_tokens
    place = tl.arange(0, BLOCK)
    kind = values.dtype.element_ty
    total = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    row_values = values + tokens.to(tl.int64)[None, :] * num_columns
    parts: tl.constexpr = (GROUP + BLOCK - 1) // BLOCK
    for step in tl.range(0, NUM_GROUPS * parts):
        group = step // parts
        inner = (step % parts) * BLOCK + place
        at = rows * NUM_GROUPS + group
        packed = tl.load(
            numbers + at[:, None] * GROUP + inner[None, :],
            mask=inside_rows[:, None] & (inner < GROUP)[None, :], other=0)
        scale = tl.load(scales + at, mask=inside_rows, other=0.0).to(tl.float32)[:, None]
        zero = tl.zeros((BLOCK_ROWS, 1), dtype=tl.float32)
        if HAS_ZEROS:
            zero = tl.load(zeros + at, mask=inside_rows, other=0).to(tl.float32)[:, None]
        elif FOUR_BITS:
            zero += 8.0
        if FOUR_BITS:
            first = group * 2 * GROUP + inner
            low = (((packed & 15).to(tl.float32) - zero) * scale).to(kind)
            high = (((packed >> 4).to(tl.float32) - zero) * scale).to(kind)
            second = first + GROUP
            total = tl.dot(low, tl.load(
                row_values + first[:, None], other=0.0,
                mask=inside_tokens[None, :] & ((inner < GROUP) & (first < num_columns))[:, None]),
                total)
            total = tl.dot(high, tl.load(
                row_values + second[:, None], other=0.0,
                mask=inside_tokens[None, :] & ((inner < GROUP) & (second < num_columns))[:, None]),
                total)
        else:
            first = group * GROUP + inner
            weights = ((packed.to(tl.float32) - zero) * scale).to(kind)
            total = tl.dot(weights, tl.load(
                row_values + first[:, None], other=0.0,
                mask=inside_tokens[None, :] & ((inner < GROUP) & (first < num_columns))[:, None]),
                total)
    if HAS_BIAS:
        total += tl.load(bias + rows, mask=inside_rows, other=0.0).to(tl.float32)[:, None]
    tl.store(
        result + tokens.to(tl.int64)[None, :] * num_rows + rows[:, None],
        total.to(result.dtype.element_ty), mask=inside_rows[:, None] & inside_tokens[None, :])
