"""The prefix of the last question, so that a further one about the same moments is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.sparse_qwen import PromptPrefix
from epvlm_ros.vlm.token_selection import SELECTION_PARAMETERS
import numpy as np


class PrefixCache:
    """
    The moments of the last question and the prompt prefix that was computed of them.

    Moments are recognised by their keys. Those without a key are compared with copies, under a
    millisecond each: whoever writes into an array again gets no answer about its old content.
    Unless ``enabled`` nothing is kept.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._buffers: dict[int, np.ndarray] = {}  # for copies; a new array each time is slow
        self._selected: SelectedMoments | None = None
        self._prefix: PromptPrefix | None = None

    @property
    def num_bytes(self) -> int:
        """Memory of the prefix."""
        return self._prefix.num_bytes if self._prefix is not None else 0

    def find(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
    ) -> tuple[SelectedMoments, PromptPrefix] | None:
        """
        Return what is kept if it is of the same moments, selected in the same way.

        Never with random selection, which draws anew for each question.
        """
        selected, prefix = self._selected, self._prefix
        if selected is None or prefix is None or config.selection == 'random':
            return None
        is_same = (
            len(moments) == len(selected.moments) and seconds_between == selected.seconds_between
            and all(getattr(config, name) == getattr(selected.config, name)
                    for name in SELECTION_PARAMETERS)
            and all(one.shows_the_same(other) for one, other in zip(moments, selected.moments)))
        return (selected, prefix) if is_same else None

    def keep(self, selected: SelectedMoments, prefix: PromptPrefix) -> None:
        """Keep moments and their prefix in place of the last ones."""
        if not self._enabled:
            return
        moments = tuple(
            moment if moment.key is not None else self._copy(moment, place)
            for place, moment in enumerate(selected.moments))
        self._selected, self._prefix = replace(selected, moments=moments), prefix

    def forget(self) -> None:
        """Let go of what is kept."""
        self._selected = self._prefix = None

    def _copy(self, moment: Moment, place: int) -> Moment:
        image, activity = self._buffers.get(place), moment.activity
        if image is None or image.shape != moment.image_rgb.shape:
            image = self._buffers[place] = np.empty(moment.image_rgb.shape, np.uint8)
        np.copyto(image, moment.image_rgb)
        if activity is not None:
            activity = replace(activity, counts=activity.counts.copy())
        return Moment(image, activity)
