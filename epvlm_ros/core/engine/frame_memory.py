"""What was computed of the last frame, so that the next question about it is cheap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.patch_grid import PatchGrid
from epvlm_ros.core.selection import Selection
from epvlm_ros.core.sparse_qwen_vl import PromptPrefix
import numpy as np

if TYPE_CHECKING:
    from epvlm_ros.core.activity import ActivityGrid


@dataclass(frozen=True, eq=False)
class SelectedFrame:
    """
    A frame and the tokens of it that are computed on.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3).
    activity : ActivityGrid or None
        Its event counts.
    grid : PatchGrid
        Its visual tokens.
    selection : Selection
        Those computed on.
    config : VlmConfig
        By which they were chosen.

    """

    image_rgb: np.ndarray
    activity: ActivityGrid | None
    grid: PatchGrid
    selection: Selection
    config: VlmConfig

    def copy(self) -> SelectedFrame:
        """Return the same on arrays of its own."""
        activity = self.activity
        if activity is not None:
            activity = replace(activity, counts=activity.counts.copy())
        return replace(self, image_rgb=self.image_rgb.copy(), activity=activity)


class FrameMemory:
    """
    The last frame that was computed, recognised by what it shows.

    Comparing a frame with a copy takes far less than a thousandth of encoding it, and nobody
    who writes into an array that was used before gets an answer about its old content.

    Parameters
    ----------
    remembers : bool
        False for one that forgets everything at once.

    """

    def __init__(self, remembers: bool = True) -> None:
        self._remembers = remembers
        self._frame: SelectedFrame | None = None
        self._prefix: PromptPrefix | None = None

    def find(
        self, image_rgb: np.ndarray, activity: ActivityGrid | None, config: VlmConfig,
    ) -> tuple[SelectedFrame, PromptPrefix] | None:
        """
        Return what is known of a frame, if it was the last one.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8, shape (height, width, 3).
        activity : ActivityGrid or None
            Its event counts.
        config : VlmConfig
            By which tokens are chosen; limits of an answer may differ.

        """
        frame, prefix = self._frame, self._prefix
        if frame is None or prefix is None or config.selection == 'random':
            return None  # a random selection is to be another one each time
        chooses_alike = _without_limits(config) == _without_limits(frame.config)
        if (chooses_alike and np.array_equal(image_rgb, frame.image_rgb)
                and _is_same_activity(activity, frame.activity)):
            return frame, prefix
        return None

    def keep(self, frame: SelectedFrame, prefix: PromptPrefix) -> None:
        """Remember a frame in place of the last one."""
        if self._remembers:
            self._frame, self._prefix = frame.copy(), prefix

    def forget(self) -> None:
        """Let go of the last frame."""
        self._frame = self._prefix = None


def _without_limits(config: VlmConfig) -> VlmConfig:
    default = VlmConfig()
    return replace(config, max_new_tokens=default.max_new_tokens,
                   max_question_length=default.max_question_length)


def _is_same_activity(one: ActivityGrid | None, other: ActivityGrid | None) -> bool:
    if one is None or other is None:
        return one is other
    names = ('cell_size_px', 'image_height', 'image_width', 'window_start_ns', 'window_end_ns',
             'pixel_density')
    return (all(getattr(one, name) == getattr(other, name) for name in names)
            and np.array_equal(one.counts, other.counts))
