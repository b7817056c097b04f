"""Tokens of several frames: those that changed in all of them, the others in the latest."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm import image_check
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import select_for_frame, select_for_moments, warm_up
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


def test_both_ends_of_a_way_are_kept_in_all_frames_and_not_what_was_passed() -> None:
    selections = select_for_moments(STANDS, GRID, EVENTS, CONFIG)
    counts = [len(item.kept_indices) for item in selections]
    assert counts == [3, 3, 24]  # of 30: a third of an even share, and the rest
    for selection in selections:
        assert {number(WAS), number(IS)} <= set(selection.kept_indices)
        assert selection.policy == 'events_and_objectness' and not selection.fallback
    earlier = selections[0].kept_indices
    assert np.array_equal(earlier, selections[1].kept_indices)
    assert set(earlier) <= set(selections[2].kept_indices)
    assert number(STILL) in selections[2].kept_indices


def test_what_differs_most_is_first_where_more_changed_than_fits() -> None:
    places = [(row, col) for row in (0, 2, 4) for col in (0, 2, 4, 6)]
    after = draw(*places)
    after[:TOKEN_PX, :TOKEN_PX] = 255  # of (0, 0), which differs most
    selections = select_for_moments(
        [draw(), after], GRID, [count_events(), count_events(*places)],
        replace(CONFIG, keep_ratio=0.1))
    assert [len(item.kept_indices) for item in selections] == [4, 4]
    assert number((0, 0)) in selections[0].kept_indices
    assert set(selections[0].kept_indices) <= {number(place) for place in places}


@pytest.mark.parametrize('change', [
    lambda frames: [frames[0], draw(WAS, STILL, gain=1.4), draw(IS, STILL, gain=0.8)],
    lambda frames: [draw(WAS, STILL, gain=1.0, noise=4.0), draw(WAS, STILL, gain=1.01, noise=4.0),
                    draw(IS, STILL, gain=0.99, noise=4.0)]])
def test_neither_exposure_nor_noise_is_a_change(
    change: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
) -> None:
    found = select_for_moments(change(STANDS), GRID, EVENTS, CONFIG)
    assert [len(item.kept_indices) for item in found] == [3, 3, 24]
    assert {number(WAS), number(IS)} <= set(found[0].kept_indices)


@pytest.mark.parametrize('levels, has_events, is_change', [
    (10, False, False), (10, True, True), (5, True, False), (14, False, True)])
def test_without_events_a_difference_has_to_be_clear(
    levels: int, has_events: bool, is_change: bool,
) -> None:
    faint = STANDS[2].copy()
    faint[3 * TOKEN_PX:4 * TOKEN_PX, TOKEN_PX:2 * TOKEN_PX] += levels  # of token (3, 1)
    events = [*EVENTS[:2], count_events(*WAY, *([(3, 1)] if has_events else []))]
    found = select_for_moments(
        [*STANDS[:2], faint], GRID, events, replace(CONFIG, keep_ratio=0.1))
    # of those that did not change it is none of the first
    assert (number((3, 1)) in found[0].kept_indices) == is_change
    assert {number(WAS), number(IS)} <= set(found[0].kept_indices)


@pytest.mark.parametrize('frames, events, config', [
    (STANDS, EVENTS, replace(CONFIG, selection='events')),  # the paper's rule
    (STANDS, EVENTS, replace(CONFIG, selection='objectness')),
    (STANDS, EVENTS, replace(CONFIG, keep_ratio=1.0)),
    (STANDS, [EVENTS[0], None, EVENTS[2]], CONFIG),
    (STANDS, [EVENTS[0]] * 3, CONFIG),  # nothing moved
    (STANDS[-1:], EVENTS[-1:], CONFIG),
    # the camera moves: all tokens differ
    ([draw(*WAY), draw(*[(row, col) for row in range(5) for col in range(8)])],
     [count_events(rest=5000.0)] * 2, CONFIG)])
def test_else_each_frame_is_selected_by_itself(
    frames: list[np.ndarray], events: list[ActivityGrid | None], config: VlmConfig,
) -> None:
    found = select_for_moments(frames, GRID, events, config, seed=5)
    for place, (frame, activity, selection) in enumerate(zip(frames, events, found, strict=True)):
        expected = select_for_frame(frame, GRID, activity, config, 5 + place)
        assert np.array_equal(selection.kept_indices, expected.kept_indices)
        assert (selection.policy, selection.fallback) == (expected.policy, expected.fallback)


@pytest.mark.parametrize('budget, num_changed, expected', [
    (32, 0, (11, 11, 74)), (32, 20, (20, 20, 56)), (32, 90, (32, 32, 32)),
    (1, 5, (1, 1, 1)), (90, 10, (39, 39, 192)), (128, 5, (96, 96, 192)), (130, 5, (99, 99, 192))])
def test_budget_is_shared_out(
    budget: int, num_changed: int, expected: tuple[int, ...],
) -> None:
    """Of 192 tokens; no frame has more than all of them."""
    assert share_budget(budget, 3, 192, num_changed) == expected
    assert sum(expected) == 3 * budget


def test_nothing_is_compiled_after_the_warm_up() -> None:
    loops = (image_check._sample, image_check._compare, image_check._compare_colours)
    warm_up()
    before = [len(getattr(loop, 'signatures', [])) for loop in loops]  # none without numba
    select_for_moments(STANDS, GRID, EVENTS, CONFIG)
    assert [len(getattr(loop, 'signatures', [])) for loop in loops] == before
