"""
FP8 in blocks, as fine-grained FP8 of transformers and vLLM: quant_method fp8.

``weight`` float8_e4m3fn (outputs, inputs), ``weight_scale_inv`` a number to multiply each block
of, mostly, 128 x 128 by. Scales of the inputs are not read: products are computed in the type of
the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epvlm_ros.vlm.packed_weights.formats.reader import get_part, Reader
from epvlm_ros.vlm.packed_weights.packed_matrix import FLOAT8, PackedMatrix
import torch
from torch import Tensor


def make_reader(quantization: Mapping[str, Any]) -> Reader | None:
    """Return the reader; None for float8 of another kind."""
    if quantization.get('fmt', 'e4m3') not in ('e4m3', 'float8_e4m3fn'):
        return None
    block = quantization.get('weight_block_size')

    def read(parts: Mapping[str, Tensor], shape: tuple[int, int]) -> PackedMatrix:
        return read_eight_bits(parts, shape, block)

    return read


def read_eight_bits(
    parts: Mapping[str, Tensor], shape: tuple[int, int], block: Sequence[int] | None,
    group_size: int | None = None,
) -> PackedMatrix:
    """
    Read numbers of 8 bits that are not packed into words.

    Scales (and zero points) are one, one for each row, for each group of ``group_size`` columns
    or for each ``block`` (rows, columns). Raises a ValueError for any other.
    """
    rows, columns = shape
    numbers = get_part(parts, 'weight', shape)
    if numbers.dtype not in (torch.int8, FLOAT8):
        raise ValueError(
            f'weight is of {numbers.dtype}: give a checkpoint of int8 or float8_e4m3fn')
    scales = parts.get('weight_scale_inv', parts.get('weight_scale'))
    if scales is None:
        raise ValueError('weight_scale is missing: get the checkpoint again')
    if block is None:
        block = (1, group_size or columns) if scales.numel() > rows else (
            rows if scales.numel() == 1 else 1, columns)
    counts = (-(-rows // block[0]), -(-columns // block[1]))
    if scales.numel() != counts[0] * counts[1]:
        raise ValueError(
            f'the scales have shape {tuple(scales.shape)}, config.json makes it {counts}: give '
            'the config.json that belongs to the weights')

    def spread(values: Tensor) -> Tensor:  # one for each row and group
        return values.reshape(counts).repeat_interleave(block[0], dim=0)[:rows]

    zeros = parts.get('weight_zero_point')
    return PackedMatrix.of(
        numbers, 8, block[1], spread(_plain(scales)),
        None if zeros is None else spread(zeros.to(torch.int16)))


def _plain(scales: Tensor) -> Tensor:
    """Return scales in a type that can be computed with; powers of two may be of 8 bits."""
    return scales if scales.element_size() > 1 else scales.float()
