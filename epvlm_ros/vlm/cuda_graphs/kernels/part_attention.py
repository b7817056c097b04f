"""
Attention from some tokens to many keys, in parts that are merged: for updates of a scene.

The kernel takes a head as 64 values and the rest, both powers of two, and copies blocks of keys by
the tensor memory accelerator. Its descriptors are arguments by value: a CUDA graph keeps them.
"""

from __future__ import annotations

from functools import partial
import math
from typing import NamedTuple

from epvlm_ros.vlm.cuda_graphs.attention import PartAttention
import torch
from torch import Tensor
import triton
from triton.errors import TritonError
import triton.language as tl
try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # older than 3.4
    TensorDescriptor = None

_LOW = 64  # values of a head that are multiplied first
_HIGH = (16, 32, 64)  # that may be left
_CAPABILITY = (9, 0)  # of a card with such an accelerator


class Blocks(NamedTuple):
    """What a program works on at a time, and by how many warps."""

    queries: int
    keys: int
    num_warps: int


# the fastest of ten on an H200, for 512 to 1,088 queries and 10,764 keys
_BLOCKS = (Blocks(64, 64, 4), Blocks(128, 64, 8), Blocks(128, 64, 4))


def find_kernels(query: Tensor, key: Tensor, value: Tensor) -> dict[str, PartAttention]:
    """Return what can attend from and to such tensors on this card, by names."""
    heads, dim = key.shape[1], key.shape[3]
    fits = (
        TensorDescriptor is not None and torch.version.cuda is not None
        and torch.cuda.get_device_capability(query.device) >= _CAPABILITY
        and query.shape[1] == heads and dim - _LOW in _HIGH and query.stride(3) == 1
        and key.stride() == value.stride() and key.stride()[2:] == (dim, 1)
        and key.stride(1) % dim == 0)
    return {f'triton {blocks.queries}x{blocks.keys}x{blocks.num_warps}':
            partial(attend_to_parts, blocks=blocks) for blocks in _BLOCKS} if fits else {}


def attend_to_parts(
    query: Tensor, key: Tensor, value: Tensor, num_parts: int, *, blocks: Blocks,
) -> tuple[Tensor, Tensor]:
    """
    Attend to at most ``num_parts`` parts of the keys side by side; see ``PartAttention``.

    Keys and values are views of caches (heads, capacity, head_dim), in which numbers have to
    stand behind them. Raises a RuntimeError if the kernel does not run on this card.
    """
    heads, num_queries, dim = query.shape[1:]
    num_keys, capacity = key.shape[2], key.stride(1) // dim
    share = triton.cdiv(triton.cdiv(num_keys, num_parts), blocks.keys) * blocks.keys
    num_parts = triton.cdiv(num_keys, share)
    mixed = query.new_empty(num_parts, num_queries, heads, dim)
    sums = torch.empty(num_parts, heads, num_queries, device=query.device)
    rows = (heads - 1) * capacity + num_keys
    try:
        descriptors = [
            TensorDescriptor(states, [rows, dim], [dim, 1], [blocks.keys, width])
            for states in (key, value) for width in (_LOW, dim - _LOW)]
        part_attention_kernel[(triton.cdiv(num_queries, blocks.queries), heads, num_parts)](
            query, *descriptors, mixed, sums, query.stride(2), query.stride(1), num_queries,
            num_keys, capacity, share, math.log2(math.e) / dim ** 0.5, LOW=_LOW, HIGH=dim - _LOW,
            BLOCK_QUERIES=blocks.queries, BLOCK_KEYS=blocks.keys, num_warps=blocks.num_warps,
            num_stages=3)
    except TritonError as error:
        raise RuntimeError(f'{type(error).__name__}: {error}') from error
    return mixed.transpose(1, 2), sums


@triton.jit(do_not_specialize=['num_keys', 'capacity'])
def part_attention_kernel(
    queries, keys_low, keys_high, values_low, values_high, mixed, sums, token_stride, head_stride,
    num_queries, num_keys, capacity, share, scale,
    LOW: tl.constexpr, HIGH: tl.constexpr, BLOCK_QUERIES: tl.constexpr, BLOCK_KEYS: tl.constexpr,
):
    """Attend from some queries of a head to a part of the keys a program (FlashAttention-2)."""
    DIM: tl.constexpr = LOW + HIGH
    head = tl.program_id(1)
    part = tl.program_id(2)
    rows = tl.program_id(0) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    in_rows = rows < num_queries
    columns_low = tl.arange(0, LOW)
    columns_high = LOW + tl.arange(0, HIGH)
    source = queries + head * head_stride + rows[:, None] * token_stride
    query_low = tl.load(source + columns_low[None, :], mask=in_rows[:, None], other=0.0)
    query_high = tl.load(source + columns_high[None, :], mask=in_rows[:, None], other=0.0)
    start = part * share
    end = tl.minimum(start + share, num_keys)
    full_end = start + (end - start) // BLOCK_KEYS * BLOCK_KEYS
    top = tl.full((BLOCK_QUERIES,), float('-inf'), dtype=tl.float32)
    total = tl.zeros((BLOCK_QUERIES,), dtype=tl.float32)
    low = tl.zeros((BLOCK_QUERIES, LOW), dtype=tl.float32)
    high = tl.zeros((BLOCK_QUERIES, HIGH), dtype=tl.float32)
    base = head * capacity
    for first in range(start, full_end, BLOCK_KEYS):
        top, total, low, high = _attend_to_block(
            query_low, query_high, keys_low.load([base + first, 0]),
            keys_high.load([base + first, LOW]), values_low.load([base + first, 0]),
            values_high.load([base + first, LOW]), top, total, low, high, scale, BLOCK_KEYS,
            BLOCK_KEYS, False)
    if full_end < end:
        top, total, low, high = _attend_to_block(
            query_low, query_high, keys_low.load([base + full_end, 0]),
            keys_high.load([base + full_end, LOW]), values_low.load([base + full_end, 0]),
            values_high.load([base + full_end, LOW]), top, total, low, high, scale,
            end - full_end, BLOCK_KEYS, True)
    num_heads = tl.num_programs(1)
    target = mixed + ((part * num_queries + rows) * num_heads + head)[:, None] * DIM
    number = mixed.dtype.element_ty
    tl.store(target + columns_low[None, :], (low / total[:, None]).to(number),
             mask=in_rows[:, None])
    tl.store(target + columns_high[None, :], (high / total[:, None]).to(number),
             mask=in_rows[:, None])
    tl.store(sums + (part * num_heads + head) * num_queries + rows,
             (top + tl.log2(total)) * 0.6931471805599453, mask=in_rows)


@triton.jit
def _attend_to_block(
    query_low, query_high, key_low, key_high, value_low, value_high, top, total, low, high, scale,
    num_seen, BLOCK_KEYS: tl.constexpr, IS_LAST: tl.constexpr,
):
    """Return maxima, sums and weighted values with a block of keys, of the last ``num_seen``."""
    scores = tl.dot(query_low, tl.trans(key_low))
    scores = tl.dot(query_high, tl.trans(key_high), scores)
    if IS_LAST:
        is_seen = tl.arange(0, BLOCK_KEYS) < num_seen
        scores = tl.where(is_seen[None, :], scores, float('-inf'))
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    shares = tl.exp2(scores * scale - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(shares, 1)
    shares = shares.to(value_low.dtype)
    low = tl.dot(shares, value_low, low * shrink[:, None])
    high = tl.dot(shares, value_high, high * shrink[:, None])
    return new_top, total, low, high
