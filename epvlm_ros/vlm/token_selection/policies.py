"""The policies: each ranks the tokens of a scene, best first."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
from epvlm_ros.vlm.token_selection.features import TokenScene
from epvlm_ros.vlm.token_selection.saliency import combine, event_contrast
import numpy as np


def rank_by_events(scene: TokenScene) -> np.ndarray:
    """
    Rank tokens by motion intensity, the quantile rule of EP-VLM (arXiv 2506.07627) as a budget.

    Keeping the k first is the mask ``S >= Q_(1 - k/N)(S)`` wherever the k-th and the following
    intensity differ. Equal ones, such as all the still tokens, follow in even coverage, so
    that a budget beyond the moving parts takes samples of the whole still scene.
    """
    assert scene.activity is not None
    return _rank_by_score(scene, scene.activity)


def rank_by_events_and_coverage(scene: TokenScene) -> np.ndarray:
    """
    Rank moving regions by intensity, and give a share of every budget to even coverage.

    A region is what is connected above half of the noise floor, with the floor itself exceeded
    somewhere in it (hysteresis); what it encloses belongs to it (hole filling), because events
    come from the edges of a uniform surface only.
    """
    assert scene.activity is not None
    intensity = _fill_regions(scene.activity, scene.noise_floor)
    return _interleave(scene, intensity, rank_uniformly(scene))


def rank_by_events_and_detail(scene: TokenScene) -> np.ndarray:
    """
    Rank moving tokens by intensity, and give a share of every budget to detail of the image.

    Tokens up to the noise floor do not move. What is left of a budget when the moving ones are
    all in goes to detail as well: to the still objects rather than to the empty ground.
    """
    assert scene.activity is not None
    intensity = np.where(scene.activity > scene.noise_floor, scene.activity, 0.0)
    return _interleave(scene, intensity, rank_by_detail(scene))


def rank_by_detail(scene: TokenScene) -> np.ndarray:
    """Rank tokens by the detail of the image alone."""
    assert scene.detail is not None
    return _rank_by_score(scene, scene.detail)


def rank_by_saliency(scene: TokenScene) -> np.ndarray:
    """Rank tokens by how far their colour is from the ground of the image, see saliency.py."""
    assert scene.saliency is not None
    return _rank_by_score(scene, scene.saliency)


def rank_by_events_and_saliency(scene: TokenScene) -> np.ndarray:
    """Rank tokens by a colour that stands out, or events in them or beside, see saliency.py."""
    assert scene.activity is not None and scene.saliency is not None
    contrast = event_contrast(scene.activity, scene.noise_floor)
    return _rank_by_score(scene, combine(scene.saliency, contrast))


def rank_by_centre(scene: TokenScene) -> np.ndarray:
    """Rank tokens by their distance from the middle of the image, in shares of its sides."""
    row, col = np.divmod(np.arange(scene.num_tokens), scene.cols)
    down = (row + 0.5) / scene.rows - 0.5
    right = (col + 0.5) / scene.cols - 0.5
    return _rank_by_score(scene, -np.round(down * down + right * right, 9))


def rank_uniformly(scene: TokenScene) -> np.ndarray:
    """Rank tokens so that the first k cover the image evenly, for every k."""
    return _even_coverage_order(scene.rows, scene.cols)


def rank_randomly(scene: TokenScene) -> np.ndarray:
    """Rank tokens at random; the same seed gives the same order."""
    return np.random.default_rng(scene.seed).permutation(scene.num_tokens)


POLICIES: dict[str, Callable[[TokenScene], np.ndarray]] = {
    'events': rank_by_events,
    'events_and_coverage': rank_by_events_and_coverage,
    'events_and_detail': rank_by_events_and_detail,
    'events_and_saliency': rank_by_events_and_saliency,
    'detail': rank_by_detail,
    'saliency': rank_by_saliency,
    'centre': rank_by_centre,
    'uniform': rank_uniformly,
    'random': rank_randomly,
}
EVENT_POLICIES = frozenset(name for name in POLICIES if name.startswith('events'))
# What a policy has to know of the image: a field of TokenScene.
IMAGE_SCORES = {
    'events_and_detail': 'detail', 'detail': 'detail', 'events_and_saliency': 'saliency',
    'saliency': 'saliency'}


def _rank_by_score(scene: TokenScene, score: np.ndarray) -> np.ndarray:
    """Rank tokens by a score each in float32, equal ones in even coverage."""
    order = rank_uniformly(scene)
    return order[_places_by_size(score.ravel()[order].astype(np.float32))]


def _places_by_size(values: np.ndarray) -> np.ndarray:
    """
    Return the places of float32 values, the largest first and equal ones in their order.

    It is what ``numpy.argsort(-values, kind='stable')`` returns, several times as fast: whole
    numbers that hold a value in their upper and its place in their lower half are sorted.
    """
    bits = (np.float32(0.0) - values).view(np.int32)  # not -values: both zeros become one
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # negative ones are stored largest first
    keys = (bits.astype(np.int64) << 32) | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


def _interleave(
    scene: TokenScene, intensity: np.ndarray, still_order: np.ndarray,
) -> np.ndarray:
    """
    Merge the moving tokens with all tokens in another order, of which every head gets its share.

    Parameters
    ----------
    scene : TokenScene
        Gives the share of ``still_order``.
    intensity : numpy.ndarray
        Shape (rows, cols); 0 where nothing moves.
    still_order : numpy.ndarray
        int64, all tokens.

    """
    moving = _rank_by_score(scene, intensity)[:np.count_nonzero(intensity)]
    # The n-th of the still order is due when the ranking is n / share long, the n-th moving one
    # when it is n / (1 - share) long; a token is in at the earlier of its two places.
    due = np.full(scene.num_tokens, np.inf)
    place = np.arange(1, scene.num_tokens + 1)
    if scene.still_share < 1.0:
        due[moving] = place[:len(moving)] / (1.0 - scene.still_share)
    if scene.still_share > 0.0:
        still_due = np.empty(scene.num_tokens)
        still_due[still_order] = place / scene.still_share
        due = np.minimum(due, still_due)
    still_rank = np.empty(scene.num_tokens, np.int64)
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

    Every head of a quarter of a power of two is a regular lattice, and between those the
    lattice is refined by its diagonal first, which keeps it even.
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
