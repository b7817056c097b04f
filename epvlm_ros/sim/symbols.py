"""The letters and digits that are written on objects, as strokes."""

from __future__ import annotations

from epvlm_ros.sim.scene import SYMBOLS
import torch
from torch import Tensor

SYMBOL_SIZE = 0.6  # width of a symbol in radii of its object; it is 1.4 times as high
_STROKE = 0.11  # half the width of a stroke, in widths of a symbol
# Strokes (y, x, y, x) in widths of a symbol about its middle, y downwards.
_TOP, _BOTTOM = (-0.6, -0.4, -0.6, 0.4), (0.6, -0.4, 0.6, 0.4)
_LEFT, _RIGHT = (-0.6, -0.4, 0.6, -0.4), (-0.6, 0.4, 0.6, 0.4)
_STROKES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    'c': (_TOP, _LEFT, _BOTTOM),
    'h': (_LEFT, _RIGHT, (0.0, -0.4, 0.0, 0.4)),
    'k': (_LEFT, (-0.6, 0.4, 0.0, -0.35), (0.0, -0.35, 0.6, 0.4)),
    'l': (_LEFT, _BOTTOM),
    't': (_TOP, (-0.6, 0.0, 0.6, 0.0)),
    'u': (_LEFT, _BOTTOM, _RIGHT),
    'x': ((-0.6, -0.4, 0.6, 0.4), (-0.6, 0.4, 0.6, -0.4)),
    'z': (_TOP, (-0.6, 0.4, 0.6, -0.4), _BOTTOM),
    '4': ((-0.6, 0.15, 0.2, -0.45), (0.2, -0.45, 0.2, 0.45), (-0.6, 0.15, 0.65, 0.15)),
    '7': (_TOP, (-0.6, 0.4, 0.65, -0.1)),
}
_NUM_STROKES = max(len(strokes) for strokes in _STROKES.values())


def stroke_distance(symbol: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """
    Return the distance of points from the strokes of symbols, negative on the strokes.

    ``symbol`` is int64 (symbols,), indices into ``SYMBOLS``; ``y`` (downwards) and ``x``,
    (symbols, ...), and the result are in widths of a symbol about its middle.
    """
    # symbols of fewer strokes repeat their last one
    table = torch.tensor(
        [(_STROKES[name] + (_STROKES[name][-1],) * _NUM_STROKES)[:_NUM_STROKES]
         for name in SYMBOLS], dtype=y.dtype, device=y.device)
    strokes = table[symbol].reshape(len(symbol), _NUM_STROKES, 4, *[1] * (y.ndim - 1))
    distances = []
    for number in range(_NUM_STROKES):
        start_y, start_x, end_y, end_x = strokes[:, number].unbind(dim=1)
        way_y, way_x = end_y - start_y, end_x - start_x
        along = ((y - start_y) * way_y + (x - start_x) * way_x) / (way_y ** 2 + way_x ** 2)
        along = along.clamp(0.0, 1.0)
        distances.append(torch.hypot(
            y - start_y - along * way_y, x - start_x - along * way_x))
    return torch.stack(distances).amin(dim=0) - _STROKE
