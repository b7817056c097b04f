"""From the quantization_config of a checkpoint to the reader of its weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from epvlm_ros.vlm.packed_weights.formats import awq, compressed_tensors, fp8, gptq
from epvlm_ros.vlm.packed_weights.formats.reader import Reader

_FORMATS: dict[str, Callable[[Mapping[str, Any]], Reader | None]] = {
    'awq': awq.make_reader, 'gptq': gptq.make_reader, 'fp8': fp8.make_reader,
    'compressed-tensors': compressed_tensors.make_reader}
# One of them in a module says that it is packed, whatever lists of the configuration say.
_OF_PACKED = frozenset({'qweight', 'weight_packed', 'weight_scale', 'weight_scale_inv'})


def find_reader(quantization: Mapping[str, Any]) -> Reader | None:
    """
    Return what reads weights that are packed so, or None if they are left to transformers.

    Raises a ValueError that names the setting and the remedy if a format is known, but not the
    variety.
    """
    make_reader = _FORMATS.get(str(quantization.get('quant_method')))
    return make_reader(quantization) if make_reader else None


def is_packed(parts: Collection[str]) -> bool:
    """Return whether a module with tensors of these names (the last part) is packed."""
    return not _OF_PACKED.isdisjoint(parts)
