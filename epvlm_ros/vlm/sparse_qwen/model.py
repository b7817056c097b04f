"""The forward pass that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epvlm_ros.vlm.sparse_qwen.decoder import Decoder
from epvlm_ros.vlm.sparse_qwen.decoding_state import (
    BatchState, DecodingState, keys_values_of, PromptPrefix)
from epvlm_ros.vlm.sparse_qwen.library_model import LibraryModel
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import numpy as np
import torch
from torch import Tensor
from transformers import Cache, DynamicCache

TEXT = -1  # stands for any token that is no visual one
# What stands before the image is kept from prompt to prompt if it is at least so long: a shorter
# one saves less than the attention loses that cannot begin with the first token.
LEAD_TOKENS = 64


class SparseQwenVl(LibraryModel, Decoder):
    """
    A Qwen vision-language model and its sparse forward pass, for one view at a time.

    ``lead`` holds what stands before the image in the last prompt, if it is worth keeping: the
    same for every image as long as the system prompt is.
    """

    lead: PromptPrefix | None = None

    @torch.inference_mode()
    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Run the encoder and the patch merger on the kept tokens."""
        device, encoder = self.device, self._model.model.visual
        kept_patches = vision.keep(vision.pixel_values)  # (kept patches, values)
        lengths = [self.merge_size ** 2 * len(kept) for kept in vision.split_by_moment()]
        inputs = {
            'grid_thw': vision.grid_thw(self.merge_size),
            'position_ids': vision.patch_positions(self.merge_size),
            'cu_seqlens': torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
            **self._family.encoder_inputs(encoder, vision)}
        output = encoder(
            kept_patches.to(device=device, dtype=encoder.dtype), max_seqlen=max(lengths),
            **{name: value.to(device) if isinstance(value, Tensor) else value
               for name, value in inputs.items()})
        return self._family.read_features(output)

    @torch.inference_mode()
    def prefill(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> DecodingState:
        """
        Run the language model on the text and the kept tokens of the prompt.

        Parameters
        ----------
        prompt_ids : torch.Tensor
            int64, shape (tokens,), the dense prompt, see ``positions``.
        vision : VisionInput
            The image.
        features : VisualFeatures
            What ``encode`` made of it.

        """
        lead = self._find_lead(prompt_ids)
        hidden, cache, positions = self._run_prompt(prompt_ids, vision, features, lead)
        prefix = self._cut_prefix(prompt_ids, positions, cache, vision)
        # the vocabulary is the widest layer: only the last token goes through it
        logits = self._model.lm_head(hidden[0, -1])
        return DecodingState(
            logits, cache, int(positions[0, -1]), prompt_ids.cpu(), prefix)

    @torch.inference_mode()
    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> PromptPrefix:
        """
        Run the language model on a prompt up to the end of its image.

        Parameters
        ----------
        prompt_ids, vision, features
            As in ``prefill``; what follows the image is not computed.

        """
        prompt_ids = prompt_ids[:self._end_of_image(prompt_ids)]
        lead = self._find_lead(prompt_ids)
        _, cache, positions = self._run_prompt(prompt_ids, vision, features, lead)
        return self._cut_prefix(prompt_ids, positions, cache, vision)

    @torch.inference_mode()
    def ask(self, prefix: PromptPrefix, text_ids: Tensor) -> DecodingState:
        """
        Run the language model on a further question about an image, and on that only.

        Parameters
        ----------
        prefix : PromptPrefix
            Of any prompt about the image; not changed.
        text_ids : torch.Tensor
            int64, shape (tokens,), what follows the image in the prompt, at least one token.

        """
        cache = prefix.make_cache()
        end = prefix.next_position + len(text_ids)
        positions = torch.arange(prefix.next_position, end, device=self.device)
        hidden = self._run_language_model(
            self._embed(text_ids[None]), positions.expand(3, 1, -1), cache)
        return DecodingState(
            self._model.lm_head(hidden[0, -1]), cache, end,
            torch.cat([prefix.token_ids, text_ids.cpu()]), prefix)

    @torch.inference_mode()
    def ask_together(self, prefix: PromptPrefix, texts: Sequence[Tensor]) -> BatchState:
        """
        Run the language model on several questions about an image at once.

        Each answer is the one to the question asked alone, up to rounding.

        Parameters
        ----------
        prefix : PromptPrefix
            As in ``ask``.
        texts : sequence of torch.Tensor
            One ``text_ids`` as in ``ask`` for each question, at least one.

        """
        lengths = torch.tensor([len(text_ids) for text_ids in texts])
        # padding stands between image and text, so that all texts end in the same place
        place = torch.arange(int(lengths.max())) - (lengths.max() - lengths)[:, None]
        ids = torch.zeros_like(place)
        ids[place >= 0] = torch.cat([text_ids.cpu() for text_ids in texts])
        seen = torch.ones(len(texts), prefix.num_tokens_kept, dtype=torch.int64)
        state = BatchState(
            list(range(len(texts))), torch.empty(0), prefix.make_cache(len(texts)),
            (prefix.next_position + lengths).to(self.device),
            torch.cat([seen, (place >= 0).long()], dim=1).to(self.device),
            [torch.cat([prefix.token_ids, text_ids.cpu()]) for text_ids in texts])
        positions = prefix.next_position + place.clamp(min=0).to(self.device)
        self._run_together(state, ids, positions)
        return state

    @torch.inference_mode()
    def prompt_logits(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> Tensor:
        """Return the logits of every kept token of the prompt, shape (kept, vocabulary)."""
        hidden, _, _ = self._run_prompt(prompt_ids, vision, features, lead=None)
        return self._model.lm_head(hidden[0])

    @torch.inference_mode()
    def step(self, state: DecodingState, token_id: int) -> None:
        """Append one token to ``state``, which then holds the logits after it."""
        positions = torch.full((3, 1, 1), state.next_position, device=self.device)
        hidden = self._run_language_model(
            self._embed(torch.tensor([[token_id]])), positions, state.cache)
        state.logits = self._model.lm_head(hidden[0, -1])
        state.next_position += 1

    @torch.inference_mode()
    def step_together(self, state: BatchState, token_ids: Sequence[int]) -> None:
        """Append one token to each answer in ``state``, which then holds the logits after it."""
        state.visible = torch.nn.functional.pad(state.visible, (0, 1), value=1)
        self._run_together(
            state, torch.tensor(token_ids)[:, None], state.next_positions[:, None])
        state.next_positions = state.next_positions + 1

    def known_lead(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return what stands before the image if it is kept from the prompt before."""
        ids = self._before_image(prompt_ids)
        if self.lead is not None and torch.equal(self.lead.token_ids, ids):
            return self.lead
        return None

    def _run_prompt(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
        lead: PromptPrefix | None,
    ) -> tuple[Tensor, Cache, Tensor]:
        """Return hidden states after the lead, cache, and positions up to the next token."""
        prompt_ids = prompt_ids.cpu()
        positions = self._find_positions(prompt_ids, vision)
        is_image, is_kept = self._find_kept(prompt_ids, vision)
        cache: Cache = DynamicCache(config=self._text_config)
        if lead is not None:
            cache = lead.make_cache()
            is_kept[:len(lead.token_ids)] = False
        is_visual = is_image[is_kept].to(self.device)
        embeddings = self._embed(prompt_ids[is_kept])
        embeddings[is_visual] = features.tokens.to(embeddings.dtype)
        hidden = self._run_language_model(
            embeddings[None], positions[:, None, :-1][..., is_kept].to(self.device), cache,
            **self._family.prefill_inputs(features, is_visual))
        return hidden, cache, positions

    def _find_positions(self, prompt_ids: Tensor, vision: VisionInput) -> Tensor:
        """Return the positions of a dense prompt and of the token after it, (3, tokens + 1)."""
        return self.positions(torch.cat([prompt_ids.cpu(), torch.tensor([TEXT])]), vision)

    def _find_kept(self, prompt_ids: Tensor, vision: VisionInput) -> tuple[Tensor, Tensor]:
        """Return which tokens of a prompt on the CPU are visual, and which are computed on."""
        is_image = self._find_visual(prompt_ids)
        is_kept = ~is_image
        is_kept[is_image.nonzero()[:, 0][torch.from_numpy(vision.kept_indices)]] = True
        return is_image, is_kept

    def _before_image(self, prompt_ids: Tensor) -> Tensor:
        return prompt_ids[:int(self._find_visual(prompt_ids).nonzero()[0, 0])].cpu()

    def _find_lead(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return what stands before the image, computed if need be; None if it is short."""
        known = self.known_lead(prompt_ids)
        if known is not None:
            return known
        self.lead = None
        ids = self._before_image(prompt_ids)
        if len(ids) >= LEAD_TOKENS:
            cache = DynamicCache(config=self._text_config)
            positions = torch.arange(len(ids), device=self.device).expand(3, 1, -1)
            self._run_language_model(self._embed(ids[None]), positions, cache)
            self.lead = PromptPrefix(
                ids, keys_values_of(cache, len(ids)), len(ids), holds_image=False)
        return self.lead

    def _cut_prefix(
        self, prompt_ids: Tensor, positions: Tensor, cache: Cache, vision: VisionInput,
    ) -> PromptPrefix:
        """Return the part up to the end of the image of a prompt that was computed."""
        end = self._end_of_image(prompt_ids)
        num_kept = end - vision.num_tokens + len(vision.kept_indices)
        return PromptPrefix(
            prompt_ids[:end].cpu(), keys_values_of(cache, num_kept), int(positions[0, end]))

    def _end_of_image(self, prompt_ids: Tensor) -> int:
        return int(self._find_visual(prompt_ids).nonzero()[-1, 0]) + 1

    def _embed(self, token_ids: Tensor) -> Tensor:
        return self._model.get_input_embeddings()(token_ids.to(self.device))

    def _run_together(self, state: BatchState, ids: Tensor, positions: Tensor) -> None:
        """Run some more tokens of several answers, both (questions, tokens)."""
        hidden = self._run_language_model(
            self._embed(ids), positions.expand(3, -1, -1), state.cache,
            attention_mask=state.visible)
        state.logits = self._model.lm_head(hidden[:, -1])

    def _run_language_model(
        self, embeddings: Tensor, positions: Tensor, cache: Cache, **inputs: Any,
    ) -> Tensor:
        output = self._model.model.language_model(
            inputs_embeds=embeddings, position_ids=positions, use_cache=True,
            **{self._cache_argument: cache}, **inputs)
        return output.last_hidden_state  # (prompts, tokens, hidden)
