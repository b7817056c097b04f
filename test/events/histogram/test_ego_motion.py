"""Ego motion: background by hand, the obvious loop, and simulated scenes with a moving camera."""

from dataclasses import replace

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.events.histogram.ego_motion import remove_ego_motion
from epvlm_ros.sim.event_simulator import EventSimulator
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.long

TOKEN_PX = 28


def grid(counts, cell_size_px=4):
    counts = np.array(counts, np.float32)
    height, width = (size * cell_size_px for size in counts.shape)
    return ActivityGrid(counts, cell_size_px, height, width, 5, 9, 0.5)


def test_what_stands_out_of_even_activity_is_left():
    # 12 x 12 cells: each is a block of its own.
    counts = np.full((12, 12), 2.0)
    counts[4, 5] = 10.0
    counts[0, 11] = 3.0
    counts[9, 9] = 1.0
    expected = np.zeros((12, 12))
    expected[4, 5], expected[0, 11] = 8.0, 1.0
    np.testing.assert_allclose(remove_ego_motion(grid(counts)).counts, expected)


def test_background_is_that_of_the_neighbourhood():
    # The left half has eight times the texture of the right one. The windows about columns 0 to 5
    # hold at least 4 of the strong columns, out of 7; those about columns 6 to 11 at most 3.
    counts = np.where(np.arange(12) < 6, 8.0, 1.0) * np.ones((12, 1))
    counts[6, 9] = 5.0
    counts[2, 1] = 12.0
    expected = np.zeros((12, 12))
    expected[6, 9], expected[2, 1] = 4.0, 4.0
    np.testing.assert_allclose(remove_ego_motion(grid(counts)).counts, expected)


def test_background_is_at_most_twice_that_of_the_image():
    # 5 of 12 columns are active: the median about them is 8, that of the image 1.
    counts = np.where(np.arange(12) < 5, 8.0, 1.0) * np.ones((12, 1))
    expected = np.where(np.arange(12) < 5, 6.0, 0.0) * np.ones((12, 1))
    np.testing.assert_allclose(remove_ego_motion(grid(counts)).counts, expected)


def test_a_large_object_before_a_still_camera_stays():
    random = np.random.default_rng(0)
    counts = random.poisson(0.05, (60, 80)).astype(np.float32)
    counts[10:50, 20:60] += random.poisson(4.0, (40, 40))
    result = remove_ego_motion(grid(counts)).counts
    assert result[10:50, 20:60].sum() > 0.93 * counts[10:50, 20:60].sum()


def test_a_still_camera_is_left_alone():
    random = np.random.default_rng(0)
    counts = np.zeros((60, 80), np.float32)
    counts[20:32, 30:45] = random.uniform(0, 9, (12, 15))
    counts[50:54, :6] = 0.3
    np.testing.assert_array_equal(remove_ego_motion(grid(counts)).counts, counts)
    silent = np.zeros((60, 80))
    np.testing.assert_array_equal(remove_ego_motion(grid(silent)).counts, silent)


def test_everything_but_the_counts_stays_and_the_input_too():
    activity = grid(np.random.default_rng(0).poisson(3.0, (60, 80)))
    before = activity.counts.copy()
    result = remove_ego_motion(activity)
    np.testing.assert_array_equal(activity.counts, before)
    for name in ('cell_size_px', 'image_height', 'image_width', 'window_start_ns',
                 'window_end_ns', 'pixel_density'):
        assert getattr(result, name) == getattr(activity, name)
    assert result.counts.dtype == np.float32
    assert (result.counts >= 0.0).all() and (result.counts <= before).all()
    assert 0.0 < result.num_events < activity.num_events


def slow_result(counts, block):
    """Return the counts cell by cell."""
    rows, cols = counts.shape
    means = np.array([[counts[i:i + block, j:j + block].mean() for j in range(0, cols, block)]
                      for i in range(0, rows, block)])
    padded = np.pad(counts, block, mode='symmetric')
    result = np.zeros_like(counts)
    for row in range(rows):
        for col in range(cols):
            corner = [
                min(max(place // block - 3, 0), max(size - 7, 0))
                for place, size in zip((row, col), means.shape)]
            background = min(2.0 * np.median(means), np.median(
                means[corner[0]:corner[0] + 7, corner[1]:corner[1] + 7]))
            # A block about the cell, which is right of the middle if there is none.
            top, left = row + block - block // 2, col + block - block // 2
            mean = padded[top:top + block, left:left + block].mean()
            if mean > 0.0:
                result[row, col] = counts[row, col] * max(0.0, 1.0 - background / mean)
    return result


@pytest.mark.parametrize('height, width, cell, block', [
    (480, 640, 8, 5), (480, 640, 10, 4), (335, 447, 4, 7), (97, 401, 4, 2), (20, 900, 5, 1),
    (5, 7, 4, 1), (1, 1, 1, 1)])
def test_agrees_with_the_obvious_loop(height, width, cell, block):
    random = np.random.default_rng(1)
    shape = -(-height // cell), -(-width // cell)
    counts = random.poisson(random.gamma(1.0, 2.0, shape)) * random.choice([0.0, 0.7, 1.0], shape)
    result = remove_ego_motion(
        ActivityGrid(counts.astype(np.float32), cell, height, width, 0, 1))
    np.testing.assert_allclose(result.counts, slow_result(counts, block), rtol=1e-4, atol=1e-4)


def simulate(index, height, width, textured_half):
    """
    Return the activity of 40 ms, and the share of each token that a self-moving object covers.

    The camera pans over a background of one soft texture, or of one five times as strong in
    one half of the picture; some objects rest and some move by themselves. None if they do not.
    """
    scene = sample_scene(
        'test', index, aspect_ratio=width / height, camera_moves=True, num_objects=4)
    exists = scene.radius > 0
    moves = exists & ((scene.orbit_radius > 0) | (scene.spin != 0))
    if not moves.any() or moves.sum() == exists.sum():
        return None
    random = np.random.default_rng(index)
    orbit, speed = random.uniform(0.01, 0.03), random.uniform(0.05, 0.4)
    scene = replace(
        scene, camera=np.array([orbit, speed / orbit, random.uniform(0, 6)], np.float32),
        zoom=np.zeros(3, np.float32), light=np.zeros(3, np.float32),
        ground=np.zeros(1, np.int64), clutter=np.zeros_like(scene.clutter))
    size = scene.fine.shape[-1]
    strength = np.full(size, random.uniform(0.005, 0.04))
    if textured_half:
        strength = np.where(np.arange(size) < size // 2, 0.1, 0.02)[::random.choice([-1, 1])]
    fine = random.normal(0.0, strength, scene.fine.shape)
    scene = replace(scene, fine=fine.astype(np.float32))
    renderer = SceneRenderer(stack_scenes([scene]), height, width)
    frames = renderer.render(torch.arange(0, 0.041, 0.004)[None])
    simulator = EventSimulator(height, width, seed=index)
    counts = np.zeros((height // 4, width // 4), np.float32)
    for step, rgb in enumerate(frames.rgb[0].numpy()):
        events = simulator.step(np.tensordot([0.299, 0.587, 0.114], rgb, 1), 4_000_000 * step)
        np.add.at(counts, (events.y // 4, events.x // 4), 1)
    covered = np.isin(frames.owner[0].numpy(), np.flatnonzero(moves)).any(axis=0)
    shape = height // TOKEN_PX, TOKEN_PX, width // TOKEN_PX, TOKEN_PX
    return grid(counts), covered.reshape(shape).mean(axis=(1, 3))


def share_found(activity, covered, keep_ratio=0.2):
    """Return which share of the tokens of self-moving objects are among the most active ones."""
    cells = TOKEN_PX // 4
    rows, cols = covered.shape
    tokens = activity.counts.reshape(rows, cells, cols, cells).sum(axis=(1, 3)).ravel()
    kept = np.argsort(-tokens, kind='stable')[:round(keep_ratio * tokens.size)]
    is_object = covered.ravel() > 0.15
    return is_object[kept].sum() / is_object.sum()


@pytest.mark.long
@pytest.mark.parametrize('textured_half, least_gain', [(False, -0.01), (True, 0.05)])
def test_a_budget_finds_what_moves_by_itself(textured_half, least_gain):
    before, after = [], []
    for index in range(20):
        simulated = simulate(index, 336, 448, textured_half)
        if simulated is not None and (simulated[1] > 0.15).any():
            activity, covered = simulated
            before.append(share_found(activity, covered))
            after.append(share_found(remove_ego_motion(activity), covered))
    assert len(before) >= 10
    assert np.mean(after) - np.mean(before) > least_gain
