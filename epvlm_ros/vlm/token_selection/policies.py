"""Selection policies: each ranks all visual tokens of an image, best first."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
from epvlm_ros.vlm.token_selection.features import TokenFeatures
from epvlm_ros.vlm.token_selection.objectness import add_events
from epvlm_ros.vlm.token_selection.saliency import combine, event_contrast
import numpy as np


def rank_by_events(features: TokenFeatures) -> np.ndarray:
    """
    Rank tokens by motion intensity, the quantile rule of EP-VLM (arXiv 2506.07627) as a budget.

    Keeping the k first is the mask ``S >= Q_(1 - k/N)(S)`` wherever the k-th and the following
    intensity differ. Equal ones, such as all still tokens, follow in even coverage.
    """
    assert features.activity is not None
    return _rank_by_score(features, features.activity)


def rank_by_events_and_coverage(features: TokenFeatures) -> np.ndarray:
    """
    Rank moving regions by intensity, and give a share of every budget to even coverage.

    A region is what is connected above half of the noise floor, with the floor itself exceeded
    somewhere in it (hysteresis); what it encloses belongs to it (hole filling), because events
    come from the edges of a uniform surface only.
    """
    assert features.activity is not None
    intensity = _fill_regions(features.activity, features.noise_floor)
    return _interleave(features, intensity, rank_uniformly(features))


def rank_by_events_and_detail(features: TokenFeatures) -> np.ndarray:
    """
    Rank moving tokens by intensity, and give a share of every budget to detail of the image.

    Tokens up to the noise floor do not move. A budget beyond the moving ones goes to detail.
    """
    assert features.activity is not None
    intensity = np.where(features.activity > features.noise_floor, features.activity, 0.0)
    return _interleave(features, intensity, rank_by_detail(features))


def rank_by_detail(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by the detail of the image alone."""
    assert features.detail is not None
    return _rank_by_score(features, features.detail)


def rank_by_saliency(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by colour contrast with the background, see saliency.py."""
    assert features.saliency is not None
    return _rank_by_score(features, features.saliency)


def rank_by_events_and_saliency(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by colour contrast and by events in or beside them, see saliency.py."""
    assert features.activity is not None and features.saliency is not None
    contrast = event_contrast(features.activity, features.noise_floor)
    return _rank_by_score(features, combine(features.saliency, contrast))


def rank_by_objectness(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by edge density and colour contrast, see objectness.py."""
    assert features.objectness is not None
    return _rank_by_score(features, features.objectness)


def rank_by_events_and_objectness(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by objectness and by events in or beside them, see objectness.py."""
    assert features.activity is not None and features.objectness is not None
    return _rank_by_score(features, add_events(
        features.objectness, features.activity, features.noise_floor))


def rank_by_centre(features: TokenFeatures) -> np.ndarray:
    """Rank tokens by distance from the image centre, in shares of its sides."""
    row, col = np.divmod(np.arange(features.num_tokens), features.cols)
    down = (row + 0.5) / features.rows - 0.5
    right = (col + 0.5) / features.cols - 0.5
    return _rank_by_score(features, -np.round(down * down + right * right, 9))


def rank_uniformly(features: TokenFeatures) -> np.ndarray:
    """Rank tokens so that the first k cover the image evenly, for every k."""
    return _even_coverage_order(features.rows, features.cols)


def rank_randomly(features: TokenFeatures) -> np.ndarray:
    """Rank tokens at random; the same seed gives the same order."""
    return np.random.default_rng(features.seed).permutation(features.num_tokens)


POLICIES: dict[str, Callable[[TokenFeatures], np.ndarray]] = {
    'events': rank_by_events,
    'events_and_coverage': rank_by_events_and_coverage,
    'events_and_detail': rank_by_events_and_detail,
    'events_and_saliency': rank_by_events_and_saliency,
    'events_and_objectness': rank_by_events_and_objectness,
    'detail': rank_by_detail,
    'saliency': rank_by_saliency,
    'objectness': rank_by_objectness,
    'centre': rank_by_centre,
    'uniform': rank_uniformly,
    'random': rank_randomly,
}
EVENT_POLICIES = frozenset(name for name in POLICIES if name.startswith('events'))
# The field of TokenFeatures that a policy needs of the image.
IMAGE_SCORES = {
    'events_and_detail': 'detail', 'detail': 'detail', 'events_and_saliency': 'saliency',
    'saliency': 'saliency', 'events_and_objectness': 'objectness', 'objectness': 'objectness'}


def _rank_by_score(features: TokenFeatures, score: np.ndarray) -> np.ndarray:
    """Rank tokens by a score each in float32, equal ones in even coverage."""
    order = rank_uniformly(features)
    return order[_places_by_size(score.ravel()[order].astype(np.float32))]


def _places_by_size(values: np.ndarray) -> np.ndarray:
    """
    Return ``numpy.argsort(-values, kind='stable')`` of float32 values, several times as fast.

    It sorts integers that hold a value in their upper and its place in their lower half.
    """
    bits = (np.float32(0.0) - values).view(np.int32)  # not -values: both zeros become one
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # negative ones are stored largest first
    keys = (bits.astype(np.int64) << 32) | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


def _interleave(
    features: TokenFeatures, intensity: np.ndarray, still_order: np.ndarray,
) -> np.ndarray:
    """
    Merge moving tokens with ``still_order``, which gets its share of every prefix.

    ``intensity`` has shape (rows, cols), 0 where nothing moves; ``still_order`` holds all tokens.
    """
    moving = _rank_by_score(features, intensity)[:np.count_nonzero(intensity)]
    # The n-th of the still order is due when the ranking is n / share long, the n-th moving one
    # when it is n / (1 - share) long; a token is in at the earlier of its two places.
    due = np.full(features.num_tokens, np.inf)
    place = np.arange(1, features.num_tokens + 1)
    if features.still_share < 1.0:
        due[moving] = place[:len(moving)] / (1.0 - features.still_share)
    if features.still_share > 0.0:
        still_due = np.empty(features.num_tokens)
        still_due[still_order] = place / features.still_share
        due = np.minimum(due, still_due)
    still_rank = np.empty(features.num_tokens, np.int64)
    still_rank[still_order] = place
    return np.lexsort((still_rank, due))


def _fill_regions(activity: np.ndarray, noise_floor: float) -> np.ndarray:
    """Return the activity of moving regions, enclosed tokens at their median, 0 elsewhere."""
    above = (activity > noise_floor / 2.0).astype(np.uint8)
    num_regions, region = cv2.connectedComponents(above, connectivity=8)
    moves = np.zeros(num_regions, np.bool_)
    moves[region[activity > noise_floor]] = True
    moving = moves[region]
    # what is not connected with the frame around the grid is enclosed
    _, outside = cv2.connectedComponents(
        np.pad(~moving, 1, constant_values=True).astype(np.uint8), connectivity=4)
    enclosed = (outside != outside[0, 0])[1:-1, 1:-1] & ~moving
    filled = np.where(moving, activity, 0.0)
    if enclosed.any():
        filled[enclosed] = np.median(activity[moving])
    return filled


@lru_cache(maxsize=16)
def _even_coverage_order(rows: int, cols: int) -> np.ndarray:
    """
    Return all tokens in the order of an ordered-dither (Bayer) matrix that covers the grid.

    Prefixes of 1 / 4 ** n of the tokens are regular lattices, refined along the diagonal first.
    """
    num_bits = max(rows - 1, cols - 1).bit_length()
    row, col = np.divmod(np.arange(rows * cols), cols)
    rank = np.zeros(rows * cols, dtype=np.int64)
    for bit in range(num_bits):  # the lowest bit of a coordinate weighs most
        row_bit, col_bit = (row >> bit) & 1, (col >> bit) & 1
        # quadrants in the order (0, 0), (1, 1), (0, 1), (1, 0)
        rank = rank * 4 + 2 * (row_bit ^ col_bit) + row_bit
    order = np.argsort(rank)
    order.setflags(write=False)  # the cache hands out one array to everybody
    return order
