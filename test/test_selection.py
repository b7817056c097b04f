"""The paper's quantile rule, even coverage, and what happens in a still scene."""

from epvlm_ros.core.patch_grid import PatchGeometry
from epvlm_ros.core.selection import (
    FALLBACKS, is_static_scene, POLICIES, rank_uniformly, select_tokens, token_budget, TokenScene)
from hypothesis import given, settings, strategies
import numpy as np
import pytest

GRIDS = strategies.tuples(strategies.integers(1, 12), strategies.integers(1, 12))
RATIOS = strategies.floats(0.01, 1.0)


def make_scene(rows: int, cols: int, seed: int = 0) -> TokenScene:
    """Return a scene in which every token has another activity."""
    values = np.random.default_rng(seed).permutation(rows * cols).astype(np.float32)
    return TokenScene(rows, cols, values.reshape(rows, cols), seed)


@settings(max_examples=100, deadline=None)
@given(grid=GRIDS, keep_ratio=RATIOS, seed=strategies.integers(0, 99))
def test_distinct_activities_give_the_quantile_mask(
    grid: tuple[int, int], keep_ratio: float, seed: int,
) -> None:
    scene = make_scene(*grid, seed)
    selection = select_tokens(scene, keep_ratio)
    assert scene.activity is not None
    # M = 1 where S >= Q_(1 - tau)(S), tau being the share that the budget comes to
    share = len(selection.kept_indices) / scene.num_tokens
    threshold = np.quantile(scene.activity.astype(np.float64), 1 - share)
    expected = np.flatnonzero(scene.activity >= threshold)
    assert selection.kept_indices.tolist() == expected.tolist()
    assert selection.fallback == ''


def test_by_hand() -> None:
    activity = np.array([[5, 0, 1, 9], [2, 7, 0, 3]], dtype=np.float32)
    selection = select_tokens(TokenScene(2, 4, activity), 0.5)
    assert selection.kept_indices.tolist() == [0, 3, 5, 7]  # 5, 9, 7 and 3
    assert selection.kept_indices.dtype == np.int64
    assert (selection.policy, selection.fallback) == ('events', '')


@settings(max_examples=100, deadline=None)
@given(
    grid=GRIDS, keep_ratio=RATIOS, policy=strategies.sampled_from(sorted(POLICIES)),
    num_levels=strategies.integers(1, 4), seed=strategies.integers(0, 99))
def test_the_budget_is_exact_and_the_order_is_row_by_row(
    grid: tuple[int, int], keep_ratio: float, policy: str, num_levels: int, seed: int,
) -> None:
    activity = np.random.default_rng(seed).integers(0, num_levels, grid).astype(np.float32)
    scene = TokenScene(*grid, activity, seed)
    kept = select_tokens(scene, keep_ratio, policy=policy).kept_indices
    assert len(kept) == token_budget(keep_ratio, scene.num_tokens)
    assert np.all(np.diff(kept) > 0) and kept[0] >= 0 and kept[-1] < scene.num_tokens
    again = select_tokens(scene, keep_ratio, policy=policy).kept_indices
    assert np.array_equal(kept, again)
    if policy == 'events':
        values = activity.ravel()
        dropped = np.setdiff1d(np.arange(scene.num_tokens), kept)
        assert not len(dropped) or values[kept].min() >= values[dropped].max()


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_a_smaller_budget_keeps_a_part_of_a_larger_one(policy: str) -> None:
    scene = make_scene(7, 9)
    previous: set[int] = set()
    for keep_ratio in np.linspace(0.02, 0.98, 20):
        kept = set(select_tokens(scene, float(keep_ratio), policy=policy).kept_indices.tolist())
        assert previous <= kept
        previous = kept


def test_leftover_budget_covers_the_still_scene() -> None:
    activity = np.zeros((8, 8), dtype=np.float32)
    activity[0, 0] = 3.0  # one moving token, 16 more in the budget
    kept = select_tokens(TokenScene(8, 8, activity), 17 / 64).kept_indices
    per_quarter = np.zeros((4, 4), dtype=int)
    np.add.at(per_quarter, (kept // 8 // 2, kept % 8 // 2), 1)
    assert per_quarter.min() >= 1  # one in every 2 x 2 neighbourhood


def test_uniform_order_is_the_ordered_dither_matrix() -> None:
    # The 4 x 4 matrix of ordered dithering, written as the places of ranks 0 to 15.
    expected = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    order = rank_uniformly(TokenScene(4, 4))
    ranks = np.empty(16, dtype=int)
    ranks[order] = np.arange(16)
    assert ranks.reshape(4, 4).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(rows=strategies.integers(2, 30), cols=strategies.integers(2, 30), budget=RATIOS)
def test_uniform_covers_any_grid(rows: int, cols: int, budget: float) -> None:
    scene = TokenScene(rows, cols)
    kept = select_tokens(scene, budget, policy='uniform').kept_indices
    places = np.stack(np.divmod(np.arange(scene.num_tokens), cols), axis=1)
    to_kept = np.abs(places[:, None] - places[kept][None]).max(axis=2).min(axis=1)
    # a lattice of side 2^n holds fewer tokens than the budget, so no token is farther than that
    side = 1
    while -(-rows // side) * -(-cols // side) > len(kept):
        side *= 2
    assert to_kept.max() < side


def test_random_differs_by_seed_only() -> None:
    kept = [
        select_tokens(TokenScene(9, 9, None, seed), 0.4, policy='random').kept_indices.tolist()
        for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize('static_scene_policy, num_kept', [('dense', 64), ('uniform', 16)])
def test_still_scenes_fall_back_by_name(static_scene_policy: str, num_kept: int) -> None:
    silent = TokenScene(8, 8, np.zeros((8, 8), np.float32))
    static = select_tokens(
        silent, 0.25, static_scene_policy=static_scene_policy, is_static=True)
    assert static.fallback == f'{static_scene_policy}: static scene'
    no_data = select_tokens(TokenScene(8, 8), 0.25, static_scene_policy=static_scene_policy)
    assert no_data.fallback == f'{static_scene_policy}: no event data'
    for selection in (static, no_data):
        assert selection.fallback in FALLBACKS
        assert selection.policy == static_scene_policy
        assert len(selection.kept_indices) == num_kept


@pytest.mark.parametrize('policy', ['uniform', 'random'])
def test_policies_without_events_never_fall_back(policy: str) -> None:
    for is_static in (False, True):
        selection = select_tokens(TokenScene(4, 4), 0.5, policy=policy, is_static=is_static)
        assert (selection.policy, selection.fallback) == (policy, '')
        assert len(selection.kept_indices) == 8


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_keeping_all_is_dense_and_no_fallback(policy: str) -> None:
    selection = select_tokens(TokenScene(3, 2), 1.0, policy=policy, is_static=True)
    assert selection.kept_indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert (selection.policy, selection.fallback) == ('dense', '')


@pytest.mark.parametrize('keep_ratio, num_tokens, budget', [
    (0.5, 391, 196), (0.5, 144, 72), (0.01, 10, 1), (1.0, 7, 7), (0.3, 1, 1), (0.5, 5, 2)])
def test_budget(keep_ratio: float, num_tokens: int, budget: int) -> None:
    assert token_budget(keep_ratio, num_tokens) == budget


@pytest.mark.parametrize('keep_ratio', [0.0, -0.5, 1.01, float('nan')])
def test_impossible_ratios_are_refused(keep_ratio: float) -> None:
    with pytest.raises(ValueError, match='keep_ratio'):
        select_tokens(make_scene(2, 2), keep_ratio)


def test_unknown_names_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match='events, uniform, random'):
        select_tokens(make_scene(2, 2), 0.5, policy='attention')
    with pytest.raises(ValueError, match='dense or uniform'):
        select_tokens(make_scene(2, 2), 0.5, static_scene_policy='memory')
    with pytest.raises(ValueError, match=r'give \(2, 3\)'):
        select_tokens(TokenScene(2, 3, np.zeros((3, 2), np.float32)), 0.5)


def test_static_rule_counts_events_per_pixel_and_second() -> None:
    # 640 x 480 px in 17 x 23 tokens: 785.68 px a token; in 40 ms at 1 event per pixel and
    # second that is 31.43 events
    grid = PatchGeometry(14, 2, 3136, 12845056).grid(480, 640)
    activity = np.full((17, 23), 10.0, dtype=np.float32)
    activity[3, 4] = 31.0
    assert is_static_scene(activity, grid, 0.04, 1.0)
    activity[3, 4] = 32.0
    assert not is_static_scene(activity, grid, 0.04, 1.0)
    assert is_static_scene(activity, grid, 0.08, 1.0)
    assert not is_static_scene(activity, grid, 0.04, 0.0)
    assert is_static_scene(np.zeros_like(activity), grid, 0.04, 0.0)
    with pytest.raises(ValueError, match='window'):
        is_static_scene(activity, grid, 0.0, 1.0)
