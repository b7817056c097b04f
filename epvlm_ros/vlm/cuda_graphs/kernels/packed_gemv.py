"""
Triton kernels for products with a single token and weights of 4 and 8 bits.

They read less than those of ``gemv`` and compute more for each byte. So scales and zero points are
met once for some bytes of a row, ``scale * (sum(number * value) - zero * sum(value))``, and the
mean square of a norm is summed up beside the product, which it divides.
"""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.programmatic_launch import wait_for_others
from epvlm_ros.vlm.cuda_graphs.kernels.unpacking import (
    load_groups, unpack_bytes_of_words, unpack_halves_of_words)
import triton
import triton.language as tl


@triton.jit
def _load_weights(
    numbers, scales, zeros, rows, inside_rows, chunks,
    NUM_CHUNKS: tl.constexpr, GROUP_CHUNKS: tl.constexpr, CHUNK: tl.constexpr,
    FOUR_BITS: tl.constexpr, HAS_ZEROS: tl.constexpr,
):
    """Return words (rows, chunks, CHUNK / 4), and scale and zero point (rows, chunks) of each."""
    inside = inside_rows[:, None] & (chunks < NUM_CHUNKS)[None, :]
    at = rows[:, None] * NUM_CHUNKS + chunks[None, :]
    packed = tl.load(
        numbers + at[:, :, None] * (CHUNK // 4) + tl.arange(0, CHUNK // 4)[None, None, :],
        mask=inside[:, :, None], other=0, eviction_policy='evict_first')
    groups = rows[:, None] * (NUM_CHUNKS // GROUP_CHUNKS) + (chunks // GROUP_CHUNKS)[None, :]
    scale, zero = load_groups(scales, zeros, groups, inside, FOUR_BITS, HAS_ZEROS)
    return packed, scale, zero


@triton.jit
def _load_values(hidden, norm, columns, inside, HAS_NORM: tl.constexpr):
    """Return (chunks, CHUNK) in float32, not yet divided by the norm, and their squares' sums."""
    exact = tl.load(hidden + columns, mask=inside, other=0.0).to(tl.float32)
    squares = tl.sum(exact * exact, axis=1)
    if HAS_NORM:
        exact *= tl.load(norm + columns, mask=inside, other=0.0).to(tl.float32)
    return exact, squares


@triton.jit
def _multiply(
    packed, scale, zero, first, second, sums, FOUR_BITS: tl.constexpr, FLOAT8: tl.constexpr,
    HAS_ZEROS: tl.constexpr, PTX: tl.constexpr,
):
    """Return the products (rows, chunks) with values (chunks, CHUNK) of both halves."""
    if FOUR_BITS:
        low, high = unpack_halves_of_words(packed, PTX)
        product = tl.sum(low * first[None, :, :], axis=2)
        product += tl.sum(high * second[None, :, :], axis=2)
        product -= zero * sums[None, :]
    else:
        product = tl.sum(unpack_bytes_of_words(packed, FLOAT8, PTX) * first[None, :, :], axis=2)
        if HAS_ZEROS:
            product -= zero * sums[None, :]
    return product * scale


@triton.jit
def packed_gemv_kernel(
    hidden, norm, numbers, scales, zeros, bias, result, num_rows, eps,
    NUM_CHUNKS: tl.constexpr, GROUP_CHUNKS: tl.constexpr, CHUNK: tl.constexpr,
    FOUR_BITS: tl.constexpr, FLOAT8: tl.constexpr, HAS_ZEROS: tl.constexpr, PTX: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr, ADDS: tl.constexpr, GATED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_CHUNKS: tl.constexpr, PROGRAMMATIC_LAUNCH: tl.constexpr,
):
    """
    Multiply some rows a program, after a norm or none, and add what ``result`` holds.

    With GATED rows of gates, which those that they gate stand ``num_rows`` below. Rows are as in
    ``unpack_kernel``, without columns that only fill up a group.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = rows < num_rows
    block = tl.arange(0, BLOCK_CHUNKS)
    # a part of the matrix is always on its way while the one before it is multiplied
    packed, scale, zero = _load_weights(
        numbers, scales, zeros, rows, inside_rows, block, NUM_CHUNKS, GROUP_CHUNKS, CHUNK,
        FOUR_BITS, HAS_ZEROS)
    if GATED:
        up_packed, up_scale, up_zero = _load_weights(
            numbers, scales, zeros, rows + num_rows, inside_rows, block, NUM_CHUNKS, GROUP_CHUNKS,
            CHUNK, FOUR_BITS, HAS_ZEROS)
    wait_for_others(PROGRAMMATIC_LAUNCH)
    half: tl.constexpr = GROUP_CHUNKS * CHUNK
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHUNKS), dtype=tl.float32)
    squares = tl.zeros((BLOCK_CHUNKS,), dtype=tl.float32)
    up_total = total
    for start in tl.range(0, NUM_CHUNKS, BLOCK_CHUNKS):
        chunks = start + block
        part, part_scale, part_zero = packed, scale, zero
        if GATED:
            up_part, up_part_scale, up_part_zero = up_packed, up_scale, up_zero
        if BLOCK_CHUNKS < NUM_CHUNKS:
            packed, scale, zero = _load_weights(
                numbers, scales, zeros, rows, inside_rows, chunks + BLOCK_CHUNKS, NUM_CHUNKS,
                GROUP_CHUNKS, CHUNK, FOUR_BITS, HAS_ZEROS)
            if GATED:
                up_packed, up_scale, up_zero = _load_weights(
                    numbers, scales, zeros, rows + num_rows, inside_rows, chunks + BLOCK_CHUNKS,
                    NUM_CHUNKS, GROUP_CHUNKS, CHUNK, FOUR_BITS, HAS_ZEROS)
        columns = chunks[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
        inside = (chunks < NUM_CHUNKS)[:, None]
        if FOUR_BITS:
            columns += (chunks // GROUP_CHUNKS * half)[:, None]
        first, more = _load_values(hidden, norm, columns, inside, HAS_NORM)
        second, sums = first, tl.sum(first, axis=1)
        squares += more
        if FOUR_BITS:
            second, more = _load_values(hidden, norm, columns + half, inside, HAS_NORM)
            sums += tl.sum(second, axis=1)
            squares += more
        total += _multiply(
            part, part_scale, part_zero, first, second, sums, FOUR_BITS, FLOAT8, HAS_ZEROS, PTX)
        if GATED:
            up_total += _multiply(
                up_part, up_part_scale, up_part_zero, first, second, sums, FOUR_BITS, FLOAT8,
                HAS_ZEROS, PTX)
    summed = tl.sum(total, axis=1)
    inverse = 1.0
    if HAS_NORM:
        num_columns: tl.constexpr = NUM_CHUNKS * CHUNK * (2 if FOUR_BITS else 1)
        inverse = tl.rsqrt(tl.sum(squares, axis=0) / num_columns + eps)
    summed *= inverse
    if HAS_BIAS:
        summed += tl.load(bias + rows, mask=inside_rows, other=0.0).to(tl.float32)
    product = summed.to(result.dtype.element_ty)
    if GATED:
        gate = product.to(tl.float32)
        up = (tl.sum(up_total, axis=1) * inverse).to(product.dtype)
        product = (gate * tl.sigmoid(gate)).to(product.dtype) * up
    if ADDS:
        product += tl.load(result + rows, mask=inside_rows, other=0.0)
    tl.store(result + rows, product, mask=inside_rows)
