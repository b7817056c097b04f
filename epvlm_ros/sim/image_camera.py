"""A simulated image camera: an exposure is the mean of a few pictures, with noise."""

from __future__ import annotations

from epvlm_ros.sim.renderer import SceneRenderer
import numpy as np
import torch

_NUM_SAMPLES = 5
EXPOSURE_SAMPLES = (np.arange(_NUM_SAMPLES) + 0.5) / _NUM_SAMPLES  # from start (0) to end (1)


def expose(
    camera: SceneRenderer, times_s: np.ndarray, noise: float, random: np.random.Generator,
) -> np.ndarray:
    """
    Return an image of the one scene that ``camera`` draws, uint8 (height, width, 3).

    ``times_s`` are times within the exposure, float64, in seconds since the start of the scene.
    ``noise`` is the standard deviation of a pixel's noise, alike in its three colours, where
    white is 1.
    """
    pictures = camera.render(torch.from_numpy(times_s).float()[None]).rgb[0]
    image = pictures.mean(dim=0).permute(1, 2, 0).numpy()
    deviation = random.normal(0.0, noise, image.shape[:2])[..., None]
    return np.round(np.clip(image + deviation, 0.0, 1.0) * 255.0).astype(np.uint8)
