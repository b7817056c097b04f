"""
Which visual tokens of several frames are computed on: all share the budget of one.

The latest frame has most of it, since most questions are about what is to be seen now; earlier
ones have what is no longer to be seen. Events say where something happened between two frames; on
its way a thing leaves events where it is seen in neither. So the pixels say which tokens differ,
and without events they must say so clearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.image_check import find_differences, find_gain, sample_tokens
from epvlm_ros.vlm.patch_grid import PatchGeometry, PatchGrid
from epvlm_ros.vlm.token_selection.features import TokenFeatures
from epvlm_ros.vlm.token_selection.policies import EVENT_POLICIES, IMAGE_SCORES, POLICIES
from epvlm_ros.vlm.token_selection.selection import (
    look_at_frame, NO_FALLBACK, select_for_frame, select_tokens, Selection, token_budget)
import numpy as np

# Grey levels of the sample that differs most, and deviations of the noise of the frames: beyond
# both a token changed, where there were events and where there were none (as in the dark).
WITH_EVENTS, WITHOUT_EVENTS = (6.0, 4.0), (12.0, 8.0)
_EARLIER_SHARE = 0.4  # of the budget that earlier frames have at most, together
_LEAST_SHARE = 1 / 3  # of an even part of that, for each of them: to see what hardly changed
CHANGED_SHARE = 0.5  # of the latest frame's tokens that are kept because they changed, at most
CAMERA_MOVES = 0.5  # share of the tokens that changed: beyond it the camera did


def select_for_moments(
    images_rgb: Sequence[np.ndarray], grid: PatchGrid, activities: Sequence[ActivityGrid | None],
    config: VlmConfig, seed: int = 0,
) -> tuple[Selection, ...]:
    """
    Choose the visual tokens of frames of one scene, which share the budget of one frame.

    Policies by events and the image give each earlier frame the tokens that differ from the latest
    one, as many as ``share_budget`` says, and the latest one the rest: first some of those that
    changed, then by what is to be seen in it. Where the camera moves, each frame's tokens are the
    best of its own. By the paper's rule (events alone) and by policies of the image alone each
    frame's tokens are chosen by itself, an even share of the budget. At a ``keep_ratio`` of 1 all
    tokens of all frames are kept.

    Parameters
    ----------
    images_rgb : sequence of numpy.ndarray
        uint8, shape (height, width, 3), red first, oldest first; at least one.
    grid : PatchGrid
        The tokens of each image.
    activities : sequence of ActivityGrid or None
        Event counts up to each frame; None if no event data came.
    config : VlmConfig
        Gives the ``SELECTION_PARAMETERS``; ``keep_ratio`` is a share of the tokens of one frame.
    seed : int
        Of the random policy; each frame has another.

    Raises
    ------
    ValueError
        If an activity is about an image of another size or its window has no length.

    """
    budget = token_budget(config.keep_ratio, grid.num_tokens)
    is_shared = len(images_rgb) > 1 and budget < grid.num_tokens
    if is_shared and config.selection in EVENT_POLICIES and config.selection in IMAGE_SCORES:
        return _select_by_change(images_rgb, grid, activities, config, budget, seed)
    keep_ratio = config.keep_ratio / (len(images_rgb) if is_shared else 1)
    return tuple(
        select_for_frame(image, grid, activity, config, seed + place, keep_ratio)
        for place, (image, activity) in enumerate(zip(images_rgb, activities)))


def _select_by_change(
    images_rgb: Sequence[np.ndarray], grid: PatchGrid, activities: Sequence[ActivityGrid | None],
    config: VlmConfig, budget: int, seed: int,
) -> tuple[Selection, ...]:
    """Choose tokens by a policy that ranks by events and a score of the image."""
    score = IMAGE_SCORES[config.selection]
    latest, is_static = look_at_frame(
        images_rgb[-1], grid, activities[-1], config,
        {score, IMAGE_SCORES.get(config.static_scene_policy)}, seed)
    before = list(zip(images_rgb[:-1], activities[:-1]))
    seen = [look_at_frame(image, grid, activity, config, (), seed)[0]
            for image, activity in before]
    changed = find_changed_tokens(images_rgb, grid, [*seen, latest])
    counts = share_budget(budget, [int(np.count_nonzero(item)) for item in changed])
    now = select_tokens(
        latest, counts[-1] / grid.num_tokens, policy=config.selection,
        static_scene_policy=config.static_scene_policy, is_static=is_static)
    ever_changed = changed.max(axis=0)
    if np.count_nonzero(ever_changed) > CAMERA_MOVES * grid.num_tokens:
        seen = [look_at_frame(image, grid, activity, config, (score,), seed)[0]
                for image, activity in before]
        orders = [POLICIES[config.selection if features.activity is not None else score](features)
                  for features in seen]
    else:
        order = POLICIES[score](latest)
        orders = [_put_first(order, item, len(item)) for item in changed]
        if not now.fallback:
            order = _put_first(order, ever_changed, round(CHANGED_SHARE * counts[-1]))
            now = replace(now, kept_indices=np.sort(order[:counts[-1]]))
    return (*(Selection(np.sort(order[:count]), config.selection, NO_FALLBACK)
              for order, count in zip(orders, counts)), now)


def _put_first(order: np.ndarray, amounts: np.ndarray, most: int) -> np.ndarray:
    """Return an order of tokens with those of the largest amounts before, at most so many."""
    first = np.argsort(-amounts, kind='stable')[:min(most, np.count_nonzero(amounts))]
    return np.concatenate([first, order[~np.isin(order, first)]])


def find_changed_tokens(
    images_rgb: Sequence[np.ndarray], grid: PatchGrid, seen: Sequence[TokenFeatures],
) -> np.ndarray:
    """
    Return by how much the pixels of each token differ between earlier frames and the latest.

    Parameters
    ----------
    images_rgb : sequence of numpy.ndarray
        uint8, shape (height, width, 3), red first, oldest first; of any exposures.
    grid : PatchGrid
        The tokens of each image.
    seen : sequence of TokenFeatures
        Of each image: its events, if any came, and their noise floor.

    Returns
    -------
    numpy.ndarray
        float32, shape (images - 1, tokens), grey levels of the sample that differs most; 0 where
        that is no more than noise. Without events in or beside the token it must be more.

    """
    moved = np.zeros((grid.rows, grid.cols), np.bool_)
    for features in seen:
        if features.activity is not None:
            moved |= features.activity > features.noise_floor
    near = cv2.dilate(moved.astype(np.uint8), np.ones((3, 3), np.uint8)).ravel() > 0
    is_still = np.ones_like(near) if near.all() else ~near
    *earlier, latest = (sample_tokens(image, grid) for image in images_rgb)
    changed = np.zeros((len(earlier), grid.num_tokens), np.float32)
    for amounts, samples in zip(changed, earlier):
        gain = find_gain(latest, samples, is_still)
        differences = find_differences(latest / np.float32(gain), samples)
        exceeds = np.where(
            near, differences.exceed(*WITH_EVENTS), differences.exceed(*WITHOUT_EVENTS))
        amounts[exceeds] = differences.largest[exceeds]
    return changed


def share_budget(budget: int, num_changed: Sequence[int]) -> tuple[int, ...]:
    """
    Return how many tokens each frame has, oldest first, ``budget`` in all if it reaches.

    ``num_changed`` tokens of each earlier frame differ from the latest one. The oldest comes
    first, since most happened after it; each frame has at least one token.
    """
    left = round(_EARLIER_SHARE * budget)
    least = max(1, round(_LEAST_SHARE * left / max(1, len(num_changed))))
    counts = []
    for place, number in enumerate(num_changed, 1):
        counts.append(max(least, min(number, left - least * (len(num_changed) - place))))
        left -= counts[-1]
    return (*counts, max(1, budget - sum(counts)))


def warm_up() -> None:
    """Compile the loops, or load them from the cache, so that no frame waits for it later."""
    height, width, cell_size_px = 56, 56, 4
    counts = np.ones((height // cell_size_px, width // cell_size_px), np.float32)
    activity = ActivityGrid(counts, cell_size_px, height, width, 0, 1)
    image_rgb = np.zeros((height, width, 3), np.uint8)
    select_for_moments(
        [image_rgb] * 2, PatchGeometry(14, 2, height * width, height * width).grid(height, width),
        [activity] * 2, VlmConfig(keep_ratio=0.5, selection='events_and_objectness'))
