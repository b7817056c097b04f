"""The language model on some tokens of a scene, in their slots, as a function of fixed shapes."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.language_model import run_layers
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.scene_buffers import LanguageBuffers
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights
from torch import Tensor


def refresh_language_model(
    weights: DecoderWeights, operations: Operations, buffers: LanguageBuffers, rows: Tensor,
    slots: Tensor, is_whole: bool,
) -> None:
    """
    Compute the keys and values of some tokens anew, each from the visible ones up to itself.

    Parameters
    ----------
    weights, operations
        Of the language model.
    buffers : LanguageBuffers
        The scene; these tokens are visible afterwards.
    rows, slots : torch.Tensor
        int64 (tokens,), their rows in the inputs, and their slots, ascending.
    is_whole : bool
        Whether all slots up to the last one are visible, these included.

    """
    buffers.visible.index_fill_(0, slots, True)
    hidden, *added = (part.index_select(0, rows) for part in buffers.inputs)
    cache, visible = buffers.cache, None if is_whole else buffers.visible

    def attend(queries: Tensor, number: int) -> Tensor:
        return operations.attend_to_cache(queries, cache, number, slots, cache.capacity, visible)

    rotation = buffers.cos.index_select(0, slots), buffers.sin.index_select(0, slots)
    run_layers(weights, operations, hidden, rotation, cache, slots, attend, added)
