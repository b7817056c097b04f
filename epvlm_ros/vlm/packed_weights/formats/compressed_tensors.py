"""
compressed-tensors: weights of integers in words (pack-quantized), of int8 and of FP8.

``weight_packed`` int32 (outputs, inputs * bits / 32) holds some inputs a word, the first in the
lowest bits, 2 ** (bits - 1) added to each; ``weight_scale`` (outputs, groups);
``weight_zero_point`` int32 (outputs * bits / 32, groups) packed likewise along the outputs, or
int8 (outputs, groups); ``weight_g_idx`` the group of each input. Formats int-quantized,
float-quantized and naive-quantized have ``weight`` as it is. Inputs are never quantized here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epvlm_ros.vlm.packed_weights.formats.fp8 import read_eight_bits
from epvlm_ros.vlm.packed_weights.formats.reader import get_part, Reader
from epvlm_ros.vlm.packed_weights.formats.words import find_order, unpack_words
from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
import torch
from torch import Tensor

_KNOWN = {'pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized'}


def make_reader(quantization: Mapping[str, Any]) -> Reader | None:
    """Return the reader; None if weights are packed in another way."""
    schemes = [scheme for scheme in (quantization.get('config_groups') or {}).values()
               if isinstance(scheme, dict)]
    formats = {scheme.get('format') for scheme in schemes} - {None}
    if quantization.get('format') != 'mixed-precision':
        formats.add(quantization.get('format'))
    weights = [scheme.get('weights') or {} for scheme in schemes]
    if not weights or not formats <= _KNOWN or quantization.get('transform_config'):
        return None
    sizes = {int(args['group_size']) for args in weights if args.get('group_size')}
    blocks = [args['block_structure'] for args in weights if args.get('block_structure')]

    def read(parts: Mapping[str, Tensor], shape: tuple[int, int]) -> PackedMatrix:
        scales = parts.get('weight_scale')
        num_groups = 1 if scales is None or scales.ndim < 2 else scales.shape[1]
        group_size = _find_group_size(sizes, shape[1], num_groups)
        if 'weight_packed' in parts:
            return _read_words(parts, shape, group_size)
        return read_eight_bits(parts, shape, _find_block(blocks, shape, scales), group_size)

    return read


def _find_group_size(sizes: set[int], columns: int, num_groups: int) -> int:
    """Return the size of the groups of a matrix: one of those of the configuration."""
    for size in sorted(sizes):
        if size > 0 and -(-columns // size) == num_groups:
            return size
    return -(-columns // num_groups)  # one for all, or blocks


def _find_block(
    blocks: list[list[int]], shape: tuple[int, int], scales: Tensor | None,
) -> list[int] | None:
    for block in blocks:
        counts = [-(-size // side) for size, side in zip(shape, block)]
        if scales is not None and list(scales.shape) == counts:
            return block
    return None


def _read_words(
    parts: Mapping[str, Tensor], shape: tuple[int, int], group_size: int,
) -> PackedMatrix:
    rows, columns = shape
    width = parts['weight_packed'].shape[-1]
    bits = next((bits for bits in (4, 8) if -(-columns * bits // 32) == width), None)
    if bits is None:
        raise ValueError(
            f'weight_packed has {width} words for {columns} inputs: give a checkpoint with 4 or '
            '8 bits')
    num_groups = -(-columns // group_size)
    numbers = unpack_words(
        get_part(parts, 'weight_packed', (rows, width)), bits, axis=1)[:, :columns]
    middle = 0 if bits == 4 else 128
    order = find_order(parts.get('weight_g_idx'), group_size)
    numbers = numbers if order is None else numbers[:, order]
    scales = parts['weight_scale'].reshape(-1, num_groups).expand(rows, -1)
    zeros = _read_zeros(parts.get('weight_zero_point'), (rows, num_groups), bits)
    return PackedMatrix.of(numbers - middle, bits, group_size, scales, zeros, order)


def _read_zeros(stored: Tensor | None, shape: tuple[int, int], bits: int) -> Tensor | None:
    """Return zero points of the numbers as ``PackedMatrix`` has them."""
    if stored is None:
        return None
    if stored.dtype == torch.int32:
        zeros = unpack_words(stored, bits, axis=0)[:shape[0]] - (1 << bits >> 1)
    else:
        zeros = stored.to(torch.int16).reshape(-1, shape[1]).expand(shape)
    return (zeros + (8 if bits == 4 else 0)).to(torch.int16)
