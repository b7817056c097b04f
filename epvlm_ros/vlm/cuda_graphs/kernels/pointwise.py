"""Triton kernels for what lies between the matrix products."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_norm_kernel(
    hidden, delta, weight, bias, normed, dim, eps,
    PARTS: tl.constexpr, IS_LAYER_NORM: tl.constexpr, BLOCK: tl.constexpr,
):
    """
    One program a token: residual sum in the number type of the model, norm in float32.

    ``delta`` comes in ``PARTS`` (parts, tokens, dim) that are summed up in float32 first.
    """
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < dim
    values = tl.load(hidden + token * dim + columns, mask=inside, other=0.0)
    if PARTS > 0:
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for part in tl.static_range(PARTS):
            place = delta + (part * tl.num_programs(0) + token) * dim + columns
            total += tl.load(place, mask=inside, other=0.0).to(tl.float32)
        values += total.to(values.dtype)
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
def rope_kernel(
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
    rope_cos = tl.load(cos + token * half + columns, mask=columns < half, other=0.0)
    rope_sin = tl.load(sin + token * half + columns, mask=columns < half, other=0.0)
    new_low, new_high = apply_rope(low, high, rope_cos, rope_sin)
    tl.store(places, new_low, mask=inside)
    tl.store(places + half, new_high, mask=inside)


@triton.jit
def rope_and_store_kernel(
    qkv, cos, sin, keys, values, slots, capacity, num_heads, num_key_value_heads, half,
    BLOCK_HEADS: tl.constexpr, BLOCK_KEY_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):
    """One program a token: queries in place, keys and values to their slots in the cache."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_HALF)[None, :]
    in_columns = columns < half
    rope_cos = tl.load(cos + token * half + columns, mask=in_columns, other=0.0)
    rope_sin = tl.load(sin + token * half + columns, mask=in_columns, other=0.0)
    row = qkv + token * (num_heads + 2 * num_key_value_heads) * 2 * half

    heads = tl.arange(0, BLOCK_HEADS)[:, None]
    inside = (heads < num_heads) & in_columns
    places = row + heads * 2 * half + columns
    low, high = apply_rope(
        tl.load(places, mask=inside, other=0.0), tl.load(places + half, mask=inside, other=0.0),
        rope_cos, rope_sin)
    tl.store(places, low, mask=inside)
    tl.store(places + half, high, mask=inside)

    heads = tl.arange(0, BLOCK_KEY_HEADS)[:, None]
    inside = (heads < num_key_value_heads) & in_columns
    place = tl.load(slots + token)
    targets = (heads * capacity + place) * 2 * half + columns
    places = row + (num_heads + heads) * 2 * half + columns
    low, high = apply_rope(
        tl.load(places, mask=inside, other=0.0), tl.load(places + half, mask=inside, other=0.0),
        rope_cos, rope_sin)
    tl.store(keys + targets, low, mask=inside)
    tl.store(keys + targets + half, high, mask=inside)
    places += num_key_value_heads * 2 * half
    tl.store(values + targets, tl.load(places, mask=inside, other=0.0), mask=inside)
    tl.store(
        values + targets + half, tl.load(places + half, mask=inside, other=0.0), mask=inside)


@triton.jit
def apply_rope(low, high, rope_cos, rope_sin):
    """Rotate the pairs of a rotary embedding, in float32."""
    exact_low, exact_high = low.to(tl.float32), high.to(tl.float32)
    exact_cos, exact_sin = rope_cos.to(tl.float32), rope_sin.to(tl.float32)
    return ((exact_low * exact_cos - exact_high * exact_sin).to(low.dtype),
            (exact_high * exact_cos + exact_low * exact_sin).to(low.dtype))
