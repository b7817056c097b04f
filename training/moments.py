"""
Three moments of a scene between which objects move, come and go; on the CPU, not drawn.

A camera that stands on a circle turns on it between two moments as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import math
from typing import NamedTuple

from epvlm_ros.sim.arrangement import Arrangement, rearrange
from epvlm_ros.sim.motion_questions import ask_about_changes
from epvlm_ros.sim.questions import NOTHING, Question, SceneSnapshot
from epvlm_ros.sim.rearrangement import draw_turn
from epvlm_ros.sim.scene import Scene
import numpy as np
import torch
from torch import Tensor

NUM_MOMENTS = 3
_MAX_CHANGES_BEFORE = 4  # the first moment
# Of 0, 1, ... changes between two moments; about as in streams of which a tenth changes a frame.
_NUM_CHANGES = (0.08, 0.36, 0.26, 0.14, 0.08, 0.05, 0.03)
# How often a likely answer is asked for.
_LIKELY = {('appeared', NOTHING): 0.45, ('disappeared', NOTHING): 0.55, ('moved', NOTHING): 0.5,
           ('moved_count', 'one'): 0.5}


class SeenMoment(NamedTuple):
    """What is to be seen at a moment, as questions about changes take it."""

    view: SceneSnapshot
    items: np.ndarray


class Arranged(NamedTuple):
    """How objects lie at a moment, and how far the camera has turned on its circle, radians."""

    objects: Arrangement
    camera_phase: float

    def see(self, scene: Scene) -> SeenMoment:
        """Return what is to be seen of a scene."""
        return SeenMoment(self.objects.view(scene, self.camera_phase), self.objects.seen_items)


def draw_arrangements(scene: Scene, random: np.random.Generator) -> list[Arranged]:
    """Return how a scene lies at each moment, the oldest first; only its camera may move."""
    now = Arrangement.of(scene, random)
    camera_phase = random.uniform(0.0, 2.0 * math.pi) if scene.camera_moves else 0.0
    found: list[Arranged] = []
    for moment in range(NUM_MOMENTS):
        number = random.choice(len(_NUM_CHANGES), p=_NUM_CHANGES)
        for _ in range(number if moment else random.integers(_MAX_CHANGES_BEFORE + 1)):
            now = rearrange(now, random)
        if found and scene.camera_moves:
            camera_phase += draw_turn(random)
        found.append(Arranged(now, camera_phase))
    return found


def ask_evenly(
    moments: Sequence[SeenMoment], random: np.random.Generator,
) -> Iterator[tuple[Question, str]]:
    """Yield questions about what changed, in any order; likely answers are held back."""
    made = list(ask_about_changes(moments, random))
    for place in random.permutation(len(made)):
        question, answer = made[place]
        if random.random() < _LIKELY.get((question.family, answer), 1.0):
            yield question, answer


def stack_arrangements(arranged: Sequence[Sequence[Arranged]]) -> dict[str, Tensor]:
    """
    Stack the moments of scenes.

    Returns
    -------
    dict of str to Tensor
        ``anchor`` (scenes, moments, objects, 2), ``radius`` and ``is_covered`` (scenes, moments,
        objects), ``cover_colour`` (scenes, objects, 3), as in ``Arrangement``, and
        ``camera_phase`` float32 (scenes, moments), radians; nothing for no scenes.

    """
    if not arranged:
        return {}
    stacked = {
        name: np.stack(
            [[getattr(moment.objects, name) for moment in moments] for moments in arranged])
        for name in ('anchor', 'radius', 'is_covered')}
    stacked['cover_colour'] = np.stack([moments[0].objects.cover_colour for moments in arranged])
    stacked['camera_phase'] = np.array(
        [[moment.camera_phase for moment in moments] for moments in arranged], np.float32)
    return {name: torch.from_numpy(value) for name, value in stacked.items()}
