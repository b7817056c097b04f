"""The ground of a scene: soft colours and a pattern, or a photograph, and boxes; all still."""

from __future__ import annotations

from epvlm_ros.sim.scene import GROUNDS
import torch
from torch import Tensor
import torch.nn.functional as functional

GROUND_FIELDS = (
    'background', 'coarse', 'fine', 'ground', 'ground_pattern', 'pattern_colour', 'ground_range',
    'photograph', 'clutter')


def draw_ground(
    fields: dict[str, Tensor], size: tuple[int, int], corner: tuple[float, float], unit_px: float,
) -> Tensor:
    """
    Draw the ground of stacked scenes, float32 (scenes, 3, rows, columns).

    ``fields`` are ``GROUND_FIELDS`` of the scenes, ``size`` is in rows and columns, ``corner`` the
    (y, x) of the upper left corner from that of the image in pixels, ``unit_px`` the number of
    pixels of a scene unit.
    """
    device = fields['coarse'].device
    coarse, fine = (
        functional.interpolate(fields[name], size, mode='bicubic', align_corners=True)
        for name in ('coarse', 'fine'))
    y = (torch.arange(size[0], device=device) + 0.5 + corner[0])[:, None] / unit_px
    x = (torch.arange(size[1], device=device) + 0.5 + corner[1])[None, :] / unit_px
    pattern = _draw_pattern(fields, y, x, fine[:, 0])[:, None]
    pattern = pattern * fields['pattern_colour'][:, :, None, None]
    ground = fields['background'][:, :, None, None] + coarse + (fine + pattern)
    is_photograph = torch.nonzero(fields['ground'][:, 0] < 0)[:, 0]
    if len(is_photograph):
        ground[is_photograph] = functional.interpolate(
            fields['photograph'][is_photograph] / 255.0, size, mode='bilinear', antialias=True)
    ground = _draw_clutter(ground, fields['clutter'], y, x, unit_px)
    low, high = fields['ground_range'][..., None, None, None].unbind(dim=1)
    return torch.minimum(torch.maximum(ground, low), high)


def _draw_pattern(fields: dict[str, Tensor], y: Tensor, x: Tensor, fine: Tensor) -> Tensor:
    """Return what the pattern of each scene adds, (scenes, rows, columns)."""
    pattern = torch.zeros_like(fine)
    kinds = fields['ground'][:, 0]
    for number, name in enumerate(GROUNDS):
        members = torch.nonzero(kinds == number)[:, 0]
        if name in ('soft', 'speckled') or not len(members):
            continue
        amplitude, angle, frequency, phase = (
            fields['ground_pattern'][members][..., None, None].unbind(dim=1))
        # lines that are not quite straight
        down = frequency * (torch.cos(angle) * y - torch.sin(angle) * x) + fine[members]
        right = frequency * (torch.sin(angle) * y + torch.cos(angle) * x) + phase
        pattern[members] = amplitude * _PATTERNS[name](down, right)
    return pattern


def _planks(down: Tensor, right: Tensor) -> Tensor:
    board = torch.floor(down)
    shade = torch.frac(torch.sin(board * 12.9898) * 43758.5453).abs() - 0.5
    return shade - 1.5 * (torch.frac(down).abs() < 0.08)


def _tiles(down: Tensor, right: Tensor) -> Tensor:
    return torch.tanh(8.0 * torch.sin(torch.pi * down) * torch.sin(torch.pi * right))


def _pebbles(down: Tensor, right: Tensor) -> Tensor:
    wave = (torch.sin(4.1 * down + 1.3 * torch.sin(2.3 * right))
            + torch.sin(3.7 * right + 1.7 * torch.sin(2.9 * down)))
    return torch.tanh(2.0 * wave)


def _bricks(down: Tensor, right: Tensor) -> Tensor:
    row = torch.floor(down)
    along = 0.5 * right + 0.5 * (torch.remainder(row, 2.0))
    joint = (torch.remainder(down, 1.0) < 0.14) | (torch.remainder(along, 1.0) < 0.07)
    shade = torch.frac(torch.sin(row * 12.9898 + torch.floor(along) * 78.233) * 43758.5453).abs()
    return shade - 0.5 - 1.2 * joint


def _waves(down: Tensor, right: Tensor) -> Tensor:
    return torch.sin(6.0 * down + 2.0 * torch.sin(3.0 * right))


_PATTERNS = {
    'planks': _planks, 'tiles': _tiles, 'pebbles': _pebbles, 'bricks': _bricks, 'waves': _waves}


def _draw_clutter(
    ground: Tensor, clutter: Tensor, y: Tensor, x: Tensor, unit_px: float,
) -> Tensor:
    for box in range(clutter.shape[1]):
        has_box = torch.nonzero(clutter[:, box, 2] > 0)[:, 0]
        if not len(has_box):
            continue
        values = clutter[has_box, box][..., None, None]
        down, right = y - values[:, 0], x - values[:, 1]
        cos, sin = torch.cos(values[:, 4]), torch.sin(values[:, 4])
        outside = torch.maximum(
            (cos * down - sin * right).abs() - values[:, 2],
            (sin * down + cos * right).abs() - values[:, 3])
        cover = (0.5 - outside * unit_px).clamp(0.0, 1.0)[:, None]
        below = ground[has_box]
        ground[has_box] = below + cover * (values[:, 5:8] - below)
    return ground
