"""
AWQ as AutoAWQ writes it: quant_method awq, version gemm, 4 bits with zero points.

``qweight`` int32 (inputs, outputs / 8) and ``qzeros`` int32 (groups, outputs / 8) hold eight
outputs a word, those with even numbers in its lower half; ``scales`` float16 (groups, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epvlm_ros.vlm.packed_weights.formats.reader import get_part, Reader
from epvlm_ros.vlm.packed_weights.formats.words import unpack_words
from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
import torch
from torch import Tensor

_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # of the outputs 0 to 7 in a word


def make_reader(quantization: Mapping[str, Any]) -> Reader:
    """Return the reader; a ValueError for another version."""
    for name, known in (('bits', 4), ('version', 'gemm'), ('zero_point', True)):
        value = quantization.get(name, known)
        value = value.lower() if isinstance(value, str) else value
        if value != known:
            raise ValueError(
                f'its weights are packed by AWQ with {name} {value!r}: give a checkpoint with '
                f'{name} {known!r}')
    group_size = int(quantization.get('group_size', 128))

    def read(parts: Mapping[str, Tensor], shape: tuple[int, int]) -> PackedMatrix:
        rows, columns = shape
        size = group_size if group_size > 0 else columns
        num_groups = -(-columns // size)
        numbers = _unpack(get_part(parts, 'qweight', (columns, rows // 8)))
        zeros = _unpack(get_part(parts, 'qzeros', (num_groups, rows // 8)))
        scales = get_part(parts, 'scales', (num_groups, rows))
        return PackedMatrix.of(numbers.T, 4, size, scales.T, zeros.T.to(torch.uint8))

    return read


def _unpack(words: Tensor) -> Tensor:
    """Return int32 (inputs or groups, outputs)."""
    return unpack_words(words, 4, axis=1).unflatten(1, (-1, 8))[..., _PLACES].flatten(1)
