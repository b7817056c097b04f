"""Draws scenes at the moments of their arrangements and in between, on a CPU or a GPU."""

from __future__ import annotations

from epvlm_ros.sim.arrangement import COVER
from epvlm_ros.sim.renderer import SceneRenderer
import torch
from torch import Tensor
from training.batches import Batch


class ArrangedScenes:
    """The scenes of a batch with several moments, at a resolution."""

    def __init__(self, batch: Batch, image_height: int, image_width: int) -> None:
        self._moments = batch.moments
        self._reach = COVER * batch.scenes['radius']  # of what covers an object
        self._fields = dict(batch.scenes)  # the renderer draws what stands here when it is called
        self._renderer = SceneRenderer(self._fields, image_height, image_width)
        device = batch.times_s.device
        unit_px = float(min(image_height, image_width))
        self._y = (torch.arange(image_height, device=device) + 0.5)[:, None] / unit_px
        self._x = (torch.arange(image_width, device=device) + 0.5)[None, :] / unit_px
        self._times_s = torch.zeros(len(batch.times_s), 1, device=device)

    def draw(self, start: int, end: int, share: float) -> tuple[Tensor, Tensor]:
        """
        Draw what lies between two moments, as ``Arrangement.towards``.

        Returns
        -------
        tuple of Tensor
            Pictures float32 (scenes, 3, height, width), and which object is at each pixel, int8
            (scenes, height, width), -1 for the ground and covers.

        """
        anchors, radii = self._moments['anchor'], self._moments['radius']
        was_there = (radii[:, start] > 0)[..., None]
        way = torch.where(was_there, anchors[:, end] - anchors[:, start], 0.0)
        begin = torch.where(was_there, anchors[:, start], anchors[:, end])
        later = end if share >= 0.5 else start
        self._fields['anchor'] = begin + share * way if share < 1.0 else anchors[:, end]
        self._fields['radius'] = radii[:, later]
        frames = self._renderer.render(self._times_s)
        return self._cover(frames.rgb[:, 0], frames.owner[:, 0], later)

    def _cover(self, rgb: Tensor, owner: Tensor, moment: int) -> tuple[Tensor, Tensor]:
        """Paint boxes over what is covered."""
        is_covered = self._moments['is_covered'][:, moment]
        cover = torch.full_like(owner, -1)  # the number of what is covered
        for item in range(is_covered.shape[1]):
            centre = self._fields['anchor'][:, item, :, None, None]
            reach = self._reach[:, item, None, None]
            box = ((self._y - centre[:, 0]).abs() < reach) & (
                (self._x - centre[:, 1]).abs() < reach) & is_covered[:, item, None, None]
            cover = cover.masked_fill(box, item)
        row = torch.arange(len(cover), device=cover.device)[:, None, None]
        colour = self._moments['cover_colour'][row, cover.clamp_min(0).long()]
        is_box = cover >= 0
        rgb = torch.where(is_box[:, None], colour.permute(0, 3, 1, 2), rgb)
        return rgb, owner.masked_fill(is_box, -1)
