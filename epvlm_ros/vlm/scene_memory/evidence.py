"""What events and pixels say about each token of a scene since it was computed."""

from __future__ import annotations

from dataclasses import replace

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.image_check import Differences, find_differences, find_gain
from epvlm_ros.vlm.patch_grid import PatchGrid, token_activity
from epvlm_ros.vlm.scene_memory.refresh_plan import RefreshPlan
from epvlm_ros.vlm.scene_memory.scene_update import SceneOptions
import numpy as np

# Standard deviations of the noise of a sample. By itself a token has changed if its pixels differ
# by more than the first; where events came, and it is asked whether they mean anything, the second
# is enough; the third is exceeded in most tokens only when the camera moves.
_CERTAIN, _POSSIBLE, _MOVING = 6.0, 3.0, 4.5
_FAINT_SHARE = 1 / 3  # of image_threshold: less is no difference, whatever the noise
# How much the noise may grow from frame to frame. What differs in most tokens, as when the camera
# moves, looks like noise in a single frame.
_NOISE_GROWTH, _LEAST_NOISE = 1.5, 0.5  # the latter in grey levels
_SETTLED_SHARE = 0.25  # of the tokens, which is enough to tell the exposure by


class ChangeEvidence:
    """
    Weighs events and pixels of frame after frame.

    Events say that something may have changed in a token, and whether pixels are to be believed
    that differ little; pixels say whether it still is as it was computed. Events alone, or pixels
    alone, do as well as they can.

    Parameters
    ----------
    grid : PatchGrid
        The visual tokens.

    """

    def __init__(self, grid: PatchGrid) -> None:
        self._grid = grid
        self._score: ChangeScore | None = None
        self._noise: float | None = None  # of samples, when the camera stood still
        self._composite = np.zeros((0, 0, 0), np.float32)  # samples that tokens were made from

    def begin(self, samples: np.ndarray) -> None:
        """Compare with these samples from now on, float32, (tokens, samples, 3)."""
        self._composite = samples.copy()  # written token by token

    def why_restart(self, score: ChangeScore | None) -> str:
        """Return why this score does not go on from the last one; empty if it does."""
        if (score is None) != (self._score is None):
            return 'events came or went'
        if score is not None and self._score is not None and not score.continues(self._score):
            return 'a new epoch of the events'
        return ''

    def has_news(self, score: ChangeScore, plan: RefreshPlan, margin_px: int) -> bool:
        """Whether a later score says that something changed, or may have; notes nothing."""
        return (self._score is None or not score.continues(self._score)
                or score.num_doubts != self._score.num_doubts
                or plan.would_wait(self._change_of_tokens(score, margin_px)))

    def find_gain(self, samples: np.ndarray, plan: RefreshPlan) -> float:
        """Return the exposure of a frame against that of the scene, see ``find_gain``."""
        is_settled = plan.is_known & ~plan.is_stale
        if is_settled.mean() < _SETTLED_SHARE:  # as after a step of the light
            is_settled = np.ones_like(is_settled)
        return find_gain(samples, self._composite, is_settled)

    def weigh(
        self, samples: np.ndarray, score: ChangeScore | None, plan: RefreshPlan, now_ns: int,
        options: SceneOptions,
    ) -> np.ndarray:
        """
        Note in the plan what changed since the last frame.

        Parameters
        ----------
        samples : numpy.ndarray
            float32, shape (tokens, samples, 3), of the exposure of the scene.
        score : ChangeScore or None
            Of the frame; it goes on from that of the frame before.
        plan : RefreshPlan
            Takes the notes.
        now_ns : int
            Stamp of the frame.
        options : SceneOptions
            What counts as changed.

        Returns
        -------
        numpy.ndarray
            bool, shape (tokens,): where the picture changed in any way, beside what was known
            to have changed before; of most tokens, when the camera moves.

        """
        was_waiting = plan.is_stale | plan.is_doubtful
        change = self._change_of_tokens(score, options.change_margin_px)
        plan.add_change(change, now_ns)
        if score is not None and self._score is not None \
                and score.num_doubts != self._score.num_doubts:
            plan.mark_doubtful(now_ns)
        self._score = score
        is_changed = change > options.change_threshold
        if score is None or options.checks_image:
            differences = self._compare(samples)
            levels = options.image_threshold
            certainly = differences.exceed(levels, _CERTAIN)
            plan.mark_changed(certainly & plan.is_known, now_ns)
            plan.clear(~differences.exceed(levels * _FAINT_SHARE, _POSSIBLE))
            # events of a light that is switched are no motion
            is_changed = differences.exceed(levels * _FAINT_SHARE, _MOVING)
            if is_changed.mean() <= options.motion_share and plan.is_known.any():
                self._noise = differences.noise
        return is_changed & ~was_waiting

    def note_computed(self, tokens: np.ndarray, samples: np.ndarray) -> None:
        """Note the samples that tokens, int64 indices, were computed from."""
        self._composite[tokens] = samples[tokens]

    def _compare(self, samples: np.ndarray) -> Differences:
        differences = find_differences(samples, self._composite)
        if self._noise is None:
            return differences
        largest = _NOISE_GROWTH * max(self._noise, _LEAST_NOISE)
        return replace(differences, noise=min(differences.noise, largest))

    def _change_of_tokens(self, score: ChangeScore | None, margin_px: int) -> np.ndarray:
        """Return the change of each token since the last frame, float32, (tokens,)."""
        if score is None or self._score is None:
            return np.zeros(self._grid.num_tokens, np.float32)
        change = score.since(self._score)
        margin = -(-margin_px // score.cell_size_px)
        if margin:
            side = 2 * margin + 1
            change = cv2.dilate(change, np.ones((side, side), np.uint8))
        cells = ActivityGrid(
            change, score.cell_size_px, score.image_height, score.image_width, 0, 0)
        return token_activity(cells, self._grid).reshape(-1)
