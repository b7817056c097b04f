"""From a frame and its events to the part of a prompt that all questions about it share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from epvlm_ros.core.checkpoint import Checkpoint
from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.engine.frame_memory import FrameMemory, SelectedFrame
from epvlm_ros.core.patch_grid import PatchGrid
from epvlm_ros.core.selection import select_for_frame
from epvlm_ros.core.sparse_qwen_vl import DecodingState, PromptPrefix, VisionInput
import numpy as np
import torch

if TYPE_CHECKING:
    from epvlm_ros.core.activity import ActivityGrid


CheckLimits = Callable[[], None]


class FrameEncoder:
    """
    Chooses the tokens of frames, runs the model on them and remembers the last frame.

    Parameters
    ----------
    checkpoint : Checkpoint
        The loaded model.
    remembers : bool
        Whether the last frame is remembered; of no use where the question comes first.

    """

    def __init__(self, checkpoint: Checkpoint, *, remembers: bool = True) -> None:
        self._model = checkpoint.model
        self._image_processor = checkpoint.image_processor
        self._geometry = checkpoint.geometry
        self._memory = FrameMemory(remembers)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """
        Return the visual tokens of an image of this size.

        Raises
        ------
        ValueError
            If the image is smaller than one token or too long for its width.

        """
        smallest = self._geometry.token_size_px
        if min(image_height, image_width) < smallest:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels: give one of at least '
                f'{smallest} x {smallest}')
        return self._geometry.grid(image_height, image_width)

    def look_at(
        self, image_rgb: np.ndarray, activity: ActivityGrid | None, config: VlmConfig,
        seed: int = 0,
    ) -> tuple[SelectedFrame, PromptPrefix | None]:
        """
        Choose the tokens of a frame, unless it is the last one.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8, shape (height, width, 3), red first; not changed.
        activity : ActivityGrid or None
            Its event counts, None without event data.
        config : VlmConfig
            How they are chosen.
        seed : int
            Makes one random selection differ from another.

        Returns
        -------
        SelectedFrame, PromptPrefix or None
            The frame, and what was computed of it before.

        Raises
        ------
        ValueError
            If the image cannot be used, or the activity is about another one.

        """
        if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3:
            raise ValueError(
                f'the image is {image_rgb.dtype} of shape {image_rgb.shape}: give uint8 of shape '
                '(height, width, 3), red first')
        known = self._memory.find(image_rgb, activity, config)
        if known is not None:
            return known
        self._memory.forget()  # before the next frame needs the room
        grid = self.patch_grid(*image_rgb.shape[:2])
        selection = select_for_frame(image_rgb, grid, activity, config, seed)
        return SelectedFrame(image_rgb, activity, grid, selection, config), None

    def prefill(
        self, frame: SelectedFrame, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> DecodingState:
        """
        Run a whole prompt, and remember the frame.

        Parameters
        ----------
        frame : SelectedFrame
            From ``look_at``.
        prompt_ids : torch.Tensor
            int64, shape (tokens,), a prompt about it.
        check_limits : callable
            Called after the encoder; may raise.

        """
        vision = self._vision_input(frame)
        features = self._model.encode(vision)
        check_limits()
        state = self._model.prefill(prompt_ids, vision, features)
        self._memory.keep(frame, state.prefix)
        return state

    def prefill_image(
        self, frame: SelectedFrame, prompt_ids: torch.Tensor, check_limits: CheckLimits,
    ) -> PromptPrefix:
        """Run a prompt up to the end of its image, and remember the frame; as ``prefill``."""
        vision = self._vision_input(frame)
        features = self._model.encode(vision)
        check_limits()
        prefix = self._model.prefill_image(prompt_ids, vision, features)
        self._memory.keep(frame, prefix)
        return prefix

    def _vision_input(self, frame: SelectedFrame) -> VisionInput:
        grid = frame.grid
        processed = self._image_processor(
            images=[frame.image_rgb], input_data_format='channels_last', return_tensors='pt')
        patches = (grid.rows * self._model.merge_size, grid.cols * self._model.merge_size)
        assert processed['image_grid_thw'].tolist() == [[1, *patches]]
        return VisionInput(
            processed['pixel_values'], grid.rows, grid.cols, frame.selection.kept_indices)
