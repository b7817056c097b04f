"""Turns batches of scenes into pictures, labels of visual tokens and event activity."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.sim.activity_model import token_activity
from epvlm_ros.sim.renderer import luminance, SceneRenderer
from epvlm_ros.sim.scene import COLOURS, MAX_OBJECTS, SHAPES
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import Batch, TOKEN_SIZE_PX
from training.checkpoint import IMAGE_MEAN, IMAGE_STD

_HALF_WINDOW_S = 0.02  # half of the events' window; the other half would see about as much
_MAX_EXPOSURE_S = 0.014
_MIN_COVER = 0.2  # share of a token that an object must cover to be its label


class Pictures(NamedTuple):
    """
    What the model sees and what is true of it.

    Attributes
    ----------
    patches : Tensor float32 (scenes, tokens, 4, 588)
        Normalised pixels of the four patches of each visual token, in the processor's order
        without the repetition in time.
    shape, colour : Tensor int64 (scenes, tokens)
        What covers each token; the last number is the background.
    activity : Tensor float32 (scenes, tokens)
        Events in the window around the picture.

    """

    patches: Tensor
    shape: Tensor
    colour: Tensor
    activity: Tensor


def draw_pictures(
    batch: Batch, generator: torch.Generator, *, augment: bool = True,
) -> Pictures:
    """Draw a batch whose tensors are on the generator's device; equal states, equal pictures."""
    device = batch.times_s.device
    rows, cols = batch.grid
    renderer = SceneRenderer(batch.scenes, rows * TOKEN_SIZE_PX, cols * TOKEN_SIZE_PX)
    num_scenes = len(batch.times_s)
    exposure = torch.rand(num_scenes, generator=generator, device=device) * _MAX_EXPOSURE_S
    offsets = torch.stack([
        torch.zeros_like(exposure), exposure, torch.full_like(exposure, _HALF_WINDOW_S)], dim=1)
    frames = renderer.render(batch.times_s[:, None] + offsets)
    rgb = 0.5 * (frames.rgb[:, 0] + frames.rgb[:, 1])
    if augment:
        rgb = _augment(rgb, generator)
    noise = 0.02 * torch.rand(num_scenes, generator=generator, device=device) ** 2
    activity = token_activity(
        luminance(frames.rgb), TOKEN_SIZE_PX, noise_events_per_px=noise, generator=generator)
    shape, colour = _label_tokens(batch, frames.owner[:, 0])
    return Pictures(make_patches(rgb), shape, colour, activity.flatten(1))


def _augment(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Change exposure, contrast, white balance, sharpness and noise, each picture its own way."""
    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        size = (len(rgb), channels, 1, 1)
        return torch.rand(size, generator=generator, device=rgb.device) * (high - low) + low

    rgb = rgb * uniform(0.75, 1.2) * uniform(0.94, 1.06, 3)
    rgb = rgb.clamp(0.0, 1.0) ** uniform(0.85, 1.2)
    blurred = functional.avg_pool2d(
        functional.pad(rgb, (1, 1, 1, 1), mode='replicate'), 3, stride=1)
    rgb = rgb + uniform(-0.3, 1.0).clamp_min(0.0) * (blurred - rgb)
    spread = uniform(-0.01, 0.04).clamp_min(0.0)
    noise = torch.randn(rgb.shape, generator=generator, device=rgb.device)
    return (rgb + spread * noise).clamp(0.0, 1.0)


def make_patches(rgb: Tensor) -> Tensor:
    """
    Round pictures (scenes, 3, height, width) to bytes, normalise and cut them.

    Returns
    -------
    Tensor float32 (scenes, tokens, 4, 588)
        Equal to the image processor's patches without their repetition in time.

    """
    mean, std = (
        torch.tensor(values, device=rgb.device)[:, None, None]
        for values in (IMAGE_MEAN, IMAGE_STD))
    rgb = (torch.round(rgb * 255.0) / 255.0 - mean) / std
    num_scenes, _, height, width = rgb.shape
    rows, cols = height // TOKEN_SIZE_PX, width // TOKEN_SIZE_PX
    cut = rgb.reshape(num_scenes, 3, rows, 2, 14, cols, 2, 14)
    return cut.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(num_scenes, rows * cols, 4, -1)


def _label_tokens(batch: Batch, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shape and the colour that cover most of each token."""
    is_object = owner[:, None] == torch.arange(
        MAX_OBJECTS, device=owner.device, dtype=owner.dtype)[:, None, None]
    cover = functional.avg_pool2d(is_object.float(), TOKEN_SIZE_PX).flatten(2)
    share, item = cover.max(dim=1)  # (scenes, tokens)
    covered = share >= _MIN_COVER
    shape = batch.scenes['shape'].gather(1, item).masked_fill(~covered, len(SHAPES))
    return shape, batch.scenes['colour'].gather(1, item).masked_fill(~covered, len(COLOURS))


def choose_tokens(scores: Tensor, num_kept: int) -> Tensor:
    """Return the indices int64 (scenes, num_kept) of the highest scores, in ascending order."""
    return scores.topk(num_kept, dim=1).indices.sort(dim=1).values
