"""
Numbers of 4 and 8 bits made float32 in registers, and whole rows of them made plain.

A conversion of integers takes as long as eight other instructions on a GPU, so a byte is put among
the bits of a float32 instead: as the lowest of the mantissa that are left at 2 ^ 7 or 2 ^ 15, one
instruction each (PTX prmt). Triton's interpreter knows no PTX and converts.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
# From a word of four bytes to their low halves, then the high ones, and 128 more.
_HALVES = tl.constexpr("""
{
.reg .b32 low, high;
and.b32 low, $8, 0x0F0F0F0F;
shr.u32 high, $8, 4;
and.b32 high, high, 0x0F0F0F0F;
prmt.b32 $0, low, 0x43000000, 0x7044;
prmt.b32 $1, low, 0x43000000, 0x7144;
prmt.b32 $2, low, 0x43000000, 0x7244;
prmt.b32 $3, low, 0x43000000, 0x7344;
prmt.b32 $4, high, 0x43000000, 0x7044;
prmt.b32 $5, high, 0x43000000, 0x7144;
prmt.b32 $6, high, 0x43000000, 0x7244;
prmt.b32 $7, high, 0x43000000, 0x7344;
}
""")
# From a word of four signed bytes to each of them and 2 ^ 15 + 128 more.
_BYTES = tl.constexpr("""
{
.reg .b32 unsigned;
xor.b32 unsigned, $4, 0x80808080;
prmt.b32 $0, unsigned, 0x47000000, 0x7404;
prmt.b32 $1, unsigned, 0x47000000, 0x7414;
prmt.b32 $2, unsigned, 0x47000000, 0x7424;
prmt.b32 $3, unsigned, 0x47000000, 0x7434;
}
""")
# From four bytes to their low and high halves in bfloat16, less what is subtracted: one number
# after 2 ^ 7 is one step of bfloat16 there, and a sum of two numbers below 256 is exact.
_EXACT_HALVES = tl.constexpr("""
{
.reg .b32 low, high, one, pair;
mov.b32 one, 0x3F803F80;
and.b32 low, $4, 0x0F0F0F0F;
shr.u32 high, $4, 4;
and.b32 high, high, 0x0F0F0F0F;
prmt.b32 pair, low, 0x43000000, 0x7170;
fma.rn.bf16x2 $0, pair, one, $5;
prmt.b32 pair, low, 0x43000000, 0x7372;
fma.rn.bf16x2 $1, pair, one, $6;
prmt.b32 pair, high, 0x43000000, 0x7170;
fma.rn.bf16x2 $2, pair, one, $5;
prmt.b32 pair, high, 0x43000000, 0x7372;
fma.rn.bf16x2 $3, pair, one, $6;
}
""")
# From four signed bytes to bfloat16: 2 ^ 7 and the lowest seven bits, less 2 ^ 7 or, with the
# eighth one, 2 ^ 8.
_EXACT_BYTES = tl.constexpr("""
{
.reg .b32 pair, number, sign, minus;
mov.b32 minus, 0xBF80BF80;
prmt.b32 pair, $2, 0, 0x4140;
and.b32 number, pair, 0x007F007F;
or.b32 number, number, 0x43004300;
and.b32 sign, pair, 0x00800080;
or.b32 sign, sign, 0x43004300;
fma.rn.bf16x2 $0, sign, minus, number;
prmt.b32 pair, $2, 0, 0x4342;
and.b32 number, pair, 0x007F007F;
or.b32 number, number, 0x43004300;
and.b32 sign, pair, 0x00800080;
or.b32 sign, sign, 0x43004300;
fma.rn.bf16x2 $1, sign, minus, number;
}
""")


@triton.jit
def unpack_exact_halves(packed, zero, PTX: tl.constexpr, KIND: tl.constexpr):
    """Return the halves of bytes (rows, bytes) less ``zero`` of ``load_groups``."""
    if PTX and KIND == tl.bfloat16:
        minus = tl.broadcast_to((-zero).to(KIND)[:, None], packed.shape)
        low, high = tl.inline_asm_elementwise(
            _EXACT_HALVES, '=r,=r,=r,=r,r,r,r', args=[packed, minus],
            dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=4)
    else:
        low, high = unpack_halves(packed, PTX)
        low, high = (low - zero[:, None]).to(KIND), (high - zero[:, None]).to(KIND)
    return low, high


@triton.jit
def unpack_exact_bytes(
    packed, zero, FLOAT8: tl.constexpr, HAS_ZEROS: tl.constexpr, PTX: tl.constexpr,
    KIND: tl.constexpr,
):
    """Return what is left of bytes (rows, bytes) after ``zero``: small whole numbers or float8."""
    if PTX and KIND == tl.bfloat16 and not FLOAT8 and not HAS_ZEROS:
        numbers = tl.inline_asm_elementwise(
            _EXACT_BYTES, '=r,=r,r', args=[packed], dtype=tl.bfloat16, is_pure=True, pack=4)
    else:
        numbers = unpack_bytes(packed, FLOAT8, PTX)
        if HAS_ZEROS:
            numbers -= zero[:, None]
        numbers = numbers.to(KIND)
    return numbers


@triton.jit
def unpack_halves(packed, PTX: tl.constexpr):
    """Return the low and the high four bits of bytes, and 128 more, in float32."""
    if PTX:
        low, high = tl.inline_asm_elementwise(
            _HALVES, '=r,=r,=r,=r,=r,=r,=r,=r,r', args=[packed], dtype=(tl.float32, tl.float32),
            is_pure=True, pack=4)
    else:
        low = (packed & 15).to(tl.float32) + 128.0
        high = (packed >> 4).to(tl.float32) + 128.0
    return low, high


@triton.jit
def unpack_bytes(packed, FLOAT8: tl.constexpr, PTX: tl.constexpr):
    """Return int8, or the bytes of float8_e4m3fn, in float32."""
    if FLOAT8:
        bits = packed.to(tl.uint32)
        shifted = ((bits & 0x80) << 24) | ((bits & 0x7F) << 20)
        # exponents count from 7 there, from 127 here
        value = shifted.to(tl.float32, bitcast=True) * 1329227995784915872903807060280344576.0
    elif PTX:
        value = tl.inline_asm_elementwise(
            _BYTES, '=r,=r,=r,=r,r', args=[packed], dtype=tl.float32, is_pure=True, pack=4)
        value -= 32768.0 + 128.0
    else:
        value = packed.to(tl.float32)
    return value


@triton.jit
def _join(first, second, third, fourth):
    """Return (rows, chunks, 4 * words) of the bytes of words (rows, chunks, words), in order."""
    joined = tl.join(tl.join(first, third), tl.join(second, fourth))
    return tl.reshape(joined, (first.shape[0], first.shape[1], 4 * first.shape[2]))


@triton.jit
def unpack_halves_of_words(words, PTX: tl.constexpr):
    """Do what ``unpack_halves`` does with words (rows, chunks, words) of four bytes each."""
    if PTX:
        l0, l1, l2, l3, h0, h1, h2, h3 = tl.inline_asm_elementwise(
            _HALVES, '=r,=r,=r,=r,=r,=r,=r,=r,r', args=[words],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32, tl.float32, tl.float32,
                   tl.float32, tl.float32), is_pure=True, pack=1)
        low, high = _join(l0, l1, l2, l3), _join(h0, h1, h2, h3)
    else:
        low = _join(words & 15, words >> 8 & 15, words >> 16 & 15, words >> 24 & 15)
        high = _join(words >> 4 & 15, words >> 12 & 15, words >> 20 & 15, words >> 28 & 15)
        low, high = low.to(tl.float32) + 128.0, high.to(tl.float32) + 128.0
    return low, high


@triton.jit
def unpack_bytes_of_words(words, FLOAT8: tl.constexpr, PTX: tl.constexpr):
    """Do what ``unpack_bytes`` does with words (rows, chunks, words) of four bytes each."""
    if PTX and not FLOAT8:
        b0, b1, b2, b3 = tl.inline_asm_elementwise(
            _BYTES, '=r,=r,=r,=r,r', args=[words],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1)
        value = _join(b0, b1, b2, b3) - (32768.0 + 128.0)
    else:
        joined = _join(words & 255, words >> 8 & 255, words >> 16 & 255, words >> 24 & 255)
        if FLOAT8:
            value = unpack_bytes(joined, FLOAT8, False)
        else:
            value = (joined ^ 128).to(tl.float32) - 128.0
    return value


@triton.jit
def load_groups(
    scales, zeros, places, inside, FOUR_BITS: tl.constexpr, HAS_ZEROS: tl.constexpr,
):
    """Return scales of groups, and what to subtract from their unpacked numbers, in float32."""
    scale = tl.load(scales + places, mask=inside, other=0.0).to(tl.float32)
    zero = tl.zeros_like(scale)
    if HAS_ZEROS:
        zero = tl.load(zeros + places, mask=inside, other=0).to(tl.float32)
    elif FOUR_BITS:
        zero += 8.0
    if FOUR_BITS:
        zero += 128.0
    return scale, zero


@triton.jit
def unpack_kernel(
    numbers, scales, zeros, rows, result, num_columns, num_chunks, group_chunks,
    CHUNK: tl.constexpr, FOUR_BITS: tl.constexpr, FLOAT8: tl.constexpr, HAS_ZEROS: tl.constexpr,
    HAS_ROWS: tl.constexpr, BLOCK_CHUNKS: tl.constexpr, PTX: tl.constexpr,
):
    """
    Unpack a part of one row a program; of ``rows`` if there are such, int64.

    A row is ``num_chunks`` of CHUNK bytes, ``group_chunks`` of them a group.
    """
    to = tl.program_id(0).to(tl.int64)
    row = to
    if HAS_ROWS:
        row = tl.load(rows + to)
    chunks = tl.program_id(1) * BLOCK_CHUNKS + tl.arange(0, BLOCK_CHUNKS)
    inside = chunks < num_chunks
    places = chunks[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    packed = tl.load(
        numbers + row * (num_chunks * CHUNK) + places, mask=inside[:, None], other=0)
    groups = chunks // group_chunks
    scale, zero = load_groups(
        scales, zeros, row * (num_chunks // group_chunks) + groups, inside, FOUR_BITS, HAS_ZEROS)
    kind = result.dtype.element_ty
    result += to * num_columns
    if FOUR_BITS:
        half = group_chunks * CHUNK
        low, high = unpack_halves(packed, PTX)
        columns = places + (groups * half)[:, None]
        inside_columns = inside[:, None] & (columns < num_columns)
        tl.store(result + columns, ((low - zero[:, None]) * scale[:, None]).to(kind),
                 mask=inside_columns)
        inside_columns = inside[:, None] & (columns + half < num_columns)
        tl.store(result + columns + half, ((high - zero[:, None]) * scale[:, None]).to(kind),
                 mask=inside_columns)
    else:
        value = (unpack_bytes(packed, FLOAT8, PTX) - zero[:, None]) * scale[:, None]
        tl.store(result + places, value.to(kind), mask=inside[:, None] & (places < num_columns))
