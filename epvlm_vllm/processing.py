"""Between request and model: the kept patches of an image, its placeholders, its cache keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from epvlm_vllm.kept_tokens import check_grid, KEPT_INDICES, KeptTokens, read_kept_tokens
import torch
from torch import Tensor
from transformers import BatchFeature
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLMultiModalProcessor
from vllm.model_executor.models.qwen2_vl import Qwen2VLMultiModalProcessor
from vllm.model_executor.models.qwen3_vl import Qwen3VLMultiModalProcessor
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import ImageProcessorItems, MultiModalDataItems
from vllm.multimodal.processing import BaseMultiModalProcessor, PromptUpdate
from vllm.multimodal.processing.inputs import ProcessorInputs


class SparseProcessing(BaseMultiModalProcessor):
    """
    Goes before one of vLLM's processors of Qwen-VL models in the order of inheritance.

    Checked kept tokens travel among the processor's options to where the patches are; the
    processors of transformers never see them. Each image has the field ``kept_indices``, all its
    tokens where the request does not say.
    """

    def apply(self, inputs: ProcessorInputs, timing_ctx: Any) -> Any:
        """Check what the request says about its images, then go on as vLLM does."""
        images = inputs.mm_data_items.get('image')
        kept = read_kept_tokens(
            inputs.hf_processor_mm_kwargs, 0 if images is None else len(images),
            self._max_image_tokens)
        if kept is not None and not isinstance(images, ImageProcessorItems):
            raise ValueError(f'{KEPT_INDICES}: give pictures with it, not their embeddings')
        options = {} if kept is None else {KEPT_INDICES: kept}
        return super().apply(replace(inputs, hf_processor_mm_kwargs=options), timing_ctx)

    @cached_property
    def _max_image_tokens(self) -> int:
        return self.info.get_max_image_tokens()

    def _get_mm_hashes(self, inputs: ProcessorInputs) -> dict[str, list[str]]:
        """
        Return the keys of images and videos in all caches.

        An image has its own kept tokens in its key: vLLM puts the options of the whole request
        there, by which a picture that is given twice with other tokens would have the same key.
        """
        kept, inputs = _split_inputs(inputs)
        hashes = dict(super()._get_mm_hashes(inputs))
        if kept is not None:
            algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm
            hashes['image'] = [
                MultiModalHasher.hash_kwargs(
                    algorithm, image=key, kept_indices=tokens.indices,
                    token_grid=[tokens.rows, tokens.cols])
                for key, tokens in zip(hashes['image'], kept, strict=True)]
        return hashes

    def _get_cache_missing_processor_kwargs(
        self, inputs: ProcessorInputs, mm_is_cached: Mapping[str, list[bool]],
    ) -> Mapping[str, object]:
        """Return the options for those items that are in no cache."""
        kept, inputs = _split_inputs(inputs)
        options = super()._get_cache_missing_processor_kwargs(inputs, mm_is_cached)
        if kept is None:
            return options
        missing = [
            tokens for tokens, is_cached in zip(kept, mm_is_cached['image'], strict=True)
            if not is_cached]
        return {**options, KEPT_INDICES: missing}

    def _apply_hf_processor_main(
        self, mm_items: MultiModalDataItems, hf_kwargs: Mapping[str, object],
    ) -> BatchFeature:
        """Cut the images into patches and leave out those that are not kept."""
        kept, hf_kwargs = _split(hf_kwargs)
        outputs = super()._apply_hf_processor_main(mm_items, hf_kwargs)
        if 'pixel_values' in outputs:
            _keep_patches(outputs, kept, self._merge_size())
        return outputs

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object],
    ) -> Mapping[str, MultiModalFieldConfig]:
        """Tell vLLM how the values of several images are divided among them."""
        _, options = _split(hf_processor_mm_kwargs)
        fields = dict(super()._get_mm_fields_config(hf_inputs, options))
        if KEPT_INDICES in hf_inputs:
            num_patches = [
                len(indices) * self._merge_size() ** 2 for indices in hf_inputs[KEPT_INDICES]]
            fields['pixel_values'] = MultiModalFieldConfig.flat_from_sizes(
                'image', torch.tensor(num_patches))
            fields[KEPT_INDICES] = MultiModalFieldConfig.batched('image', keep_on_cpu=True)
        return fields

    def _get_prompt_updates(
        self, mm_items: MultiModalDataItems, hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        """Put as many placeholders into the prompt as tokens of the image are kept."""
        _, options = _split(hf_processor_mm_kwargs)
        updates = super()._get_prompt_updates(mm_items, options, out_mm_kwargs)
        return [
            replace(update, replacement=_shorten(update.replacement, out_mm_kwargs))
            if update.modality == 'image' else update
            for update in updates]

    def _merge_size(self) -> int:
        return self.info.get_hf_config().vision_config.spatial_merge_size


class SparseQwen2VlProcessor(SparseProcessing, Qwen2VLMultiModalProcessor):
    """The processor of sparse Qwen2-VL."""


class SparseQwen25VlProcessor(SparseProcessing, Qwen2_5_VLMultiModalProcessor):
    """The processor of sparse Qwen2.5-VL."""


class SparseQwen3VlProcessor(SparseProcessing, Qwen3VLMultiModalProcessor):
    """The processor of sparse Qwen3-VL."""


def _split(options: Mapping[str, Any]) -> tuple[list[KeptTokens] | None, dict[str, Any]]:
    """Return the kept tokens, and the options that vLLM and transformers know."""
    return options.get(KEPT_INDICES), {
        name: value for name, value in options.items() if name != KEPT_INDICES}


def _split_inputs(inputs: ProcessorInputs) -> tuple[list[KeptTokens] | None, ProcessorInputs]:
    kept, options = _split(inputs.hf_processor_mm_kwargs)
    return kept, replace(inputs, hf_processor_mm_kwargs=options)


def _keep_patches(
    outputs: BatchFeature, kept: list[KeptTokens] | None, merge_size: int,
) -> None:
    """Leave the patches of the kept tokens in ``pixel_values``, and say which tokens these are."""
    grids = [(rows // merge_size, cols // merge_size)
             for _, rows, cols in outputs['image_grid_thw'].tolist()]
    images = outputs['pixel_values'].unflatten(0, (-1, merge_size ** 2)).split(
        [rows * cols for rows, cols in grids])  # each (tokens, patches of a token, values)
    if kept is None:
        indices = [torch.arange(len(image)) for image in images]
    else:
        for place, (tokens, (rows, cols)) in enumerate(zip(kept, grids, strict=True)):
            check_grid(place, tokens, rows, cols)
        indices = [torch.from_numpy(tokens.indices) for tokens in kept]
        outputs['pixel_values'] = torch.cat(
            [image[rows] for image, rows in zip(images, indices)]).flatten(0, 1)
    outputs[KEPT_INDICES] = indices


def _shorten(
    make_dense: Callable[[int], list[int]], out_mm_kwargs: MultiModalKwargsItems,
) -> Callable[[int], list[int]]:
    """Return what makes the placeholders of an image, given what makes those of a dense one."""
    def make(place: int) -> list[int]:
        kept: Tensor | None = out_mm_kwargs['image'][place].get_data().get(KEPT_INDICES)
        placeholders = make_dense(place)
        return placeholders if kept is None else placeholders[:len(kept)]

    return make
