"""The scene of one camera, kept ready for questions: what changed is computed anew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from epvlm_ros.change_score import ChangeScore
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.image_check import (
    find_differences, find_gain, MAX_CHANGE_OF_EXPOSURE, sample_tokens, scale_exposure)
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.scene_memory.evidence import ChangeEvidence
from epvlm_ros.vlm.scene_memory.refresh_plan import RefreshPlan
from epvlm_ros.vlm.scene_memory.scene_update import SceneOptions, SceneUpdate
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, SceneBackend, SceneStates, VisionInput
import numpy as np
from torch import Tensor

MOVING = 'the camera moves'
# So often pixels are compared where events say that nothing happens: for what events cannot see.
LOOK_PERIOD_NS = SECOND // 2


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
        self._plan = RefreshPlan(0, 0.0)
        self._evidence: ChangeEvidence | None = None
        self._now_ns = 0

    def release(self) -> None:
        """Forget the scene, and let go of the memory that a new one would take over."""
        self.forget()
        self._forward.release_memory()

    def warm_up(
        self, grid: PatchGrid, most_changed: int, should_stop: Callable[[], bool],
    ) -> None:
        """Get ready for scenes of one size, of which ``most_changed`` tokens change at once."""
        blank = sample_tokens(np.zeros((grid.image_height, grid.image_width, 3), np.uint8), grid)
        find_differences(blank, blank)  # compiled, or read from the cache
        find_gain(blank, blank, np.ones(len(blank), np.bool_))
        self._forward.warm_up(
            self._make_prompt(grid.num_tokens), grid.rows, grid.cols, most_changed, should_stop)

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

    def has_seen(
        self, score: ChangeScore | None, now_ns: int, options: SceneOptions,
    ) -> bool:
        """
        Tell whether an update with a frame can be left out.

        So it is where the scene is as new as the last frame that it was updated with, less than
        ``LOOK_PERIOD_NS`` ago, and the events say that nothing changed since. What they cannot
        see is found by the next update. Nothing is noted: scores add up.
        """
        return (self._states is not None and self._evidence is not None and score is not None
                and 0 <= now_ns - self._now_ns < LOOK_PERIOD_NS and self._plan.is_settled
                and not self._evidence.has_news(score, self._plan, options.change_margin_px))

    def update(
        self, image_rgb: np.ndarray, grid: PatchGrid, now_ns: int, options: SceneOptions,
        score: ChangeScore | None = None,
        rank: Callable[[], np.ndarray] | None = None,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
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
        guard : callable
            Returns a context in which tokens are computed; what it raises breaks that off.

        """
        restarted = self._why_restart(grid, now_ns, score)
        if not restarted and self._states is None and now_ns == self._now_ns:
            return self._report(np.zeros(0, np.int64), MOVING)  # the same frame once more
        samples = sample_tokens(image_rgb, grid)
        if restarted:
            self._begin(samples, grid, options)
        assert self._evidence is not None
        gain = self._evidence.find_gain(samples, self._plan)
        if max(gain, 1.0 / gain) > MAX_CHANGE_OF_EXPOSURE:
            restarted, gain = 'the exposure changed too much', 1.0
            self._begin(samples, grid, options)
        aligned = samples / gain
        is_changed = self._evidence.weigh(aligned, score, self._plan, now_ns, options)
        self._now_ns = now_ns
        if is_changed.mean() > options.motion_share:
            self._let_go(aligned, options)
            return self._report(np.zeros(0, np.int64), MOVING, gain)
        is_new = self._states is None
        if is_new:
            aligned, gain = samples, 1.0  # a new scene has the exposure of its frame
            self._let_go(samples, options)
            restarted = restarted or 'the camera moved'
            self._states = self._forward.begin(
                self._make_prompt(grid.num_tokens), grid.rows, grid.cols)
        priority = rank() if rank is not None and not self._plan.is_known.all() else None
        tokens = self._plan.choose(self._budget(options), now_ns, priority)
        if tokens.size:
            self._refresh(scale_exposure(image_rgb, gain), tokens, guard)
            self._evidence.note_computed(tokens, aligned)
        return self._report(tokens, restarted, gain)

    def _why_restart(self, grid: PatchGrid, now_ns: int, score: ChangeScore | None) -> str:
        if self._grid is None or self._evidence is None:
            return 'first frame'
        if grid != self._grid:
            return 'another image size'
        if now_ns < self._now_ns:
            return 'time went back'
        return self._evidence.why_restart(score)

    def _begin(self, samples: np.ndarray, grid: PatchGrid, options: SceneOptions) -> None:
        self.forget()
        self._grid = grid
        self._evidence = ChangeEvidence(grid)
        self._let_go(samples, options)

    def _let_go(self, samples: np.ndarray, options: SceneOptions) -> None:
        """Know nothing any more; what the next frames differ from is this one."""
        assert self._grid is not None and self._evidence is not None
        self._states = None
        self._plan = RefreshPlan(
            self._grid.num_tokens, options.change_threshold, options.max_age_ns)
        self._evidence.begin(samples)

    def _budget(self, options: SceneOptions) -> int:
        num_tokens = len(self._plan.is_known)
        if options.fills_at_once and not self._plan.is_known.any():
            return num_tokens
        return max(1, round(options.budget * num_tokens))

    def _refresh(
        self, image_rgb: np.ndarray, tokens: np.ndarray,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        assert self._grid is not None and self._states is not None
        known = self._states.known.copy()
        try:
            with guard():
                self._forward.refresh(
                    self._states, self._make_vision(image_rgb, self._grid, tokens))
        except BaseException:
            self._states.known[:] = known  # what was broken off is still to be done
            raise
        self._plan.mark_computed(tokens, self._now_ns)

    def _report(
        self, refreshed: np.ndarray, restarted: str, gain: float = 1.0,
    ) -> SceneUpdate:
        plan = self._plan
        return SceneUpdate(
            refreshed, plan.is_known, int(plan.is_stale.sum()),
            int(plan.is_doubtful.sum()), int(self.ages_ns().max(initial=0)),
            is_moving=self._states is None, restarted=restarted, gain=gain)
