"""
Attention of refreshed patches to all known patches of a scene, for the library's own encoder.

The library looks its attention functions up by name in a public registry; the one here is known
there as ``ATTENTION``. Its state travels with the call, as a keyword argument of the encoder that
the library hands down to every attention function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from epvlm_ros.vlm.sparse_qwen.scene.token_states import KeysValues
import torch
from torch import Tensor
from transformers import AttentionInterface

ATTENTION = 'epvlm_scene'


@dataclass
class EncoderRefresh:
    """
    One run of the encoder on some patches of a scene.

    Parameters
    ----------
    layers : list of KeysValues
        Of the encoder, filled when they are met for the first time.
    layer_of : dict
        The number of each attention module.
    slots : torch.Tensor
        int64, shape (patches,): the places of the refreshed patches in the scene.
    num_slots : int
        Patches of the whole scene.
    mask : torch.Tensor or None
        bool, shape (patches, slots) or (1, slots): what a patch sees; None is everything.
    window_mask : torch.Tensor or None
        The same in layers that attend within windows.
    windowed_layers : frozenset of int
        The numbers of those.

    """

    layers: list[KeysValues]
    layer_of: dict[Any, int]
    slots: Tensor
    num_slots: int
    mask: Tensor | None
    window_mask: Tensor | None
    windowed_layers: frozenset[int]

    def exchange(
        self, module: Any, keys: Tensor, values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store the states of the refreshed patches; return those of all, and the mask."""
        number = self.layer_of[module]
        if number == len(self.layers):
            self.layers.append(KeysValues.empty_like(keys, self.num_slots))
        layer = self.layers[number]
        layer.write(self.slots, keys, values)
        is_windowed = number in self.windowed_layers
        return layer.keys, layer.values, self.window_mask if is_windowed else self.mask


def attend_to_scene(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, scene_refresh: EncoderRefresh | None = None, **_: Any,
) -> tuple[Tensor, None]:
    """Attend from the refreshed patches to the scene, as the library's functions do."""
    assert scene_refresh is not None
    keys, values, mask = scene_refresh.exchange(module, key, value)
    output = torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, scale=scaling)
    return output.transpose(1, 2), None  # (1, patches, heads, dim)


AttentionInterface.register(ATTENTION, attend_to_scene)


@contextmanager
def scene_attention(encoder: Any) -> Iterator[None]:
    """Let one encoder attend to a scene; its own attention comes back afterwards."""
    own = encoder.config._attn_implementation
    encoder.config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        encoder.config._attn_implementation = own
