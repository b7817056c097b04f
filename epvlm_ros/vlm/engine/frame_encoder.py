"""From frames and their events to the part of a prompt that all questions about them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.engine.moment_selector import MomentSelector
from epvlm_ros.vlm.engine.prefix_cache import PrefixCache
from epvlm_ros.vlm.patch_cutter import PatchCutter
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, VisionInput
from epvlm_ros.vlm.sparse_qwen.backend import Features, State
import numpy as np
import torch

CheckLimits = Callable[[], None]


class FrameEncoder:
    """
    Selects the tokens of frames, runs the model on them and caches the last prefix.

    Without ``caches`` nothing is cached, since the question comes before the image.
    """

    def __init__(self, checkpoint: Checkpoint, *, caches: bool = True) -> None:
        self._model = checkpoint.model
        self._cutter = PatchCutter(checkpoint.image_processor)
        self._selector = MomentSelector(checkpoint.geometry)
        self._cache = PrefixCache(caches)
        self.num_encoded = 0  # frames, since the start

    @property
    def num_bytes(self) -> int:
        """Memory of the cached prefix."""
        return self._cache.num_bytes

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens of an image of this size; raises as ``check_image``."""
        return self._selector.patch_grid(image_height, image_width)

    def check_image(self, image_rgb: np.ndarray) -> None:
        """Raise a ValueError if the model cannot look at this image, see ``Engine``."""
        self._selector.check_image(image_rgb)

    def select(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
        seed: int = 0,
    ) -> tuple[SelectedMoments, PromptPrefix | None]:
        """
        Select the tokens of each moment by its own events; return also the prefix, if cached.

        The moments are oldest first, ``seed`` makes one random selection differ from another.
        Raises a ValueError if there is none, an image cannot be used or is of another size than
        the others, or an activity is about another image.
        """
        self._selector.check_moments(moments)
        known = self._cache.find(moments, seconds_between, config)
        if known is not None:
            return known
        self._cache.forget()  # before the next moments need the room
        return self._selector.select(moments, seconds_between, config, seed), None

    def forget(self) -> None:
        """Let go of what is cached."""
        self._cache.forget()

    def prefill(
        self, selected: SelectedMoments, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> State:
        """
        Run a whole prompt about some moments, and cache its prefix.

        ``check_limits`` is called after the encoder and may raise.
        """
        vision, features = self._encode(selected, check_limits)
        state = self._model.prefill(prompt_ids, vision, features)
        self._cache.keep(selected, state.prefix)
        return state

    def prefill_image(
        self, selected: SelectedMoments, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> PromptPrefix:
        """Run a prompt up to the end of its images, and cache that; as ``prefill``."""
        vision, features = self._encode(selected, check_limits)
        prefix = self._model.prefill_image(prompt_ids, vision, features)
        self._cache.keep(selected, prefix)
        return prefix

    def _encode(
        self, selected: SelectedMoments, check_limits: CheckLimits,
    ) -> tuple[VisionInput, Features]:
        vision = self.vision_input(
            [moment.image_rgb for moment in selected.moments], selected.grid,
            selected.kept_indices, selected.seconds_between)
        features = self._model.encode(vision)
        self.num_encoded += len(selected.moments)
        check_limits()
        return vision, features

    def vision_input(
        self, images_rgb: Sequence[np.ndarray], grid: PatchGrid, kept_indices: np.ndarray,
        seconds_between: float,
    ) -> VisionInput:
        """Return what the encoder takes of some tokens of images of one size."""
        moment, place = np.divmod(kept_indices, grid.num_tokens)
        patches = [self._cutter.cut(image_rgb, grid, place[moment == number])
                   for number, image_rgb in enumerate(images_rgb)]
        return VisionInput(
            patches[0] if len(patches) == 1 else torch.cat(patches), grid.rows, grid.cols,
            kept_indices, len(images_rgb), seconds_between)
