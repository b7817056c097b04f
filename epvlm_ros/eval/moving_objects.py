"""
Objects of photographs that move before other photographs.

An object is cut out along its mask and laid on another photograph, where it moves on a straight
line within the window of the events; the camera stands still, or turns by some pixels meanwhile.
The picture is that of the middle of the window.
"""

from __future__ import annotations

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.still_image_events import activity_of_views, NUM_STEPS
import numpy as np

CAMERA_SHIFT_PX = (3.0, 8.0)  # of the picture in the window, in its pixels
OBJECT_SHIFT_PX = (4.0, 12.0)  # of the object against the ground, likewise
FRAME_BEFORE = -33.0 / 40.0  # time of the frame before, in windows
_EDGE_PX = 1.0  # blur of the mask: no edge of a picture is sharper than its pixels


class MovingObject:
    """
    The object of one photograph before another one.

    Parameters
    ----------
    ground, source : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    mask : numpy.ndarray
        float32, the shape of ``source``, 1 on the object, which has to fit into ``ground``.
    camera_moves : bool
        Whether ground and object move together as well.
    seed : int
        Of place, directions and speeds.

    """

    def __init__(
        self, ground: np.ndarray, source: np.ndarray, mask: np.ndarray, *, camera_moves: bool,
        seed: int,
    ) -> None:
        self._ground, self._seed = ground, seed
        random = np.random.default_rng([28, seed])
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        cut = np.s_[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
        height, width = mask[cut].shape
        spare_rows, spare_cols = ground.shape[0] - height, ground.shape[1] - width
        if min(spare_rows, spare_cols) < 0:
            raise ValueError(
                f'the object has {height} x {width} pixels, the ground {ground.shape[0]} x '
                f'{ground.shape[1]}: give a smaller object')
        row, col = int(random.integers(spare_rows + 1)), int(random.integers(spare_cols + 1))
        place = np.s_[row:row + height, col:col + width]
        self.mask = np.zeros(ground.shape[:2], np.float32)  # in the middle of the window
        self.mask[place] = mask[cut]
        self._object = np.zeros_like(ground)
        self._object[place] = source[cut]
        self._opacity = cv2.GaussianBlur(self.mask, (0, 0), _EDGE_PX) * self.mask
        self._object_shift_px = _draw_shift(random, OBJECT_SHIFT_PX)
        self._camera_shift_px = _draw_shift(random, CAMERA_SHIFT_PX) * camera_moves

    def view(self, time: float) -> np.ndarray:
        """Return the picture at a time in windows, 0 in the middle; uint8 (height, width, 3)."""
        ground = _shift(self._ground, time * self._camera_shift_px)
        by = time * (self._object_shift_px + self._camera_shift_px)
        opacity = _shift(self._opacity, by)[..., None]
        return np.round(
            ground * (1.0 - opacity) + _shift(self._object, by) * opacity).astype(np.uint8)

    def watch(self) -> ActivityGrid:
        """Return the events of the window."""
        times = np.linspace(-0.5, 0.5, NUM_STEPS + 1)
        return activity_of_views(
            (self.view(time) for time in times), self._ground.shape[:2], seed=self._seed)


def _draw_shift(random: np.random.Generator, lengths: tuple[float, float]) -> np.ndarray:
    """Return a displacement (x, y) of any direction, its length between two."""
    angle = random.uniform(0.0, 2.0 * np.pi)
    return random.uniform(*lengths) * np.array([np.cos(angle), np.sin(angle)])


def _shift(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return the image moved by (x, y) pixels, its border repeated."""
    matrix = np.array([[1.0, 0.0, by[0]], [0.0, 1.0, by[1]]])
    return cv2.warpAffine(
        image, matrix, (image.shape[1], image.shape[0]), borderMode=cv2.BORDER_REPLICATE)
