"""
Which visual tokens of several frames are computed on: what changed in all of them, the rest now.

Events say where something happened between two frames; on its way a thing leaves events where it
is seen in neither. So the pixels say which of these tokens differ, and without events they must
say so clearly. A change is seen where the same token is computed before and after it: earlier
frames need no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.image_check import find_differences, find_gain, sample_tokens
from epvlm_ros.vlm.patch_grid import PatchGeometry, PatchGrid
from epvlm_ros.vlm.token_selection.features import TokenFeatures
from epvlm_ros.vlm.token_selection.policies import EVENT_POLICIES, IMAGE_SCORES, POLICIES
from epvlm_ros.vlm.token_selection.selection import (
    look_at_frame, NO_FALLBACK, select_for_frame, Selection, token_budget)
import numpy as np

# Grey levels of the sample that differs most, and deviations of the noise of the frames: beyond
# both a token changed, where there were events and where there were none (as in the dark).
WITH_EVENTS, WITHOUT_EVENTS = (6.0, 4.0), (12.0, 8.0)
_LEAST_SHARE = 1 / 3  # of an even share, for each earlier frame: to see what hardly changed
_CAMERA_MOVES = 0.5  # share of the tokens that changed: beyond it the camera did


def select_for_moments(
    images_rgb: Sequence[np.ndarray], grid: PatchGrid, activities: Sequence[ActivityGrid | None],
    config: VlmConfig, seed: int = 0,
) -> tuple[Selection, ...]:
    """
    Choose the visual tokens of frames of one scene, which share the budget of all of them.

    Policies by events and the image rank all tokens once: those that changed first, the others by
    what is to be seen in the latest frame. Each earlier frame has the head of this list, as many
    as changed but at most an even share of the budget, and the latest one the rest of the budget.
    By the paper's rule (events alone), without events, where nothing or nearly everything changed,
    and by policies of the image alone each frame's tokens are chosen by itself.

    Parameters
    ----------
    images_rgb : sequence of numpy.ndarray
        uint8, shape (height, width, 3), red first, oldest first; at least one.
    grid : PatchGrid
        The tokens of each image.
    activities : sequence of ActivityGrid or None
        Event counts up to each frame; None if no event data came.
    config : VlmConfig
        Gives the ``SELECTION_PARAMETERS``; ``keep_ratio`` is that of each frame.
    seed : int
        Of the random policy; each frame has another.

    Raises
    ------
    ValueError
        If an activity is about an image of another size or its window has no length.

    """
    score = IMAGE_SCORES.get(config.selection)
    budget = token_budget(config.keep_ratio, grid.num_tokens)
    if (len(images_rgb) > 1 and config.selection in EVENT_POLICIES and score
            and budget < grid.num_tokens and all(item is not None for item in activities)):
        seen = [look_at_frame(image, grid, activity, config, (), seed)
                for image, activity in zip(images_rgb, activities)]
        changed = find_changed_tokens(images_rgb, grid, [features for features, _ in seen])
        is_static = all(is_static for _, is_static in seen)
        if not is_static and 0 < np.count_nonzero(changed) <= _CAMERA_MOVES * grid.num_tokens:
            latest, _ = look_at_frame(
                images_rgb[-1], grid, activities[-1], config, (score,), seed)
            order = POLICIES[score](latest)  # events say what changed: these come before
            order = order[np.argsort(-changed[order], kind='stable')]
            counts = share_budget(
                budget, len(images_rgb), grid.num_tokens, int(np.count_nonzero(changed)))
            return tuple(
                Selection(np.sort(order[:count]), config.selection, NO_FALLBACK)
                for count in counts)
    return tuple(
        select_for_frame(image, grid, activity, config, seed + place)
        for place, (image, activity) in enumerate(zip(images_rgb, activities)))


def find_changed_tokens(
    images_rgb: Sequence[np.ndarray], grid: PatchGrid, seen: Sequence[TokenFeatures],
) -> np.ndarray:
    """
    Return by how much the pixels of each token differ between a frame and the one before.

    Parameters
    ----------
    images_rgb : sequence of numpy.ndarray
        uint8, shape (height, width, 3), red first, oldest first; of any exposures.
    grid : PatchGrid
        The tokens of each image.
    seen : sequence of TokenFeatures
        Of each image: its events and their noise floor.

    Returns
    -------
    numpy.ndarray
        float32, shape (tokens,), grey levels of the sample that differs most between any two
        neighbouring frames; 0 where that is no more than noise. Without events in or beside the
        token it must be more.

    """
    moved = np.zeros((grid.rows, grid.cols), np.bool_)
    for features in seen:
        assert features.activity is not None
        moved |= features.activity > features.noise_floor
    near = cv2.dilate(moved.astype(np.uint8), np.ones((3, 3), np.uint8)).ravel() > 0
    is_still = np.ones_like(near) if near.all() else ~near
    changed = np.zeros(grid.num_tokens, np.float32)
    samples = [sample_tokens(image, grid) for image in images_rgb]
    for before, after in zip(samples, samples[1:]):
        gain = find_gain(after, before, is_still)
        differences = find_differences(after / np.float32(gain), before)
        exceeds = np.where(
            near, differences.exceed(*WITH_EVENTS), differences.exceed(*WITHOUT_EVENTS))
        changed[exceeds] = np.maximum(changed, differences.largest)[exceeds]
    return changed


def share_budget(
    budget: int, num_frames: int, num_tokens: int, num_changed: int,
) -> tuple[int, ...]:
    """
    Return how many tokens each frame has, oldest first, ``budget * num_frames`` in all.

    ``budget``, an even share, is at most ``num_tokens``, of which ``num_changed`` changed.
    """
    left = num_frames * budget
    num_earlier = num_frames - 1
    least = max(1, round(_LEAST_SHARE * budget), -((num_tokens - left) // num_earlier))
    earlier = min(budget, max(least, num_changed))
    return (*[earlier] * num_earlier, left - num_earlier * earlier)


def warm_up() -> None:
    """Compile the loops, or load them from the cache, so that no frame waits for it later."""
    height, width, cell_size_px = 56, 56, 4
    counts = np.ones((height // cell_size_px, width // cell_size_px), np.float32)
    activity = ActivityGrid(counts, cell_size_px, height, width, 0, 1)
    image_rgb = np.zeros((height, width, 3), np.uint8)
    select_for_moments(
        [image_rgb] * 2, PatchGeometry(14, 2, height * width, height * width).grid(height, width),
        [activity] * 2, VlmConfig(keep_ratio=0.5, selection='events_and_objectness'))
