"""Tokens of several frames: what changed in earlier ones, most of them in the latest."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm import image_check
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import (
    select_for_frame, select_for_moments, Selection, warm_up)
from epvlm_ros.vlm.token_selection.moments import share_budget
import numpy as np
import pytest

TOKEN_PX, ROWS, COLS = 28, 5, 8
GRID = PatchGeometry(14, 2, TOKEN_PX ** 2, TOKEN_PX ** 2 * 100).grid(
    ROWS * TOKEN_PX, COLS * TOKEN_PX)
CONFIG = VlmConfig(keep_ratio=0.25, selection='events_and_objectness')
WINDOW_NS = 400_000_000
WAS, IS, STILL = (1, 1), (1, 5), (3, 6)  # tokens: row, column


def draw(*tokens: tuple[int, int], gain: float = 1.0, noise: float = 0.0) -> np.ndarray:
    """Return a grey picture with a bright square in the middle of each of these tokens."""
    picture = np.full((ROWS * TOKEN_PX, COLS * TOKEN_PX, 3), 80.0)
    for row, col in tokens:
        top, left = row * TOKEN_PX, col * TOKEN_PX
        picture[top + 4:top + 24, left + 4:left + 24] = (180.0, 120.0, 60.0)
    picture += noise * np.random.default_rng(int(gain * 100)).standard_normal(picture.shape)
    return np.clip(np.round(gain * picture), 0, 255).astype(np.uint8)


def count_events(*tokens: tuple[int, int], rest: float = 0.0) -> ActivityGrid:
    """Return many events in each of these tokens, and a number in each other one."""
    counts = np.full((ROWS, COLS), rest, np.float32)
    for token in tokens:
        counts[token] = 5000.0
    cells = np.repeat(np.repeat(counts / 49, 7, axis=0), 7, axis=1)
    return ActivityGrid(cells, 4, ROWS * TOKEN_PX, COLS * TOKEN_PX, 0, WINDOW_NS)


def number(token: tuple[int, int]) -> int:
    """Return the index of a token."""
    return token[0] * COLS + token[1]


WAY = [(1, col) for col in range(1, 6)]
STANDS = [draw(WAS, STILL), draw(WAS, STILL), draw(IS, STILL)]
EVENTS = [count_events(), count_events(), count_events(*WAY)]
COUNTS = [2, 2, 6]  # of 10 tokens: both ends of the way, and the rest


def kept(selections: Sequence[Selection]) -> list[set[int]]:
    """Return the kept tokens of each frame."""
    return [set(selection.kept_indices.tolist()) for selection in selections]


def test_both_ends_of_a_way_are_kept_in_all_frames_and_not_what_was_passed() -> None:
    selections = select_for_moments(STANDS, GRID, EVENTS, CONFIG)
    assert [len(item.kept_indices) for item in selections] == COUNTS
    oldest, middle, latest = kept(selections)
    assert oldest == middle == {number(WAS), number(IS)}
    assert oldest | {number(STILL)} <= latest
    assert all(np.all(np.diff(item.kept_indices) > 0) for item in selections)
    assert {(item.policy, item.fallback) for item in selections} == {(CONFIG.selection, '')}


def test_what_differs_most_is_first_where_more_changed_than_fits() -> None:
    places = [(row, col) for row in (0, 2, 4) for col in (0, 2, 4, 6)]
    after = draw(*places)
    after[:TOKEN_PX, :TOKEN_PX] = 255  # of (0, 0), which differs most
    selections = select_for_moments(
        [draw(), after], GRID, [count_events(), count_events(*places)], CONFIG)
    assert [len(item.kept_indices) for item in selections] == [4, 6]
    earlier, latest = kept(selections)
    assert number((0, 0)) in earlier & latest
    assert earlier | latest <= {number(place) for place in places}


def test_half_of_the_latest_frame_is_left_to_what_did_not_change() -> None:
    """What changed to even ground comes before things that stand, but takes no more than half."""
    gone = [(row, col) for row in (0, 2, 4) for col in (0, 2, 4, 6)]
    stands = [(1, 7), (3, 7)]
    selections = select_for_moments(
        [draw(*gone, *stands), draw(*stands)], GRID, [count_events(), count_events(*gone)], CONFIG)
    latest = kept(selections)[1]
    assert {number(place) for place in stands} <= latest
    assert len(latest & {number(place) for place in gone}) >= 3


@pytest.mark.parametrize('change', [
    lambda frames: [frames[0], draw(WAS, STILL, gain=1.4), draw(IS, STILL, gain=0.8)],
    lambda frames: [draw(WAS, STILL, gain=1.0, noise=4.0), draw(WAS, STILL, gain=1.01, noise=4.0),
                    draw(IS, STILL, gain=0.99, noise=4.0)]])
def test_neither_exposure_nor_noise_is_a_change(
    change: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
) -> None:
    found = select_for_moments(change(STANDS), GRID, EVENTS, CONFIG)
    assert [len(item.kept_indices) for item in found] == COUNTS
    assert kept(found)[0] == {number(WAS), number(IS)}


@pytest.mark.parametrize('levels, has_events, is_change', [
    (10, False, False), (10, True, True), (5, True, False), (14, False, True)])
def test_without_events_a_difference_has_to_be_clear(
    levels: int, has_events: bool, is_change: bool,
) -> None:
    faint = STANDS[2].copy()
    faint[3 * TOKEN_PX:4 * TOKEN_PX, TOKEN_PX:2 * TOKEN_PX] += levels  # of token (3, 1)
    events = [*EVENTS[:2], count_events(*WAY, *([(3, 1)] if has_events else []))]
    found = select_for_moments([*STANDS[:2], faint], GRID, events, CONFIG)
    # of those that did not change it is none of the first
    assert (number((3, 1)) in kept(found)[0]) == is_change
    assert {number(WAS), number(IS)} <= kept(found)[0]


@pytest.mark.parametrize('events', [[None] * 3, [EVENTS[0]] * 3])
def test_without_events_the_latest_frame_falls_back_and_earlier_ones_keep_what_changed(
    events: list[ActivityGrid | None],
) -> None:
    found = select_for_moments(STANDS, GRID, events, CONFIG)
    alone = select_for_frame(STANDS[2], GRID, events[2], CONFIG)
    assert alone.fallback in ('dense: no event data', 'dense: static scene')
    assert found[2].fallback == alone.fallback
    assert len(found[2].kept_indices) == GRID.num_tokens
    assert kept(found)[0] == {number(WAS), number(IS)}
    sparse = select_for_moments(
        STANDS, GRID, events, replace(CONFIG, static_scene_policy='objectness'))
    assert [len(item.kept_indices) for item in sparse] == COUNTS
    assert sparse[2].fallback.startswith('objectness: ')


def test_where_the_camera_moves_each_frame_keeps_the_best_of_its_own() -> None:
    whole = draw(*[(row, col) for row in range(5) for col in range(8)])
    found = select_for_moments(
        [draw(*WAY), whole], GRID, [count_events((1, 1)), count_events(rest=5000.0)], CONFIG)
    counts = [len(item.kept_indices) for item in found]
    assert counts == [4, 6]
    for image, activity, count, selection in zip(
            (draw(*WAY), whole), (count_events((1, 1)), count_events(rest=5000.0)), counts, found):
        alone = select_for_frame(image, GRID, activity, CONFIG, 0, count / GRID.num_tokens)
        assert np.array_equal(selection.kept_indices, alone.kept_indices)


@pytest.mark.parametrize('frames, events, config, share', [
    (STANDS, EVENTS, replace(CONFIG, selection='events'), 1 / 3),  # the paper's rule
    (STANDS, EVENTS, replace(CONFIG, selection='objectness'), 1 / 3),
    (STANDS, EVENTS, replace(CONFIG, selection='random', keep_ratio=0.01), 1 / 3),
    (STANDS, EVENTS, replace(CONFIG, keep_ratio=1.0), 1.0),
    (STANDS[-1:], EVENTS[-1:], CONFIG, 1.0)])
def test_else_each_frame_is_selected_by_itself(
    frames: list[np.ndarray], events: list[ActivityGrid | None], config: VlmConfig, share: float,
) -> None:
    found = select_for_moments(frames, GRID, events, config, seed=5)
    for place, (frame, activity, selection) in enumerate(zip(frames, events, found, strict=True)):
        expected = select_for_frame(
            frame, GRID, activity, config, 5 + place, share * config.keep_ratio)
        assert np.array_equal(selection.kept_indices, expected.kept_indices)
        assert (selection.policy, selection.fallback) == (expected.policy, expected.fallback)


@pytest.mark.parametrize('budget, num_changed, expected', [
    (96, (0, 0), (6, 6, 84)), (96, (20, 10), (20, 10, 66)), (96, (90, 90), (32, 6, 58)),
    (96, (10, 90), (10, 28, 58)), (96, (90,), (38, 58)), (3, (9, 9), (1, 1, 1)),
    (1, (5, 5), (1, 1, 1)), (191, (0, 0), (13, 13, 165))])
def test_budget_is_shared_out(
    budget: int, num_changed: tuple[int, ...], expected: tuple[int, ...],
) -> None:
    """The latest frame has most; each has a token, also where there are fewer than frames."""
    assert share_budget(budget, num_changed) == expected
    assert sum(expected) == max(budget, len(expected))


def test_nothing_is_compiled_after_the_warm_up() -> None:
    loops = (image_check._sample, image_check._compare, image_check._compare_colours)
    warm_up()
    before = [len(getattr(loop, 'signatures', [])) for loop in loops]  # none without numba
    select_for_moments(STANDS, GRID, EVENTS, CONFIG)
    assert [len(getattr(loop, 'signatures', [])) for loop in loops] == before
