"""Turns batches of scenes into pictures, labels of visual tokens and event activity."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.sim.activity_model import token_activity
from epvlm_ros.sim.renderer import luminance, SceneRenderer
from epvlm_ros.sim.scene import COLOURS, MAX_OBJECTS, SHAPES, SYMBOLS
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.token_selection.saliency import (
    AROUND_TOKENS, AROUND_WEIGHT, EVENT_WEIGHT, HALF_SALIENCY, LEAST_SPREAD, OPPONENT_COLOURS,
    SAMPLES_PER_SIDE)
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import Batch, TOKEN_SIZE_PX
from training.checkpoint import IMAGE_MEAN, IMAGE_STD

_HALF_WINDOW_S = 0.02  # of the events' window about the middle of the exposure
_MAX_EXPOSURE_S = 0.02
_EXPOSURE_SAMPLES = (-1 / 3, 0.0, 1 / 3)
_NOISE_RATE = VlmConfig().static_scene_rate  # events per pixel and second
_MIN_COVER = 0.2  # share of a token that an object must cover to be its label
NO_LABEL = -100  # of what a token is not asked for
NUM_MOTIONS = 2  # stands still, moves


class Pictures(NamedTuple):
    """
    What the model sees and what is true of it.

    Attributes
    ----------
    patches : Tensor float32 (scenes, tokens, 4, 588)
        Normalised pixels of the four patches of each visual token, in the processor's order
        without the repetition in time.
    shape, colour, symbol : Tensor int64 (scenes, tokens)
        What covers each token, and what is written on that; the last number is the ground, or
        nothing written. ``NO_LABEL`` for colours without a name.
    motion : Tensor int64 (scenes, tokens)
        Whether what covers each token moves; the last number is the ground, ``NO_LABEL`` where
        the camera moves.
    activity, detail, saliency : Tensor float32 (scenes, tokens)
        Events in the window around the picture, what there is to see, and which colours stand
        out.

    """

    patches: Tensor
    shape: Tensor
    colour: Tensor
    symbol: Tensor
    motion: Tensor
    activity: Tensor
    detail: Tensor
    saliency: Tensor


def draw_pictures(
    batch: Batch, generator: torch.Generator, *, augment: bool = True,
) -> Pictures:
    """Draw a batch whose tensors are on the generator's device; equal states, equal pictures."""
    device = batch.times_s.device
    rows, cols = batch.grid
    renderer = SceneRenderer(batch.scenes, rows * TOKEN_SIZE_PX, cols * TOKEN_SIZE_PX)
    num_scenes = len(batch.times_s)
    exposure = torch.rand(num_scenes, generator=generator, device=device) * _MAX_EXPOSURE_S
    half = torch.full_like(exposure, _HALF_WINDOW_S)
    offsets = torch.stack([-half, *(share * exposure for share in _EXPOSURE_SAMPLES), half], dim=1)
    frames = renderer.render(batch.times_s[:, None] + offsets)
    rgb = frames.rgb[:, 1:-1].mean(dim=1)
    noise = 0.02 * torch.rand(num_scenes, generator=generator, device=device) ** 2
    middle = 1 + len(_EXPOSURE_SAMPLES) // 2
    activity = token_activity(
        luminance(frames.rgb[:, [0, middle, -1]]), TOKEN_SIZE_PX, noise_events_per_px=noise,
        generator=generator)
    if augment:
        rgb = _augment(rgb, generator)
    labels = _label_tokens(batch, frames.owner[:, middle])
    return Pictures(
        make_patches(rgb), *labels, activity.flatten(1), token_detail(rgb).flatten(1),
        token_saliency(rgb).flatten(1))


def token_detail(rgb: Tensor) -> Tensor:
    """Return the energy of the gradient of all colours in each token, (scenes, rows, cols)."""
    small = functional.avg_pool2d(rgb, 2)
    small = functional.pad(small, (1, 1, 1, 1), mode='replicate')
    down = small[:, :, 2:, 1:-1] - small[:, :, :-2, 1:-1]
    right = small[:, :, 1:-1, 2:] - small[:, :, 1:-1, :-2]
    energy = (down * down + right * right).sum(dim=1, keepdim=True)
    return functional.avg_pool2d(energy, TOKEN_SIZE_PX // 2)[:, 0]


def token_saliency(rgb: Tensor) -> Tensor:
    """
    Return ``image_saliency`` of ``epvlm_ros.vlm.token_selection.saliency``, (scenes, rows, cols).

    Of two middle ones the lower is the median here, and samples are means of all their pixels.
    """
    to_opponent = torch.tensor(OPPONENT_COLOURS, device=rgb.device)
    samples = functional.avg_pool2d(rgb, TOKEN_SIZE_PX // SAMPLES_PER_SIDE)
    samples = torch.einsum('oc,schw->sohw', to_opponent, samples)
    means = functional.avg_pool2d(samples, SAMPLES_PER_SIDE).flatten(2)
    ground = means.median(dim=2, keepdim=True).values
    spread = (means - ground).abs().median(dim=2, keepdim=True).values + LEAST_SPREAD
    unusual = (samples - ground[..., None]) / spread[..., None]
    largest = functional.max_pool2d(unusual.square().sum(dim=1).sqrt(), SAMPLES_PER_SIDE)
    return largest / (largest + HALF_SALIENCY)


def token_contrast(activity: Tensor) -> Tensor:
    """Return ``event_contrast`` of the same module for activity (scenes, rows, cols)."""
    floor = _NOISE_RATE * TOKEN_SIZE_PX ** 2 * 2.0 * _HALF_WINDOW_S
    above = (activity - floor).clamp_min(0.0)
    margin = AROUND_TOKENS // 2
    padded = functional.pad(activity[:, None], (margin,) * 4, mode='replicate')
    around = functional.avg_pool2d(padded, AROUND_TOKENS, stride=1)[:, 0]
    return above / (above + floor + AROUND_WEIGHT * around)


def combine_scores(saliency: Tensor, contrast: Tensor) -> Tensor:
    """Return ``combine`` of the same module, (scenes, rows, cols) like both."""
    nearby = functional.max_pool2d(contrast, 3, stride=1, padding=1)
    return saliency + EVENT_WEIGHT * (contrast + nearby)


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


def _label_tokens(batch: Batch, owner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return shape, colour, symbol and motion of what covers most of each token."""
    scenes = batch.scenes
    is_object = owner[:, None] == torch.arange(
        MAX_OBJECTS, device=owner.device, dtype=owner.dtype)[:, None, None]
    cover = functional.avg_pool2d(is_object.float(), TOKEN_SIZE_PX).flatten(2)
    share, item = cover.max(dim=1)  # (scenes, tokens)
    covered = share >= _MIN_COVER

    def label(values: Tensor, ground: int) -> Tensor:
        return values.gather(1, item).masked_fill(~covered, ground)

    symbol = label(scenes['symbol'], -1)
    moves = (scenes['orbit_radius'] > 0) | (scenes['spin'] != 0)
    camera_moves = (scenes['camera'][:, 0] > 0) | (scenes['zoom'][:, 0] > 0)
    motion = label(moves.long(), NUM_MOTIONS).masked_fill(camera_moves[:, None], NO_LABEL)
    colour = label(scenes['colour'], len(COLOURS)).masked_fill(
        covered & ~batch.has_names[:, None], NO_LABEL)
    return (label(scenes['shape'], len(SHAPES)), colour,
            symbol.masked_fill(symbol < 0, len(SYMBOLS)), motion)


def choose_tokens(scores: Tensor, num_kept: int) -> Tensor:
    """Return the indices int64 (scenes, num_kept) of the highest scores, in ascending order."""
    return scores.topk(num_kept, dim=1).indices.sort(dim=1).values


def score_tokens(
    pictures: Pictures, grid: tuple[int, int], noise: Tensor,
) -> dict[str, Tensor]:
    """
    Return by how much each token is worth keeping, by kind of selection.

    Parameters
    ----------
    pictures : Pictures
        What is seen.
    grid : tuple of int
        Rows and columns of tokens.
    noise : Tensor float (scenes, tokens)
        From 0 to 1; decides between tokens that are equally good.

    Returns
    -------
    dict of str to Tensor float (scenes, tokens)
        'random'; 'objects', those on objects first; 'events', the most active ones; 'detail',
        those with most to see; 'events_and_saliency', that policy of the package.

    """
    activity, detail = pictures.activity + 1e-3 * noise, pictures.detail + 1e-9 * noise
    contrast = token_contrast(pictures.activity.unflatten(1, grid))
    salient = combine_scores(pictures.saliency.unflatten(1, grid), contrast).flatten(1)
    return {
        'random': noise, 'objects': noise + (pictures.shape < len(SHAPES)), 'events': activity,
        'detail': detail, 'events_and_saliency': salient + 1e-6 * noise}
