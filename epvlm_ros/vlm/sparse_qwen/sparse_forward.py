"""The forward pass of encoder and language model on some tokens, through the library's layers."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen.library_model import LibraryModel
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import numpy as np
import torch
from torch import Tensor
from transformers import Cache


class SparseForward(LibraryModel):
    """The parts that prompts about an image, and scenes in memory, are computed with."""

    @torch.inference_mode()
    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Run the encoder and the patch merger on the kept tokens."""
        lengths = [self.info.merge_size ** 2 * len(kept) for kept in vision.split_by_moment()]
        return self._run_encoder(vision, lengths, self._family_inputs(vision))

    @torch.inference_mode()
    def encode_as_one(self, vision: VisionInput, **arguments: Any) -> VisualFeatures:
        """
        Run the encoder on the kept tokens as one sequence, in windows or not.

        Who attends to whom is left to the attention function, which gets ``arguments``.
        """
        num_patches = self.info.merge_size ** 2 * len(vision.kept_indices)
        inputs = self._family_inputs(vision)
        if 'window_index' in inputs:
            inputs.update(
                window_index=torch.arange(len(vision.kept_indices)),
                cu_window_seqlens=torch.tensor([0, num_patches], dtype=torch.int32),
                max_window_seqlen=num_patches)
        return self._run_encoder(vision, [num_patches], {**inputs, **arguments})

    @torch.inference_mode()
    def run_tokens(
        self, ids: Tensor, positions: Tensor, is_visual: Tensor, features: VisualFeatures,
        cache: Cache, **inputs: Any,
    ) -> Tensor:
        """
        Run the language model on some tokens of a prompt about an image.

        Parameters
        ----------
        ids, positions, is_visual : torch.Tensor
            int64 (tokens,), int64 (3, tokens) and bool (tokens,), on the CPU.
        features : VisualFeatures
            Of the visual ones among them, in their order.
        cache : transformers.Cache
            What stands before them; takes their keys and values.
        **inputs
            For the library's language model, such as ``attention_mask``.

        Returns
        -------
        torch.Tensor
            Hidden states, shape (1, tokens, hidden size).

        """
        is_visual = is_visual.to(self.device)
        embeddings = self._embed(ids)
        embeddings[is_visual] = features.tokens.to(embeddings.dtype)
        return self._run_language_model(
            embeddings[None], positions[:, None].to(self.device), cache,
            **self.family.prefill_inputs(features, is_visual), **inputs)

    def _family_inputs(self, vision: VisionInput) -> dict[str, Any]:
        return self.family.encoder_inputs(self._model.model.visual, vision)

    def _run_encoder(
        self, vision: VisionInput, lengths: list[int], inputs: dict[str, Any],
    ) -> VisualFeatures:
        """Run the encoder on sequences of so many kept patches, with what its family takes."""
        device, encoder, merge_size = self.device, self._model.model.visual, self.info.merge_size
        kept_patches = vision.keep(vision.pixel_values)  # (kept patches, values)
        inputs = {
            'grid_thw': vision.grid_thw(merge_size),
            'position_ids': vision.patch_positions(merge_size),
            'cu_seqlens': torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
            **inputs}
        output = encoder(
            kept_patches.to(device=device, dtype=encoder.dtype), max_seqlen=max(lengths),
            **{name: value.to(device) if isinstance(value, Tensor) else value
               for name, value in inputs.items()})
        return self.family.read_features(output)

    def _embed(self, token_ids: Tensor) -> Tensor:
        return self._model.get_input_embeddings()(token_ids.to(self.device))

    def _run_language_model(
        self, embeddings: Tensor, positions: Tensor, cache: Cache, **inputs: Any,
    ) -> Tensor:
        output = self._model.model.language_model(
            inputs_embeds=embeddings, position_ids=positions, use_cache=True,
            **{self._cache_argument: cache}, **inputs)
        return output.last_hidden_state  # (prompts, tokens, hidden)
