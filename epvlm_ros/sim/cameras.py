"""How the cameras sample a scene: exposures of the frame camera, steps of the event camera."""

from __future__ import annotations

from epvlm_ros.sim.renderer import SceneRenderer
import numpy as np
import torch

_NUM_EXPOSURE_SAMPLES = 5
EXPOSURE_SHARES = (np.arange(_NUM_EXPOSURE_SAMPLES) + 0.5) / _NUM_EXPOSURE_SAMPLES
_MAX_STEP_S = 0.002  # between two images that the event camera sees
_MAX_STEP_PX = 1.0


def expose(
    camera: SceneRenderer, times_s: np.ndarray, noise: float, random: np.random.Generator,
) -> np.ndarray:
    """
    Return the mean of a scene over the times of an exposure, uint8 (height, width, 3).

    ``noise`` is the standard deviation of grey noise, in shares of white.
    """
    times = torch.from_numpy(times_s).float()
    image = camera.render(times[None]).rgb[0].mean(dim=0).permute(1, 2, 0).numpy()
    grey_noise = random.normal(0.0, noise, image.shape[:2])[..., None]
    return np.round(np.clip(image + grey_noise, 0.0, 1.0) * 255.0).astype(np.uint8)


def event_camera_step_s(max_speed: float, sensor_height: int, sensor_width: int) -> float:
    """Return the time in which nothing moves by more than a pixel, at most 2 ms."""
    scale_px = min(sensor_height, sensor_width)
    return min(_MAX_STEP_S, _MAX_STEP_PX / max(1e-6, max_speed * scale_px))
