"""
Renders batches of scenes at given times, on a CPU or a GPU.

Only a window around each object is drawn; the ground of a scene never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.sim.ground import draw_ground
from epvlm_ros.sim.photographs import NEUTRAL
from epvlm_ros.sim.scene import (
    MAX_CAMERA_ORBIT, MAX_OBJECTS, MAX_ZOOM, Scene, SCENE_FIELDS, SHAPES)
from epvlm_ros.sim.shapes import BOUNDING_RADIUS, signed_distance
from epvlm_ros.sim.symbols import stroke_distance, SYMBOL_SIZE
import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as functional

_SHADOW_REACH = 1.4  # radii from the object's centre within which its shadow is drawn


class RenderedFrames(NamedTuple):
    """
    Images of a batch of scenes at several times.

    ``rgb`` is float32 (scenes, times, 3, height, width), 0 to 1; ``owner``, int8 (scenes, times,
    height, width), is the index of the object at each pixel, -1 for the ground.
    """

    rgb: Tensor
    owner: Tensor


class _Windows(NamedTuple):
    """
    Each object, drawn in a window of its own.

    ``corner`` is the upper left pixel int64 (scenes, objects, 2); ``cover`` and ``shade``,
    (scenes, objects, pixels), 0 to 1, are the object's opacity and the darkness of its shadow;
    ``paint`` is (scenes, objects, 3, pixels).
    """

    corner: Tensor
    cover: Tensor
    shade: Tensor
    paint: Tensor


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
    """Renders stacked scenes at a resolution with the aspect ratio of the scenes."""

    def __init__(self, fields: dict[str, Tensor], image_height: int, image_width: int) -> None:
        if min(image_height, image_width) < 16:
            raise ValueError(
                f'image of {image_height} x {image_width}: give at least 16 pixels a side')
        self._fields = fields
        self._height, self._width = image_height, image_width
        self._unit_px = float(min(image_height, image_width))
        self._num_scenes = len(fields['radius'])
        self._device = fields['radius'].device
        largest_px = float(fields['radius'].max()) * self._unit_px * math.exp(MAX_ZOOM)
        self._window_px = 2 * math.ceil(_SHADOW_REACH * largest_px) + 4
        # The same for all scenes: what a scene looks like must not hang on the rest of the batch.
        zoom_px = max(image_height, image_width) / 2 * math.expm1(MAX_ZOOM)
        self._margin_px = 2 + math.ceil(MAX_CAMERA_ORBIT * self._unit_px + zoom_px)
        self._camera_moves = bool(
            (fields['camera'][:, 0] > 0).any() or (fields['zoom'][:, 0] > 0).any())
        margin = self._margin_px
        self._ground = draw_ground(
            fields, (image_height + 2 * margin, image_width + 2 * margin), (-margin, -margin),
            self._unit_px)
        flat_shape = fields['shape'].reshape(-1)
        self._members = [
            torch.nonzero(flat_shape == number)[:, 0] for number in range(len(SHAPES))]
        self._written = torch.nonzero(fields['symbol'].reshape(-1) >= 0)[:, 0]

    def render(self, times_s: Tensor) -> RenderedFrames:
        """
        Render every scene at its own times, float (scenes, times), in seconds since its start.

        ``owner`` ignores how much of a border pixel is covered.
        """
        if times_s.ndim != 2 or len(times_s) != self._num_scenes:
            raise ValueError(
                f'times of shape {tuple(times_s.shape)} for {self._num_scenes} scenes: '
                'give one row for each scene')
        frames = [self._render_one(times_s[:, column]) for column in range(times_s.shape[1])]
        rgb = torch.stack([frame[0] for frame in frames], dim=1)
        return RenderedFrames(rgb, torch.stack([frame[1] for frame in frames], dim=1))

    def camera_px(self, time_s: Tensor) -> Tensor:
        """Return the camera's displacement (scenes, 2), y then x."""
        orbit, rate, phase = self._fields['camera'].unbind(dim=1)
        angle = phase + rate * time_s
        way = torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)
        return self._unit_px * orbit[:, None] * way

    def _scale(self, time_s: Tensor) -> Tensor:
        """Return by how much everything is larger than at rest, (scenes,)."""
        amplitude, rate, phase = self._fields['zoom'].unbind(dim=1)
        return torch.exp(amplitude * torch.sin(phase + rate * time_s))

    def _light(self, time_s: Tensor) -> Tensor:
        """Return the brightness of the light, (scenes,)."""
        amplitude, rate, phase = self._fields['light'].unbind(dim=1)
        return 1.0 + amplitude * torch.sin(phase + rate * time_s)

    def _seen_ground(self, camera_px: Tensor, scale: Tensor) -> Tensor:
        margin, ground = self._margin_px, self._ground
        if not self._camera_moves:
            inside = (slice(margin, margin + self._height), slice(margin, margin + self._width))
            return ground[:, :, inside[0], inside[1]]
        rows, cols = (
            (torch.arange(length, device=self._device) + 0.5 - length / 2) / scale[:, None]
            + (margin + length / 2 - 0.5) + camera_px[:, axis:axis + 1]
            for axis, length in enumerate((self._height, self._width)))
        rows = rows * (2.0 / (ground.shape[2] - 1)) - 1.0
        cols = cols * (2.0 / (ground.shape[3] - 1)) - 1.0
        shape = (self._num_scenes, self._height, self._width)
        grid = torch.stack(
            [cols[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
        return functional.grid_sample(
            ground, grid, mode='bilinear', padding_mode='border', align_corners=True)

    def _render_one(self, time_s: Tensor) -> tuple[Tensor, Tensor]:
        """Draw every scene at one time each, (scenes,)."""
        camera_px, scale = self.camera_px(time_s), self._scale(time_s)
        pad = self._window_px
        canvas = functional.pad(self._seen_ground(camera_px, scale), (pad, pad, pad, pad))
        row_length = canvas.shape[3]
        size = canvas.shape[2:]
        canvas = canvas.reshape(self._num_scenes, 3, -1)
        owner = torch.full_like(canvas[:, 0], -1, dtype=torch.int8)
        windows = self._draw_windows(time_s, camera_px, scale)
        step = torch.arange(pad, device=self._device)
        rows = (windows.corner[..., 0] + pad)[..., None, None] + step[:, None]
        cols = (windows.corner[..., 1] + pad)[..., None, None] + step
        index = (rows * row_length + cols).flatten(2)  # (scenes, objects, window pixels)
        for item in range(MAX_OBJECTS):
            where = index[:, item, None].expand(-1, 3, -1)
            below = canvas.gather(2, where) * (1.0 - windows.shade[:, item, None])
            share = windows.cover[:, item, None]
            canvas.scatter_(2, where, below + share * (windows.paint[:, item] - below))
            before = owner.gather(1, index[:, item])
            covered = torch.where(windows.cover[:, item] > 0.5, item, before).to(torch.int8)
            owner.scatter_(1, index[:, item], covered)
        inside = (slice(pad, pad + self._height), slice(pad, pad + self._width))
        canvas = canvas.reshape(self._num_scenes, 3, *size)[:, :, inside[0], inside[1]]
        canvas = (canvas * self._light(time_s)[:, None, None, None]).clamp(0.0, 1.0)
        return canvas, owner.reshape(self._num_scenes, *size)[:, inside[0], inside[1]]

    def _draw_windows(self, time_s: Tensor, camera_px: Tensor, scale: Tensor) -> _Windows:
        fields, window = self._fields, self._window_px
        centre_px = self._centres_px(time_s, camera_px, scale)
        corner = torch.floor(centre_px - window / 2).long()
        limit = torch.tensor([self._height, self._width], device=self._device)
        corner = torch.minimum(corner.clamp_min(-window), limit)
        radius_px = (self._unit_px * scale[:, None] * fields['radius'])[..., None, None]
        step = torch.arange(window, device=self._device) + 0.5
        offset = corner - centre_px
        down = (offset[..., 0, None, None] + step[:, None]) / radius_px.clamp_min(1e-3)
        right = (offset[..., 1, None, None] + step) / radius_px.clamp_min(1e-3)
        angle = (fields['angle'] + fields['spin'] * time_s[:, None])[..., None, None]
        cos, sin = torch.cos(angle), torch.sin(angle)
        y, x = cos * down - sin * right, sin * down + cos * right
        is_there = (radius_px > 0) & (fields['appears_s'] <= time_s[:, None])[..., None, None]
        cover = (0.5 - self._distances(y, x) * radius_px).clamp(0.0, 1.0) * is_there
        brightness = self._brightness(down, right, y, x)
        paint = fields['tint'][..., None, None] * brightness[:, :, None]
        paint = self._write(paint, y, x, radius_px)
        shade = self._shadow(down, right) * is_there
        return _Windows(
            corner, cover.flatten(2), shade.flatten(2), paint.clamp(0.0, 1.0).flatten(3))

    def _centres_px(self, time_s: Tensor, camera_px: Tensor, scale: Tensor) -> Tensor:
        fields = self._fields
        phase = fields['orbit_phase'] + fields['orbit_rate'] * time_s[:, None]
        circle = torch.stack([torch.sin(phase), torch.cos(phase)], dim=-1)
        world_px = self._unit_px * (
            fields['anchor'] + fields['orbit_radius'][..., None] * circle)
        middle = torch.tensor([self._height / 2, self._width / 2], device=self._device)
        return middle + scale[:, None, None] * (world_px - camera_px[:, None] - middle)

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
        return light * rim * (1.0 + amplitude * pattern) * self._surface(y, x)

    def _surface(self, y: Tensor, x: Tensor) -> Tensor | float:
        """Return the brightness of the surfaces, which turn with the objects."""
        surface = self._fields['surface']
        if not surface.shape[-1]:
            return 1.0
        grid = torch.stack([x, y], dim=-1).flatten(0, 1) / BOUNDING_RADIUS
        relief = functional.grid_sample(
            surface.flatten(0, 1)[:, None] / NEUTRAL, grid, padding_mode='border',
            align_corners=False)
        return relief.reshape(y.shape)

    def _write(self, paint: Tensor, y: Tensor, x: Tensor, radius_px: Tensor) -> Tensor:
        """Write the symbols, upright on the object but for their tilt, over its paint."""
        written = self._written
        if not len(written):
            return paint
        fields = self._fields
        y, x = (item.flatten(0, 1)[written] / SYMBOL_SIZE for item in (y, x))
        # the object's own orientation at the start is taken back: a symbol stands upright
        angle = (fields['symbol_tilt'] - fields['angle']).flatten()[written, None, None]
        cos, sin = torch.cos(angle), torch.sin(angle)
        distance = stroke_distance(
            fields['symbol'].flatten()[written], cos * y - sin * x, sin * y + cos * x)
        width_px = SYMBOL_SIZE * radius_px.flatten(0, 1)[written]
        cover = (0.5 - distance * width_px).clamp(0.0, 1.0)[:, None]
        ink = fields['ink'].flatten()[written, None, None, None]
        flat = paint.flatten(0, 1)
        flat[written] = flat[written] + cover * (ink - flat[written])
        return flat.reshape(paint.shape)

    def _shadow(self, down: Tensor, right: Tensor) -> Tensor:
        """Return how much a soft round shadow beside each object takes of the light."""
        shadow = self._fields['shadow'][:, :, None, None]
        down, right = down - shadow[:, 0, None], right - shadow[:, 1, None]
        distance = down * down + right * right
        return shadow[:, 2, None] * (1.0 - distance * distance).clamp_min(0.0)


def luminance(rgb: Tensor) -> Tensor:
    """Return the brightness (..., height, width) of pictures (..., 3, height, width)."""
    red, green, blue = rgb.unbind(dim=-3)
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
