"""The scene in memory of an engine: frames go in, what questions start from comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
import time

from epvlm_ros.change_score import ChangeScore
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import IN_MEMORY, SceneReport
from epvlm_ros.vlm.engine.frame_encoder import CheckLimits, FrameEncoder
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.flops import ModelShape, refresh_flops
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import PromptBuilder
from epvlm_ros.vlm.scene_memory import SceneMemory, SceneOptions, SceneUpdate
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, VisionInput
from epvlm_ros.vlm.token_selection import select_for_frame, Selection, token_budget
import numpy as np

SEVERAL_MOMENTS = 'several moments'
PAST_MOMENT = 'a past moment'


@dataclass(frozen=True)
class SceneStatus:
    """
    What the scene in memory is and did, for diagnostics.

    Numbers of updates (frames), of refreshed tokens and of restarts are since the start, and so
    are the FLOPs; the others are of the last frame.
    """

    num_updates: int = 0
    num_tokens_refreshed: int = 0
    num_restarts: int = 0
    last_restart: str = ''
    flops: int = 0
    num_tokens: int = 0
    num_known: int = 0
    num_stale: int = 0
    num_doubtful: int = 0
    oldest_age_ns: int = 0
    num_bytes: int = 0


class LivingScene:
    """
    Keeps the scene of one camera and looks at it for questions.

    A scene is of one image size, one camera (``Moment.source``) and one epoch of the events;
    anything else begins a new one.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompts: PromptBuilder, frames: FrameEncoder,
        attends_to_scene: bool,
    ) -> None:
        self._frames, self._attends_to_scene = frames, attends_to_scene
        self._shape = ModelShape.from_config(checkpoint.model.info.config)
        self._model, self._prompts = checkpoint.model, prompts
        self._memory: SceneMemory | None = None  # made with the first frame
        self._is_released = True  # whether it holds nothing
        self._status = SceneStatus()
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next frame, and let go of the memory if there is any."""
        if self._memory is not None and not self._is_released:
            self._memory.release()
            self._is_released = True
        self._last: SceneUpdate | None = None
        self._last_moment: Moment | None = None
        self._prefix: PromptPrefix | None = None
        self._flops_updates = 0  # since the last answer

    @property
    def status(self) -> SceneStatus:
        """Return what there is and what was done so far; any thread may ask."""
        return self._status

    @property
    def num_bytes(self) -> int:
        """Memory of the scene, and of the copy that questions start from."""
        copy = self._prefix.num_bytes if self._prefix is not None else 0
        return copy + (self._memory.num_bytes if self._memory is not None else 0)

    def warm_up(
        self, grid: PatchGrid, config: VlmConfig, should_stop: Callable[[], bool],
    ) -> None:
        """Get ready for frames of this size, so that the first updates are fast."""
        self._memory = self._memory or self._make_memory()
        self._is_released = False
        budget = token_budget(config.keep_ratio, grid.num_tokens)
        most_changed = budget if config.memory_fill == 'at_once' else 2 * budget  # as it is filled
        self._memory.warm_up(grid, min(most_changed, grid.num_tokens), should_stop)

    def update(
        self, moment: Moment, config: VlmConfig,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> int:
        """
        Take a frame; return the FLOPs that it cost.

        ``guard`` returns a context in which tokens are computed, and which may break that off.
        Raises a ValueError if the image cannot be used; then nothing is changed.
        """
        if self._last is not None and self._last.is_finished and self._is_last(moment):
            return 0
        self._frames.check_image(moment.image_rgb)
        if self._last_moment is not None and self._last_moment.source != moment.source:
            self.forget()
        grid = self._frames.patch_grid(*moment.image_rgb.shape[:2])
        stamp_ns = moment.stamp_ns if moment.stamp_ns is not None else time.monotonic_ns()
        prefix = self._prefix
        self._last = self._prefix = None  # it may be broken off
        self._memory = memory = self._memory or self._make_memory()
        self._is_released = False
        update = memory.update(
            moment.image_rgb, grid, stamp_ns, scene_options(config), moment.change,
            lambda: self._rank(moment, grid, config), guard)
        if not len(update.refreshed) and not update.is_moving:
            self._prefix = prefix
        self._last = update
        self._last_moment = replace(moment, image_rgb=moment.image_rgb[:0], activity=None)
        flops = self._count(update, grid, memory) if len(update.refreshed) else 0
        self._flops_updates += flops
        self._note(update, flops, memory.num_bytes)
        return flops

    def has_seen(
        self, change: ChangeScore | None, stamp_ns: int, source: str, config: VlmConfig,
    ) -> bool:
        """Tell whether a frame need not be taken ahead of questions, see ``SceneMemory``."""
        last = self._last_moment
        return (self._memory is not None and last is not None and last.source == source
                and self._memory.has_seen(change, stamp_ns, scene_options(config)))

    def prepare(
        self, moments: Sequence[Moment], config: VlmConfig, check_limits: CheckLimits,
    ) -> bool:
        """Take a frame ahead of questions; False where they will not be about the scene."""
        if len(moments) != 1:
            return False
        self.update(moments[0], config, lambda: self._model.checked(check_limits))
        return self._last is not None and not self._last.is_moving

    def follow(self, moments: Sequence[Moment], config: VlmConfig) -> SceneReport:
        """Bring the scene up to a question; ``snapshot`` is about it if it is ``IN_MEMORY``."""
        if len(moments) != 1:
            return SceneReport(SEVERAL_MOMENTS)
        flops_before = self._flops_updates
        flops = self.update(moments[0], config)
        update, memory = self._last, self._memory
        assert update is not None and memory is not None
        if update.is_moving:
            return SceneReport(update.restarted)
        self._flops_updates = 0
        return SceneReport(
            IN_MEMORY, len(update.refreshed) if flops else 0, update.num_stale,
            update.num_doubtful, update.oldest_age_ns, flops, flops_before,
            memory.ages_ns())

    def snapshot(
        self, moment: Moment, config: VlmConfig,
    ) -> tuple[SelectedMoments, PromptPrefix]:
        """Return the known tokens of the last frame, and what a question about it starts from."""
        assert self._last is not None and self._memory is not None
        if self._prefix is None:
            self._prefix = self._memory.snapshot()
        grid = self._frames.patch_grid(*moment.image_rgb.shape[:2])
        selection = Selection(np.flatnonzero(self._last.known), IN_MEMORY, '')
        return SelectedMoments((moment,), grid, (selection,), config, 1.0), self._prefix

    def _make_memory(self) -> SceneMemory:
        return SceneMemory(
            self._model.scene_forward(self._attends_to_scene), self._make_vision,
            lambda num_tokens: self._prompts.prompt_ids('?', num_tokens))

    def _note(self, update: SceneUpdate, flops: int, num_bytes: int) -> None:
        before = self._status
        self._status = SceneStatus(
            before.num_updates + 1, before.num_tokens_refreshed + len(update.refreshed),
            before.num_restarts + bool(update.restarted),
            update.restarted or before.last_restart, before.flops + flops, len(update.known),
            update.num_known, update.num_stale, update.num_doubtful, update.oldest_age_ns,
            num_bytes)

    def _count(self, update: SceneUpdate, grid: PatchGrid, memory: SceneMemory) -> int:
        return refresh_flops(
            self._shape, update.refreshed, update.known, grid.cols,
            num_text_tokens=memory.num_text_tokens, runs_text=bool(update.restarted),
            attends_to_scene=self._attends_to_scene)

    def _is_last(self, moment: Moment) -> bool:
        last = self._last_moment
        return last is not None and moment.key is not None and moment.key == last.key

    def _rank(self, moment: Moment, grid: PatchGrid, config: VlmConfig) -> np.ndarray:
        """Return which tokens of a new scene come first: those of a frame by itself."""
        priority = np.zeros(grid.num_tokens)
        priority[select_for_frame(
            moment.image_rgb, grid, moment.activity, config).kept_indices] = 1.0
        return priority

    def _make_vision(
        self, image_rgb: np.ndarray, grid: PatchGrid, tokens: np.ndarray,
    ) -> VisionInput:
        return self._frames.vision_input([image_rgb], grid, tokens, 1.0)


def scene_options(config: VlmConfig) -> SceneOptions:
    """Return how the parameters say that a scene is kept."""
    return SceneOptions(
        config.keep_ratio, config.memory_fill == 'at_once', config.change_threshold,
        config.change_margin_px, round(config.memory_max_age * SECOND),
        config.memory_image_check, config.memory_motion_share)
