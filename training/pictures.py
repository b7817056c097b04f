"""Turns batches of scenes into pictures, labels of visual tokens and event activity."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.sim.activity_model import LOG_OFFSET, THRESHOLD, token_activity
from epvlm_ros.sim.motion_questions import LEAST_WAY
from epvlm_ros.sim.renderer import luminance
from epvlm_ros.sim.scene import COLOURS, MAX_OBJECTS, SHAPES, SYMBOLS
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.image_check import (
    LARGEST_NOISE, MEAN_TO_DEVIATION, QUIET_SHARE, SAMPLES_PER_SIDE)
from epvlm_ros.vlm.token_selection.moments import WITH_EVENTS, WITHOUT_EVENTS
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.arranged_scenes import draw_arranged, render_at_once, Step
from training.batches import Batch, TOKEN_SIZE_PX
from training.cameras import take_frames
from training.checkpoint import IMAGE_MEAN, IMAGE_STD
from training.token_scores import token_detail, token_saliency

_HALF_WINDOW_S = 0.02  # of the events' window about the middle of the exposure
_BETWEEN_S = 0.4  # two moments
_WAY_SAMPLES = (0.25, 0.5, 0.75, 1.0)  # of the way from one moment to the next
_EYE_TOKEN_PX = TOKEN_SIZE_PX // 2  # pixels of the event camera: as in most, larger ones
_EXPOSURE_SAMPLES = (-1 / 3, 0.0, 1 / 3)
_NOISE_RATE = VlmConfig().static_scene_rate  # events per pixel and second
_MIN_COVER = 0.2  # share of a token that an object must cover to be its label
NO_LABEL = -100  # of what a token is not asked for
NUM_MOTIONS = 2  # stands still, moves
# What happened since the first moment to what covers a token: it stood still, moved, appeared, or
# what was there is gone; the last number is the ground.
NUM_CHANGES = 4
_STOOD, _MOVED, _CAME, _GONE = range(NUM_CHANGES)
_LEAST_PART = LEAST_WAY / 2  # of a way along an axis


class Pictures(NamedTuple):
    """
    What the model sees and what is true of it; the tokens of several moments follow each other.

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
    change, way_y, way_x : Tensor int64 (scenes, tokens)
        What happened since the first moment where each token is, see ``NUM_CHANGES``, and whether
        what covers it moved towards 0 (0), hardly (1) or away from it (2) along each axis.
        ``NO_LABEL`` at the first moment, and where nothing moved.
    activity, detail, saliency : Tensor float32 (scenes, tokens)
        Events up to or around the picture in noise floors, what there is to see, and which
        colours stand out.
    difference : Tensor float32 (scenes, tokens)
        By how much each token differs from the latest moment, 0 where it hardly does; of the
        latest one, the most that any before it does. In memory, from the moment before.

    """

    patches: Tensor
    shape: Tensor
    colour: Tensor
    symbol: Tensor
    motion: Tensor
    change: Tensor
    way_y: Tensor
    way_x: Tensor
    activity: Tensor
    detail: Tensor
    saliency: Tensor
    difference: Tensor


def draw_pictures(
    batch: Batch, generator: torch.Generator, *, augment: bool = True,
) -> Pictures:
    """
    Draw a batch whose tensors are on the generator's device; equal states, equal pictures.

    Without ``augment`` they are as the cameras of the scenes take them.
    """
    seen = _see_arranged(batch, generator) if batch.moments else _see_going(batch, generator)
    rgb = take_frames(seen.rgb, batch.camera, generator)
    rgb = _augment(rgb, batch.num_moments, generator) if augment else rgb
    labels = _label_tokens(batch, seen.owner)
    scores = (item.flatten(1) for item in (
        seen.activity, token_detail(rgb), token_saliency(rgb),
        _find_differences(rgb, seen.activity, batch.num_moments, batch.in_memory)))
    found = [make_patches(rgb), *labels, *scores]
    return Pictures(*(
        item.reshape(len(batch.times_s), -1, *item.shape[2:]) for item in found))


class _Seen(NamedTuple):
    """
    What there is to be seen, the moments of a scene one after the other.

    ``rgb`` is (scenes * moments, 3, height, width) in full light, ``owner`` (scenes * moments,
    height, width) the object at each pixel, -1 for the ground and what covers objects;
    ``activity`` is (scenes * moments, rows, cols) in noise floors.
    """

    rgb: Tensor
    owner: Tensor
    activity: Tensor


def _see_going(batch: Batch, generator: torch.Generator) -> _Seen:
    """Look at pictures of each scene while objects and the camera move."""
    rows, cols = batch.grid
    device = batch.times_s.device
    exposure = batch.camera['exposure_s'][:, None] * torch.tensor(
        _EXPOSURE_SAMPLES, device=device)
    window = torch.tensor([-_HALF_WINDOW_S, 0.0, _HALF_WINDOW_S], device=device)
    seen = []
    for times_s in batch.times_s.split(1, dim=1):
        frames = render_at_once(
            batch.scenes, times_s + exposure, rows * TOKEN_SIZE_PX, cols * TOKEN_SIZE_PX)
        events = render_at_once(
            batch.scenes, times_s + window, rows * _EYE_TOKEN_PX, cols * _EYE_TOKEN_PX)
        activity = _count_events(
            batch, luminance(events.rgb), 2.0 * _HALF_WINDOW_S, generator)
        seen.append((
            frames.rgb.mean(dim=1), frames.owner[:, len(_EXPOSURE_SAMPLES) // 2], activity))
    return _Seen(*(torch.stack(item, dim=1).flatten(0, 1) for item in zip(*seen)))


def _see_arranged(batch: Batch, generator: torch.Generator) -> _Seen:
    """
    Look at each scene at several moments, the event camera in between as well.

    Before the first one all is at rest. As in ``Arrangement.towards`` objects move on straight
    lines, and appear, disappear or are covered halfway.
    """
    rows, cols = batch.grid
    num_moments = batch.num_moments
    size = rows * TOKEN_SIZE_PX, cols * TOKEN_SIZE_PX
    rgb, owner = draw_arranged(
        batch, [Step(number, number, 1.0) for number in range(num_moments)], *size)
    course = [Step(0, 0, 1.0)] + [
        Step(number - 1, number, share)
        for number in range(1, num_moments) for share in _WAY_SAMPLES]
    brightness = luminance(draw_arranged(
        batch, course, rows * _EYE_TOKEN_PX, cols * _EYE_TOKEN_PX)[0])
    activity = []
    for number in range(num_moments):
        seen = brightness[:, max(0, number - 1) * len(_WAY_SAMPLES):][:, :1 + (
            len(_WAY_SAMPLES) if number else 0)]
        activity.append(_count_events(batch, seen, _BETWEEN_S, generator))
    return _Seen(
        rgb.flatten(0, 1), owner.flatten(0, 1), torch.stack(activity, dim=1).flatten(0, 1))


def _count_events(
    batch: Batch, brightness: Tensor, window_s: float, generator: torch.Generator,
) -> Tensor:
    """Return the activity in noise floors, from pictures (scenes, times, ...) of a window."""
    camera = batch.camera
    light = brightness * camera['light'][:, None, None, None]
    events = token_activity(
        light, _EYE_TOKEN_PX, noise_events_per_px=window_s * camera['noise_events_hz'],
        generator=generator)
    seen = functional.avg_pool2d(light[:, -1:] / (light[:, -1:] + LOG_OFFSET), _EYE_TOKEN_PX)[:, 0]
    area = _EYE_TOKEN_PX ** 2
    flicker = (area / THRESHOLD) * window_s * camera['flicker'][:, None, None] * seen
    return (events + flicker) / (_NOISE_RATE * area * window_s)


def _find_differences(
    rgb: Tensor, activity: Tensor, num_moments: int, in_memory: bool,
) -> Tensor:
    """
    Return ``difference`` of ``Pictures``, (scenes * moments, rows, cols).

    The rule is that of ``epvlm_ros.vlm.token_selection.moments``: the sample that differs most
    beyond the noise of the frames, clearly so where nothing moved in or beside the token.
    """
    if num_moments == 1:
        return torch.zeros_like(activity)
    side = TOKEN_SIZE_PX // SAMPLES_PER_SIDE
    samples = functional.avg_pool2d(rgb, side).unflatten(0, (-1, num_moments))
    other = samples[:, :-1] if in_memory else samples[:, -1:]
    one = samples[:, 1:] if in_memory else samples[:, :-1]
    difference = (one - other).abs().flatten(0, 1)
    largest = functional.max_pool2d(difference.amax(dim=1), SAMPLES_PER_SIDE)
    means = functional.avg_pool2d(difference.mean(dim=1), SAMPLES_PER_SIDE).flatten(1)
    quiet = means.quantile(QUIET_SHARE, dim=1)
    noise = MEAN_TO_DEVIATION * quiet.clamp_max(LARGEST_NOISE / 255.0)
    faint, clear = (
        (largest > (deviations * noise).clamp_min(levels / 255.0)[:, None, None]).unflatten(
            0, (-1, num_moments - 1))
        for levels, deviations in (WITH_EVENTS, WITHOUT_EVENTS))
    moved = activity.unflatten(0, (-1, num_moments)).amax(dim=1, keepdim=True) > 1.0
    moved = functional.max_pool2d(moved.float(), 3, stride=1, padding=1) > 0.0
    changed = largest.unflatten(0, (-1, num_moments - 1)) * torch.where(moved, faint, clear)
    if in_memory:
        return functional.pad(changed, (0, 0, 0, 0, 1, 0)).flatten(0, 1)
    return torch.cat([changed, changed.amax(dim=1, keepdim=True)], dim=1).flatten(0, 1)


def _augment(rgb: Tensor, num_moments: int, generator: torch.Generator) -> Tensor:
    """Change white balance, contrast and sharpness, those of each scene its own way."""
    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        size = (len(rgb) // num_moments, channels, 1, 1)
        drawn = torch.rand(size, generator=generator, device=rgb.device) * (high - low) + low
        return drawn.repeat_interleave(num_moments, dim=0)

    rgb = (rgb * uniform(0.94, 1.06, 3)).clamp(0.0, 1.0) ** uniform(0.85, 1.2)
    blurred = functional.avg_pool2d(
        functional.pad(rgb, (1, 1, 1, 1), mode='replicate'), 3, stride=1)
    return rgb + uniform(-0.3, 1.0).clamp_min(0.0) * (blurred - rgb)


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


def _label_tokens(batch: Batch, owner: Tensor) -> list[Tensor]:
    """Return the labels of ``Pictures`` from shape to way_x, (scenes * moments, tokens)."""
    scenes, num_moments = batch.scenes, batch.num_moments
    is_object = owner[:, None] == torch.arange(
        MAX_OBJECTS, device=owner.device, dtype=owner.dtype)[:, None, None]
    cover = functional.avg_pool2d(is_object.float(), TOKEN_SIZE_PX).flatten(2)
    share, item = cover.max(dim=1)  # (scenes * moments, tokens)
    covered = share >= _MIN_COVER

    def of_moments(values: Tensor) -> Tensor:
        return values.repeat_interleave(num_moments, dim=0)

    def label(values: Tensor, ground: int) -> Tensor:
        return of_moments(values).gather(1, item).masked_fill(~covered, ground)

    symbol = label(scenes['symbol'], -1)
    moves = (scenes['orbit_radius'] > 0) | (scenes['spin'] != 0)
    camera_moves = (scenes['camera'][:, 0] > 0) | (scenes['zoom'][:, 0] > 0)
    motion = label(moves.long(), NUM_MOTIONS).masked_fill(
        of_moments(camera_moves)[:, None], NO_LABEL)
    colour = label(scenes['colour'], len(COLOURS)).masked_fill(
        covered & ~of_moments(batch.has_names)[:, None], NO_LABEL)
    labels = [label(scenes['shape'], len(SHAPES)), colour,
              symbol.masked_fill(symbol < 0, len(SYMBOLS)), motion,
              *_label_changes(batch, item, covered)]
    unreadable = of_moments(~batch.is_readable)[:, None]
    return [item.masked_fill(unreadable, NO_LABEL) for item in labels]


def _label_changes(batch: Batch, item: Tensor, covered: Tensor) -> list[Tensor]:
    """Return change, way_y and way_x, from which object covers a token if one does."""
    item, covered = (values.unflatten(0, (-1, batch.num_moments)) for values in (item, covered))
    if not batch.moments:
        return _label_going(batch, item, covered)
    is_seen = (batch.moments['radius'] > 0) & ~batch.moments['is_covered']
    was_seen = is_seen[:, :1].expand_as(is_seen).gather(2, item)
    ways = batch.moments['anchor'] - batch.moments['anchor'][:, :1]
    way = ways.gather(2, item[..., None].expand(-1, -1, -1, 2))  # (scenes, moments, tokens, 2)
    length = way.norm(dim=-1)
    change = torch.where(length < 1e-6, _STOOD, torch.where(
        length >= LEAST_WAY, _MOVED, NO_LABEL)).masked_fill(~was_seen, _CAME)
    change = _add_ground(change, covered)
    # what the picture of something that still stands left because the camera turned is not gone
    stands = is_seen & is_seen[:, :1] & (ways.norm(dim=-1) < 1e-6)
    change = change.masked_fill(
        (change == _GONE) & stands.gather(2, item[:, :1].expand_as(item)), NO_LABEL)
    parts = 1 + (way > _LEAST_PART).long() - (way < -_LEAST_PART).long()
    parts = parts.masked_fill((change != _MOVED)[..., None], NO_LABEL)
    return [values.flatten(0, 1) for values in (change, parts[..., 0], parts[..., 1])]


def _label_going(batch: Batch, item: Tensor, covered: Tensor) -> list[Tensor]:
    """Return change, way_y and way_x where things move by themselves, before a still camera."""
    scenes = batch.scenes

    def label(values: Tensor) -> Tensor:
        return values[:, None].expand(-1, item.shape[1], -1).gather(2, item)

    moves = label((scenes['orbit_radius'] > 0) | (scenes['spin'] != 0))
    is_new = label(scenes['appears_s'] > batch.times_s[:, :1])
    change = torch.where(moves, _MOVED, _STOOD).masked_fill(is_new, _CAME)
    camera_moves = (scenes['camera'][:, 0] > 0) | (scenes['zoom'][:, 0] > 0)
    change = _add_ground(change, covered).masked_fill(camera_moves[:, None, None], NO_LABEL)
    nowhere = torch.full_like(change, NO_LABEL).flatten(0, 1)
    return [change.flatten(0, 1), nowhere, nowhere]


def _add_ground(change: Tensor, covered: Tensor) -> Tensor:
    """Return the change (scenes, moments, tokens) with what nothing covers; none at first."""
    was_covered = covered[:, :1].expand_as(covered)
    change = torch.where(covered, change, torch.where(was_covered, _GONE, NUM_CHANGES))
    change[:, 0] = NO_LABEL
    return change
