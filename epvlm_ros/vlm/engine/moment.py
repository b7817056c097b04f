"""What a question is about: one moment that the cameras saw, or several, and its kept tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.token_selection import Selection
import numpy as np

if TYPE_CHECKING:
    from epvlm_ros.activity_grid import ActivityGrid
    from epvlm_ros.change_score import ChangeScore


@dataclass(frozen=True, eq=False)
class Moment:
    """
    A frame and the events around it.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    activity : ActivityGrid or None
        Event counts of the frame; None where no event data came, which is a static scene with a
        name of its own.
    key : int or None
        Identity of frame and events, such as a counter that is assigned on arrival. An engine
        takes moments with the same key for the same, whatever their arrays hold; moments
        without one are compared by content.
    stamp_ns : int or None
        When the frame was taken; None is now. Only the ages of a scene in memory depend on it.
    change : ChangeScore or None
        What the events say has changed up to the frame; None where there are no events.
    source : str
        The camera: a scene in memory is of one.

    """

    image_rgb: np.ndarray
    activity: ActivityGrid | None
    key: int | None = None
    stamp_ns: int | None = None
    change: ChangeScore | None = None
    source: str = ''

    def shows_the_same(self, other: Moment) -> bool:
        """Whether both have the same key or, if neither has one, the same content."""
        if self.key is not None or other.key is not None:
            return self.key == other.key
        return (np.array_equal(self.image_rgb, other.image_rgb)
                and _is_same_activity(self.activity, other.activity))


@dataclass(frozen=True, eq=False)
class SelectedMoments:
    """The moments of a question and the tokens of them that are computed on."""

    moments: tuple[Moment, ...]  # oldest first, at least one, with images of one size
    grid: PatchGrid  # visual tokens of each
    selections: tuple[Selection, ...]  # kept tokens of each
    config: VlmConfig  # how they were selected
    seconds_between: float  # from one moment to the next

    @property
    def num_tokens(self) -> int:
        """Visual tokens of all moments."""
        return len(self.moments) * self.grid.num_tokens

    @property
    def kept_indices(self) -> np.ndarray:
        """Return ``(moment * rows + row) * cols + col`` of the tokens computed on, ascending."""
        return np.concatenate([
            place * self.grid.num_tokens + selection.kept_indices
            for place, selection in enumerate(self.selections)])

    @property
    def fallback(self) -> str:
        """Return what replaced the configured selection in the latest moment."""
        return self.selections[-1].fallback


def _is_same_activity(one: ActivityGrid | None, other: ActivityGrid | None) -> bool:
    if one is None or other is None:
        return one is other
    names = ('cell_size_px', 'image_height', 'image_width', 'window_start_ns', 'window_end_ns',
             'pixel_density')
    return (all(getattr(one, name) == getattr(other, name) for name in names)
            and np.array_equal(one.counts, other.counts))
