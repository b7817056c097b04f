"""What reads the weights of a module that others packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from epvlm_ros.vlm.packed_weights.packed_matrix import PackedMatrix
from torch import Tensor

# Takes the tensors of a module by the last part of their names, and (outputs, inputs).
Reader = Callable[[Mapping[str, Tensor], tuple[int, int]], PackedMatrix]


def get_part(parts: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of a module; a ValueError if it is missing or of another shape."""
    if name not in parts:
        raise ValueError(f'{name} is missing: get the checkpoint again')
    if tuple(parts[name].shape) != shape:
        raise ValueError(
            f'{name} has shape {tuple(parts[name].shape)}, config.json makes it {shape}: give '
            'the config.json that belongs to the weights')
    return parts[name]
