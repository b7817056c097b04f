"""The model's resize and token geometry, and event activity summed over its visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
import math

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.compiled import compiled, read_only
import numpy as np

MAX_ASPECT_RATIO = 200  # longer images are refused by the image processor of Qwen2-VL and later


@dataclass(frozen=True)
class PatchGeometry:
    """
    What a checkpoint's image processor does to the size of an image.

    ``patch_size_px`` is the side of an encoder patch in pixels of the resized image,
    ``merge_size`` the patches along one side of a visual token, ``min_pixels`` and
    ``max_pixels`` bound the area of the resized image. A ValueError says if a number is not
    positive or the bounds leave no room for one token.
    """

    patch_size_px: int
    merge_size: int
    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        if self.patch_size_px < 1 or self.merge_size < 1:
            raise ValueError(
                f'patch size {self.patch_size_px} px and merge size {self.merge_size}: '
                'give at least 1 each')
        if self.min_pixels < 1:
            raise ValueError(f'min_pixels is {self.min_pixels}: give at least 1')
        if self.max_pixels < max(self.min_pixels, self.token_size_px ** 2):
            raise ValueError(
                f'max_pixels is {self.max_pixels}: give at least min_pixels '
                f'({self.min_pixels}) and one visual token ({self.token_size_px ** 2} pixels)')

    @property
    def token_size_px(self) -> int:
        """Side of one visual token, in pixels of the resized image."""
        return self.patch_size_px * self.merge_size

    def grid(self, image_height: int, image_width: int) -> PatchGrid:
        """
        Return the visual tokens of an image of this size, as the image processor makes them.

        Raises
        ------
        ValueError
            If the image is empty or longer than 200 times its other side.

        """
        height, width = self._resize(image_height, image_width)
        token = self.token_size_px
        return PatchGrid(
            rows=height // token, cols=width // token, token_size_px=token,
            resized_height=height, resized_width=width,
            image_height=image_height, image_width=image_width)

    def check_size(self, image_height: int, image_width: int) -> None:
        """Raise a ValueError if an image is empty or longer than 200 times its other side."""
        short, long = sorted((image_height, image_width))
        if short < 1:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels: give a non-empty one')
        if long / short > MAX_ASPECT_RATIO:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels, longer than '
                f'{MAX_ASPECT_RATIO} times its other side: crop it')

    def _resize(self, image_height: int, image_width: int) -> tuple[int, int]:
        self.check_size(image_height, image_width)
        token = self.token_size_px
        # round() rounds halves to even; so does the image processor, and it must be the same
        height = round(image_height / token) * token
        width = round(image_width / token) * token
        if height * width > self.max_pixels:
            shrink = math.sqrt(image_height * image_width / self.max_pixels)
            height = max(token, math.floor(image_height / shrink / token) * token)
            width = max(token, math.floor(image_width / shrink / token) * token)
        elif height * width < self.min_pixels:
            stretch = math.sqrt(self.min_pixels / (image_height * image_width))
            height = math.ceil(image_height * stretch / token) * token
            width = math.ceil(image_width * stretch / token) * token
        return height, width


@dataclass(frozen=True)
class PatchGrid:
    """
    The visual tokens of one image: ``rows`` x ``cols`` squares of the resized image.

    Token ``row * cols + col`` covers the resized pixels
    ``[row * token_size_px, (row + 1) * token_size_px)`` and likewise in columns.
    """

    rows: int
    cols: int
    token_size_px: int
    resized_height: int
    resized_width: int
    image_height: int
    image_width: int

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the whole image."""
        return self.rows * self.cols

    @property
    def token_area_px(self) -> float:
        """Area of one token in pixels of the original image."""
        return self.image_height * self.image_width / self.num_tokens

    def check_image(self, image_rgb: np.ndarray) -> None:
        """Raise a ValueError if the tokens are those of an image of another size."""
        if image_rgb.shape[:2] != (self.image_height, self.image_width):
            raise ValueError(
                f'the image has shape {image_rgb.shape}, the tokens are those of '
                f'{self.image_height} x {self.image_width} pixels: give the tokens of this image')


def token_activity(activity: ActivityGrid, grid: PatchGrid) -> np.ndarray:
    """
    Sum event counts over the visual tokens: S of EP-VLM (arXiv 2506.07627).

    A cell that several tokens share is divided among them by area, so that no event is lost or
    counted twice. Rows and columns separate.

    Returns
    -------
    numpy.ndarray
        float32, shape (grid.rows, grid.cols), events per token, at least 0.

    Raises
    ------
    ValueError
        If activity and grid are not of one image size.

    """
    image_size = (grid.image_height, grid.image_width)
    if (activity.image_height, activity.image_width) != image_size:
        raise ValueError(
            f'the activity is about an image of {activity.image_width} x '
            f'{activity.image_height} pixels, the tokens about {grid.image_width} x '
            f'{grid.image_height}: give the activity of this image')
    return _sum_cells(
        read_only(np.asarray(activity.counts, np.float32)),
        *_find_cells(grid.image_height, activity.cell_size_px, grid.rows),
        *_find_cells(grid.image_width, activity.cell_size_px, grid.cols))


def order_by_window(
    kept_by_image: Sequence[np.ndarray], cols: int, window_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Group the kept tokens of one or more images by the attention windows of an encoder.

    Windows are squares from the upper left corner of each full image, cut off at its right and
    lower edge. Windows follow each other row by row, and so do the tokens inside each.

    Parameters
    ----------
    kept_by_image : sequence of numpy.ndarray
        int64, ascending ``row * cols + col`` of the kept tokens of each image; not changed.
    cols : int
        Columns of the token grid of every image.
    window_size : int
        Side of a window in tokens, at least 1.

    Returns
    -------
    order : numpy.ndarray
        int64, shape (kept,): ``np.concatenate(kept_by_image)[order]`` lie window by window.
    sizes : numpy.ndarray
        int64, kept tokens of each window that has any.

    """
    image = np.repeat(np.arange(len(kept_by_image)), [len(kept) for kept in kept_by_image])
    row, col = np.divmod(np.concatenate(kept_by_image), cols)
    windows_across = -(-cols // window_size)
    window_row = row // window_size
    rows_of_windows = window_row.max(initial=0) + 1
    window = (image * rows_of_windows + window_row) * windows_across + col // window_size
    _, sizes = np.unique(window, return_counts=True)
    return np.argsort(window, kind='stable'), sizes


# A loop, for libraries for products of matrices keep all cores busy for some time afterwards.
@compiled
def _sum_cells(  # type: ignore[no-untyped-def]
        counts, row_places, row_shares, col_places, col_shares):
    """Return the sums of counts over the cells of each token, see ``_find_cells``, float32."""
    num_rows, num_cols = row_places.shape[1], col_places.shape[1]
    sums = np.zeros((num_rows, num_cols), np.float32)
    line = np.empty(counts.shape[1], np.float32)
    for row in range(num_rows):
        line[:] = 0.0
        for cell in range(len(row_places)):
            share, place = row_shares[cell, row], row_places[cell, row]
            for along in range(len(line)):
                line[along] += share * counts[place, along]
        for cell in range(len(col_places)):
            for col in range(num_cols):
                sums[row, col] += col_shares[cell, col] * line[col_places[cell, col]]
    return sums


@lru_cache(maxsize=64)
def _find_cells(
    length_px: int, cell_size_px: int, num_tokens: int,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return which cells each token of one axis touches, and the share of each inside of it.

    Both (cells, tokens), a row for the first cell of every token, for the second, ...; the share
    is 0 where others have more cells than this token.
    """
    num_cells = -(-length_px // cell_size_px)
    cell_edges = np.minimum(np.arange(num_cells + 1) * cell_size_px, length_px)
    token_edges = np.arange(num_tokens + 1) * (length_px / num_tokens)
    starts = np.maximum(token_edges[:-1, None], cell_edges[None, :-1])
    ends = np.minimum(token_edges[1:, None], cell_edges[None, 1:])
    shares = np.maximum(ends - starts, 0.0) / np.diff(cell_edges)  # (tokens, cells)
    most = int(np.count_nonzero(shares, axis=1).max())
    places = np.argmax(shares > 0.0, axis=1) + np.arange(most)[:, None]
    inside = np.pad(shares, ((0, 0), (0, most)))[np.arange(num_tokens), places]
    places, inside = np.minimum(places, num_cells - 1), inside.astype(np.float32)
    for array in (places, inside):
        array.setflags(write=False)  # the cache hands out the same arrays to everybody
    return places, inside
