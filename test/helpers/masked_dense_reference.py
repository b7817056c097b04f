"""The library's dense model in which nothing may attend to a dropped token."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen import VisionInput
from epvlm_ros.vlm.sparse_qwen.library_model import find_cache_argument
from qwen_checkpoints import make_model
import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.vision_utils import get_vision_window_index


class PatchMask:
    """
    Which patches the encoder's attention may look at.

    The library calls the attention once for every stretch of patches that see each other, in
    their order: the whole image in most layers, one window after the other in some.
    """

    def __init__(self, kept: Tensor) -> None:
        self._kept, self._place = kept, 0

    def next_bias(self, length: int) -> Tensor:
        """Return what to add to the scores in the next stretch, (queries, keys)."""
        kept = self._kept[self._place:self._place + length]
        assert len(kept) == length
        self._place = (self._place + length) % len(self._kept)
        # a dropped patch still sees itself: a row of nothing but -inf is not a number
        visible = kept | torch.eye(length, dtype=torch.bool)
        return torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)


def masked_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float, patch_mask: PatchMask, **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend in the slow and plain way to what ``patch_mask`` leaves."""
    scores = query @ key.transpose(2, 3) * scaling + patch_mask.next_bias(key.shape[2])
    weights = torch.softmax(scores, dim=-1)
    return (weights @ value).transpose(1, 2), weights


AttentionInterface.register('epvlm_test_masked', masked_attention)


class MaskedDenseReference:
    """The library's dense model in which the dropped tokens are masked out of every attention."""

    def __init__(self, shape: str, vision: VisionInput, prompt_ids: Tensor) -> None:
        self.model = make_model(
            shape, {'vision_config': 'epvlm_test_masked', 'text_config': 'eager', '': 'eager'})
        self.kept_tokens = torch.zeros(
            vision.num_moments * vision.rows * vision.cols, dtype=torch.bool)
        self.kept_tokens[torch.from_numpy(vision.kept_indices)] = True
        config = self.model.config
        self.is_video = vision.num_moments > 1
        self.is_image = prompt_ids == (
            config.video_token_id if self.is_video else config.image_token_id)
        self.kept_places = ~self.is_image
        self.kept_places[self.is_image] = self.kept_tokens
        self.vision, self.prompt_ids = vision, prompt_ids
        self.reset()

    def reset(self) -> None:
        """Forget all keys and values."""
        self.cache = DynamicCache(config=self.model.config.text_config)

    @torch.no_grad()
    def encode(self) -> tuple[Tensor, list[Tensor]]:
        """Return embeddings and DeepStack features; those of dropped tokens mean nothing."""
        encoder, kept = self.model.model.visual, self.kept_tokens
        if self.model.config.model_type == 'qwen2_5_vl':  # its patches lie window by window
            order, _ = get_vision_window_index(
                self.grid(), encoder.spatial_merge_size, encoder.window_size, encoder.patch_size)
            kept = kept[order]
        output = encoder(
            self.vision.pixel_values, grid_thw=self.grid(),
            patch_mask=PatchMask(kept.repeat_interleave(4)))
        return output.pooler_output, getattr(output, 'deepstack_features', [])

    @torch.no_grad()
    def prefill(self) -> tuple[Tensor, Tensor]:
        """Return logits and positions of the whole dense prompt."""
        is_image = self.is_image
        embeddings = self.model.get_input_embeddings()(self.prompt_ids)
        embeddings[is_image], deepstack = self.encode()
        inputs = {}
        if deepstack:
            inputs = {'visual_pos_masks': is_image[None], 'deepstack_visual_embeds': deepstack}
        # the library wants these of a video, and Qwen2.5-VL the time between its steps as well
        kind, name = (2, 'video') if self.is_video else (1, 'image')
        self.positions, self.position_delta = self.model.model.get_rope_index(
            self.prompt_ids[None], mm_token_type_ids=kind * is_image.int()[None],
            second_per_grid_ts=[self.vision.seconds_between],
            **{f'{name}_grid_thw': self.grid()})
        causal = torch.ones(len(is_image), len(is_image), dtype=torch.bool).tril()
        visible = causal & (self.kept_places | torch.eye(len(is_image), dtype=torch.bool))
        logits = self.run(embeddings, self.positions, visible, **inputs)
        return logits, self.positions[:, 0]

    @torch.no_grad()
    def decode(self, num_tokens: int) -> tuple[list[int], float]:
        """Return greedy tokens and the narrowest lead of a chosen token over the next one."""
        logits = self.prefill()[0][-1]
        token_ids: list[int] = []
        leads = []
        for index in range(num_tokens):
            best, second = logits.topk(2).values.tolist()
            leads.append(best - second)
            token_ids.append(int(logits.argmax()))
            length = len(self.prompt_ids) + index
            positions = (length + self.position_delta).expand(3, 1, 1)
            visible = torch.cat([self.kept_places, torch.ones(index + 1, dtype=torch.bool)])
            embedding = self.model.get_input_embeddings()(torch.tensor(token_ids[-1:]))
            logits = self.run(embedding, positions, visible[None])[-1]
        return token_ids, min(leads)

    def run(
        self, embeddings: Tensor, positions: Tensor, visible: Tensor, **inputs: Any,
    ) -> Tensor:
        """Return the logits of some more tokens that see what is visible."""
        mask = torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)[None, None]
        language_model = self.model.model.language_model
        output = language_model(
            inputs_embeds=embeddings[None], position_ids=positions, attention_mask=mask,
            use_cache=True, **{find_cache_argument(language_model): self.cache}, **inputs)
        return self.model.lm_head(output.last_hidden_state[0])

    def grid(self) -> Tensor:
        """Return time, rows and columns of the image in patches, as the library takes them."""
        return torch.tensor(
            [[self.vision.num_moments, 2 * self.vision.rows, 2 * self.vision.cols]])
