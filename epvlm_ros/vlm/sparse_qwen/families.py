"""
One small adapter for each model family: what the shared sparse forward cannot know.

The library's encoders accept positions, sequence lengths, window order and interpolation weights
from the caller, for graph capture; dropping tokens rests on that. Were they ignored, shapes would
not fit: no silent wrong positions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from epvlm_ros.vlm.patch_grid import order_by_window
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import torch
from torch import Tensor
from transformers.vision_utils import get_vision_interpolation_indices_and_weights


class ModelFamily:
    """A family that needs nothing of its own; the others override what differs."""

    name: ClassVar[str]
    model_type: ClassVar[str]
    # Whether a prompt tells the time of each of several moments, and keeps them apart by text.
    tells_times: ClassVar[bool] = False

    def encoder_inputs(self, encoder: Any, vision: VisionInput) -> dict[str, Any]:
        """
        Return what the library's encoder takes beside positions and number of the kept patches.

        Keyword arguments; tensors on the CPU.
        """
        return {}

    def read_features(self, output: Any) -> VisualFeatures:
        """Return the features in what the encoder returned."""
        return VisualFeatures(output.pooler_output)

    def prefill_inputs(self, features: VisualFeatures, is_visual: Tensor) -> dict[str, Any]:
        """
        Return what the language model takes beside embeddings and positions of a prompt.

        ``is_visual``, bool, shape (tokens,), says where the features are in the prompt.
        """
        return {}


class Qwen2Vl(ModelFamily):
    """Qwen2-VL: every layer of the encoder sees the whole image."""

    name = 'Qwen2-VL'
    model_type = 'qwen2_vl'


class Qwen25Vl(ModelFamily):
    """
    Qwen2.5-VL: most layers of the encoder see windows of the image.

    The windows are those of the full image. A kept token attends to the kept tokens of its own
    window there, and to all kept tokens in the layers with full attention; a window without a
    kept token is gone.
    """

    name = 'Qwen2.5-VL'
    model_type = 'qwen2_5_vl'

    def encoder_inputs(self, encoder: Any, vision: VisionInput) -> dict[str, Any]:
        """Return the order of the kept tokens by window and where each window ends."""
        merge_size: int = encoder.spatial_merge_size
        window_size = encoder.window_size // merge_size // encoder.patch_size
        order, sizes = order_by_window(vision.split_by_moment(), vision.cols, window_size)
        lengths = torch.from_numpy(sizes) * merge_size ** 2  # in patches
        ends = lengths.cumsum(0, dtype=torch.int32)
        return {
            'window_index': torch.from_numpy(order),
            'cu_window_seqlens': torch.cat([ends.new_zeros(1), ends]),
            'max_window_seqlen': int(lengths.max())}


class Qwen3Vl(ModelFamily):
    """
    Qwen3-VL: learned positions in the encoder, and features of its middle layers (DeepStack).

    The table of learned positions is stretched over the full image, so that a kept patch gets
    the same mixture of its entries as in the dense run. The features of the middle layers
    are added to the kept tokens in the first layers of the language model.
    """

    name = 'Qwen3-VL'
    model_type = 'qwen3_vl'
    tells_times = True

    def encoder_inputs(self, encoder: Any, vision: VisionInput) -> dict[str, Any]:
        """Return which learned positions make up that of each kept patch, and their weights."""
        merge_size: int = encoder.spatial_merge_size
        indices, weights = get_vision_interpolation_indices_and_weights(
            vision.grid_thw(merge_size), num_grid_per_side=encoder.num_grid_per_side,
            mode=encoder.interpolation_mode, align_corners=encoder.interpolation_align_corners,
            spatial_merge_size=merge_size)
        return {'interp_indices': vision.keep(indices), 'interp_weights': vision.keep(weights)}

    def read_features(self, output: Any) -> VisualFeatures:
        """Return the features of the last and of the middle layers."""
        return VisualFeatures(output.pooler_output, tuple(output.deepstack_features))

    def prefill_inputs(self, features: VisualFeatures, is_visual: Tensor) -> dict[str, Any]:
        """Return the features of the middle layers and where they belong."""
        return {
            'visual_pos_masks': is_visual[None],
            'deepstack_visual_embeds': list(features.deepstack)}


FAMILIES: dict[str, ModelFamily] = {
    family.model_type: family for family in (Qwen2Vl(), Qwen25Vl(), Qwen3Vl())}


def find_family(model_type: str | None) -> ModelFamily:
    """
    Return the family of a checkpoint with this model_type in its config.json.

    Raises a ValueError that names the known families if there is none.
    """
    if model_type not in FAMILIES:
        known = ', '.join(f'{family.name} ({name})' for name, family in FAMILIES.items())
        raise ValueError(
            f'the model is of type {model_type!r}: give a checkpoint of one of {known}')
    return FAMILIES[model_type]
