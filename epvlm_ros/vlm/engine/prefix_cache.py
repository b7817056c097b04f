"""What was computed of the last view, so that the next question about it is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, View
from epvlm_ros.vlm.sparse_qwen import PromptPrefix
from epvlm_ros.vlm.token_selection import SELECTION_PARAMETERS
import numpy as np


class FrameMemory:
    """
    The last view that was computed, recognised by what it shows.

    Frames are compared with copies, which takes less than a millisecond each: whoever writes into
    an array that was used before gets no answer about its old content.

    Parameters
    ----------
    remembers : bool
        False for one that forgets everything at once.

    """

    def __init__(self, remembers: bool = True) -> None:
        self._remembers = remembers
        self._images: list[np.ndarray] = []  # filled again and again: new arrays are slow
        self._view: View | None = None
        self._prefix: PromptPrefix | None = None

    def find(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
    ) -> tuple[View, PromptPrefix] | None:
        """
        Return what is known of a view, if it was the last one.

        Parameters
        ----------
        moments : sequence of Moment
            Oldest first.
        seconds_between : float
            Time from one to the next.
        config : VlmConfig
            By which tokens are chosen.

        """
        view, prefix = self._view, self._prefix
        if view is None or prefix is None or config.selection == 'random':
            return None  # a random selection is to be another one each time
        is_same = (
            len(moments) == len(view.moments) and seconds_between == view.seconds_between
            and all(getattr(config, name) == getattr(view.config, name)
                    for name in SELECTION_PARAMETERS)
            and all(one.shows_the_same(other) for one, other in zip(moments, view.moments)))
        return (view, prefix) if is_same else None

    def keep(self, view: View, prefix: PromptPrefix) -> None:
        """Remember a view in place of the last one."""
        if not self._remembers:
            return
        shape = view.moments[0].image_rgb.shape
        if len(self._images) != len(view.moments) or self._images[0].shape != shape:
            self._images = [np.empty(shape, np.uint8) for _ in view.moments]
        copies = []
        for moment, image in zip(view.moments, self._images):
            np.copyto(image, moment.image_rgb)
            activity = moment.activity
            if activity is not None:
                activity = replace(activity, counts=activity.counts.copy())
            copies.append(Moment(image, activity))
        self._view, self._prefix = replace(view, moments=tuple(copies)), prefix

    def forget(self) -> None:
        """Let go of the last view."""
        self._view = self._prefix = None
