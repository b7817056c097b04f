"""What the library's model is and says, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
import inspect
from typing import Any

from epvlm_ros.vlm.packed_weights import count_weights
from epvlm_ros.vlm.sparse_qwen.families import find_family
from epvlm_ros.vlm.sparse_qwen.model_info import ModelInfo
from epvlm_ros.vlm.sparse_qwen.prompt_layout import PromptLayout
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

TEXT = -1  # stands for any token that is no visual one


class LibraryModel:
    """
    A Qwen vision-language model of the library.

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
        self._model: Any = model
        self.family = find_family(getattr(model.config, 'model_type', None))
        self.info = ModelInfo.from_configs(model.config, self._model.generation_config)
        self._text_config = self.info.config.text_config
        if 'sliding_attention' in (getattr(self._text_config, 'layer_types', None) or ()):
            raise ValueError(
                'use_sliding_window is true in this checkpoint: sparse prefill needs full '
                'attention, give a checkpoint without it')
        self._cache_argument = find_cache_argument(self._model.model.language_model)
        if getattr(model, 'hf_quantizer', None) is not None:
            # compressed-tensors unpacks its weights in a hook on the outermost forward
            with torch.no_grad():
                self._model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=self.device))

    @property
    def library_model(self) -> PreTrainedModel:
        """Return the library's model."""
        return self._model

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self._model.device

    @property
    def device_name(self) -> str:
        """Return where the model computes, for messages."""
        return str(self.device)

    @cached_property
    def description(self) -> str:
        """Return size, device and number type for a log line."""
        num_parameters = count_weights(self._model) + sum(
            weight.numel() for weight in self._model.parameters())
        return f'{num_parameters / 1e6:.1f} M parameters on {self.device} in {self._model.dtype}'

    @contextmanager
    def checked(self, check: Callable[[], None]) -> Iterator[None]:
        """
        Call ``check`` before each layer that runs in this context; what it raises comes out.

        On a CPU all layers of a large model together take minutes.
        """
        inner = self._model.model
        hooks = [layer.register_forward_pre_hook(lambda *_: check())
                 for layer in (*inner.visual.blocks, *inner.language_model.layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def lay_out(self, prompt_ids: Tensor, vision: VisionInput) -> PromptLayout:
        """
        Find the M-RoPE positions of a dense prompt, as the library counts them, and what is kept.

        ``prompt_ids``, int64, shape (tokens,), have one image token for each visual token of an
        image, or one video token for each of several moments. Raises a ValueError if these are
        no unbroken runs of as many tokens as ``vision`` has.
        """
        prompt_ids = prompt_ids.cpu()
        is_visual = self._find_visual(prompt_ids)
        self._check_runs(is_visual, vision)
        kind, grid = (2, 'video') if vision.num_moments > 1 else (1, 'image')
        # with the text token that follows, and on the CPU: the library reads its grid by number
        positions, _ = self._model.model.get_rope_index(
            torch.nn.functional.pad(prompt_ids, (0, 1), value=TEXT)[None],
            mm_token_type_ids=kind * torch.nn.functional.pad(is_visual.int(), (0, 1))[None],
            second_per_grid_ts=[vision.seconds_between],
            **{f'{grid}_grid_thw': vision.grid_thw(self.info.merge_size)})
        is_kept = ~is_visual
        is_kept[is_visual.nonzero()[:, 0][torch.from_numpy(vision.kept_indices)]] = True
        return PromptLayout(prompt_ids, positions[:, 0], is_visual, is_kept)

    def lay_out_image(self, prompt_ids: Tensor, rows: int, cols: int) -> PromptLayout:
        """Return as ``lay_out`` a dense prompt about one image, up to the end of it."""
        image = VisionInput.without_pixels(rows, cols, self.info.merge_size)
        return self.lay_out(prompt_ids, image).up_to_image()

    def _find_visual(self, prompt_ids: Tensor) -> Tensor:
        ids = prompt_ids.cpu()
        return (ids == self.info.image_token_id) | (ids == self.info.video_token_id)

    def _check_runs(self, is_visual: Tensor, vision: VisionInput) -> None:
        places = is_visual.nonzero()[:, 0].numpy()
        num_runs = vision.num_moments if self.info.tells_times else 1
        lengths = [len(run) for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
        if lengths != num_runs * [vision.num_tokens // num_runs]:
            wanted = f'{num_runs} runs' if num_runs > 1 else 'one run'
            raise ValueError(
                f'the prompt holds {len(places)} image tokens: give {wanted} of '
                f'{vision.num_tokens // num_runs}')


def find_cache_argument(language_model: Any) -> str:
    """Return what the library calls the cache: ``cache``, before 5.24 ``past_key_values``."""
    names = inspect.signature(language_model.forward).parameters
    return 'cache' if 'cache' in names else 'past_key_values'
