"""Token geometry against transformers' image processor; token sums against a pixel-wise loop."""

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.patch_grid import order_by_window, PatchGeometry, PatchGrid, token_activity
from hypothesis import given, settings, strategies
import numpy as np
import pytest
import torch
from transformers import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_window_index

REAL = PatchGeometry(patch_size_px=14, merge_size=2, min_pixels=3136, max_pixels=12845056)
QWEN3_VL = PatchGeometry(patch_size_px=16, merge_size=2, min_pixels=65536, max_pixels=16777216)


def make_activity(
    counts: np.ndarray, cell_size_px: int, image_height: int, image_width: int,
) -> ActivityGrid:
    return ActivityGrid(
        counts=counts, cell_size_px=cell_size_px, image_height=image_height,
        image_width=image_width, window_start_ns=0, window_end_ns=40_000_000)


@pytest.mark.parametrize('height, width, rows, cols', [
    (480, 640, 17, 23),  # the sizes and tokens of published tables
    (448, 448, 16, 16),
    (720, 1280, 26, 46),
    (336, 336, 12, 12),
    (28, 28, 2, 2),  # below min_pixels: enlarged to 56 x 56
    (42, 70, 2, 2),  # 1.5 and 2.5 tokens: halves are rounded to even
    (4000, 4000, 128, 128),  # above max_pixels
])
def test_known_sizes(height: int, width: int, rows: int, cols: int) -> None:
    grid = REAL.grid(height, width)
    assert (grid.rows, grid.cols) == (rows, cols)
    assert (grid.resized_height, grid.resized_width) == (28 * rows, 28 * cols)
    assert grid.num_tokens == rows * cols
    assert grid.token_area_px * rows * cols == pytest.approx(height * width)


@pytest.mark.parametrize('height, width, rows, cols', [
    (480, 640, 15, 20), (720, 1280, 22, 40),  # 22.5 tokens high: halves are rounded to even
    (1080, 1920, 34, 60), (256, 256, 8, 8), (100, 100, 8, 8)])
def test_tokens_of_32_px(height: int, width: int, rows: int, cols: int) -> None:
    grid = QWEN3_VL.grid(height, width)
    assert (grid.rows, grid.cols, grid.token_size_px) == (rows, cols, 32)
    assert (grid.resized_height, grid.resized_width) == (32 * rows, 32 * cols)


@settings(max_examples=300, deadline=None)
@given(
    height=strategies.integers(1, 3000), width=strategies.integers(1, 3000),
    patch_size=strategies.sampled_from([7, 14, 16]), merge_size=strategies.sampled_from([1, 2, 3]),
    min_tokens=strategies.integers(1, 300), more_tokens=strategies.integers(0, 2000))
def test_grid_equals_the_image_processors_count(
    height: int, width: int, patch_size: int, merge_size: int, min_tokens: int, more_tokens: int,
) -> None:
    token_area = (patch_size * merge_size) ** 2
    bounds = (min_tokens * token_area, (min_tokens + more_tokens) * token_area)
    processor = Qwen2VLImageProcessorPil(
        patch_size=patch_size, merge_size=merge_size, min_pixels=bounds[0], max_pixels=bounds[1])
    geometry = PatchGeometry(patch_size, merge_size, *bounds)
    try:
        num_patches = processor.get_number_of_image_patches(height, width)
    except ValueError:
        with pytest.raises(ValueError, match='crop it'):
            geometry.grid(height, width)
    else:
        assert geometry.grid(height, width).num_tokens * merge_size ** 2 == num_patches


@pytest.mark.parametrize('height, width', [(30, 500), (333, 222), (97, 98), (56, 56), (29, 200)])
def test_grid_equals_what_the_image_processor_does(height: int, width: int) -> None:
    processor = Qwen2VLImageProcessorPil()
    image = np.zeros((height, width, 3), dtype=np.uint8)
    processed = processor(images=[image], return_tensors='np')
    size = processor.size
    geometry = PatchGeometry(14, 2, size['shortest_edge'], size['longest_edge'])
    grid = geometry.grid(height, width)
    assert processed['image_grid_thw'].tolist() == [[1, 2 * grid.rows, 2 * grid.cols]]


@pytest.mark.parametrize('height, width, remedy', [
    (0, 640, 'non-empty'), (480, 0, 'non-empty'), (-1, 5, 'non-empty'), (10, 2001, 'crop'),
    (2001, 10, 'crop')])
def test_impossible_images_are_refused(height: int, width: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        REAL.grid(height, width)


@pytest.mark.parametrize('numbers', [
    (0, 2, 1, 784), (14, 0, 1, 784), (14, 2, 0, 784), (14, 2, 1, 783), (14, 2, 2000, 1999)])
def test_impossible_geometries_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match='give at least'):
        PatchGeometry(*numbers)


def test_cells_that_tokens_share_are_divided_by_area() -> None:
    # An image of 6 x 10 px: cells of 4 px are 2 x 3, the last ones 2 px; tokens are 1 x 2 of 5 px.
    counts = np.array([[8, 4, 2], [1, 16, 32]], dtype=np.float32)
    grid = PatchGrid(1, 2, 28, 28, 56, image_height=6, image_width=10)
    per_token = token_activity(make_activity(counts, 4, 6, 10), grid)
    # columns: 4 + 1 of 4 px to the left token, 3 of 4 + 2 px to the right one
    assert per_token.tolist() == [[9 + 0.25 * 20, 0.75 * 20 + 34]]
    assert per_token.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    height=strategies.integers(1, 40), width=strategies.integers(1, 40),
    cell_size_px=strategies.integers(1, 50), rows=strategies.integers(1, 6),
    cols=strategies.integers(1, 6), seed=strategies.integers(0, 999))
def test_token_activity_equals_a_loop_over_small_squares(
    height: int, width: int, cell_size_px: int, rows: int, cols: int, seed: int,
) -> None:
    shape = (-(-height // cell_size_px), -(-width // cell_size_px))
    counts = np.random.default_rng(seed).integers(0, 9, shape).astype(np.float32)
    grid = PatchGrid(rows, cols, 28, 28 * rows, 28 * cols, height, width)
    per_token = token_activity(make_activity(counts, cell_size_px, height, width), grid)

    # each pixel is cut into rows x cols squares, so that no square lies in two tokens
    expected = np.zeros((rows, cols))
    for row in range(shape[0]):
        for col in range(shape[1]):
            down = range(row * cell_size_px * rows, min((row + 1) * cell_size_px, height) * rows)
            right = range(col * cell_size_px * cols, min((col + 1) * cell_size_px, width) * cols)
            share = counts[row, col] / (len(down) * len(right))
            in_rows = np.bincount([place // height for place in down], minlength=rows)
            in_cols = np.bincount([place // width for place in right], minlength=cols)
            expected += share * np.outer(in_rows, in_cols)
    np.testing.assert_allclose(per_token, expected, rtol=1e-5, atol=1e-5)
    assert per_token.sum() == pytest.approx(counts.sum(), rel=1e-5)


def test_activity_of_another_image_is_refused() -> None:
    grid = REAL.grid(480, 640)
    activity = make_activity(np.zeros((180, 320), np.float32), 4, 720, 1280)
    with pytest.raises(ValueError, match='1280 x 720.*640 x 480'):
        token_activity(activity, grid)


def test_the_counts_stay_as_they_are() -> None:
    counts = np.arange(12, dtype=np.float32).reshape(3, 4)
    token_activity(make_activity(counts, 8, 24, 32), REAL.grid(24, 32))
    assert counts.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_windows_by_hand() -> None:
    # 3 x 5 tokens in windows of 2 x 2, which number 0 1 2 / 3 4 5; no token of window 4 is kept
    kept = np.array([0, 1, 3, 6, 9, 10, 14])  # in windows 0, 0, 1, 0, 2, 3, 5
    order, sizes = order_by_window([kept], cols=5, window_size=2)
    assert kept[order].tolist() == [0, 1, 6, 3, 9, 10, 14]
    assert sizes.tolist() == [3, 1, 1, 1, 1]
    # a second image has windows of its own, although the tokens 0 and 1 lie in window 0 as well
    order, sizes = order_by_window([kept, np.array([0, 1])], cols=5, window_size=2)
    assert order.tolist() == [0, 1, 3, 2, 4, 5, 6, 7, 8]
    assert sizes.tolist() == [3, 1, 1, 1, 1, 2]


@settings(max_examples=100, deadline=None)
@given(
    rows=strategies.integers(1, 13), cols=strategies.integers(1, 13),
    window_size=strategies.integers(1, 5), seed=strategies.integers(0, 999))
def test_windows_are_those_of_the_library(
    rows: int, cols: int, window_size: int, seed: int,
) -> None:
    dense_order, ends = get_vision_window_index(
        torch.tensor([[1, 2 * rows, 2 * cols]]), 2, window_size * 28, 14)
    order, sizes = order_by_window([np.arange(rows * cols)], cols, window_size)
    assert order.tolist() == dense_order.tolist()
    assert (4 * np.cumsum(sizes)).tolist() == ends[1:].tolist()

    random = np.random.default_rng(seed)
    kept = np.flatnonzero(random.random(rows * cols) < 0.3)
    order, sizes = order_by_window([kept], cols, window_size)
    assert kept[order].tolist() == [token for token in dense_order.tolist() if token in kept]
    windows = np.split(dense_order.numpy(), ends[1:-1].numpy() // 4)
    inside = [int(np.isin(window, kept).sum()) for window in windows]
    assert sizes.tolist() == [number for number in inside if number]
