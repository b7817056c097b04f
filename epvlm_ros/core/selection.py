"""
Which visual tokens are computed on: activity per token -> indices of the kept tokens.

A policy is a ranking of the tokens, best first; the budget keeps the head of it. So the number of
kept tokens is exact, and a smaller budget keeps a part of what a larger one keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from epvlm_ros.core.patch_grid import PatchGrid
import numpy as np

NO_FALLBACK = ''
# What was used in place of the event rule, and why; every value of Selection.fallback.
DENSE_STATIC_SCENE = 'dense: static scene'
UNIFORM_STATIC_SCENE = 'uniform: static scene'
DENSE_NO_EVENT_DATA = 'dense: no event data'
UNIFORM_NO_EVENT_DATA = 'uniform: no event data'
FALLBACKS = (
    NO_FALLBACK, DENSE_STATIC_SCENE, UNIFORM_STATIC_SCENE, DENSE_NO_EVENT_DATA,
    UNIFORM_NO_EVENT_DATA)


@dataclass(frozen=True)
class TokenScene:
    """
    What a policy may look at.

    Parameters
    ----------
    rows, cols : int
        The grid of visual tokens.
    activity : numpy.ndarray or None
        float32, shape (rows, cols), events per token; None where no event data came.
    seed : int
        Makes one random selection differ from another.

    """

    rows: int
    cols: int
    activity: np.ndarray | None = None
    seed: int = 0

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the whole image."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Selection:
    """
    The tokens to compute on.

    Parameters
    ----------
    kept_indices : numpy.ndarray
        int64, ascending, row by row, without repeats, at least one.
    policy : str
        The ranking that chose them: events, uniform, random, or dense for all tokens.
    fallback : str
        One of ``FALLBACKS``; empty when the configured rule was used.

    """

    kept_indices: np.ndarray
    policy: str
    fallback: str


def rank_by_events(scene: TokenScene) -> np.ndarray:
    """
    Rank tokens by motion intensity, the quantile rule of EP-VLM (arXiv 2506.07627) as a budget.

    Keeping the k first is the mask ``S >= Q_(1 - k/N)(S)`` wherever the k-th and the following
    intensity differ. Equal ones, such as all the still tokens, follow in even coverage, so
    that a budget beyond the moving parts takes samples of the whole still scene.
    """
    assert scene.activity is not None
    coverage_rank = np.argsort(rank_uniformly(scene))
    return np.lexsort((coverage_rank, -scene.activity.ravel()))


def rank_uniformly(scene: TokenScene) -> np.ndarray:
    """Rank tokens so that the first k cover the image evenly, for every k."""
    return _even_coverage_order(scene.rows, scene.cols)


def rank_randomly(scene: TokenScene) -> np.ndarray:
    """Rank tokens at random; the same seed gives the same order."""
    return np.random.default_rng(scene.seed).permutation(scene.num_tokens)


POLICIES: dict[str, Callable[[TokenScene], np.ndarray]] = {
    'events': rank_by_events,
    'uniform': rank_uniformly,
    'random': rank_randomly,
}


def token_budget(keep_ratio: float, num_tokens: int) -> int:
    """
    Return how many of ``num_tokens`` tokens ``keep_ratio`` keeps, at least one.

    Raises
    ------
    ValueError
        If the ratio is not in (0, 1].

    """
    if not 0.0 < keep_ratio <= 1.0:
        raise ValueError(f'keep_ratio is {keep_ratio}: give more than 0 and at most 1')
    return max(1, round(keep_ratio * num_tokens))


def select_tokens(
    scene: TokenScene,
    keep_ratio: float,
    *,
    policy: str = 'events',
    static_scene_policy: str = 'dense',
    is_static: bool = False,
) -> Selection:
    """
    Choose the visual tokens to compute on.

    Parameters
    ----------
    scene : TokenScene
        The grid and its activity; not changed.
    keep_ratio : float
        Share of the tokens to keep, in (0, 1]; 1 is the dense model.
    policy : str
        A key of ``POLICIES``.
    static_scene_policy : str
        'dense' or 'uniform': used in place of 'events' where there is nothing to go by.
    is_static : bool
        Whether hardly any events came, see ``is_static_scene``.

    Returns
    -------
    Selection
        ``token_budget`` tokens, or all of them after the fallback 'dense'.

    Raises
    ------
    ValueError
        If a policy is unknown, the ratio is out of range or the activity has another shape.

    """
    budget = token_budget(keep_ratio, scene.num_tokens)
    _check(scene, policy, static_scene_policy)
    if budget == scene.num_tokens:
        return Selection(np.arange(budget, dtype=np.int64), 'dense', NO_FALLBACK)
    fallback = NO_FALLBACK
    if policy == 'events' and (scene.activity is None or is_static):
        reason = 'no event data' if scene.activity is None else 'static scene'
        policy, fallback = static_scene_policy, f'{static_scene_policy}: {reason}'
    if policy == 'dense':
        return Selection(np.arange(scene.num_tokens, dtype=np.int64), policy, fallback)
    kept_indices = np.sort(POLICIES[policy](scene)[:budget])
    return Selection(kept_indices.astype(np.int64), policy, fallback)


def is_static_scene(
    activity: np.ndarray, grid: PatchGrid, window_length_s: float, static_scene_rate: float,
    pixel_density: float = 1.0,
) -> bool:
    """
    Tell whether no token sees more than noise.

    Parameters
    ----------
    activity : numpy.ndarray
        float32, shape (rows, cols), events per token in the window.
    grid : PatchGrid
        The tokens.
    window_length_s : float
        Length of the event window, above 0.
    static_scene_rate : float
        Events per sensor pixel and second that the busiest token of a static scene may see.
    pixel_density : float
        Sensor pixels that see one pixel of the image, above 0.

    Raises
    ------
    ValueError
        If the window has no length.

    """
    if not window_length_s > 0.0:
        raise ValueError(
            f'the event window is {window_length_s} s long: give a window that ends after its '
            'start')
    busiest = float(activity.max())
    num_sensor_pixels = grid.token_area_px * pixel_density
    return busiest <= static_scene_rate * num_sensor_pixels * window_length_s


def _check(scene: TokenScene, policy: str, static_scene_policy: str) -> None:
    if policy not in POLICIES:
        raise ValueError(f'selection is {policy!r}: give one of {", ".join(POLICIES)}')
    if static_scene_policy not in ('dense', 'uniform'):
        raise ValueError(
            f'static_scene_policy is {static_scene_policy!r}: give dense or uniform')
    if scene.activity is not None and scene.activity.shape != (scene.rows, scene.cols):
        raise ValueError(
            f'the activity has shape {scene.activity.shape}: give ({scene.rows}, {scene.cols}), '
            'one number a token')


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
