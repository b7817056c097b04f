"""What was computed of the last frame, so that the next question about it is cheap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.patch_grid import PatchGrid
from epvlm_ros.core.selection import Selection, SELECTION_PARAMETERS
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


class FrameMemory:
    """
    The last frame that was computed, recognised by what it shows.

    A frame is compared with a copy, which takes less than a millisecond: whoever writes into an
    array that was used before gets no answer about its old content.

    Parameters
    ----------
    remembers : bool
        False for one that forgets everything at once.

    """

    def __init__(self, remembers: bool = True) -> None:
        self._remembers = remembers
        self._image = np.empty(0, np.uint8)
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
            By which tokens are chosen.

        """
        frame, prefix = self._frame, self._prefix
        if frame is None or prefix is None or config.selection == 'random':
            return None  # a random selection is to be another one each time
        chooses_alike = all(
            getattr(config, name) == getattr(frame.config, name)
            for name in SELECTION_PARAMETERS)
        if (chooses_alike and np.array_equal(image_rgb, frame.image_rgb)
                and _is_same_activity(activity, frame.activity)):
            return frame, prefix
        return None

    def keep(self, frame: SelectedFrame, prefix: PromptPrefix) -> None:
        """Remember a frame in place of the last one."""
        if not self._remembers:
            return
        if self._image.shape != frame.image_rgb.shape:
            self._image = np.empty_like(frame.image_rgb)
        np.copyto(self._image, frame.image_rgb)  # far faster than a new array each time
        activity = frame.activity
        if activity is not None:
            activity = replace(activity, counts=activity.counts.copy())
        self._frame = replace(frame, image_rgb=self._image, activity=activity)
        self._prefix = prefix

    def forget(self) -> None:
        """Let go of the last frame."""
        self._frame = self._prefix = None


def _is_same_activity(one: ActivityGrid | None, other: ActivityGrid | None) -> bool:
    if one is None or other is None:
        return one is other
    names = ('cell_size_px', 'image_height', 'image_width', 'window_start_ns', 'window_end_ns',
             'pixel_density')
    return (all(getattr(one, name) == getattr(other, name) for name in names)
            and np.array_equal(one.counts, other.counts))
