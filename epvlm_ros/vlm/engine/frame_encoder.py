"""From frames and their events to the part of a prompt that all questions about them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, View
from epvlm_ros.vlm.engine.prefix_cache import PrefixCache
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.sparse_qwen import DecodingState, PromptPrefix, VisionInput, VisualFeatures
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np
import torch


CheckLimits = Callable[[], None]


class FrameEncoder:
    """
    Chooses the tokens of frames, runs the model on them and caches the prefix of the last view.

    Parameters
    ----------
    checkpoint : Checkpoint
        The loaded model.
    caches : bool
        Whether the prefix is cached; of no use where the question comes before the image.

    """

    def __init__(self, checkpoint: Checkpoint, *, caches: bool = True) -> None:
        self._model = checkpoint.model
        self._image_processor = checkpoint.image_processor
        self._geometry = checkpoint.geometry
        self._cache = PrefixCache(caches)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens of an image of this size; raises as ``check_image``."""
        self._check_size(image_height, image_width)
        return self._geometry.grid(image_height, image_width)

    def check_image(self, image_rgb: np.ndarray) -> None:
        """
        Raise a ValueError if the model cannot look at this image.

        It may be no uint8 array of shape (height, width, 3), smaller than one token, or too long
        for its width.
        """
        if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3:
            raise ValueError(
                f'the image is {image_rgb.dtype} of shape {image_rgb.shape}: give uint8 of shape '
                '(height, width, 3), red first')
        self._check_size(*image_rgb.shape[:2])

    def look_at(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
        seed: int = 0,
    ) -> tuple[View, PromptPrefix | None]:
        """
        Choose the tokens of a view, unless it is the last one.

        Parameters
        ----------
        moments : sequence of Moment
            Oldest first, at least one, with images of one size.
        seconds_between : float
            Time from one to the next.
        config : VlmConfig
            How tokens are chosen, in each moment by its own events.
        seed : int
            Makes one random selection differ from another.

        Returns
        -------
        View, PromptPrefix or None
            The view, and what was computed of it before.

        Raises
        ------
        ValueError
            If an image cannot be used, or an activity is about another one.

        """
        for moment in moments:
            self.check_image(moment.image_rgb)
        shapes = {moment.image_rgb.shape for moment in moments}
        if len(shapes) != 1:
            raise ValueError(
                f'the moments have images of shapes {sorted(shapes)}: give at least one moment, '
                'and images of one size')
        known = self._cache.find(moments, seconds_between, config)
        if known is not None:
            return known
        self._cache.forget()  # before the next view needs the room
        grid = self.patch_grid(*moments[0].image_rgb.shape[:2])
        selections = tuple(
            select_for_frame(moment.image_rgb, grid, moment.activity, config, seed + place)
            for place, moment in enumerate(moments))
        return View(tuple(moments), grid, selections, config, seconds_between), None

    def forget(self) -> None:
        """Let go of what was computed of the last view."""
        self._cache.forget()

    def prefill(
        self, view: View, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> DecodingState:
        """
        Run a whole prompt, and remember the view.

        Parameters
        ----------
        view : View
            From ``look_at``.
        prompt_ids : torch.Tensor
            int64, shape (tokens,), a prompt about it.
        check_limits : callable
            Called after the encoder; may raise.

        """
        vision, features = self._encode(view, check_limits)
        state = self._model.prefill(prompt_ids, vision, features)
        self._cache.keep(view, state.prefix)
        return state

    def prefill_image(
        self, view: View, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> PromptPrefix:
        """Run a prompt up to the end of its images, and remember the view; as ``prefill``."""
        vision, features = self._encode(view, check_limits)
        prefix = self._model.prefill_image(prompt_ids, vision, features)
        self._cache.keep(view, prefix)
        return prefix

    def _encode(
        self, view: View, check_limits: CheckLimits,
    ) -> tuple[VisionInput, VisualFeatures]:
        vision = self._vision_input(view)
        features = self._model.encode(vision)
        check_limits()
        return vision, features

    def _vision_input(self, view: View) -> VisionInput:
        grid = view.grid
        processed = self._image_processor(
            images=[moment.image_rgb for moment in view.moments],
            input_data_format='channels_last', return_tensors='pt')
        patches = [1, grid.rows * self._model.merge_size, grid.cols * self._model.merge_size]
        assert processed['image_grid_thw'].tolist() == [patches] * len(view.moments)
        return VisionInput(
            processed['pixel_values'], grid.rows, grid.cols, view.kept_indices,
            len(view.moments), view.seconds_between)

    def _check_size(self, image_height: int, image_width: int) -> None:
        smallest = self._geometry.token_size_px
        if min(image_height, image_width) < smallest:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels: give one of at least '
                f'{smallest} x {smallest}')
        self._geometry.check_size(image_height, image_width)
