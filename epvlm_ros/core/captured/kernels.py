"""
Triton kernels for what lies between the matrix products, and for products with one token.

A product with a single token is bound by reading its matrix, and each launch costs about two
microseconds: norm, product, activation and sum are one kernel, rotation, cache and attention
another one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_norm_kernel(
    hidden, delta, weight, bias, normed, dim, eps,
    HAS_DELTA: tl.constexpr, IS_LAYER_NORM: tl.constexpr, BLOCK: tl.constexpr,
):
    """One program a token: residual sum in the number type of the model, norm in float32."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < dim
    values = tl.load(hidden + token * dim + columns, mask=inside, other=0.0)
    if HAS_DELTA:
        values += tl.load(delta + token * dim + columns, mask=inside, other=0.0)
        tl.store(hidden + token * dim + columns, values, mask=inside)
    exact = values.to(tl.float32)
    scale = tl.load(weight + columns, mask=inside, other=0.0)
    if IS_LAYER_NORM:
        mean = tl.sum(exact, axis=0) / dim
        centred = tl.where(inside, exact - mean, 0.0)
        variance = tl.sum(centred * centred, axis=0) / dim
        shift = tl.load(bias + columns, mask=inside, other=0.0)
        result = centred * tl.rsqrt(variance + eps) * scale.to(tl.float32) + shift.to(tl.float32)
        result = result.to(values.dtype)
    else:
        variance = tl.sum(exact * exact, axis=0) / dim
        result = (exact * tl.rsqrt(variance + eps)).to(values.dtype) * scale
    tl.store(normed + token * dim + columns, result, mask=inside)


@triton.jit
def quick_gelu_kernel(values, num_values, BLOCK: tl.constexpr):
    """In place."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < num_values
    rounded = tl.load(values + places, mask=inside, other=0.0)
    exact = rounded.to(tl.float32)
    tl.store(values + places, (exact * tl.sigmoid(1.702 * exact)).to(rounded.dtype), mask=inside)


@triton.jit
def gated_silu_kernel(gate_and_up, result, width, BLOCK: tl.constexpr):
    """One row of programs a token."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    row = gate_and_up + token * 2 * width
    gate = tl.load(row + columns, mask=inside, other=0.0)
    up = tl.load(row + width + columns, mask=inside, other=0.0)
    exact = gate.to(tl.float32)
    activated = (exact * tl.sigmoid(exact)).to(gate.dtype) * up
    tl.store(result + token * width + columns, activated, mask=inside)


@triton.jit
def rotate_kernel(
    values, cos, sin, token_stride, num_heads, half,
    BLOCK_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    """One program a token, all of its heads in place."""
    token = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, BLOCK_HEADS)[:, None]
    columns = tl.arange(0, BLOCK_HALF)[None, :]
    inside = (heads < num_heads) & (columns < half)
    places = values + token * token_stride + heads * 2 * half + columns
    low = tl.load(places, mask=inside, other=0.0)
    high = tl.load(places + half, mask=inside, other=0.0)
    turn_cos = tl.load(cos + token * half + columns, mask=columns < half, other=0.0)
    turn_sin = tl.load(sin + token * half + columns, mask=columns < half, other=0.0)
    new_low, new_high = _turn(low, high, turn_cos, turn_sin)
    tl.store(places, new_low, mask=inside)
    tl.store(places + half, new_high, mask=inside)


@triton.jit
def rotate_and_store_kernel(
    qkv, cos, sin, keys, values, offset, capacity, num_heads, num_key_value_heads, half,
    BLOCK_HEADS: tl.constexpr, BLOCK_KEY_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    """One program a token: queries in place, keys and values to the cache."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_HALF)[None, :]
    in_columns = columns < half
    turn_cos = tl.load(cos + token * half + columns, mask=in_columns, other=0.0)
    turn_sin = tl.load(sin + token * half + columns, mask=in_columns, other=0.0)
    row = qkv + token * (num_heads + 2 * num_key_value_heads) * 2 * half

    heads = tl.arange(0, BLOCK_HEADS)[:, None]
    inside = (heads < num_heads) & in_columns
    places = row + heads * 2 * half + columns
    low, high = _turn(tl.load(places, mask=inside, other=0.0),
                      tl.load(places + half, mask=inside, other=0.0), turn_cos, turn_sin)
    tl.store(places, low, mask=inside)
    tl.store(places + half, high, mask=inside)

    heads = tl.arange(0, BLOCK_KEY_HEADS)[:, None]
    inside = (heads < num_key_value_heads) & in_columns
    place = tl.load(offset) + token
    slots = (heads * capacity + place) * 2 * half + columns
    places = row + (num_heads + heads) * 2 * half + columns
    low, high = _turn(tl.load(places, mask=inside, other=0.0),
                      tl.load(places + half, mask=inside, other=0.0), turn_cos, turn_sin)
    tl.store(keys + slots, low, mask=inside)
    tl.store(keys + slots + half, high, mask=inside)
    places += num_key_value_heads * 2 * half
    tl.store(values + slots, tl.load(places, mask=inside, other=0.0), mask=inside)
    tl.store(values + slots + half, tl.load(places + half, mask=inside, other=0.0), mask=inside)


@triton.jit
def _turn(low, high, turn_cos, turn_sin):
    """Turn the pairs of a rotary embedding, in float32."""
    exact_low, exact_high = low.to(tl.float32), high.to(tl.float32)
    exact_cos, exact_sin = turn_cos.to(tl.float32), turn_sin.to(tl.float32)
    return ((exact_low * exact_cos - exact_high * exact_sin).to(low.dtype),
            (exact_high * exact_cos + exact_low * exact_sin).to(low.dtype))


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
def vector_linear_kernel(
    hidden, norm, matrix, bias, result, num_rows, eps,
    NUM_COLUMNS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    BLOCK_NORM: tl.constexpr, EARLY: tl.constexpr,
):
    """Some rows a program: (RMSNorm and) product (and sum with what ``result`` holds)."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = (rows < num_rows)[:, None]
    first = tl.arange(0, BLOCK_COLUMNS)
    places = matrix + rows[:, None] * NUM_COLUMNS + first[None, :]
    # the matrix does not depend on what runs before: its first part is on its way meanwhile
    weights = tl.load(
        places, mask=inside_rows & (first < NUM_COLUMNS)[None, :], other=0.0,
        eviction_policy='evict_first')
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    inverse = 1.0
    if HAS_NORM:
        inverse = tl.rsqrt(_square_mean(hidden, NUM_COLUMNS, BLOCK_NORM) + eps)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for start in tl.range(0, NUM_COLUMNS, BLOCK_COLUMNS):
        columns = start + first
        following = columns + BLOCK_COLUMNS
        next_weights = tl.load(
            places + start + BLOCK_COLUMNS, mask=inside_rows & (following < NUM_COLUMNS)[None, :],
            other=0.0, eviction_policy='evict_first')
        total += weights.to(tl.float32) * _load_input(
            hidden, norm, inverse, columns, columns < NUM_COLUMNS, HAS_NORM)
        weights = next_weights
    summed = tl.sum(total, axis=1)
    if HAS_BIAS:
        summed += tl.load(bias + rows, mask=rows < num_rows, other=0.0).to(tl.float32)
    product = summed.to(result.dtype.element_ty)
    if ADDS:
        product += tl.load(result + rows, mask=rows < num_rows, other=0.0)
    tl.store(result + rows, product, mask=rows < num_rows)


@triton.jit
def vector_gated_kernel(
    hidden, norm, matrix, result, num_rows, eps,
    NUM_COLUMNS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    BLOCK_NORM: tl.constexpr, EARLY: tl.constexpr,
):
    """Some rows a program: RMSNorm, gate and values, and SiLU of the one times the other."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_rows = (rows < num_rows)[:, None]
    first = tl.arange(0, BLOCK_COLUMNS)
    places = matrix + rows[:, None] * NUM_COLUMNS + first[None, :]
    below = num_rows.to(tl.int64) * NUM_COLUMNS  # from a gate to what it gates
    mask = inside_rows & (first < NUM_COLUMNS)[None, :]
    gate = tl.load(places, mask=mask, other=0.0, eviction_policy='evict_first')
    up = tl.load(places + below, mask=mask, other=0.0, eviction_policy='evict_first')
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    inverse = tl.rsqrt(_square_mean(hidden, NUM_COLUMNS, BLOCK_NORM) + eps)
    gates = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    ups = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for start in tl.range(0, NUM_COLUMNS, BLOCK_COLUMNS):
        columns = start + first
        mask = inside_rows & (columns + BLOCK_COLUMNS < NUM_COLUMNS)[None, :]
        following = places + start + BLOCK_COLUMNS
        next_gate = tl.load(following, mask=mask, other=0.0, eviction_policy='evict_first')
        next_up = tl.load(
            following + below, mask=mask, other=0.0, eviction_policy='evict_first')
        values = _load_input(hidden, norm, inverse, columns, columns < NUM_COLUMNS, True)
        gates += gate.to(tl.float32) * values
        ups += up.to(tl.float32) * values
        gate, up = next_gate, next_up
    kind = result.dtype.element_ty
    gate_sum = tl.sum(gates, axis=1).to(kind).to(tl.float32)
    up_sum = tl.sum(ups, axis=1).to(kind)
    activated = (gate_sum * tl.sigmoid(gate_sum)).to(kind) * up_sum
    tl.store(result + rows, activated, mask=rows < num_rows)


@triton.jit
def _attend(
    query_low, query_high, keys, values, start, end, last_seen, scale, half,
    BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    """Return maxima, sums and weighted values of some rows of queries over keys[start:end]."""
    columns = tl.arange(0, BLOCK_HALF)[None, :]
    in_columns = columns < half
    top = tl.full((BLOCK_ROWS,), float('-inf'), dtype=tl.float32)
    total = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    mixed_low = tl.zeros((BLOCK_ROWS, BLOCK_HALF), dtype=tl.float32)
    mixed_high = tl.zeros((BLOCK_ROWS, BLOCK_HALF), dtype=tl.float32)
    for first in range(start, end, BLOCK_KEYS):
        places = first + tl.arange(0, BLOCK_KEYS)
        slots = places.to(tl.int64)[:, None] * 2 * half + columns
        inside = (places < end)[:, None] & in_columns
        key_low = tl.load(keys + slots, mask=inside, other=0.0)
        key_high = tl.load(keys + slots + half, mask=inside, other=0.0)
        scores = tl.dot(query_low, tl.trans(key_low), input_precision='ieee')
        scores += tl.dot(query_high, tl.trans(key_high), input_precision='ieee')
        visible = (places < end)[None, :] & (places[None, :] <= last_seen[:, None])
        scores = tl.where(visible, scores * scale, float('-inf'))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        base = tl.where(new_top == float('-inf'), 0.0, new_top)
        shares = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(top - base)
        total = total * shrink + tl.sum(shares, axis=1)
        value_low = tl.load(values + slots, mask=inside, other=0.0)
        value_high = tl.load(values + slots + half, mask=inside, other=0.0)
        shares = shares.to(value_low.dtype)
        mixed_low = mixed_low * shrink[:, None] + tl.dot(
            shares, value_low, input_precision='ieee')
        mixed_high = mixed_high * shrink[:, None] + tl.dot(
            shares, value_high, input_precision='ieee')
        top = new_top
    return top, total, mixed_low, mixed_high


@triton.jit
def step_attention_kernel(
    qkv, cos, sin, cursor, keys, values, parts, sums, capacity, scale,
    num_heads, num_key_value_heads, half,
    GROUP: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr, EARLY: tl.constexpr,
):
    """
    One part of the cache a program: rotate, append and attend from one new token.

    The program whose part holds the new token writes it to the cache and reads it back.
    """
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    key_head = tl.program_id(0)
    split = tl.program_id(1)
    place = tl.load(cursor)
    position = tl.load(cursor + 1)
    columns = tl.arange(0, BLOCK_HALF)
    in_columns = columns < half
    turn_cos = tl.load(cos + position * half + columns, mask=in_columns, other=0.0)
    turn_sin = tl.load(sin + position * half + columns, mask=in_columns, other=0.0)
    keys += key_head.to(tl.int64) * capacity * 2 * half
    values += key_head.to(tl.int64) * capacity * 2 * half

    num_tokens = (place + 1).to(tl.int32)
    share = tl.cdiv(tl.cdiv(num_tokens, SPLITS), BLOCK_KEYS) * BLOCK_KEYS
    start = split * share
    end = tl.minimum(start + share, num_tokens)
    if (start <= place) & (place < end):
        source = qkv + (num_heads + key_head) * 2 * half + columns
        low, high = _turn(tl.load(source, mask=in_columns, other=0.0),
                          tl.load(source + half, mask=in_columns, other=0.0),
                          turn_cos, turn_sin)
        target = place * 2 * half + columns
        tl.store(keys + target, low, mask=in_columns)
        tl.store(keys + target + half, high, mask=in_columns)
        source += num_key_value_heads * 2 * half
        tl.store(values + target, tl.load(source, mask=in_columns, other=0.0), mask=in_columns)
        tl.store(values + target + half, tl.load(source + half, mask=in_columns, other=0.0),
                 mask=in_columns)
    tl.debug_barrier()

    rows = tl.arange(0, BLOCK_ROWS)
    inside = (rows < GROUP)[:, None] & in_columns[None, :]
    source = qkv + (key_head * GROUP + rows[:, None]) * 2 * half + columns[None, :]
    query_low, query_high = _turn(
        tl.load(source, mask=inside, other=0.0), tl.load(source + half, mask=inside, other=0.0),
        turn_cos[None, :], turn_sin[None, :])
    last_seen = tl.zeros((BLOCK_ROWS,), dtype=tl.int32) + num_tokens
    top, total, mixed_low, mixed_high = _attend(
        query_low, query_high, keys, values, start, end, last_seen, scale, half,
        BLOCK_ROWS, BLOCK_KEYS, BLOCK_HALF)
    _store_part(parts, sums, top, total, mixed_low, mixed_high, key_head * GROUP + rows, split,
                rows < GROUP, half, SPLITS, BLOCK_HALF)


@triton.jit
def prompt_attention_kernel(
    queries, keys, values, offset, parts, sums, capacity, scale, num_rows, token_stride, half,
    GROUP: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    """One part of the cache a program, for some rows: (token, head of one group)."""
    key_head = tl.program_id(0)
    split = tl.program_id(1)
    rows = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    token = rows // GROUP
    head = key_head * GROUP + rows % GROUP
    columns = tl.arange(0, BLOCK_HALF)
    inside = (rows < num_rows)[:, None] & (columns < half)[None, :]
    source = (queries + token.to(tl.int64)[:, None] * token_stride + head[:, None] * 2 * half
              + columns[None, :])
    query_low = tl.load(source, mask=inside, other=0.0)
    query_high = tl.load(source + half, mask=inside, other=0.0)
    keys += key_head.to(tl.int64) * capacity * 2 * half
    values += key_head.to(tl.int64) * capacity * 2 * half
    first = tl.load(offset).to(tl.int32)
    last_seen = first + token
    num_tokens = first + tl.cdiv(tl.minimum(num_rows, (tl.program_id(2) + 1) * BLOCK_ROWS), GROUP)
    share = tl.cdiv(tl.cdiv(num_tokens, SPLITS), BLOCK_KEYS) * BLOCK_KEYS
    start = split * share
    end = tl.minimum(start + share, num_tokens)
    top, total, mixed_low, mixed_high = _attend(
        query_low, query_high, keys, values, start, end, last_seen, scale, half,
        BLOCK_ROWS, BLOCK_KEYS, BLOCK_HALF)
    num_heads = tl.num_programs(0) * GROUP
    _store_part(parts, sums, top, total, mixed_low, mixed_high, token * num_heads + head, split,
                rows < num_rows, half, SPLITS, BLOCK_HALF)


@triton.jit
def _store_part(
    parts, sums, top, total, mixed_low, mixed_high, rows, split, in_rows, half,
    SPLITS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    columns = tl.arange(0, BLOCK_HALF)[None, :]
    inside = in_rows[:, None] & (columns < half)
    slots = rows.to(tl.int64) * SPLITS + split
    tl.store(sums + slots * 2, top, mask=in_rows)
    tl.store(sums + slots * 2 + 1, total, mask=in_rows)
    places = parts + slots[:, None] * 2 * half + columns
    tl.store(places, mixed_low, mask=inside)
    tl.store(places + half, mixed_high, mask=inside)


@triton.jit
def combine_kernel(
    parts, sums, result, dim, SPLITS: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
    BLOCK: tl.constexpr, EARLY: tl.constexpr,
):
    """One row (token, head) a program: weigh the parts of the cache against each other."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    splits = tl.arange(0, BLOCK_SPLITS)
    columns = tl.arange(0, BLOCK)
    in_splits = splits < SPLITS
    tops = tl.load(sums + (row * SPLITS + splits) * 2, mask=in_splits, other=float('-inf'))
    totals = tl.load(sums + (row * SPLITS + splits) * 2 + 1, mask=in_splits, other=0.0)
    shares = tl.exp2(tops - tl.max(tops, axis=0))
    mixed = tl.load(
        parts + (row * SPLITS + splits)[:, None] * dim + columns[None, :],
        mask=in_splits[:, None] & (columns < dim)[None, :], other=0.0)
    combined = tl.sum(mixed * shares[:, None], axis=0) / tl.sum(totals * shares, axis=0)
    tl.store(result + row * dim + columns, combined.to(result.dtype.element_ty),
             mask=columns < dim)
