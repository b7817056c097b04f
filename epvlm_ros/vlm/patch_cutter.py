"""
Patches of some visual tokens of an image, equal in every bit to those of the image processor.

The image processor resizes, normalises and cuts a whole picture, whatever is kept of it. Here only
the pixels of the tokens that are wanted are made, by the arithmetic of Pillow's bicubic resampling
(two passes with weights in fixed point, Resample.c).
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import Any

from epvlm_ros.compiled import compiled, read_only
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np
from PIL import Image
import torch
from torch import Tensor

_SUPPORT = 2.0  # of the bicubic filter, in pixels of the smaller picture
_SHARPNESS = -0.5  # parameter a of the bicubic filter
_FRACTION_BITS = 22  # of a weight
_ONE, _HALF = 1 << _FRACTION_BITS, 1 << (_FRACTION_BITS - 1)
_NUM_LEVELS = 256
_NUM_NOISE_LINES = 16


class PatchCutter:
    """
    Cuts tokens out of images.

    Where the image processor resizes by another filter, or weights differ from those of the
    installed Pillow, it cuts the whole picture by the image processor.

    Parameters
    ----------
    image_processor : transformers.Qwen2VLImageProcessorPil
        Of the checkpoint.

    """

    def __init__(self, image_processor: Any) -> None:
        self._processor = image_processor
        self._is_bicubic = image_processor.resample == Image.Resampling.BICUBIC
        self._values: np.ndarray | None = None

    def cut(self, image_rgb: np.ndarray, grid: PatchGrid, tokens: np.ndarray) -> Tensor:
        """
        Return the patches of some tokens, in a tensor with room for those of all.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8, shape (height, width, 3), of the size that the grid is for; not changed.
        grid : PatchGrid
            Its visual tokens.
        tokens : numpy.ndarray
            int64, indices ``row * cols + col``.

        Returns
        -------
        torch.Tensor
            float32, shape (patches of the whole image, values of a patch), in the order of the
            image processor. What is there for other tokens has no meaning.

        """
        grid.check_image(image_rgb)
        rows = find_weights(grid.image_height, grid.resized_height)
        cols = find_weights(grid.image_width, grid.resized_width)
        if not self._is_bicubic or rows is None or cols is None:
            return self._process(image_rgb)
        side, processor = grid.token_size_px, self._processor
        shape = (grid.num_tokens, processor.merge_size, processor.merge_size, 3,
                 processor.temporal_patch_size, processor.patch_size, processor.patch_size)
        patches = torch.empty(shape)
        _cut_tokens(
            read_only(image_rgb), read_only(tokens), grid.cols, side, *rows, *cols,
            self._values_of_levels(side), patches.numpy())
        return patches.reshape(math.prod(shape[:3]), -1)

    def _process(self, image_rgb: np.ndarray, **options: bool) -> Tensor:
        return self._processor(
            images=[image_rgb], input_data_format='channels_last', return_tensors='pt',
            **options)['pixel_values']

    def _values_of_levels(self, side: int) -> np.ndarray:
        """Return what becomes of each grey level, float32, (3, 256)."""
        if self._values is None:
            ramp = np.minimum(np.arange(_NUM_LEVELS * side) // side, _NUM_LEVELS - 1)
            picture = np.broadcast_to(ramp[None, :, None], (side, ramp.size, 3)).astype(np.uint8)
            made = self._process(picture, do_resize=False).numpy()
            size = self._processor.patch_size
            # the upper left pixel of each token, a level each: (levels, patches, channels, ...)
            by_token = made.reshape(_NUM_LEVELS, -1, 3, made.shape[1] // (3 * size * size),
                                    size, size)
            self._values = read_only(by_token[:, 0, :, 0, 0, 0].T)
        return self._values


@lru_cache(maxsize=64)
def find_weights(length_px: int, resized_px: int) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Return how pixels along one side of a resized picture are made of those of the picture.

    None if the installed Pillow does not resize noise with these weights.

    Returns
    -------
    starts : numpy.ndarray
        int64, shape (resized_px,): the first pixel that counts for each.
    weights : numpy.ndarray
        int32, shape (resized_px, pixels): what it and those after it count, in 2 ** -22.

    """
    scale = length_px / resized_px
    stretch = max(scale, 1.0)
    num_taps = min(2 * math.ceil(_SUPPORT * stretch) + 1, length_px)
    centres = (np.arange(resized_px) + 0.5) * scale
    firsts = np.maximum((centres - _SUPPORT * stretch + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + _SUPPORT * stretch + 0.5).astype(np.int64), length_px)
    starts = np.minimum(firsts, length_px - num_taps)
    pixels = starts[:, None] + np.arange(num_taps)  # (resized, pixels)
    shares = _bicubic((pixels - centres[:, None] + 0.5) * (1.0 / stretch))
    shares[(pixels < firsts[:, None]) | (pixels >= ends[:, None])] = 0.0
    shares /= np.cumsum(shares, axis=1)[:, -1:]  # summed from the left, as Pillow does
    weights = (shares * _ONE + np.copysign(0.5, shares)).astype(np.int32)
    noise = np.random.default_rng(0).integers(
        0, _NUM_LEVELS, (_NUM_NOISE_LINES, length_px, 3), dtype=np.uint8)
    ours = sum(
        noise[:, pixels[:, tap]].astype(np.int64) * weights[:, tap, None]
        for tap in range(num_taps)) + _HALF >> _FRACTION_BITS
    pillow = Image.fromarray(noise).resize(
        (resized_px, _NUM_NOISE_LINES), Image.Resampling.BICUBIC)
    is_same = np.array_equal(ours.clip(0, _NUM_LEVELS - 1), np.asarray(pillow))
    return (read_only(starts), read_only(weights)) if is_same else None


def _bicubic(distances: np.ndarray) -> np.ndarray:
    x, a = np.abs(distances), _SHARPNESS
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < _SUPPORT, far, 0.0))


@compiled
def _cut_tokens(  # type: ignore[no-untyped-def]
        image, tokens, num_cols, side, row_starts, row_weights, col_starts, col_weights, values,
        patches):
    """Write the patches of each token, see ``PatchCutter.cut``."""
    size, num_taps = patches.shape[5], row_weights.shape[1]
    spread = 0
    for row in range(0, len(row_starts), side):
        spread = max(spread, row_starts[row + side - 1] - row_starts[row])
    lines = np.empty((spread + num_taps, 3 * side), np.int32)
    sums = np.empty(3 * side, np.int32)
    for token in tokens:
        top, left = token // num_cols * side, token % num_cols * side
        first = row_starts[top]
        for line in range(row_starts[top + side - 1] + num_taps - first):
            _resize_line(image[first + line], col_starts, col_weights, left, lines[line])
        for row in range(side):
            sums[:] = _HALF
            for tap in range(num_taps):
                weight = row_weights[top + row, tap]
                line = lines[row_starts[top + row] - first + tap]
                for place in range(3 * side):
                    sums[place] += np.int32(weight * line[place])
            _write_row(sums, values, patches[token, row // size], row % size)


@compiled
def _resize_line(pixels, starts, weights, left, line):  # type: ignore[no-untyped-def]
    """Resize a part of a line (width, 3) from ``left`` on into ``line`` (3 * part,)."""
    for col in range(len(line) // 3):
        red = green = blue = _HALF
        start = starts[left + col]
        for tap in range(weights.shape[1]):
            weight = weights[left + col, tap]
            red += weight * pixels[start + tap, 0]
            green += weight * pixels[start + tap, 1]
            blue += weight * pixels[start + tap, 2]
        line[3 * col] = _to_level(red)
        line[3 * col + 1] = _to_level(green)
        line[3 * col + 2] = _to_level(blue)


@compiled
def _write_row(sums, values, patches, row):  # type: ignore[no-untyped-def]
    """Write a row of pixels into the patches that lie side by side."""
    size, place = patches.shape[4], 0
    for patch in range(len(patches)):
        for col in range(size):
            for channel in range(3):
                value = values[channel, _to_level(sums[place])]
                place += 1
                for moment in range(patches.shape[2]):
                    patches[patch, channel, moment, row, col] = value


@compiled
def _to_level(weighed):  # type: ignore[no-untyped-def]
    return min(max(weighed >> _FRACTION_BITS, 0), _NUM_LEVELS - 1)
