"""What goes into the encoder, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class VisionInput:
    """
    One image, or some of one size, cut by the image processor, and the tokens to compute on.

    Several images are moments of one scene, oldest first: a video to the model, of which each
    image fills a whole step in time.

    Parameters
    ----------
    pixel_values : torch.Tensor
        float, shape (num_moments * rows * cols * merge_size ** 2, patch values), all patches of
        the images in the order of the image processor: the patches of one visual token follow
        each other. Those of tokens that are not kept are not read and may hold anything.
    rows, cols : int
        The grid of visual tokens of one image.
    kept_indices : numpy.ndarray
        int64, indices ``(moment * rows + row) * cols + col`` of the kept tokens, ascending, at
        least one.
    num_moments : int
        Images, at least one.
    seconds_between : float
        Time from one to the next, 0 or more.

    Raises
    ------
    ValueError
        If the indices are not as above or the patches do not fill the grid.

    """

    pixel_values: Tensor
    rows: int
    cols: int
    kept_indices: np.ndarray
    num_moments: int = 1
    seconds_between: float = 1.0

    def __post_init__(self) -> None:
        kept, num_tokens = self.kept_indices, self.num_tokens
        if kept.ndim != 1 or kept.size == 0 or not np.issubdtype(kept.dtype, np.integer):
            raise ValueError('kept_indices: give a 1-D integer array with at least one token')
        if kept[0] < 0 or kept[-1] >= num_tokens or np.any(np.diff(kept) <= 0):
            raise ValueError(
                f'kept_indices: give ascending indices of {num_tokens} tokens, each once')
        if self.pixel_values.ndim != 2 or self.pixel_values.shape[0] % num_tokens:
            times = f'{self.num_moments} x ' if self.num_moments > 1 else ''
            raise ValueError(
                f'pixel_values has shape {tuple(self.pixel_values.shape)}: give the patches of '
                f'{times}{self.rows} x {self.cols} tokens')

    @classmethod
    def without_pixels(cls, rows: int, cols: int, merge_size: int) -> VisionInput:
        """Return an image of which only the size is known, all tokens kept."""
        num_tokens = rows * cols
        return cls(
            torch.zeros(num_tokens * merge_size ** 2, 0), rows, cols, np.arange(num_tokens))

    @property
    def num_tokens(self) -> int:
        """Visual tokens of all images, kept or not."""
        return self.num_moments * self.rows * self.cols

    def split_by_moment(self) -> list[np.ndarray]:
        """Return ``row * cols + col`` of the kept tokens of each moment that has some."""
        moment, place = np.divmod(self.kept_indices, self.rows * self.cols)
        starts = np.flatnonzero(np.diff(moment)) + 1
        return np.split(place, starts)

    def keep(self, values: Tensor) -> Tensor:
        """
        Return the part of ``values`` that belongs to the kept tokens, on the same device.

        From shape (patches of the whole images, ...), in the order of ``pixel_values``, to
        (patches of the kept tokens, ...).
        """
        of_tokens = values.unflatten(0, (self.num_tokens, -1))
        kept_indices = torch.from_numpy(self.kept_indices).to(values.device)
        return of_tokens.index_select(0, kept_indices).flatten(0, 1)

    def patch_positions(self, merge_size: int) -> Tensor:
        """Return row and column of each kept patch in its full image, (kept patches, 2)."""
        row, col = np.divmod(self.kept_indices % (self.rows * self.cols), self.cols)
        corners = np.stack([row, col], axis=1) * merge_size  # (kept tokens, 2)
        inside = np.indices((merge_size, merge_size)).reshape(2, -1).T
        patches = corners[:, None] + inside  # (kept tokens, patches of a token, 2)
        return torch.from_numpy(patches.reshape(-1, 2))

    def grid_thw(self, merge_size: int) -> Tensor:
        """Return moments, rows and columns in patches, as the library takes them."""
        return torch.tensor([[self.num_moments, self.rows * merge_size, self.cols * merge_size]])


@dataclass(frozen=True)
class VisualFeatures:
    """
    What the encoder made of the kept tokens, in the order of ``VisionInput.kept_indices``.

    ``tokens`` are their embeddings, shape (kept tokens, hidden size of the language model);
    ``deepstack`` what is added to them after the first, second, ... layer of the language model,
    each of the same shape, empty in most families.
    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...] = ()
