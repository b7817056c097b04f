"""What a robot could do with a stream: compute every frame anew, or keep a scene in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.eval.policies import DENSE
from epvlm_ros.eval.streams.model import FrameCosts, StreamModel
from epvlm_ros.eval.streams.token_pixels import copy_tokens, differing_tokens
from epvlm_ros.sim.rearrangement import StreamFrame
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.scene_memory import SceneOptions, SceneUpdate
import numpy as np

BUDGET = 0.3  # share of the tokens that one update may compute
FILLING_BUDGET = 0.25  # of a scene that is filled over several frames
DEFAULT_SELECTION, PAPER_SELECTION = 'events_and_objectness', 'events'


@dataclass(frozen=True)
class Look:
    """A frame, what its events say, its tokens, and the FLOPs that there are for it."""

    frame: StreamFrame
    activity: ActivityGrid
    score: ChangeScore
    grid: PatchGrid
    mean_flops: float  # of the dearer memory so far, a frame
    spent_flops: float | None  # of the memory by events so far, if there is one


@dataclass(frozen=True)
class Spent:
    """
    What a policy did with a frame.

    Attributes
    ----------
    flops, num_tokens : int
        Computed.
    num_outdated : int
        Tokens that are held for known and show what is no longer there, by the true pixels.
    num_admitted : int
        Tokens that the policy itself calls stale or doubtful.
    is_alone : bool
        Whether the frame is looked at by itself.

    """

    flops: int
    num_tokens: int
    num_outdated: int = 0
    num_admitted: int = 0
    is_alone: bool = True


class StreamPolicy(Protocol):
    """Takes every frame of a stream and answers questions about the latest."""

    def take(self, look: Look) -> Spent:
        """Take the next frame."""

    def answer(self, texts: list[str]) -> list[str]:
        """Answer questions about it."""


class FramePolicy:
    """
    Looks at every frame by itself.

    Parameters
    ----------
    policy : str
        Of ``epvlm eval``.

    """

    def __init__(self, model: StreamModel, costs: FrameCosts, policy: str) -> None:
        self._model, self._costs, self._policy = model, costs, policy
        self._look: Look | None = None
        self._num_tokens = 0

    def take(self, look: Look) -> Spent:
        """Take the next frame, with as many tokens as the memories could afford."""
        self._look = look
        self._num_tokens = (
            look.grid.num_tokens if self._policy == DENSE
            else self._costs.frame_tokens(look.mean_flops))
        return Spent(self._costs.of_frame(self._num_tokens), self._num_tokens)

    def answer(self, texts: list[str]) -> list[str]:
        """Answer questions about the frame."""
        look = self._look
        assert look is not None
        return self._model.ask_frame(
            look.frame.rgb, look.activity, self._policy,
            self._num_tokens / look.grid.num_tokens, texts)


class FirstFramePolicy:
    """Stays with the first frame."""

    def __init__(self, model: StreamModel, costs: FrameCosts) -> None:
        self._model, self._costs = model, costs
        self._first: Look | None = None
        self._memory = model.make_memory()

    def take(self, look: Look) -> Spent:
        """Take the first frame, and none after it."""
        if self._first is not None:
            differs = differing_tokens(self._first.frame.picture, look.frame.picture, look.grid)
            return Spent(0, 0, int(differs.sum()), is_alone=False)
        self._first = look
        update = self._memory.update(
            look.frame.rgb, look.grid, look.frame.time_ns, SceneOptions(fills_at_once=True))
        return Spent(
            self._costs.of_update(update.refreshed, update.known, begins=True),
            len(update.refreshed), is_alone=False)

    def answer(self, texts: list[str]) -> list[str]:
        """Answer questions about the first frame."""
        assert self._first is not None
        return self._model.ask_scene(self._memory.snapshot(), self._first.grid, texts)


class MemoryPolicy:
    """
    Keeps the scene in memory; while the camera moves, frames are looked at by themselves.

    Parameters
    ----------
    options : SceneOptions
        How.
    has_events : bool
        Whether events tell what changed.
    is_limited : bool
        Whether it may spend no more than the memory by events did so far.

    """

    def __init__(
        self, model: StreamModel, costs: FrameCosts, options: SceneOptions, has_events: bool,
        is_limited: bool = False,
    ) -> None:
        self._model, self._costs, self._options = model, costs, options
        self._has_events, self._is_limited = has_events, is_limited
        self._memory = model.make_memory()
        self._alone = FramePolicy(model, costs, DEFAULT_SELECTION)
        self._sources: np.ndarray | None = None  # pixels that tokens were computed from
        self._look: Look | None = None
        self._is_moving = False
        self._spent_flops = 0.0

    def take(self, look: Look) -> Spent:
        """Take the next frame."""
        self._look, frame, grid = look, look.frame, look.grid
        options = self._options
        if self._is_limited and self._spent_flops and look.spent_flops is not None:
            tokens = self._costs.update_tokens(look.spent_flops - self._spent_flops)
            options = replace(
                options, budget=min(options.budget, max(tokens, 0) / grid.num_tokens))
        update = self._memory.update(
            frame.rgb, grid, frame.time_ns, options, look.score if self._has_events else None,
            lambda: self._model.rank(frame.rgb, look.activity, grid, options.budget))
        self._is_moving = update.is_moving
        if update.is_moving:
            flops = self._costs.of_frame(round(BUDGET * grid.num_tokens))
            spent = self._alone.take(replace(look, mean_flops=flops))
        else:
            spent = self._note(look, update)
        self._spent_flops += spent.flops
        return spent

    def answer(self, texts: list[str]) -> list[str]:
        """Answer questions about the scene, or about the frame while the camera moves."""
        if self._is_moving:
            return self._alone.answer(texts)
        assert self._look is not None
        return self._model.ask_scene(self._memory.snapshot(), self._look.grid, texts)

    def _note(self, look: Look, update: SceneUpdate) -> Spent:
        picture, grid, begins = look.frame.picture, look.grid, bool(update.restarted)
        if begins or self._sources is None:
            self._sources = picture.copy()
        copy_tokens(picture, self._sources, update.refreshed, grid)
        outdated = differing_tokens(self._sources, picture, grid) & update.known
        return Spent(
            self._costs.of_update(update.refreshed, update.known, begins), len(update.refreshed),
            int(outdated.sum()), update.num_stale + update.num_doubtful, is_alone=False)


EVENTS, BOTH, PIXELS = 'memory_events', 'memory_both', 'memory_pixels'
GRADUAL, STATELESS, PAPER, FIRST = 'memory_filled_gradually', 'stateless', 'paper', 'first_frame'
# In this order: what comes first sets the FLOPs of those that are to spend as much.
POLICIES = (EVENTS, BOTH, PIXELS, GRADUAL, DENSE, STATELESS, PAPER, FIRST)
_OPTIONS = {
    EVENTS: SceneOptions(BUDGET, fills_at_once=True, checks_image=False),
    BOTH: SceneOptions(BUDGET, fills_at_once=True),
    PIXELS: SceneOptions(BUDGET, fills_at_once=True),
    GRADUAL: SceneOptions(FILLING_BUDGET)}
_SELECTIONS = {DENSE: DENSE, STATELESS: DEFAULT_SELECTION, PAPER: PAPER_SELECTION}
_THRESHOLDS = {EVENTS: 'change_threshold', PIXELS: 'image_threshold'}


def kind_of(name: str) -> str:
    """
    Return which of ``POLICIES`` a name is about.

    'memory_events:4' and 'memory_pixels:8' have a threshold of their own.

    Raises
    ------
    ValueError
        If there is no such policy, or it has no threshold.

    """
    kind, colon, threshold = name.partition(':')
    if kind not in POLICIES or (colon and kind not in _THRESHOLDS):
        raise ValueError(
            f'--policies {name}: give some of {", ".join(POLICIES)}, or a threshold with '
            f'{" or ".join(_THRESHOLDS)}, as in {EVENTS}:8')
    if colon and not threshold.replace('.', '', 1).isdigit():
        raise ValueError(f'--policies {name}: give a number after the colon')
    return kind


def make_policy(
    name: str, model: StreamModel, costs: FrameCosts, margin_px: int = 0,
) -> StreamPolicy:
    """Return a policy by its name, see ``kind_of``; events may lie beside their cause."""
    kind = kind_of(name)
    if kind == FIRST:
        return FirstFramePolicy(model, costs)
    if kind in _SELECTIONS:
        return FramePolicy(model, costs, _SELECTIONS[kind])
    options = replace(_OPTIONS[kind], change_margin_px=margin_px)
    if kind != name:
        threshold = float(name.partition(':')[2])
        options = replace(options, **{_THRESHOLDS[kind]: threshold})  # type: ignore[arg-type]
    return MemoryPolicy(model, costs, options, kind != PIXELS, is_limited=kind == PIXELS)
