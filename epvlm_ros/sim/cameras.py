"""The light of a scene and the frame camera: exposure, gain, noise; steps of the event camera."""

from __future__ import annotations

from dataclasses import dataclass
import math

from epvlm_ros.sim.renderer import SceneRenderer
import numpy as np
import torch

_NUM_EXPOSURE_SAMPLES = 5
EXPOSURE_SHARES = (np.arange(_NUM_EXPOSURE_SAMPLES) + 0.5) / _NUM_EXPOSURE_SAMPLES
_MAX_STEP_S = 0.002  # between two images that the event camera sees
_MAX_STEP_PX = 1.0
_STEPS_PER_FLICKER = 10
_TARGET = 0.4  # mean of a frame that automatic gain aims at


@dataclass(frozen=True)
class CameraConfig:
    """
    The light, and the camera that takes frames in it.

    Attributes
    ----------
    light : float
        Of the scene, as a share of full light. The event camera sees it; the frame camera starts
        with the gain that makes up for it.
    max_gain : float
        Of the frame camera.
    gain_step : float
        Of automatic gain, in powers of two: before the next frame the gain goes one step up or
        down where the mean of a frame is further than half a step from 0.4. 0: no change.
    exposures : tuple of float
        Factors of the frames, one after the other and again: above 1 they are overexposed.
    exposure_s : float
        How long a frame is exposed.
    read_noise : float
        Standard deviation of the noise of each pixel and colour before the gain, in shares of
        white.
    flicker_hz, flicker_depth : float
        Of the light, a sine about its mean, and its amplitude as a share; both cameras see it.

    """

    light: float = 1.0
    max_gain: float = 64.0
    gain_step: float = 0.0
    exposures: tuple[float, ...] = (1.0,)
    exposure_s: float = 0.012
    read_noise: float = 0.008
    flicker_hz: float = 0.0
    flicker_depth: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no camera can have."""
        for name in ('light', 'max_gain', 'exposure_s'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}: give more than 0')
        for name in ('gain_step', 'read_noise', 'flicker_hz', 'flicker_depth'):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}: give at least 0')
        if not self.exposures or not min(self.exposures) > 0.0:
            raise ValueError(f'exposures is {self.exposures}: give at least one, above 0')

    def light_at(self, times_s: np.ndarray) -> np.ndarray:
        """Return the light at some times, in shares of full light."""
        wave = np.sin(2.0 * np.pi * self.flicker_hz * np.asarray(times_s, np.float64))
        return np.asarray(self.light * (1.0 + self.flicker_depth * wave))


class FrameCamera:
    """Takes frames one after the other; ``random`` gives their noise."""

    def __init__(self, config: CameraConfig, random: np.random.Generator) -> None:
        self._config, self._random = config, random
        self._gain = min(config.max_gain, 1.0 / config.light)
        self._num_frames = 0

    def expose(self, scene: SceneRenderer, start_s: float) -> np.ndarray:
        """Take a frame of one scene, whose exposure starts at a time; as ``take``."""
        times_s = torch.from_numpy(start_s + EXPOSURE_SHARES * self._config.exposure_s).float()
        pictures = scene.render(times_s[None]).rgb[0].permute(0, 2, 3, 1).numpy()
        return self.take(pictures, start_s)

    def take(self, pictures: np.ndarray, start_s: float) -> np.ndarray:
        """
        Take a frame of what is to be seen, uint8 (height, width, 3).

        Parameters
        ----------
        pictures : numpy.ndarray
            float32 (times, height, width, 3) in full light, 0 to 1, evenly spread over the
            exposure; or one for all of it.
        start_s : float
            When the exposure starts.

        """
        config = self._config
        light = config.light_at(start_s + EXPOSURE_SHARES * config.exposure_s)
        light = light if len(pictures) > 1 else np.array([light.mean()])
        shares = np.asarray(light / len(light), np.float32)
        seen: np.ndarray = np.tensordot(shares, pictures, axes=1)
        exposure = config.exposures[self._num_frames % len(config.exposures)]
        noise = self._random.normal(0.0, config.read_noise, seen.shape).astype(np.float32)
        frame = np.clip(self._gain * (exposure * seen + noise), 0.0, 1.0)
        self._num_frames += 1
        self._adjust_gain(float(frame.mean()))
        return np.round(frame * 255.0).astype(np.uint8)

    def _adjust_gain(self, mean: float) -> None:
        """Go a step towards the brightness that is aimed at."""
        step = self._config.gain_step
        stops = math.log2(_TARGET / max(mean, 1.0 / 255.0))
        if step and abs(stops) > step / 2.0:
            gain = self._gain * 2.0 ** math.copysign(step, stops)
            self._gain = min(self._config.max_gain, gain)


def event_camera_step_s(
    max_speed: float, sensor_height: int, sensor_width: int, flicker_hz: float = 0.0,
) -> float:
    """Return a time in which things move by a pixel at most and flicker little, 2 ms or less."""
    scale_px = min(sensor_height, sensor_width)
    step_s = min(_MAX_STEP_S, _MAX_STEP_PX / max(1e-6, max_speed * scale_px))
    return min(step_s, 1.0 / (_STEPS_PER_FLICKER * flicker_hz)) if flicker_hz else step_s
