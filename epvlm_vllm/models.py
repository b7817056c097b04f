"""
Sparse Qwen-VL models: vLLM's own, of which the encoder sees the kept patches only.

Nothing of vLLM is replaced; each class inherits from the dense model of its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TYPE_CHECKING

from epvlm_vllm.encoder import (
    EncoderInputs, qwen2_5_vl_inputs, qwen2_vl_inputs, qwen3_vl_inputs)
from epvlm_vllm.positions import make_dense
from epvlm_vllm.processing import (
    SparseQwen25VlProcessor, SparseQwen2VlProcessor, SparseQwen3VlProcessor)
from epvlm_vllm.version import check_version
import torch
from torch import Tensor
import vllm
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessingInfo)
from vllm.model_executor.models.qwen2_vl import (
    Qwen2VLDummyInputsBuilder, Qwen2VLForConditionalGeneration, Qwen2VLProcessingInfo)
from vllm.model_executor.models.qwen3_vl import (
    Qwen3VLDummyInputsBuilder, Qwen3VLForConditionalGeneration, Qwen3VLProcessingInfo)
from vllm.multimodal import MULTIMODAL_REGISTRY

check_version(vllm.__version__)

if TYPE_CHECKING:
    class DenseModel(Qwen2VLForConditionalGeneration):
        """What the checker of types takes for any of the dense models."""
else:
    DenseModel = object


@dataclass(frozen=True)
class SparseImages:
    """Images as vLLM's models take them, and the kept tokens of each."""

    images: Any
    kept: Sequence[Tensor]

    def __getitem__(self, name: str) -> Any:
        """Return a field of the images."""
        return self.images[name]


class SparseEncoding(DenseModel):
    """Goes before one of vLLM's Qwen-VL models in the order of inheritance."""

    encoder_inputs: EncoderInputs

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = '') -> None:
        check_options(vllm_config.model_config.get_multimodal_config())
        super().__init__(vllm_config=vllm_config, prefix=prefix)

    def get_mrope_input_positions(
        self, input_tokens: list[int], mm_features: list[Any],
    ) -> tuple[Tensor, int]:
        """Return the positions that the tokens have in the dense prompt."""
        dense_tokens, dense_features, is_kept = make_dense(
            input_tokens, mm_features, self.config.vision_config.spatial_merge_size)
        positions, offset = super().get_mrope_input_positions(dense_tokens, dense_features)
        num_dropped = len(dense_tokens) - len(input_tokens)
        return positions[:, torch.from_numpy(is_kept)], offset + num_dropped

    def get_encoder_cudagraph_config(self) -> Any:
        """Leave images out: graphs know full grids only."""
        config = super().get_encoder_cudagraph_config()
        return replace(config, modalities=[name for name in config.modalities if name != 'image'])

    def _parse_and_validate_image_input(self, **kwargs: Any) -> Any:
        kept = kwargs.pop('kept_indices', None)
        images = super()._parse_and_validate_image_input(**kwargs)
        return images if images is None or kept is None else SparseImages(images, kept)

    def _process_image_input(self, image_input: Any) -> tuple[Tensor, ...]:
        """Return the features of the kept tokens of each image."""
        if not isinstance(image_input, SparseImages):  # embeddings that the caller computed
            return super()._process_image_input(image_input)
        kept = [indices.cpu() for indices in image_input.kept]
        grids = image_input['image_grid_thw'].tolist()
        features = self.visual(
            image_input['pixel_values'], grids,
            encoder_metadata=type(self).encoder_inputs(self.visual, grids, kept))
        return features.split([len(indices) for indices in kept])


@MULTIMODAL_REGISTRY.register_processor(
    SparseQwen2VlProcessor, info=Qwen2VLProcessingInfo, dummy_inputs=Qwen2VLDummyInputsBuilder)
class SparseQwen2VLForConditionalGeneration(SparseEncoding, Qwen2VLForConditionalGeneration):
    """Qwen2-VL that computes the kept visual tokens only."""

    encoder_inputs = staticmethod(qwen2_vl_inputs)


@MULTIMODAL_REGISTRY.register_processor(
    SparseQwen25VlProcessor, info=Qwen2_5_VLProcessingInfo,
    dummy_inputs=Qwen2_5_VLDummyInputsBuilder)
class SparseQwen2_5_VLForConditionalGeneration(  # noqa: N801
        SparseEncoding, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL that computes the kept visual tokens only."""

    encoder_inputs = staticmethod(qwen2_5_vl_inputs)


@MULTIMODAL_REGISTRY.register_processor(
    SparseQwen3VlProcessor, info=Qwen3VLProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder)
class SparseQwen3VLForConditionalGeneration(SparseEncoding, Qwen3VLForConditionalGeneration):
    """Qwen3-VL that computes the kept visual tokens only."""

    encoder_inputs = staticmethod(qwen3_vl_inputs)


def check_options(config: Any) -> None:
    """Raise a ValueError where vLLM would divide or prune images by their full grids."""
    if config.mm_encoder_tp_mode == 'data':
        raise ValueError(
            '--mm-encoder-tp-mode data divides images by their full grids: leave it out; weights '
            'of the encoder are divided instead')
    if config.is_multimodal_pruning_enabled():
        raise ValueError(
            '--video-pruning-rate rewrites the positions of pictures: leave it out; requests say '
            'which tokens are kept')
