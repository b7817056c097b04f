"""
Triton kernels for attention to a cache of which only the device knows how full it is.

Each program takes a part of the cache; a second kernel weighs the parts against each other (flash
decoding). The heads of queries that share one of keys are the rows of one product.
"""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.kernels.pointwise import apply_rope
from epvlm_ros.vlm.cuda_graphs.kernels.programmatic_launch import wait_for_others
import triton
import triton.language as tl


@triton.jit
def _attend(
    query_low, query_high, keys, values, start, end, last_seen, mask, scale, half,
    BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr,
    HAS_MASK: tl.constexpr,
):
    """
    Return maxima, sums and weighted values of some rows of queries over keys[start:end].

    A row sees keys up to ``last_seen``, with ``HAS_MASK`` those of them where ``mask`` is true.
    """
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
        if HAS_MASK:
            visible &= (tl.load(mask + places, mask=places < end, other=0) != 0)[None, :]
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
    qkv, cos, sin, cursor, keys, values, parts, sums, arrived, result, capacity, scale,
    num_heads, num_key_value_heads, half,
    GROUP: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr, BLOCK_DIM: tl.constexpr,
    PROGRAMMATIC_LAUNCH: tl.constexpr,
):
    """
    One part of the cache a program: rotate, append and attend from one new token.

    The program whose part holds the new token writes it to the cache and reads it back. The last
    program of a head to get there weighs the parts against each other; ``arrived`` counts them
    and is 0 before and afterwards.
    """
    wait_for_others(PROGRAMMATIC_LAUNCH)
    key_head = tl.program_id(0)
    split = tl.program_id(1)
    place = tl.load(cursor)
    position = tl.load(cursor + 1)
    columns = tl.arange(0, BLOCK_HALF)
    in_columns = columns < half
    rope_cos = tl.load(cos + position * half + columns, mask=in_columns, other=0.0)
    rope_sin = tl.load(sin + position * half + columns, mask=in_columns, other=0.0)
    keys += key_head.to(tl.int64) * capacity * 2 * half
    values += key_head.to(tl.int64) * capacity * 2 * half

    num_tokens = (place + 1).to(tl.int32)
    share = tl.cdiv(tl.cdiv(num_tokens, SPLITS), BLOCK_KEYS) * BLOCK_KEYS
    start = split * share
    end = tl.minimum(start + share, num_tokens)
    if (start <= place) & (place < end):
        source = qkv + (num_heads + key_head) * 2 * half + columns
        low, high = apply_rope(
            tl.load(source, mask=in_columns, other=0.0),
            tl.load(source + half, mask=in_columns, other=0.0), rope_cos, rope_sin)
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
    query_low, query_high = apply_rope(
        tl.load(source, mask=inside, other=0.0), tl.load(source + half, mask=inside, other=0.0),
        rope_cos[None, :], rope_sin[None, :])
    last_seen = tl.zeros((BLOCK_ROWS,), dtype=tl.int32) + num_tokens
    top, total, mixed_low, mixed_high = _attend(
        query_low, query_high, keys, values, start, end, last_seen, keys, scale, half,
        BLOCK_ROWS, BLOCK_KEYS, BLOCK_HALF, False)  # no mask is read
    _store_part(parts, sums, top, total, mixed_low, mixed_high, key_head * GROUP + rows, split,
                rows < GROUP, half, SPLITS, BLOCK_HALF)
    tl.debug_barrier()  # all threads have written before one of them says so
    if tl.atomic_add(arrived + key_head, 1, sem='acq_rel') == SPLITS - 1:
        tl.store(arrived + key_head, 0)
        _combine(parts, sums, result, key_head * GROUP + rows, rows < GROUP, 2 * half, SPLITS,
                 BLOCK_ROWS, BLOCK_DIM)


@triton.jit
def prompt_attention_kernel(
    queries, keys, values, slots, mask, parts, sums, capacity, scale, num_rows, token_stride, half,
    GROUP: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_KEYS: tl.constexpr, BLOCK_HALF: tl.constexpr, HAS_MASK: tl.constexpr,
):
    """
    One part of the cache a program, for some rows: (token, head of one group).

    A token stands in its slot and sees those up to it.
    """
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
    last_seen = tl.load(slots + token, mask=rows < num_rows, other=0).to(tl.int32)
    num_tokens = tl.max(last_seen, axis=0) + 1
    share = tl.cdiv(tl.cdiv(num_tokens, SPLITS), BLOCK_KEYS) * BLOCK_KEYS
    start = split * share
    end = tl.minimum(start + share, num_tokens)
    top, total, mixed_low, mixed_high = _attend(
        query_low, query_high, keys, values, start, end, last_seen, mask, scale, half,
        BLOCK_ROWS, BLOCK_KEYS, BLOCK_HALF, HAS_MASK)
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
    parts, sums, result, num_rows, dim, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Weigh the parts of the cache against each other: some rows (token, head) a program."""
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    _combine(parts, sums, result, rows, rows < num_rows, dim, SPLITS, BLOCK_ROWS, BLOCK)


@triton.jit
def _combine(
    parts, sums, result, rows, in_rows, dim, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write some rows; what other programs wrote is read past the cache of this processor."""
    slots = rows.to(tl.int64) * SPLITS
    columns = tl.arange(0, BLOCK)[None, :]
    inside = in_rows[:, None] & (columns < dim)
    top = tl.full((BLOCK_ROWS,), float('-inf'), dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        top = tl.maximum(top, tl.load(
            sums + (slots + split) * 2, mask=in_rows, other=0.0, cache_modifier='.cg'))
    total = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    mixed = tl.zeros((BLOCK_ROWS, BLOCK), dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        place = sums + (slots + split) * 2
        share = tl.exp2(
            tl.load(place, mask=in_rows, other=0.0, cache_modifier='.cg') - top)
        total += share * tl.load(place + 1, mask=in_rows, other=1.0, cache_modifier='.cg')
        mixed += share[:, None] * tl.load(
            parts + (slots + split)[:, None] * dim + columns, mask=inside, other=0.0,
            cache_modifier='.cg')
    combined = (mixed / total[:, None]).to(result.dtype.element_ty)
    tl.store(result + rows.to(tl.int64)[:, None] * dim + columns, combined, mask=inside)


@triton.jit
def merge_parts_kernel(
    parts, sums, result, part_stride, head_stride, token_stride, num_tokens, num_values,
    PARTS: tl.constexpr, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr,
):
    """Weigh attention to parts of the keys against each other: some values a program."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < num_values
    column = places % DIM
    head = places // DIM % HEADS
    token = places // (DIM * HEADS)
    rows = head * num_tokens + token
    sources = (parts + head.to(tl.int64) * head_stride + token.to(tl.int64) * token_stride
               + column)
    top = tl.full((BLOCK,), float('-inf'), dtype=tl.float32)
    for part in tl.static_range(PARTS):
        top = tl.maximum(top, tl.load(
            sums + part * HEADS * num_tokens + rows, mask=inside, other=0.0))
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    mixed = tl.zeros((BLOCK,), dtype=tl.float32)
    for part in tl.static_range(PARTS):
        share = tl.exp(tl.load(
            sums + part * HEADS * num_tokens + rows, mask=inside, other=0.0) - top)
        total += share
        mixed += share * tl.load(
            sources + part * part_stride, mask=inside, other=0.0).to(tl.float32)
    tl.store(result + places, (mixed / total).to(result.dtype.element_ty), mask=inside)
