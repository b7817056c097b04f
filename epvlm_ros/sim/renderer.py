"""
Draws batches of scenes at any times, on a CPU or a GPU.

Only a window about each object is computed on, since the background of a scene seldom changes.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

from epvlm_ros.sim.scene import MAX_CAMERA_ORBIT, MAX_OBJECTS, Scene, SCENE_FIELDS, SHAPES
from epvlm_ros.sim.shapes import BOUNDING_RADIUS, signed_distance
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

_LUMA = (0.299, 0.587, 0.114)


class RenderedFrames(NamedTuple):
    """
    Pictures of a batch of scenes at several times, with what covers each pixel.

    ``rgb`` is float32 (scenes, times, 3, height, width), 0 to 1; ``owner`` is int8 (scenes,
    times, height, width): the index of the object, -1 for the background.
    """

    rgb: Tensor
    owner: Tensor


def stack_scenes(
    scenes: Sequence[Scene], device: torch.device | str = 'cpu',
) -> dict[str, Tensor]:
    """Stack the fields of scenes of one extent, at least one, into tensors on a device."""
    if not scenes:
        raise ValueError('no scenes: give at least one')
    return {
        name: torch.from_numpy(np.stack([getattr(scene, name) for scene in scenes])).to(device)
        for name in SCENE_FIELDS}


class SceneRenderer:
    """
    Draws scenes at a resolution.

    Parameters
    ----------
    fields : dict of str to Tensor
        Stacked scenes, as ``stack_scenes`` returns them.
    image_height, image_width : int
        Size in pixels; its aspect ratio should be that of the scenes.

    """

    def __init__(self, fields: dict[str, Tensor], image_height: int, image_width: int) -> None:
        if min(image_height, image_width) < 16:
            raise ValueError(
                f'image of {image_height} x {image_width}: give at least 16 pixels a side')
        self._fields = fields
        self._height, self._width = image_height, image_width
        self._pixels_per_unit = float(min(image_height, image_width))
        self._num_scenes = len(fields['radius'])
        self._device = fields['radius'].device
        largest_px = float(fields['radius'].max()) * self._pixels_per_unit
        self._window_px = 2 * math.ceil(BOUNDING_RADIUS * largest_px) + 4
        # The same for all scenes: what a scene looks like must not hang on the rest of the batch.
        self._camera_margin_px = 2 + math.ceil(MAX_CAMERA_ORBIT * self._pixels_per_unit)
        self._camera_moves = bool((fields['camera'][:, 0] > 0).any())
        self._background = self._make_background()
        flat_shape = fields['shape'].reshape(-1)
        self._members = [
            torch.nonzero(flat_shape == number)[:, 0] for number in range(len(SHAPES))]

    def render(self, times_s: Tensor) -> RenderedFrames:
        """
        Draw every scene at its own times.

        Parameters
        ----------
        times_s : Tensor float (scenes, times)
            Seconds since the start of each scene.

        Returns
        -------
        RenderedFrames
            Pictures and ownership; ``owner`` ignores how much of a border pixel is covered.

        """
        if times_s.ndim != 2 or len(times_s) != self._num_scenes:
            raise ValueError(
                f'times of shape {tuple(times_s.shape)} for {self._num_scenes} scenes: '
                'give one row for each scene')
        frames = [self._render_one(times_s[:, column]) for column in range(times_s.shape[1])]
        rgb = torch.stack([frame[0] for frame in frames], dim=1)
        return RenderedFrames(rgb, torch.stack([frame[1] for frame in frames], dim=1))

    def _make_background(self) -> Tensor:
        """Return the background with a margin for the camera's way, (scenes, 3, rows, cols)."""
        margin = self._camera_margin_px
        size = (self._height + 2 * margin, self._width + 2 * margin)
        coarse, fine = (
            functional.interpolate(self._fields[name], size, mode='bicubic', align_corners=True)
            for name in ('coarse', 'fine'))
        flat = self._fields['background'][:, :, None, None]
        return (flat + coarse + fine).clamp(0.04, 0.72)

    def _camera_px(self, time_s: Tensor) -> Tensor:
        """Return the camera's displacement (scenes, 2), y then x."""
        orbit, rate, phase = self._fields['camera'].unbind(dim=1)
        angle = phase + rate * time_s
        way = torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)
        return self._pixels_per_unit * orbit[:, None] * way

    def _seen_background(self, camera_px: Tensor) -> Tensor:
        margin, background = self._camera_margin_px, self._background
        if not self._camera_moves:
            inside = (slice(margin, margin + self._height), slice(margin, margin + self._width))
            return background[:, :, inside[0], inside[1]]
        rows = torch.arange(self._height, device=self._device) + margin + camera_px[:, :1]
        cols = torch.arange(self._width, device=self._device) + margin + camera_px[:, 1:]
        rows = rows * (2.0 / (background.shape[2] - 1)) - 1.0
        cols = cols * (2.0 / (background.shape[3] - 1)) - 1.0
        shape = (self._num_scenes, self._height, self._width)
        grid = torch.stack(
            [cols[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
        return functional.grid_sample(
            background, grid, mode='bilinear', padding_mode='border', align_corners=True)

    def _render_one(self, time_s: Tensor) -> tuple[Tensor, Tensor]:
        """Draw every scene at one time each, (scenes,)."""
        camera_px = self._camera_px(time_s)
        pad = self._window_px
        canvas = functional.pad(self._seen_background(camera_px), (pad, pad, pad, pad))
        row_length = canvas.shape[3]
        size = canvas.shape[2:]
        canvas = canvas.reshape(self._num_scenes, 3, -1)
        owner = torch.full_like(canvas[:, 0], -1, dtype=torch.int8)
        corner, cover, paint = self._draw_windows(time_s, camera_px)
        step = torch.arange(pad, device=self._device)
        rows = (corner[..., 0] + pad)[..., None, None] + step[:, None]
        cols = (corner[..., 1] + pad)[..., None, None] + step
        index = (rows * row_length + cols).flatten(2)  # (scenes, objects, window pixels)
        for item in range(MAX_OBJECTS):
            where = index[:, item, None].expand(-1, 3, -1)
            below = canvas.gather(2, where)
            share = cover[:, item, None]
            canvas.scatter_(2, where, below + share * (paint[:, item] - below))
            before = owner.gather(1, index[:, item])
            covered = torch.where(cover[:, item] > 0.5, item, before).to(torch.int8)
            owner.scatter_(1, index[:, item], covered)
        inside = (slice(pad, pad + self._height), slice(pad, pad + self._width))
        canvas = canvas.reshape(self._num_scenes, 3, *size)[:, :, inside[0], inside[1]]
        return canvas, owner.reshape(self._num_scenes, *size)[:, inside[0], inside[1]]

    def _draw_windows(self, time_s: Tensor, camera_px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Draw each object in a window of its own.

        Returns
        -------
        tuple of Tensor
            Upper left corners int64 (scenes, objects, 2); cover (scenes, objects, pixels), 0 to
            1; paint (scenes, objects, 3, pixels).

        """
        fields, scale, window = self._fields, self._pixels_per_unit, self._window_px
        phase = fields['orbit_phase'] + fields['orbit_rate'] * time_s[:, None]
        circle = torch.stack([torch.sin(phase), torch.cos(phase)], dim=-1)
        centre_px = scale * (fields['anchor'] + fields['orbit_radius'][..., None] * circle)
        centre_px = centre_px - camera_px[:, None]
        corner = torch.floor(centre_px - window / 2).long()
        limit = torch.tensor([self._height, self._width], device=self._device)
        corner = torch.minimum(corner.clamp_min(-window), limit)
        radius_px = (scale * fields['radius'])[..., None, None]
        step = torch.arange(window, device=self._device) + 0.5
        offset = corner - centre_px
        down = (offset[..., 0, None, None] + step[:, None]) / radius_px.clamp_min(1e-3)
        right = (offset[..., 1, None, None] + step) / radius_px.clamp_min(1e-3)
        angle = (fields['angle'] + fields['spin'] * time_s[:, None])[..., None, None]
        cos, sin = torch.cos(angle), torch.sin(angle)
        y, x = cos * down - sin * right, sin * down + cos * right
        cover = (0.5 - self._distances(y, x) * radius_px).clamp(0.0, 1.0) * (radius_px > 0)
        brightness = self._brightness(down, right, y, x)
        paint = fields['tint'][..., None, None] * brightness[:, :, None]
        return corner, cover.flatten(2), paint.clamp(0.0, 1.0).flatten(3)

    def _distances(self, y: Tensor, x: Tensor) -> Tensor:
        flat_y, flat_x = y.flatten(0, 1), x.flatten(0, 1)
        distances = torch.empty_like(flat_y)
        for number, members in enumerate(self._members):
            if len(members):
                distances[members] = signed_distance(
                    SHAPES[number], flat_y[members], flat_x[members])
        return distances.reshape(y.shape)

    def _brightness(self, down: Tensor, right: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return light from one side, a darker rim, and a pattern that turns with the object."""
        shading = self._fields['shading'][..., None, None]
        amplitude, rate_y, rate_x, phase = self._fields['texture'][..., None, None].unbind(dim=2)
        light = 1.0 + shading[:, :, 0] * down + shading[:, :, 1] * right
        rim = 1.0 - 0.12 * (down * down + right * right).clamp_max(1.5)
        pattern = torch.sin(rate_y * y + phase) * torch.sin(rate_x * x - phase)
        return light * rim * (1.0 + amplitude * pattern)


def luminance(rgb: Tensor) -> Tensor:
    """Return the brightness (..., height, width) of pictures (..., 3, height, width)."""
    red, green, blue = rgb.unbind(dim=-3)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
