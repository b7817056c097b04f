"""Keys and values of the last view, so that the next question about it is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, View
from epvlm_ros.vlm.sparse_qwen import PromptPrefix
from epvlm_ros.vlm.token_selection import SELECTION_PARAMETERS
import numpy as np


class PrefixCache:
    """
    The last view and the prompt prefix that was computed of it.

    Moments are recognised by their keys. Those without a key are compared with copies, under a
    millisecond each: whoever writes into an array again gets no answer about its old content.

    Parameters
    ----------
    enabled : bool
        False keeps nothing.

    """

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._buffers: dict[int, np.ndarray] = {}  # for copies; a new array each time is slow
        self._view: View | None = None
        self._prefix: PromptPrefix | None = None

    def find(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
    ) -> tuple[View, PromptPrefix] | None:
        """
        Return the last view and its prefix if these moments, oldest first, are the same view.

        Never with random selection, which draws anew for each question.
        """
        view, prefix = self._view, self._prefix
        if view is None or prefix is None or config.selection == 'random':
            return None
        is_same = (
            len(moments) == len(view.moments) and seconds_between == view.seconds_between
            and all(getattr(config, name) == getattr(view.config, name)
                    for name in SELECTION_PARAMETERS)
            and all(one.shows_the_same(other) for one, other in zip(moments, view.moments)))
        return (view, prefix) if is_same else None

    def keep(self, view: View, prefix: PromptPrefix) -> None:
        """Keep a view in place of the last one."""
        if not self._enabled:
            return
        moments = tuple(
            moment if moment.key is not None else self._copy(moment, place)
            for place, moment in enumerate(view.moments))
        self._view, self._prefix = replace(view, moments=moments), prefix

    def forget(self) -> None:
        """Let go of the last view."""
        self._view = self._prefix = None

    def _copy(self, moment: Moment, place: int) -> Moment:
        image, activity = self._buffers.get(place), moment.activity
        if image is None or image.shape != moment.image_rgb.shape:
            image = self._buffers[place] = np.empty(moment.image_rgb.shape, np.uint8)
        np.copyto(image, moment.image_rgb)
        if activity is not None:
            activity = replace(activity, counts=activity.counts.copy())
        return Moment(image, activity)
