"""Three moments of a scene between which objects move, come and go; on the CPU, not drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from epvlm_ros.sim.arrangement import Arrangement, rearrange
from epvlm_ros.sim.motion_questions import ask_about_changes
from epvlm_ros.sim.questions import NOTHING, Question, SceneSnapshot
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


def draw_arrangements(scene: Scene, random: np.random.Generator) -> list[Arrangement]:
    """Return how the objects of a scene lie at each moment, the oldest first."""
    now = Arrangement.of(scene, random)
    found = []
    for moment in range(NUM_MOMENTS):
        number = random.choice(len(_NUM_CHANGES), p=_NUM_CHANGES)
        for _ in range(number if moment else random.integers(_MAX_CHANGES_BEFORE + 1)):
            now = rearrange(now, random)
        found.append(now)
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


def stack_arrangements(arranged: Sequence[Sequence[Arrangement]]) -> dict[str, Tensor]:
    """
    Stack the moments of scenes.

    Returns
    -------
    dict of str to Tensor
        ``anchor`` (scenes, moments, objects, 2), ``radius`` and ``is_covered`` (scenes, moments,
        objects), ``cover_colour`` (scenes, objects, 3), as in ``Arrangement``; nothing for no
        scenes.

    """
    if not arranged:
        return {}
    stacked = {
        name: np.stack([[getattr(moment, name) for moment in moments] for moments in arranged])
        for name in ('anchor', 'radius', 'is_covered')}
    stacked['cover_colour'] = np.stack([moments[0].cover_colour for moments in arranged])
    return {name: torch.from_numpy(value) for name, value in stacked.items()}
