"""The paper's quantile rule, the other policies, and what happens in a still scene."""

from dataclasses import fields, replace

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import (
    FALLBACKS, image_detail, is_static_scene, noise_floor, POLICIES, rank_uniformly,
    select_for_frame, select_tokens, token_budget, TokenFeatures)
from hypothesis import given, settings, strategies
import numpy as np
import pytest

GRIDS = strategies.tuples(strategies.integers(1, 12), strategies.integers(1, 12))
RATIOS = strategies.floats(0.01, 1.0)


def make_features(rows: int, cols: int, seed: int = 0) -> TokenFeatures:
    """Return a scene in which every token has another activity."""
    random = np.random.default_rng(seed)
    values = random.permutation(rows * cols).astype(np.float32).reshape(rows, cols)
    detail = random.random((rows, cols)).astype(np.float32)
    return TokenFeatures(
        rows, cols, values, seed, detail, noise_floor=rows * cols / 2, saliency=1.0 - detail,
        objectness=detail[::-1])


@settings(max_examples=100, deadline=None)
@given(grid=GRIDS, keep_ratio=RATIOS, seed=strategies.integers(0, 99))
def test_distinct_activities_give_the_quantile_mask(
    grid: tuple[int, int], keep_ratio: float, seed: int,
) -> None:
    features = make_features(*grid, seed)
    selection = select_tokens(features, keep_ratio)
    assert features.activity is not None
    # M = 1 where S >= Q_(1 - tau)(S), tau being the share that the budget comes to
    share = len(selection.kept_indices) / features.num_tokens
    threshold = np.quantile(features.activity.astype(np.float64), 1 - share)
    expected = np.flatnonzero(features.activity >= threshold)
    assert selection.kept_indices.tolist() == expected.tolist()
    assert selection.fallback == ''


def test_by_hand() -> None:
    activity = np.array([[5, 0, 1, 9], [2, 7, 0, 3]], dtype=np.float32)
    selection = select_tokens(TokenFeatures(2, 4, activity), 0.5)
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
    features = TokenFeatures(
        *grid, activity, seed, activity[::-1], num_levels / 2, seed / 99, activity[:, ::-1],
        activity[::-1, ::-1])
    kept = select_tokens(features, keep_ratio, policy=policy).kept_indices
    assert len(kept) == token_budget(keep_ratio, features.num_tokens)
    assert np.all(np.diff(kept) > 0) and kept[0] >= 0 and kept[-1] < features.num_tokens
    again = select_tokens(features, keep_ratio, policy=policy).kept_indices
    assert np.array_equal(kept, again)
    if policy == 'events':
        values = activity.ravel()
        dropped = np.setdiff1d(np.arange(features.num_tokens), kept)
        assert not len(dropped) or values[kept].min() >= values[dropped].max()


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_a_smaller_budget_keeps_a_part_of_a_larger_one(policy: str) -> None:
    features = make_features(7, 9)
    previous: set[int] = set()
    for keep_ratio in np.linspace(0.02, 0.98, 20):
        kept = set(select_tokens(features, float(keep_ratio), policy=policy).kept_indices.tolist())
        assert previous <= kept
        previous = kept


@settings(max_examples=200, deadline=None)
@given(values=strategies.lists(
    strategies.floats(width=32, allow_nan=False) | strategies.sampled_from((0.0, -0.0, 1.0)),
    min_size=1, max_size=60))
def test_the_largest_come_first_and_equal_ones_in_even_coverage(values: list[float]) -> None:
    activity = np.array([values], np.float32)
    features = TokenFeatures(1, len(values), activity)
    order = rank_uniformly(features)
    expected = sorted(order.tolist(), key=lambda token: -activity[0, token])  # sorted is stable
    assert POLICIES['events'](features).tolist() == expected


def test_leftover_budget_covers_the_still_scene() -> None:
    activity = np.zeros((8, 8), dtype=np.float32)
    activity[0, 0] = 3.0  # one moving token, 16 more in the budget
    kept = select_tokens(TokenFeatures(8, 8, activity), 17 / 64).kept_indices
    per_quarter = np.zeros((4, 4), dtype=int)
    np.add.at(per_quarter, (kept // 8 // 2, kept % 8 // 2), 1)
    assert per_quarter.min() >= 1  # one in every 2 x 2 neighbourhood


def test_uniform_order_is_the_ordered_dither_matrix() -> None:
    # The 4 x 4 matrix of ordered dithering, written as the places of ranks 0 to 15.
    expected = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    order = rank_uniformly(TokenFeatures(4, 4))
    ranks = np.empty(16, dtype=int)
    ranks[order] = np.arange(16)
    assert ranks.reshape(4, 4).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(rows=strategies.integers(2, 30), cols=strategies.integers(2, 30), budget=RATIOS)
def test_uniform_covers_any_grid(rows: int, cols: int, budget: float) -> None:
    features = TokenFeatures(rows, cols)
    kept = select_tokens(features, budget, policy='uniform').kept_indices
    places = np.stack(np.divmod(np.arange(features.num_tokens), cols), axis=1)
    to_kept = np.abs(places[:, None] - places[kept][None]).max(axis=2).min(axis=1)
    # a lattice of side 2^n holds fewer tokens than the budget, so no token is farther than that
    side = 1
    while -(-rows // side) * -(-cols // side) > len(kept):
        side *= 2
    assert to_kept.max() < side


def test_random_differs_by_seed_only() -> None:
    kept = [
        select_tokens(TokenFeatures(9, 9, None, seed), 0.4, policy='random').kept_indices.tolist()
        for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize(
    'static_scene_policy, num_kept',
    [('dense', 64), ('uniform', 16), ('detail', 16), ('saliency', 16)])
@pytest.mark.parametrize(
    'policy', ['events', 'events_and_coverage', 'events_and_detail', 'events_and_saliency',
               'events_and_objectness'])
def test_still_scenes_fall_back_by_name(
    policy: str, static_scene_policy: str, num_kept: int,
) -> None:
    scores = {'detail': make_features(8, 8).detail, 'saliency': make_features(8, 8).saliency}
    silent = TokenFeatures(8, 8, np.zeros((8, 8), np.float32), **scores)
    names = {'policy': policy, 'static_scene_policy': static_scene_policy}
    static = select_tokens(silent, 0.25, is_static=True, **names)
    assert static.fallback == f'{static_scene_policy}: static scene'
    no_data = select_tokens(TokenFeatures(8, 8, **scores), 0.25, **names)
    assert no_data.fallback == f'{static_scene_policy}: no event data'
    for selection in (static, no_data):
        assert selection.fallback in FALLBACKS
        assert selection.policy == static_scene_policy
        assert len(selection.kept_indices) == num_kept


@pytest.mark.parametrize('policy', ['uniform', 'random', 'centre', 'detail', 'saliency'])
def test_policies_without_events_never_fall_back(policy: str) -> None:
    for is_static in (False, True):
        ones = np.ones((4, 4), np.float32)
        features = TokenFeatures(4, 4, detail=ones, saliency=ones)
        selection = select_tokens(features, 0.5, policy=policy, is_static=is_static)
        assert (selection.policy, selection.fallback) == (policy, '')
        assert len(selection.kept_indices) == 8


@pytest.mark.parametrize('policy', sorted(POLICIES))
def test_keeping_all_is_dense_and_no_fallback(policy: str) -> None:
    selection = select_tokens(make_features(3, 2), 1.0, policy=policy, is_static=True)
    assert selection.kept_indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert (selection.policy, selection.fallback) == ('dense', '')


@pytest.mark.parametrize('keep_ratio, num_tokens, budget', [
    (0.5, 391, 196), (0.5, 144, 72), (0.01, 10, 1), (1.0, 7, 7), (0.3, 1, 1), (0.5, 5, 2)])
def test_budget(keep_ratio: float, num_tokens: int, budget: int) -> None:
    assert token_budget(keep_ratio, num_tokens) == budget


@pytest.mark.parametrize('keep_ratio', [0.0, -0.5, 1.01, float('nan')])
def test_impossible_ratios_are_refused(keep_ratio: float) -> None:
    with pytest.raises(ValueError, match='keep_ratio'):
        select_tokens(make_features(2, 2), keep_ratio)


def test_unknown_names_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match='events, events_and_coverage, .*, uniform, random'):
        select_tokens(make_features(2, 2), 0.5, policy='attention')
    with pytest.raises(ValueError, match='dense, uniform, detail, saliency'):
        select_tokens(make_features(2, 2), 0.5, static_scene_policy='memory')
    with pytest.raises(ValueError, match=r'give \(2, 3\)'):
        select_tokens(TokenFeatures(2, 3, np.zeros((3, 2), np.float32)), 0.5)
    with pytest.raises(ValueError, match='detail has shape'):
        select_tokens(TokenFeatures(2, 3, detail=np.zeros((3, 2), np.float32)), 0.5)
    for names in ({'policy': 'detail'}, {'static_scene_policy': 'detail'}):
        with pytest.raises(ValueError, match='detail looks at the image: give its detail'):
            select_tokens(TokenFeatures(2, 3), 0.5, **names)
        all_kept = select_tokens(TokenFeatures(2, 3), 1.0, **names)  # nothing to look for
        assert len(all_kept.kept_indices) == 6
    with pytest.raises(ValueError, match='still_share is 1.5'):
        select_tokens(TokenFeatures(2, 3, still_share=1.5), 0.5)


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


def test_the_policies_are_those_of_the_parameter() -> None:
    choices = {item.name: item.metadata['choices'] for item in fields(VlmConfig)}
    assert set(choices['selection']) == set(POLICIES)


def test_noise_does_not_outrank_silence_and_detail_of_the_still_scene_gets_its_share() -> None:
    activity = np.array([[0, 3, 40, 60], [2, 1, 50, 0]], dtype=np.float32)
    detail = np.array([[9, 0, 1, 2], [3, 8, 0, 7]], dtype=np.float32)
    features = TokenFeatures(2, 4, activity, detail=detail, noise_floor=3.0, still_share=0.5)
    # by events alone 3, 6, 2, then the noise 1, 4, 5; by detail 0, 5, 7, 4, 3, 2, ...
    assert select_tokens(features, 0.5).kept_indices.tolist() == [1, 2, 3, 6]
    kept = [set(select_tokens(features, k / 8, policy='events_and_detail').kept_indices.tolist())
            for k in range(1, 9)]
    order = [(kept[0] | set()).pop()] + [(b - a).pop() for a, b in zip(kept, kept[1:])]
    # the first of both orders are due at once, and detail goes first among equals; 3, 6 and 2
    # move, then detail alone counts
    assert order == [0, 3, 5, 6, 7, 2, 4, 1]


@pytest.mark.parametrize('share, moving', [(0.0, 6), (0.25, 6), (0.5, 4), (1.0, 0)])
def test_the_share_of_the_still_scene_by_hand(share: float, moving: int) -> None:
    activity = np.zeros((4, 4), np.float32)
    activity[:2, :3] = 9.0  # six tokens move; all detail is in the lower half
    detail = np.zeros((4, 4), np.float32)
    detail[2:] = 1.0
    features = TokenFeatures(4, 4, activity, detail=detail, still_share=share)
    kept = select_tokens(features, 0.5, policy='events_and_detail').kept_indices
    # 8 tokens: the shares of 0.25 and 0.5 leave room for 6 and 4 moving ones
    assert np.isin(kept, [0, 1, 2, 4, 5, 6]).sum() == moving
    assert (kept >= 8).sum() == 8 - moving


def test_what_a_moving_edge_encloses_moves_and_lone_weak_tokens_do_not() -> None:
    activity = np.zeros((7, 7), np.float32)
    activity[1:5, 1:5] = 20.0
    activity[2:4, 2:4] = 0.0  # the inside of a uniform surface
    activity[5, 4] = 6.0  # above half of the floor, beside the region: belongs to it
    activity[6, 0] = 6.0  # the same by itself: noise
    features = TokenFeatures(7, 7, activity, noise_floor=10.0, still_share=0.0)
    kept = select_tokens(features, 17 / 49, policy='events_and_coverage').kept_indices
    expected = np.zeros((7, 7), bool)
    expected[1:5, 1:5] = expected[5, 4] = True
    assert kept.tolist() == np.flatnonzero(expected).tolist()
    # the events alone keep the lone one and leave the inside to chance
    by_events = select_tokens(features, 14 / 49).kept_indices
    assert 42 in by_events and not np.isin([16, 17, 23, 24], by_events).any()


def test_centre_by_hand() -> None:
    order = [set(select_tokens(TokenFeatures(3, 5), k / 15, policy='centre').kept_indices.tolist())
             for k in (1, 3)]
    assert order == [{7}, {6, 7, 8}]  # a step to the side is a smaller share than one down


def test_detail_is_the_energy_of_the_gradient() -> None:
    image = np.full((56, 112, 3), 100, np.uint8)
    image[:, 70:] = 200  # one vertical edge in the middle of the third column of tokens
    image[40:, :14] = (255, 0, 0)
    image[40:, 14:28] = (0, 130, 0)  # nearly as bright: 0.299 * 255 = 76.2, 0.587 * 130 = 76.3
    grid = PatchGeometry(14, 2, 784, 10 ** 6).grid(56, 112)
    detail = image_detail(image, grid)
    assert detail.shape == (2, 4) and detail.dtype == np.float32
    # 2 x 4 x 100 each on both sides of the edge, in the 14 samples along it
    assert detail[0].tolist() == [0.0, 0.0, 14 * 2 * 400.0 ** 2, 0.0]
    assert 0.0 < detail[1, 0] < detail[1, 2] and detail[1, 1] < detail[1, 0]
    with pytest.raises(ValueError, match='give the tokens of this image'):
        image_detail(image[:28], grid)


def test_a_frame_is_selected_as_the_configuration_says() -> None:
    image = np.zeros((112, 112, 3), np.uint8)
    image[90:, 90:] = np.random.default_rng(0).integers(0, 256, (22, 22, 3))
    grid = PatchGeometry(14, 2, 784, 10 ** 6).grid(112, 112)
    counts = np.zeros((28, 28), np.float32)
    counts[:7, :7] = 5.0  # 245 events in token 0
    counts[:7, 7:14] = 0.2  # 9.8 in token 1: noise
    activity = ActivityGrid(counts, 4, 112, 112, 0, 10_000_000)
    config = VlmConfig(selection='events_and_detail', keep_ratio=2 / 16)
    assert noise_floor(grid, 0.01, config.static_scene_rate) == pytest.approx(15.68)
    assert noise_floor(grid, 0.02, 3.0, 0.25) == pytest.approx(3.0 * 784 * 0.25 * 0.02)
    selection = select_for_frame(image, grid, activity, config)
    assert selection.kept_indices.tolist() == [0, 15] and selection.fallback == ''
    by_events = select_for_frame(image, grid, activity, replace(config, selection='events'))
    assert by_events.kept_indices.tolist() == [0, 1]
    all_noise = replace(config, static_scene_rate=100.0, static_scene_policy='detail')
    still = select_for_frame(image, grid, activity, all_noise)
    assert 15 in still.kept_indices and still.fallback == 'detail: static scene'
    assert select_for_frame(image, grid, None, config).fallback == 'dense: no event data'
    seeds = [select_for_frame(
        image, grid, None, replace(config, selection='random', keep_ratio=0.5), seed)
        .kept_indices.tolist() for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
