"""What goes into the encoder, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class VisionInput:
    """
    One image, resized and cut by the image processor, and the tokens of it to compute on.

    Parameters
    ----------
    pixel_values : torch.Tensor
        float, shape (rows * cols * merge_size ** 2, patch values), patches of the whole image in
        the order of the image processor: the patches of one visual token follow each other.
    rows, cols : int
        The grid of visual tokens.
    kept_indices : numpy.ndarray
        int64, indices ``row * cols + col`` of the kept tokens, ascending, at least one.

    Raises
    ------
    ValueError
        If the indices are not as above or the patches do not fill the grid.

    """

    pixel_values: Tensor
    rows: int
    cols: int
    kept_indices: np.ndarray

    def __post_init__(self) -> None:
        kept, num_tokens = self.kept_indices, self.rows * self.cols
        if kept.ndim != 1 or kept.size == 0 or not np.issubdtype(kept.dtype, np.integer):
            raise ValueError('kept_indices: give a 1-D integer array with at least one token')
        if kept[0] < 0 or kept[-1] >= num_tokens or np.any(np.diff(kept) <= 0):
            raise ValueError(
                f'kept_indices: give ascending indices of {num_tokens} tokens, each once')
        if self.pixel_values.ndim != 2 or self.pixel_values.shape[0] % num_tokens:
            raise ValueError(
                f'pixel_values has shape {tuple(self.pixel_values.shape)}: give the patches of '
                f'{self.rows} x {self.cols} tokens')

    def keep(self, values: Tensor) -> Tensor:
        """
        Return the part of ``values`` that belongs to the kept tokens.

        Parameters
        ----------
        values : torch.Tensor
            Shape (patches of the whole image, ...), in the order of ``pixel_values``.

        Returns
        -------
        torch.Tensor
            Shape (patches of the kept tokens, ...), on the device of ``values``.

        """
        of_tokens = values.unflatten(0, (self.rows * self.cols, -1))
        return of_tokens[torch.from_numpy(self.kept_indices).to(values.device)].flatten(0, 1)

    def patch_positions(self, merge_size: int) -> Tensor:
        """Return row and column of each kept patch in the full image, (kept patches, 2)."""
        row, col = np.divmod(self.kept_indices, self.cols)
        corners = np.stack([row, col], axis=1) * merge_size  # (kept tokens, 2)
        inside = np.indices((merge_size, merge_size)).reshape(2, -1).T
        patches = corners[:, None] + inside  # (kept tokens, patches of a token, 2)
        return torch.from_numpy(patches.reshape(-1, 2))


def grid_thw(rows: int, cols: int, merge_size: int) -> Tensor:
    """Return time, rows and columns of an image in patches, as the library takes them."""
    return torch.tensor([[1, rows * merge_size, cols * merge_size]])


@dataclass(frozen=True)
class VisualFeatures:
    """
    What the encoder made of the kept tokens.

    Parameters
    ----------
    tokens : torch.Tensor
        Shape (kept tokens, hidden size of the language model), in the order of
        ``VisionInput.kept_indices``: their embeddings.
    deepstack : tuple of torch.Tensor
        What is added to the same tokens after the first, second, ... layer of the language
        model, each of the shape of ``tokens``. Empty in most families.

    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...] = ()
