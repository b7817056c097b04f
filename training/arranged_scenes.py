"""Draws scenes at the moments of their arrangements and in between, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epvlm_ros.sim.arrangement import COVER
from epvlm_ros.sim.renderer import RenderedFrames, SceneRenderer
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import Batch


class Step(NamedTuple):
    """How far all is between two moments, 0 to 1."""

    start: int
    end: int
    share: float


def render_at_once(
    fields: dict[str, Tensor], times_s: Tensor, image_height: int, image_width: int,
) -> RenderedFrames:
    """
    Render stacked scenes at times (scenes, times), all as scenes of their own.

    On a GPU the number of calls counts, not that the ground is drawn for every time.
    """
    number = times_s.shape[1]
    repeated = {name: value.repeat_interleave(number, dim=0) for name, value in fields.items()}
    frames = SceneRenderer(repeated, image_height, image_width).render(times_s.reshape(-1, 1))
    return RenderedFrames(*(item[:, 0].unflatten(0, (-1, number)) for item in frames))


def draw_arranged(
    batch: Batch, steps: Sequence[Step], image_height: int, image_width: int,
) -> tuple[Tensor, Tensor]:
    """
    Draw what lies between moments of the scenes of a batch, as ``Arrangement.towards``.

    The camera turns as evenly as things move. All steps are drawn at once, see ``render_at_once``.

    Returns
    -------
    tuple of Tensor
        Pictures float32 (scenes, steps, 3, height, width), and which object is at each pixel,
        int8 (scenes, steps, height, width), -1 for the ground and covers.

    """
    number = len(steps)
    fields = {name: value.repeat_interleave(number, dim=0)
              for name, value in batch.scenes.items()}
    reach = COVER * fields['radius']  # of what covers an object
    fields['anchor'], fields['radius'] = (
        torch.stack(item, dim=1).flatten(0, 1)
        for item in zip(*(_between(batch.moments, step) for step in steps)))
    phases = [_turn(batch.moments['camera_phase'], step) for step in steps]
    turn = torch.stack(phases, dim=1).flatten()
    fields['camera'] = fields['camera'] + functional.pad(turn[:, None], (2, 0))
    later = [step.end if step.share >= 0.5 else step.start for step in steps]
    is_covered = batch.moments['is_covered'][:, later].flatten(0, 1)
    colour = batch.moments['cover_colour'].repeat_interleave(number, dim=0)
    renderer = SceneRenderer(fields, image_height, image_width)
    frames = renderer.render(fields['anchor'].new_zeros(len(is_covered), 1))
    camera = renderer.camera_px(turn.new_zeros(len(turn))) / min(image_height, image_width)
    centre = fields['anchor'] - camera[:, None]
    item = _find_covers(centre, reach, is_covered, (image_height, image_width))
    row = torch.arange(len(item), device=item.device)[:, None, None]
    is_cover = item >= 0
    colour = colour[row, item.clamp_min(0).long()].permute(0, 3, 1, 2)
    rgb = torch.where(is_cover[:, None], colour, frames.rgb[:, 0])
    owner = frames.owner[:, 0].masked_fill(is_cover, -1)
    return rgb.unflatten(0, (-1, number)), owner.unflatten(0, (-1, number))


def _between(moments: dict[str, Tensor], step: Step) -> tuple[Tensor, Tensor]:
    """Return where objects are (scenes, objects, 2) and how large (scenes, objects), in units."""
    anchors, radii = moments['anchor'], moments['radius']
    was_there = (radii[:, step.start] > 0)[..., None]
    way = torch.where(was_there, anchors[:, step.end] - anchors[:, step.start], 0.0)
    begin = torch.where(was_there, anchors[:, step.start], anchors[:, step.end])
    anchor = begin + step.share * way if step.share < 1.0 else anchors[:, step.end]
    return anchor, radii[:, step.end if step.share >= 0.5 else step.start]


def _turn(phase: Tensor, step: Step) -> Tensor:
    """Return how far the camera has turned, (scenes,)."""
    return torch.lerp(phase[:, step.start], phase[:, step.end], step.share)


def _find_covers(
    centre: Tensor, reach: Tensor, is_covered: Tensor, size: tuple[int, int],
) -> Tensor:
    """Return whose cover is at each pixel, int8 (scenes, height, width), -1 for none."""
    y, x = ((torch.arange(length, device=centre.device) + 0.5) / min(size) for length in size)
    cover = centre.new_full((len(centre), *size), -1, dtype=torch.int8)
    for item in range(is_covered.shape[1]):
        middle, side = centre[:, item, :, None, None], reach[:, item, None, None]
        box = ((y[:, None] - middle[:, 0]).abs() < side) & ((x - middle[:, 1]).abs() < side)
        cover = cover.masked_fill(box & is_covered[:, item, None, None], item)
    return cover
