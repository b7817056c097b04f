"""Signed distances from the outlines of the simulated shapes."""

from __future__ import annotations

from collections.abc import Callable
import math

from epvlm_ros.sim.scene import SHAPES
import torch
from torch import Tensor

BOUNDING_RADIUS = 1.15  # every shape of radius 1 lies within this distance of its centre


def signed_distance(shape: str, y: Tensor, x: Tensor) -> Tensor:
    """
    Return the distance of points from the outline of a shape of radius 1 about the origin.

    ``y`` (downwards) and ``x`` are in radii, of one tensor shape. Negative inside; exact at the
    outline, a lower bound far from corners.
    """
    if shape not in _DISTANCES:
        raise ValueError(f'shape is {shape!r}: give one of {", ".join(SHAPES)}')
    return _DISTANCES[shape](y, x)


def _circle(y: Tensor, x: Tensor) -> Tensor:
    return torch.hypot(y, x) - 0.95


def _square(y: Tensor, x: Tensor) -> Tensor:
    return torch.maximum(y.abs(), x.abs()) - 0.8


def _triangle(y: Tensor, x: Tensor) -> Tensor:
    sides = [
        y * math.sin(angle) + x * math.cos(angle)
        for angle in (math.pi / 2, math.pi * 7 / 6, math.pi * 11 / 6)]
    return torch.maximum(torch.maximum(sides[0], sides[1]), sides[2]) - 0.56


def _star(y: Tensor, x: Tensor) -> Tensor:
    outer, inner, sector = 1.1, 0.46, math.pi / 5
    distance, angle = torch.hypot(y, x), torch.atan2(y, x)
    # One tip lies at angle 0 of each of five sectors, which are folded onto half of one.
    folded = (torch.remainder(angle + sector, 2 * sector) - sector).abs()
    along_x, along_y = distance * torch.cos(folded), distance * torch.sin(folded)
    edge_x, edge_y = inner * math.cos(sector) - outer, inner * math.sin(sector)
    return ((along_x - outer) * edge_y - along_y * edge_x) / math.hypot(edge_x, edge_y)


def _cross(y: Tensor, x: Tensor) -> Tensor:
    y, x = y.abs(), x.abs()
    return torch.minimum(
        torch.maximum(y - 0.32, x - 1.05), torch.maximum(y - 1.05, x - 0.32))


def _ring(y: Tensor, x: Tensor) -> Tensor:
    return (torch.hypot(y, x) - 0.74).abs() - 0.26


def _heart(y: Tensor, x: Tensor) -> Tensor:
    # a square on its tip and two discs on its upper sides
    half_side = 0.75 / math.sqrt(2)
    square = torch.maximum((x + y).abs(), (x - y).abs()) / math.sqrt(2) - half_side
    discs = torch.hypot(y + 0.375, x.abs() - 0.375) - half_side
    return torch.minimum(square, discs)


def _arrow(y: Tensor, x: Tensor) -> Tensor:
    y = y.abs()
    shaft = torch.maximum((x + 0.425).abs() - 0.525, y - 0.22)
    slope = ((x - 0.1) * 0.7 + (y - 0.7) * 0.95) / math.hypot(0.7, 0.95)
    return torch.minimum(shaft, torch.maximum(0.1 - x, slope))


def _moon(y: Tensor, x: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(y, x) - 0.95, 0.8 - torch.hypot(y, x - 0.45))


def _bar(y: Tensor, x: Tensor) -> Tensor:
    return torch.maximum(x.abs() - 1.05, y.abs() - 0.3)


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'circle': _circle, 'square': _square, 'triangle': _triangle, 'star': _star,
    'cross': _cross, 'ring': _ring, 'heart': _heart, 'arrow': _arrow, 'moon': _moon, 'bar': _bar}
