"""Pictures as a server gets them: in the size of the model, as JPEG, without what is not read."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np
from PIL import Image

BLOCK_PX = 8  # of JPEG; without chroma subsampling each is coded by itself
GREY = 128


def encode_picture(
    image_rgb: np.ndarray, grid: PatchGrid, kept_indices: np.ndarray, quality: int,
    resample: Any = Image.Resampling.BICUBIC,
) -> bytes:
    """
    Return an image as JPEG, resized as the image processor of the model does it.

    Blocks of 8 x 8 pixels that no kept token touches are grey: nobody reads them, and they take
    hardly a byte. Chroma is not subsampled, so that each block is coded and decoded by itself, and
    the pixels of kept tokens are those that the JPEG of the whole picture has.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), of the size that the grid is for; not changed.
    grid : PatchGrid
        Its visual tokens.
    kept_indices : numpy.ndarray
        int64, ``row * cols + col``, at least one.
    quality : int
        1 to 100, as of libjpeg.
    resample : int or PIL.Image.Resampling
        Filter of the image processor.

    """
    grid.check_image(image_rgb)
    size = (grid.resized_width, grid.resized_height)
    resized = Image.fromarray(image_rgb)
    if resized.size != size:
        resized = resized.resize(size, resample)
    if len(kept_indices) < grid.num_tokens:
        pixels = np.array(resized)
        pixels[~_touched(grid, kept_indices)] = GREY
        resized = Image.fromarray(pixels)
    encoded = BytesIO()
    resized.save(encoded, 'JPEG', quality=quality, subsampling=0)
    return encoded.getvalue()


def _touched(grid: PatchGrid, kept_indices: np.ndarray) -> np.ndarray:
    """Return which pixels of the resized image share a block with a kept token, bool."""
    is_kept = np.zeros((grid.rows, grid.cols), bool)
    is_kept.flat[kept_indices] = True
    pixels = is_kept.repeat(grid.token_size_px, axis=0).repeat(grid.token_size_px, axis=1)
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, -height % BLOCK_PX), (0, -width % BLOCK_PX)))
    blocks = padded.reshape(
        padded.shape[0] // BLOCK_PX, BLOCK_PX, padded.shape[1] // BLOCK_PX, BLOCK_PX).any((1, 3))
    return blocks.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)[:height, :width]
