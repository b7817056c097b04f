"""
The policies of an evaluation: those of the nodes, and controls.

A control is a map of scores that takes the place of the events: the tokens with the highest sums
are kept, by the same rule and at the same budget as with events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import cv2
from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.eval.question_set import Observation
from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.vlm.config import VlmConfig
import numpy as np

DENSE = 'dense'
RANDOM = 'random'
_CELL_SIZE_PX = 4
_SECOND_NS = 1_000_000_000

ScoreMap = Callable[[Observation, int], ActivityGrid]


def score_by_frame_difference(observation: Observation, seed: int) -> ActivityGrid:
    """Score by the change of brightness since the frame before: no event camera needed."""
    assert observation.previous_rgb is not None
    before, now = (cv2.transform(rgb, np.array([LUMA_WEIGHTS], np.float32)).astype(np.float32)
                   for rgb in (observation.previous_rgb, observation.rgb))
    return _sum_over_cells(np.abs(now - before))


def score_by_objects(observation: Observation, seed: int) -> ActivityGrid:
    """Score by how much of the true objects is covered: what no robot knows, a ceiling."""
    assert observation.object_mask is not None
    return _sum_over_cells(observation.object_mask.astype(np.float32))


def score_at_random(observation: Observation, seed: int) -> ActivityGrid:
    """Score at random, the same way for an image in every run."""
    height, width = observation.rgb.shape[:2]
    shape = grid_shape(height, width, _CELL_SIZE_PX)
    scores = np.random.default_rng([25, seed]).random(shape)
    # What of the last row and column lies outside of the image counts for no token.
    scores[-1] *= height / _CELL_SIZE_PX - (shape[0] - 1)
    scores[:, -1] *= width / _CELL_SIZE_PX - (shape[1] - 1)
    return _make_grid(scores.astype(np.float32), height, width)


CONTROLS: dict[str, ScoreMap] = {
    RANDOM: score_at_random,
    'frame_difference': score_by_frame_difference,
    'oracle': score_by_objects,
}
# What a still image does not have, and what only the simulated benchmark knows.
NEEDS_FRAME_BEFORE, NEEDS_TRUTH = ('frame_difference',), ('oracle',)
_SELECTIONS = next(
    item.metadata['choices'] for item in fields(VlmConfig) if item.name == 'selection')
POLICIES = tuple(name for name in _SELECTIONS if name != RANDOM) + tuple(CONTROLS)


def selection_of(policy: str, num_moments: int = 1) -> str:
    """
    Return the value of ``VlmConfig.selection`` that a policy is run with.

    Over several moments the difference of frames stands in for the events of the default, which
    looks at what changed in the image as well: else it would be compared with a better rule.
    """
    if num_moments > 1 and policy in NEEDS_FRAME_BEFORE:
        return VlmConfig().selection
    return 'events' if policy in CONTROLS or policy == DENSE else policy


def activity_for(policy: str, observation: Observation, seed: int) -> ActivityGrid:
    """Return what the engine is to take for the events of an image with a seed of its own."""
    return CONTROLS[policy](observation, seed) if policy in CONTROLS else observation.activity


def _sum_over_cells(values: np.ndarray) -> ActivityGrid:
    """Sum values of pixels (height, width) over the cells of a grid."""
    height, width = values.shape
    rows, cols = grid_shape(height, width, _CELL_SIZE_PX)
    padded = np.pad(values, ((0, rows * _CELL_SIZE_PX - height),
                             (0, cols * _CELL_SIZE_PX - width)))
    cells = padded.reshape(rows, _CELL_SIZE_PX, cols, _CELL_SIZE_PX).sum(axis=(1, 3))
    return _make_grid(cells.astype(np.float32), height, width)


def _make_grid(counts: np.ndarray, height: int, width: int) -> ActivityGrid:
    return ActivityGrid(counts, _CELL_SIZE_PX, height, width, 0, _SECOND_NS)
