"""Cameras of the scenes of training: exposure, noise, darkness, flicker, noise events."""

from __future__ import annotations

import math

from epvlm_ros.sim.camera_sampling import sample_cameras
from epvlm_ros.sim.scene import RANDOMISED_SPLITS
import numpy as np
import torch
from torch import Tensor

_MAX_EXPOSURE_S = 0.02
_EXPOSURES = (0.75, 1.2)
_MOST_NOISE, _NO_NOISE_SHARE = 0.04, 0.2
_MOST_NOISE_EVENTS_HZ = 0.5
_DARKNESS, _DARK_NOISE, _GLARE = 0.01, 0.1, 200.0  # of frames that show nothing
_EVEN_GREY, _EVEN_TINT, _EVEN_NOISE = (0.12, 0.85), 0.12, 0.04  # of frames of one colour
_TARGET = 0.4  # mean of a frame that automatic gain aims at, as in ``epvlm_ros.sim.cameras``
READABLE, TOO_DARK, TOO_BRIGHT, EVEN = range(4)
_EVEN_COLOUR = ('even_red', 'even_green', 'even_blue')


def draw_camera(
    split: str, index: int, random: np.random.Generator, kind: int = READABLE,
) -> dict[str, float]:
    """
    Return what a scene is seen by, the camera of ``sample_cameras`` where it has one.

    Returns
    -------
    dict of str to float
        ``factor`` of the frame and ``noise`` after it, a standard deviation; ``even_red`` and so
        on, a colour that is added; ``exposure_s``;
        ``gain_step`` in powers of two; ``light`` and ``flicker`` (changes of its logarithm in a
        second) that the event camera sees; ``noise_events_hz`` of a pixel.

    """
    camera = {
        'factor': random.uniform(*_EXPOSURES),
        'noise': max(0.0, random.uniform(-_NO_NOISE_SHARE, 1.0)) * _MOST_NOISE,
        'exposure_s': random.uniform(0.0, _MAX_EXPOSURE_S), 'gain_step': 0.0, 'light': 1.0,
        'flicker': 0.0, 'noise_events_hz': _MOST_NOISE_EVENTS_HZ * random.random() ** 2}
    camera |= dict.fromkeys(_EVEN_COLOUR, 0.0)
    if split in RANDOMISED_SPLITS:
        _, seen, events = sample_cameras(split, index)
        gain = min(seen.max_gain, 1.0 / seen.light)
        depth = seen.flicker_depth
        camera |= {
            'factor': seen.exposures[0] * gain * seen.light, 'noise': gain * seen.read_noise,
            'exposure_s': seen.exposure_s, 'gain_step': seen.gain_step, 'light': seen.light,
            'flicker': 2.0 * seen.flicker_hz * math.log((1.0 + depth) / (1.0 - depth)),
            'noise_events_hz': max(camera['noise_events_hz'], events.shot_noise_rate_hz / 2.0)}
    if kind == TOO_DARK:
        camera |= {'factor': random.uniform(0.0, _DARKNESS),
                   'noise': random.uniform(0.0, _DARK_NOISE), 'gain_step': 0.0}
    elif kind == TOO_BRIGHT:
        camera |= {'factor': _GLARE, 'gain_step': 0.0}
    elif kind == EVEN:
        colour = random.uniform(*_EVEN_GREY) + random.uniform(-_EVEN_TINT, _EVEN_TINT, 3)
        camera |= {'factor': 0.0, 'gain_step': 0.0, 'noise': random.uniform(0.0, _EVEN_NOISE),
                   **dict(zip(_EVEN_COLOUR, colour.tolist()))}
    return camera


def take_frames(
    pictures: Tensor, camera: dict[str, Tensor], generator: torch.Generator,
) -> Tensor:
    """
    Return frames of what there is to be seen, of one scene as often as there are moments.

    Parameters
    ----------
    pictures : Tensor float32 (scenes * moments, 3, height, width)
        In full light, 0 to 1; the moments of a scene follow each other.
    camera : dict of str to Tensor float32 (scenes,)
        As ``draw_camera`` gives it.
    generator : torch.Generator
        Of the noise.

    """
    num_moments = len(pictures) // len(camera['factor'])
    factor, noise, step = (
        camera[name].repeat_interleave(num_moments)[:, None, None, None]
        for name in ('factor', 'noise', 'gain_step'))
    colour = torch.stack([camera[name] for name in _EVEN_COLOUR], dim=1)
    colour = colour.repeat_interleave(num_moments, dim=0)[:, :, None, None]
    frames = factor * pictures + colour
    mean = frames.clamp(0.0, 1.0).mean(dim=(1, 2, 3), keepdim=True).clamp_min(1.0 / 255.0)
    stops = torch.log2(_TARGET / mean)
    gain = torch.exp2(torch.where(stops.abs() > step / 2.0, stops.sign() * step, 0.0))
    spread = torch.randn(frames.shape, generator=generator, device=frames.device)
    return (gain * (frames + noise * spread)).clamp(0.0, 1.0)
