"""From frames and their events to the tokens that are computed on; no model is needed."""

from __future__ import annotations

from collections.abc import Sequence

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.patch_grid import PatchGeometry, PatchGrid
from epvlm_ros.vlm.token_selection import select_for_moments
import numpy as np


class MomentSelector:
    """Checks images and selects their tokens, for a model that cuts them by ``geometry``."""

    def __init__(self, geometry: PatchGeometry) -> None:
        self._geometry = geometry

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens of an image of this size; raises as ``check_image``."""
        self._check_size(image_height, image_width)
        return self._geometry.grid(image_height, image_width)

    def check_image(self, image_rgb: np.ndarray) -> None:
        """Raise a ValueError if the model cannot look at this image, see ``Engine``."""
        if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3:
            raise ValueError(
                f'the image is {image_rgb.dtype} of shape {image_rgb.shape}: give uint8 of shape '
                '(height, width, 3), red first')
        self._check_size(*image_rgb.shape[:2])

    def check_moments(self, moments: Sequence[Moment]) -> None:
        """Raise a ValueError if there is none, or an image is unfit or of another size."""
        for moment in moments:
            self.check_image(moment.image_rgb)
        shapes = {moment.image_rgb.shape for moment in moments}
        if len(shapes) != 1:
            raise ValueError(
                f'the moments have images of shapes {sorted(shapes)}: give at least one moment, '
                'and images of one size')

    def select(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig, seed: int = 0,
    ) -> SelectedMoments:
        """
        Select the tokens of each moment, see ``select_for_moments``.

        The moments, oldest first, have passed ``check_moments``; ``seed`` makes one random
        selection differ from another. Raises a ValueError if an activity is about another image.
        """
        grid = self.patch_grid(*moments[0].image_rgb.shape[:2])
        selections = select_for_moments(
            [moment.image_rgb for moment in moments], grid,
            [moment.activity for moment in moments], config, seed)
        return SelectedMoments(tuple(moments), grid, selections, config, seconds_between)

    def _check_size(self, image_height: int, image_width: int) -> None:
        smallest = self._geometry.token_size_px
        if min(image_height, image_width) < smallest:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels: give one of at least '
                f'{smallest} x {smallest}')
        self._geometry.check_size(image_height, image_width)
