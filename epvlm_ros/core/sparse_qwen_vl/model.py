"""The forward pass that all families share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from epvlm_ros.core.sparse_qwen_vl.families import find_family
from epvlm_ros.core.sparse_qwen_vl.vision_input import VisionInput, VisualFeatures
import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, Cache, DynamicCache, PreTrainedModel


@dataclass
class DecodingState:
    """
    Where an answer stands after its prompt; ``SparseQwenVl.step`` moves it on.

    Parameters
    ----------
    logits : torch.Tensor
        Shape (vocabulary,), for the next token.
    cache : transformers.Cache
        Keys and values of all tokens so far.
    next_position : int
        M-RoPE position (the same on its three axes) of the next token.

    """

    logits: Tensor
    cache: Cache
    next_position: int


class SparseQwenVl:
    """
    A Qwen vision-language model and its sparse forward pass, for one image at a time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The library's model for conditional generation of one of ``families.FAMILIES``, in
        evaluation mode, with any attention implementation; not changed.

    Raises
    ------
    ValueError
        If the model is of no such family, or attends in a sliding window: that counts tokens,
        not positions, so dropping tokens would change what each one sees.

    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._family = find_family(getattr(model.config, 'model_type', None))
        self._model: Any = model
        self._text_config = self.config.text_config
        if 'sliding_attention' in (getattr(self._text_config, 'layer_types', None) or ()):
            raise ValueError(
                'use_sliding_window is true in this checkpoint: sparse prefill needs full '
                'attention, give a checkpoint without it')
        self.merge_size: int = self.config.vision_config.spatial_merge_size
        self.image_token_id: int = self.config.image_token_id

    @classmethod
    def from_pretrained(
        cls, source: str, *, device: str, dtype: torch.dtype, **options: Any,
    ) -> SparseQwenVl:
        """
        Load a checkpoint through transformers.

        Parameters
        ----------
        source : str
            Folder or hub name.
        device : str
            A device of torch.
        dtype : torch.dtype
            Number type of the weights.
        **options
            For ``transformers.AutoModelForImageTextToText.from_pretrained``.

        Raises
        ------
        ValueError
            If weights of the model are missing: the library fills them with random numbers.

        """
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **options)
        model, report = loaded
        if report['missing_keys']:
            missing = sorted(report['missing_keys'])
            raise ValueError(
                f'weights are missing ({len(missing)}), such as {missing[0]}: give a complete '
                'checkpoint')
        return cls(model.to(device).eval())

    @property
    def config(self) -> Any:
        """Return the library's configuration of the checkpoint; not to be changed."""
        return self._model.config

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Return the tokens that the generation config ends an answer with, maybe none."""
        ids = self._model.generation_config.eos_token_id
        return frozenset([ids] if isinstance(ids, int) else ids or [])

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._model.device

    @property
    def description(self) -> str:
        """Return size, device and number type for a log line."""
        num_parameters = sum(weight.numel() for weight in self._model.parameters())
        return f'{num_parameters / 1e6:.1f} M parameters on {self.device} in {self._model.dtype}'

    def positions(self, prompt_ids: Tensor, rows: int, cols: int) -> Tensor:
        """
        Return the M-RoPE positions of the dense prompt, as the library counts them.

        Parameters
        ----------
        prompt_ids : torch.Tensor
            int64, shape (tokens,), with one image token for each of ``rows * cols`` tokens.
        rows, cols : int
            The grid of visual tokens.

        Returns
        -------
        torch.Tensor
            int64 on the CPU, shape (3, tokens): time, height, width.

        Raises
        ------
        ValueError
            If the prompt does not hold one unbroken run of ``rows * cols`` image tokens.

        """
        ids = prompt_ids.cpu()[None]
        is_image = ids == self.image_token_id
        places = is_image[0].nonzero()[:, 0]
        unbroken = len(places) > 0 and int(places[-1] - places[0]) + 1 == len(places)
        if len(places) != rows * cols or not unbroken:
            raise ValueError(
                f'the prompt holds {len(places)} image tokens: give one run of {rows * cols}')
        # on the CPU, since the library reads its grid number by number
        positions, _ = self._model.model.get_rope_index(
            ids, mm_token_type_ids=is_image.int(), image_grid_thw=self._grid_thw(rows, cols))
        return positions[:, 0]

    @torch.inference_mode()
    def encode(self, vision: VisionInput) -> VisualFeatures:
        """Run the encoder and the patch merger on the kept tokens."""
        device, encoder = self.device, self._model.model.visual
        kept_patches = vision.keep(vision.pixel_values)  # (kept patches, values)
        inputs = {
            'grid_thw': self._grid_thw(vision.rows, vision.cols),
            'position_ids': self._patch_positions(vision),
            'cu_seqlens': torch.tensor([0, len(kept_patches)], dtype=torch.int32),
            **self._family.encoder_inputs(encoder, vision)}
        output = encoder(
            kept_patches.to(device=device, dtype=encoder.dtype), max_seqlen=len(kept_patches),
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
        hidden, cache, next_position = self._run_prompt(prompt_ids, vision, features)
        # the vocabulary is the widest layer: only the last token goes through it
        return DecodingState(self._model.lm_head(hidden[0, -1]), cache, next_position)

    @torch.inference_mode()
    def prompt_logits(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> Tensor:
        """Return the logits of every kept token of the prompt, shape (kept, vocabulary)."""
        hidden, _, _ = self._run_prompt(prompt_ids, vision, features)
        return self._model.lm_head(hidden[0])

    @torch.inference_mode()
    def step(self, state: DecodingState, token_id: int) -> None:
        """Append one token to ``state``, which then holds the logits after it."""
        ids = torch.tensor([[token_id]], device=self.device)
        positions = torch.full((3, 1, 1), state.next_position, device=self.device)
        hidden = self._run_language_model(
            self._model.get_input_embeddings()(ids), positions, state.cache)
        state.logits = self._model.lm_head(hidden[0, -1])
        state.next_position += 1

    def decode(
        self, state: DecodingState, end_token_ids: Collection[int], max_new_tokens: int,
    ) -> Iterator[int]:
        """
        Yield the ids of the answer, each the most probable one, as they are computed.

        Ends before an end token and after ``max_new_tokens``. A token is computed only when
        it is asked for; ``state`` moves on.
        """
        for index in range(max_new_tokens):
            token_id = int(state.logits.argmax())
            if token_id in end_token_ids:
                return
            yield token_id
            if index + 1 < max_new_tokens:
                self.step(state, token_id)

    def _run_prompt(
        self, prompt_ids: Tensor, vision: VisionInput, features: VisualFeatures,
    ) -> tuple[Tensor, Cache, int]:
        prompt_ids = prompt_ids.cpu()
        positions = self.positions(prompt_ids, vision.rows, vision.cols)
        is_image = prompt_ids == self.image_token_id
        is_kept = ~is_image
        is_kept[is_image.nonzero()[:, 0][torch.from_numpy(vision.kept_indices)]] = True
        is_visual = is_image[is_kept].to(self.device)
        embeddings = self._model.get_input_embeddings()(prompt_ids[is_kept].to(self.device))
        embeddings[is_visual] = features.tokens.to(embeddings.dtype)
        cache = DynamicCache(config=self._text_config)
        hidden = self._run_language_model(
            embeddings[None], positions[:, None, is_kept].to(self.device), cache,
            **self._family.prefill_inputs(features, is_visual))
        return hidden, cache, int(positions.max()) + 1

    def _run_language_model(
        self, embeddings: Tensor, positions: Tensor, cache: Cache, **inputs: Any,
    ) -> Tensor:
        output = self._model.model.language_model(
            inputs_embeds=embeddings, position_ids=positions, past_key_values=cache,
            use_cache=True, **inputs)
        return output.last_hidden_state  # (1, tokens, hidden)

    def _grid_thw(self, rows: int, cols: int) -> Tensor:
        return torch.tensor([[1, rows * self.merge_size, cols * self.merge_size]])

    def _patch_positions(self, vision: VisionInput) -> Tensor:
        """Return row and column of each kept patch in the full image, (kept patches, 2)."""
        row, col = np.divmod(vision.kept_indices, vision.cols)
        corners = np.stack([row, col], axis=1) * self.merge_size  # (kept tokens, 2)
        inside = np.indices((self.merge_size, self.merge_size)).reshape(2, -1).T
        patches = corners[:, None] + inside  # (kept tokens, patches of a token, 2)
        return torch.from_numpy(patches.reshape(-1, 2))
