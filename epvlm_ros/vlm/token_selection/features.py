"""The inputs of the selection policies."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

_DETAIL_SIDE = 14  # samples along the side of a token: enough for edges, few for speed


@dataclass(frozen=True)
class TokenFeatures:
    """
    The inputs of the selection policies, for a grid of (rows, cols) visual tokens.

    Parameters
    ----------
    activity : numpy.ndarray or None
        float32, shape (rows, cols), events per token; None if no event data came.
    seed : int
        Of the random policy.
    detail, saliency, objectness : numpy.ndarray or None
        float32, shape (rows, cols), see ``image_detail``, ``image_saliency`` and
        ``image_objectness``.
    noise_floor : float
        Most events of a token in which nothing moves.
    still_share : float
        Share of the budget for the still scene, 0 to 1, in policies that have one.

    """

    rows: int
    cols: int
    activity: np.ndarray | None = None
    seed: int = 0
    detail: np.ndarray | None = None
    noise_floor: float = 0.0
    still_share: float = 0.25
    saliency: np.ndarray | None = None
    objectness: np.ndarray | None = None

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the whole image."""
        return self.rows * self.cols


def image_detail(image_rgb: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """
    Return the gradient energy of the brightness in each token.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    grid : PatchGrid
        The tokens of this image; another size is a ValueError.

    Returns
    -------
    numpy.ndarray
        float32, shape (grid.rows, grid.cols), at least 0, 0 for a token of one colour.

    """
    grid.check_image(image_rgb)
    # resized first: the mean of the colours is the colour of the mean
    size = (grid.cols * _DETAIL_SIDE, grid.rows * _DETAIL_SIDE)
    small = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
    brightness = cv2.transform(small, np.array([LUMA_WEIGHTS], np.float32)).astype(np.float32)
    along_x, along_y = (
        cv2.Sobel(brightness, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    energy = along_x * along_x + along_y * along_y
    shape = (grid.rows, _DETAIL_SIDE, grid.cols, _DETAIL_SIDE)
    return energy.reshape(shape).sum(axis=(1, 3))
