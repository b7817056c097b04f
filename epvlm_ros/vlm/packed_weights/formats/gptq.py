"""
GPTQ as AutoGPTQ and GPTQModel write it: quant_method gptq, 4 or 8 bits.

``qweight`` int32 (inputs * bits / 32, outputs) holds some inputs a word, ``qzeros`` int32 (groups,
outputs * bits / 32) some outputs, the first in the lowest bits; ``scales`` float16 (groups,
outputs), ``g_idx`` int32 (inputs,) the group of each input. Zero points are stored minus one, and
as they are in checkpoint_format gptq_v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epvlm_ros.vlm.packed_weights.formats.reader import get_part, Reader
from epvlm_ros.vlm.packed_weights.formats.words import find_order, unpack_words
from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
import torch
from torch import Tensor

_ZERO_OFFSETS = {'gptq': 1, 'gptq_v2': 0}


def make_reader(quantization: Mapping[str, Any]) -> Reader:
    """Return the reader; a ValueError for other bits and formats."""
    bits = quantization.get('bits')
    if bits not in (4, 8):
        raise ValueError(
            f'its weights are packed by GPTQ with bits {bits!r}: give a checkpoint with 4 or 8')
    kind = quantization.get('checkpoint_format') or quantization.get('format') or 'gptq'
    if kind not in _ZERO_OFFSETS:
        raise ValueError(
            f'its weights are packed by GPTQ with checkpoint_format {kind!r}: give a checkpoint '
            f'with {" or ".join(_ZERO_OFFSETS)}')
    group_size = int(quantization.get('group_size', 128))
    middle = 0 if bits == 4 else 128

    def read(parts: Mapping[str, Tensor], shape: tuple[int, int]) -> PackedMatrix:
        rows, columns = shape
        size = group_size if group_size > 0 else columns
        num_groups, each = -(-columns // size), 32 // bits
        numbers = unpack_words(
            get_part(parts, 'qweight', (-(-columns // each), rows)), bits, axis=0)[:columns]
        zeros = unpack_words(
            get_part(parts, 'qzeros', (num_groups, -(-rows // each))), bits, axis=1)[:, :rows]
        zeros = zeros + (_ZERO_OFFSETS[kind] - middle)
        order = find_order(parts.get('g_idx'), size)
        numbers = numbers if order is None else numbers[order]
        return PackedMatrix.of(
            numbers.T - middle, bits, size, get_part(parts, 'scales', (num_groups, rows)).T,
            zeros.T.to(torch.int16 if bits == 8 else torch.uint8), order)

    return read
