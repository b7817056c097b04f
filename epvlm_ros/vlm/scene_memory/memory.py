"""The scene of one camera, kept ready for questions: what changed is computed anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.patch_grid import PatchGrid, token_activity
from epvlm_ros.vlm.scene_memory.image_check import (
    find_differing, find_gain, MAX_CHANGE_OF_EXPOSURE, sample_tokens, scale_exposure)
from epvlm_ros.vlm.scene_memory.refresh_plan import RefreshPlan
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, SceneBackend, SceneStates, VisionInput
import numpy as np
from torch import Tensor

_SETTLED_SHARE = 0.25  # of the tokens, which is enough to tell the exposure by


@dataclass(frozen=True)
class SceneOptions:
    """
    How a scene is kept.

    Attributes
    ----------
    budget : float
        Share of the tokens that one update may compute.
    fills_at_once : bool
        Whether a new scene is computed whole at its first frame, whatever the budget.
    change_threshold : float
        Events above the noise floor from which on a token has changed.
    change_margin_px : int
        By how many image pixels events may lie beside their cause.
    max_age_ns : int
        Every token is computed anew at least so often; 0 is never.
    checks_image : bool
        Whether pixels are asked as well: tokens whose pixels differ are refreshed without events
        too, and those whose pixels are the same are not, whatever events they had.
    motion_share : float
        The camera moves where more than this share of the tokens changed at once.

    """

    budget: float = 0.25
    fills_at_once: bool = False
    change_threshold: float = 8.0
    change_margin_px: int = 0
    max_age_ns: int = 0
    checks_image: bool = False
    motion_share: float = 0.6


@dataclass(frozen=True, eq=False)
class SceneUpdate:
    """
    What one frame did to the scene.

    Attributes
    ----------
    refreshed : numpy.ndarray
        int64, ascending, the tokens that were computed.
    known : numpy.ndarray
        bool, shape (tokens,): those that were computed at all.
    num_stale, num_doubtful : int
        Those of them that are known to have changed since; that may have, because events were
        lost.
    oldest_age_ns : int
        Age of the oldest known token.
    is_moving : bool
        The camera moved: the scene was forgotten and nothing computed.
    restarted : str
        Why the scene began anew; empty where it went on.
    gain : float
        Exposure of the frame against that of the scene.

    """

    refreshed: np.ndarray
    known: np.ndarray
    num_stale: int
    num_doubtful: int
    oldest_age_ns: int
    is_moving: bool = False
    restarted: str = ''
    gain: float = 1.0

    @property
    def num_known(self) -> int:
        """Tokens that were computed at all."""
        return int(self.known.sum())

    @property
    def is_finished(self) -> bool:
        """Whether all tokens are known, and none of them has changed since."""
        return bool(self.known.all()) and not self.num_stale and not self.num_doubtful


class SceneMemory:
    """
    The scene of one camera in memory.

    Parameters
    ----------
    forward : SceneBackend
        Computes tokens in their places.
    make_vision : callable
        Takes an image (uint8, red first), its grid and token indices; returns the
        ``VisionInput``.
    make_prompt : callable
        Takes a number of visual tokens; returns the ids (int64, shape (tokens,)) of a dense
        prompt about one image of so many.

    """

    def __init__(
        self, forward: SceneBackend,
        make_vision: Callable[[np.ndarray, PatchGrid, np.ndarray], VisionInput],
        make_prompt: Callable[[int], Tensor],
    ) -> None:
        self._forward = forward
        self._make_vision = make_vision
        self._make_prompt = make_prompt
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next frame."""
        self._grid: PatchGrid | None = None
        self._states: SceneStates | None = None
        self._score: ChangeScore | None = None
        self._plan = RefreshPlan(0, 0.0)
        self._composite = np.zeros((0, 0, 0), np.float32)  # samples that tokens were made from
        self._now_ns = 0

    @property
    def num_text_tokens(self) -> int:
        """Tokens of the prompt before and after the tokens of the image, as far as it is run."""
        return self._states.num_text_tokens if self._states is not None else 0

    @property
    def num_bytes(self) -> int:
        """Memory of the scene."""
        return self._states.num_bytes if self._states is not None else 0

    def ages_ns(self) -> np.ndarray:
        """Return the age of each token at the last frame, int64, -1 for an unknown one."""
        return self._plan.ages_ns(self._now_ns)

    def snapshot(self) -> PromptPrefix:
        """
        Return a copy of what a question starts from.

        Raises
        ------
        ValueError
            If nothing is known of the scene.

        """
        if self._states is None:
            raise ValueError('there is no scene yet: update it with a frame first')
        return self._states.snapshot()

    def update(
        self, image_rgb: np.ndarray, grid: PatchGrid, now_ns: int, options: SceneOptions,
        score: ChangeScore | None = None,
        rank: Callable[[], np.ndarray] | None = None,
    ) -> SceneUpdate:
        """
        Take a frame: find out what changed and compute as much of it as the budget allows.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8, shape (height, width, 3), red first; not changed.
        grid : PatchGrid
            Its visual tokens.
        now_ns : int
            Its stamp; an earlier one than the last begins a new scene.
        options : SceneOptions
            How much, and by what.
        score : ChangeScore, optional
            Of the frame; None where there are no events: then the pixels alone tell.
        rank : callable, optional
            Returns float, shape (tokens,): of those that were never computed, the highest come
            first. Called if there are any.

        """
        restarted = self._why_restart(grid, now_ns, score)
        samples = sample_tokens(image_rgb, grid)
        gain = 1.0 if restarted else self._find_gain(samples)
        if max(gain, 1.0 / gain) > MAX_CHANGE_OF_EXPOSURE:
            restarted, gain = 'the exposure changed too much', 1.0
        samples /= gain
        if restarted:
            self._begin(samples, grid, options)
        is_changed = self._find_changed(samples, score, now_ns, options)
        self._score, self._now_ns = score, now_ns
        if is_changed.mean() > options.motion_share:
            self._let_go(samples, options)
            return self._report(np.zeros(0, np.int64), 'the camera moves', gain)
        is_new = self._states is None
        if is_new:
            samples, gain = samples * gain, 1.0  # a new scene has the exposure of its frame
            self._let_go(samples, options)
            restarted = restarted or 'the camera moved'
            self._states = self._forward.begin(
                self._make_prompt(grid.num_tokens), grid.rows, grid.cols)
        refreshed = self._refresh(
            scale_exposure(image_rgb, gain), samples, options, is_new, rank)
        return self._report(refreshed, restarted, gain)

    def _why_restart(self, grid: PatchGrid, now_ns: int, score: ChangeScore | None) -> str:
        if self._grid is None:
            return 'first frame'
        if grid != self._grid:
            return 'another image size'
        if now_ns < self._now_ns:
            return 'time went back'
        if (score is None) != (self._score is None):
            return 'events came or went'
        if score is not None and self._score is not None and not score.continues(self._score):
            return 'a new epoch of the events'
        return ''

    def _begin(self, samples: np.ndarray, grid: PatchGrid, options: SceneOptions) -> None:
        self.forget()
        self._grid = grid
        self._let_go(samples, options)

    def _let_go(self, samples: np.ndarray, options: SceneOptions) -> None:
        """Know nothing any more; what the next frames differ from is this one."""
        assert self._grid is not None
        self._states = None
        self._plan = RefreshPlan(
            self._grid.num_tokens, options.change_threshold, options.max_age_ns)
        self._composite = samples.copy()  # written token by token

    def _find_changed(
        self, samples: np.ndarray, score: ChangeScore | None, now_ns: int, options: SceneOptions,
    ) -> np.ndarray:
        """Note what changed since the last frame, and return it: bool, (tokens,)."""
        change = self._change_of_tokens(score, options)
        self._plan.add_change(change, now_ns)
        if self._lost_events(score):
            self._plan.mark_doubtful(now_ns)
        is_changed = change > options.change_threshold
        if score is None or options.checks_image:
            certainly, possibly = find_differing(samples, self._composite)
            is_changed = certainly | (is_changed & possibly)
            self._plan.mark_changed(certainly & self._plan.is_known, now_ns)
            self._plan.clear(~possibly)
        return is_changed

    def _change_of_tokens(self, score: ChangeScore | None, options: SceneOptions) -> np.ndarray:
        """Return the change of each token since the last frame, float32, (tokens,)."""
        assert self._grid is not None
        if score is None or self._score is None:
            return np.zeros(self._grid.num_tokens, np.float32)
        change = score.since(self._score)
        margin = -(-options.change_margin_px // score.cell_size_px)
        if margin:
            side = 2 * margin + 1
            change = cv2.dilate(change, np.ones((side, side), np.uint8))
        cells = ActivityGrid(
            change, score.cell_size_px, score.image_height, score.image_width, 0, 0)
        return token_activity(cells, self._grid).reshape(-1)

    def _lost_events(self, score: ChangeScore | None) -> bool:
        return (score is not None and self._score is not None
                and score.num_doubts != self._score.num_doubts)

    def _find_gain(self, samples: np.ndarray) -> float:
        is_settled = self._plan.is_known & ~self._plan.is_stale
        if is_settled.mean() < _SETTLED_SHARE:  # as after a step of the light
            is_settled = np.ones_like(is_settled)
        return find_gain(samples, self._composite, is_settled)

    def _refresh(
        self, image_rgb: np.ndarray, samples: np.ndarray, options: SceneOptions, is_new: bool,
        rank: Callable[[], np.ndarray] | None,
    ) -> np.ndarray:
        assert self._grid is not None and self._states is not None
        num_tokens = self._grid.num_tokens
        budget = max(1, round(options.budget * num_tokens))
        if is_new and options.fills_at_once:
            budget = num_tokens
        priority = rank() if rank is not None and not self._plan.is_known.all() else None
        tokens = self._plan.choose(budget, self._now_ns, priority)
        if tokens.size:
            known = self._states.known.copy()
            try:
                self._forward.refresh(
                    self._states, self._make_vision(image_rgb, self._grid, tokens))
            except BaseException:
                self._states.known[:] = known  # what was broken off is still to be done
                raise
            self._plan.mark_computed(tokens, self._now_ns)
            self._composite[tokens] = samples[tokens]
        return tokens

    def _report(self, refreshed: np.ndarray, restarted: str, gain: float) -> SceneUpdate:
        plan = self._plan
        return SceneUpdate(
            refreshed, plan.is_known, int(plan.is_stale.sum()),
            int(plan.is_doubtful.sum()), int(self.ages_ns().max(initial=0)),
            is_moving=self._states is None, restarted=restarted, gain=gain)
