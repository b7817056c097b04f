"""What changed between two frames: what the events half counts and the model half reads."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.activity_grid import grid_shape
import numpy as np


@dataclass(frozen=True, eq=False)
class ChangeScore:
    """
    Running counts of change, cell by cell, up to the exposure of a frame.

    The difference of the scores of two frames covers everything between them, however many
    frames were missed.

    Parameters
    ----------
    scores : numpy.ndarray
        uint16, shape (rows, cols), cells as in ``ActivityGrid``: events above the noise floor
        since the epoch began, modulo 65536.
    cell_size_px : int
        Side of a cell, in image pixels.
    image_height, image_width : int
        Size of the image, in pixels.
    epoch : int
        Scores of two epochs have nothing to do with each other.
    num_doubts : int
        How many stretches of this epoch lost events; what changed in them is not known.

    Raises
    ------
    ValueError
        If the scores have another shape or type.

    """

    scores: np.ndarray
    cell_size_px: int
    image_height: int
    image_width: int
    epoch: int
    num_doubts: int = 0

    def __post_init__(self) -> None:
        shape = grid_shape(self.image_height, self.image_width, self.cell_size_px)
        if self.scores.shape != shape or self.scores.dtype != np.uint16:
            raise ValueError(
                f'change scores are {self.scores.dtype} of shape {self.scores.shape}: give uint16 '
                f'of shape {shape}')

    def continues(self, earlier: ChangeScore) -> bool:
        """Whether the difference to an earlier score means anything."""
        return (self.epoch == earlier.epoch and self.scores.shape == earlier.scores.shape
                and self.cell_size_px == earlier.cell_size_px
                and self.image_height == earlier.image_height
                and self.image_width == earlier.image_width)

    def since(self, earlier: ChangeScore) -> np.ndarray:
        """
        Return the change since an earlier score of the same epoch.

        Returns
        -------
        numpy.ndarray
            float32, shape (rows, cols), 0 or more, right as long as no cell has changed by
            65536 or more in between.

        Raises
        ------
        ValueError
            If the earlier score does not lead to this one.

        """
        if not self.continues(earlier):
            raise ValueError(
                f'the change scores are of epochs {earlier.epoch} and {self.epoch} or of other '
                'grids: begin anew')
        return (self.scores - earlier.scores).astype(np.float32)  # uint16 wraps around
