"""
Triton kernels for products with a few tokens, such as those of a further question.

Like those with a single token they are bound by reading the matrix. A program reads some of its
rows once for all tokens: all columns, or a part of them where the rows alone are too few programs
to keep the memory busy.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_weights(
    matrix, rows, rows_inside, columns, NUM_COLUMNS: tl.constexpr,
):
    mask = rows_inside[:, None] & (columns < NUM_COLUMNS)[None, :]
    return tl.load(matrix + rows[:, None] * NUM_COLUMNS + columns[None, :], mask=mask, other=0.0,
                   eviction_policy='evict_first')


@triton.jit
def _load_values(hidden, tokens, tokens_inside, columns, NUM_COLUMNS: tl.constexpr):
    mask = tokens_inside[None, :] & (columns < NUM_COLUMNS)[:, None]
    return tl.load(
        hidden + tokens[None, :] * NUM_COLUMNS + columns[:, None], mask=mask, other=0.0)


@triton.jit
def split_k_linear_kernel(
    hidden, matrix, bias, result, num_tokens, num_rows,
    NUM_COLUMNS: tl.constexpr, HAS_BIAS: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """
    Multiply some rows of the matrix, a part of their columns a program.

    ``result`` (parts, tokens, rows), float32, is to be summed up.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    part = tl.program_id(1)
    tokens = tl.arange(0, BLOCK_TOKENS)
    rows_inside, tokens_inside = rows < num_rows, tokens < num_tokens
    total = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    blocks: tl.constexpr = (NUM_COLUMNS + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    each: tl.constexpr = (blocks + PARTS - 1) // PARTS
    for block in tl.range(0, each, num_stages=STAGES):
        columns = (part * each + block) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
        weights = _load_weights(matrix, rows, rows_inside, columns, NUM_COLUMNS)
        values = _load_values(hidden, tokens, tokens_inside, columns, NUM_COLUMNS)
        total = tl.dot(weights, values, total)
    if HAS_BIAS:
        first = tl.load(bias + rows, mask=rows_inside, other=0.0).to(tl.float32)
        total += tl.where(part == 0, first, 0.0)[:, None]
    offset = part.to(tl.int64) * num_tokens * num_rows
    tl.store(
        result + offset + tokens[None, :] * num_rows + rows[:, None], total,
        mask=rows_inside[:, None] & tokens_inside[None, :])


@triton.jit
def gated_linear_kernel(
    hidden, matrix, result, num_tokens, num_rows,
    NUM_COLUMNS: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):
    """Multiply some rows of gate and values; gate the one by the other."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    tokens = tl.arange(0, BLOCK_TOKENS)
    rows_inside, tokens_inside = rows < num_rows, tokens < num_tokens
    below = matrix + num_rows.to(tl.int64) * NUM_COLUMNS  # what the gates gate
    gates = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    ups = tl.zeros((BLOCK_ROWS, BLOCK_TOKENS), dtype=tl.float32)
    for start in tl.range(0, NUM_COLUMNS, BLOCK_COLUMNS, num_stages=STAGES):
        columns = start + tl.arange(0, BLOCK_COLUMNS)
        gate = _load_weights(matrix, rows, rows_inside, columns, NUM_COLUMNS)
        up = _load_weights(below, rows, rows_inside, columns, NUM_COLUMNS)
        values = _load_values(hidden, tokens, tokens_inside, columns, NUM_COLUMNS)
        gates = tl.dot(gate, values, gates)
        ups = tl.dot(up, values, ups)
    kind = result.dtype.element_ty
    gate_sum = gates.to(kind).to(tl.float32)
    activated = (gate_sum * tl.sigmoid(gate_sum)).to(kind) * ups.to(kind)
    tl.store(
        result + tokens[None, :] * num_rows + rows[:, None], activated,
        mask=rows_inside[:, None] & tokens_inside[None, :])
