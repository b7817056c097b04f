"""The eager sparse forward pass, as transformers runs it, for all families."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from epvlm_ros.vlm.sparse_qwen.decoding_state import (
    BatchState, DecodingState, keys_values_of, PromptPrefix)
from epvlm_ros.vlm.sparse_qwen.prompt_layout import PromptLayout
from epvlm_ros.vlm.sparse_qwen.sampling import GREEDY, Sampler, Sampling, Token
from epvlm_ros.vlm.sparse_qwen.scene.scene_backend import SceneBackend
from epvlm_ros.vlm.sparse_qwen.scene.scene_forward import SceneForward
from epvlm_ros.vlm.sparse_qwen.sparse_forward import SparseForward
from epvlm_ros.vlm.sparse_qwen.text_scores import (
    MAX_PACKED_TOKENS, NUM_ROWS_AT_ONCE, pack, PackedTexts, read_score, TextScore)
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import torch
from torch import Tensor
from transformers import Cache, DynamicCache

# What stands before the image is kept from prompt to prompt if it is at least so long: a shorter
# one saves less than the attention loses that cannot begin with the first token.
MIN_SYSTEM_PREFIX_TOKENS = 64


class SparseQwenVl(SparseForward):
    """
    The eager implementation of ``SparseBackend``, for one view at a time.

    ``system_prefix`` holds what stands before the image in the last prompt, if it is worth
    keeping: the same for every image as long as the system prompt is.
    """

    system_prefix: PromptPrefix | None = None

    @torch.inference_mode()
    def prefill(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> DecodingState:
        """Run the language model on the text and the kept tokens of the prompt."""
        layout = self.lay_out(prompt_ids, vision)
        hidden, cache = self._run_prompt(
            layout, features, self._find_system_prefix(layout.prompt_ids))
        # the vocabulary is the widest layer: only the last token goes through it
        return DecodingState(
            self._model.lm_head(hidden[0, -1]), cache, layout.next_position, layout.prompt_ids,
            _cut_prefix(layout, cache))

    @torch.inference_mode()
    def prefill_image(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> PromptPrefix:
        """Run the language model on a prompt up to the end of its image."""
        layout = self.lay_out(prompt_ids, vision).up_to_image()
        _, cache = self._run_prompt(
            layout, features, self._find_system_prefix(layout.prompt_ids))
        return _cut_prefix(layout, cache)

    @torch.inference_mode()
    def extend(self, prefix: PromptPrefix, text_ids: Tensor) -> DecodingState:
        """Run the language model on a further question about an image, and on that only."""
        cache = prefix.make_cache()
        end = prefix.next_position + len(text_ids)
        positions = torch.arange(prefix.next_position, end, device=self.device)
        hidden = self._run_language_model(
            self._embed(text_ids[None]), positions.expand(3, 1, -1), cache)
        return DecodingState(
            self._model.lm_head(hidden[0, -1]), cache, end,
            torch.cat([prefix.token_ids, text_ids.cpu()]), prefix)

    @torch.inference_mode()
    def extend_together(self, prefix: PromptPrefix, texts: Sequence[Tensor]) -> BatchState:
        """Run the language model on several questions about an image at once."""
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
        hidden, _ = self._run_prompt(self.lay_out(prompt_ids, vision), features, None)
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

    def decode(
        self, state: DecodingState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[Token]:
        """Yield the tokens of the answer; each is computed when it is asked for."""
        sampler = Sampler(sampling, [state.prompt_ids], state.logits.device)
        for index in range(max_new_tokens):
            token_id = sampler.next_tokens(state.logits[None])[0]
            if token_id in end_token_ids:
                return
            yield token_id
            if index + 1 < max_new_tokens:
                self.step(state, token_id)

    def decode_together(
        self, state: BatchState, end_token_ids: Collection[int], max_new_tokens: int,
        sampling: Sampling = GREEDY,
    ) -> Iterator[list[tuple[int, Token]]]:
        """Yield lists of (number of the question, next token of its answer)."""
        sampler = Sampler(sampling, state.prompts, state.logits.device)
        for index in range(max_new_tokens):
            next_ids = sampler.next_tokens(state.logits)
            going_on = [
                row for row, token_id in enumerate(next_ids) if token_id not in end_token_ids]
            if not going_on:
                return
            if len(going_on) < len(next_ids):
                state.keep(going_on)
                sampler.keep(going_on)
            token_ids = [next_ids[row] for row in going_on]
            yield list(zip(state.questions, token_ids))
            if index + 1 < max_new_tokens:
                self.step_together(state, token_ids)

    @torch.inference_mode()
    def score_texts(
        self, state: DecodingState, texts: Sequence[Tensor], end_token_ids: Collection[int],
    ) -> list[TextScore]:
        """Return how likely each text is as the whole answer; ``state`` stays as it is."""
        sees_masks = self._text_config._attn_implementation != 'flash_attention_2'
        scores = []
        for packed in pack(texts, MAX_PACKED_TOKENS if sees_masks else 0):
            hidden = self._run_packed(state, packed)
            for group in pack(packed.texts, NUM_ROWS_AT_ONCE):
                rows, hidden = hidden[:len(group.ids)], hidden[len(group.ids):]
                logits = self._model.lm_head(rows).split([len(text) for text in group.texts])
                scores += [read_score(text, state.logits, after, end_token_ids)
                           for text, after in zip(group.texts, logits)]
        return scores

    def scene_forward(self, attends_to_scene: bool = True) -> SceneBackend:
        """Return what keeps scenes in memory, through the library's own layers."""
        return SceneForward(self, attends_to_scene)

    def known_system_prefix(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return what stands before the image if it is kept from the prompt before."""
        known, ids = self.system_prefix, self._before_image(prompt_ids)
        return known if known is not None and torch.equal(known.token_ids, ids) else None

    def warm_up(
        self, shortest_prompt_ids: Tensor, rows: int, cols: int, numbers_kept: Iterable[int],
        sampling: Sampling, should_stop: Callable[[], bool],
    ) -> None:
        """Do nothing: the size of an image makes no difference to the first question."""

    def _run_prompt(
        self, layout: PromptLayout, features: VisualFeatures, system_prefix: PromptPrefix | None,
    ) -> tuple[Tensor, Cache]:
        """Return hidden states after the system prefix, and the cache of all tokens."""
        cache: Cache = DynamicCache(config=self._text_config)
        is_kept = layout.is_kept.clone()
        if system_prefix is not None:
            cache = system_prefix.make_cache()
            is_kept[:len(system_prefix.token_ids)] = False
        hidden = self.run_tokens(
            layout.prompt_ids[is_kept], layout.positions[:, :-1][:, is_kept],
            layout.is_visual[is_kept], features, cache)
        return hidden, cache

    def _before_image(self, prompt_ids: Tensor) -> Tensor:
        return prompt_ids[:int(self._find_visual(prompt_ids).nonzero()[0, 0])].cpu()

    def _find_system_prefix(self, prompt_ids: Tensor) -> PromptPrefix | None:
        """Return what stands before the image, computed if need be; None if it is short."""
        known = self.known_system_prefix(prompt_ids)
        if known is not None:
            return known
        self.system_prefix = None
        ids = self._before_image(prompt_ids)
        if len(ids) >= MIN_SYSTEM_PREFIX_TOKENS:
            cache = DynamicCache(config=self._text_config)
            positions = torch.arange(len(ids), device=self.device).expand(3, 1, -1)
            self._run_language_model(self._embed(ids[None]), positions, cache)
            self.system_prefix = PromptPrefix(
                ids, len(ids), len(ids), keys_values_of(cache, len(ids)), holds_image=False)
        return self.system_prefix

    def _run_packed(self, state: DecodingState, packed: PackedTexts) -> Tensor:
        """Return hidden states (tokens, hidden size) of texts that follow the same prompt."""
        num_before = state.cache.get_seq_length()
        cache = DynamicCache(list(keys_values_of(state.cache, num_before)))
        embeddings, inputs = self._embed(packed.ids[None]), {}
        if len(packed.texts) > 1:
            mask = packed.attention_mask(num_before, embeddings.dtype)
            inputs['attention_mask'] = mask.to(self.device)
        positions = packed.positions(state.next_position).to(self.device)
        return self._run_language_model(embeddings, positions, cache, **inputs)[0]

    def _run_together(self, state: BatchState, ids: Tensor, positions: Tensor) -> None:
        """Run some more tokens of several answers, both (questions, tokens)."""
        hidden = self._run_language_model(
            self._embed(ids), positions.expand(3, -1, -1), state.cache,
            attention_mask=state.visible)
        state.logits = self._model.lm_head(hidden[:, -1])


def _cut_prefix(layout: PromptLayout, cache: Cache) -> PromptPrefix:
    """Return the part up to the end of the image of a prompt that was computed."""
    to_image = layout.up_to_image()
    return to_image.prefix(keys_values_of(cache, int(to_image.is_kept.sum())))
