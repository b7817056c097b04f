"""Random light and cameras: automatic gain, wrong exposure, darkness, flicker, noise events."""

from __future__ import annotations

from epvlm_ros.sim.cameras import CameraConfig
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.scene import RANDOMISED_SPLITS, SPLITS
import numpy as np

GOOD_LIGHT = 'good light'
# How often each is met.
CAMERA_CONDITIONS = {
    GOOD_LIGHT: 0.4, 'wrong exposure': 0.15, 'gain step': 0.1, 'dark': 0.15, 'flicker': 0.1,
    'noise events': 0.1}
_MAINS_HZ = (99.7, 119.6)  # never exactly what it is called: frames do not keep step with it
_UNDER, _OVER = (0.25, 0.5), (1.2, 1.5)
_DARK_LIGHT_DECADES = (-2.0, -0.8)
_DARK_NOISE = (10.0 / 255, 28.0 / 255)  # of a frame, in shares of white
_DARK_EXPOSURE_S = 0.03
_NOISE_EVENTS_HZ = (5.0, 20.0)  # of a pixel in the dark


def sample_cameras(split: str, index: int) -> tuple[str, CameraConfig, EventCameraConfig]:
    """
    Return what a scene of a randomised split is seen by, and which condition that is.

    Raises
    ------
    ValueError
        For another split.

    """
    if split not in RANDOMISED_SPLITS:
        raise ValueError(f'split is {split!r}: give one of {", ".join(RANDOMISED_SPLITS)}')
    random = np.random.default_rng([41, SPLITS[split], index])
    condition = str(random.choice(list(CAMERA_CONDITIONS), p=list(CAMERA_CONDITIONS.values())))
    camera, events = CameraConfig(), EventCameraConfig()
    exposure = float(random.uniform(*_UNDER if random.random() < 0.5 else _OVER))
    if condition == 'wrong exposure':
        camera = CameraConfig(exposures=(exposure,))
    elif condition == 'gain step':
        camera = CameraConfig(exposures=(exposure,), gain_step=float(random.uniform(0.3, 0.7)))
    elif condition == 'dark':
        light = float(10.0 ** random.uniform(*_DARK_LIGHT_DECADES))
        camera = CameraConfig(
            light=light, max_gain=1.0 / light, exposure_s=_DARK_EXPOSURE_S,
            read_noise=light * float(random.uniform(*_DARK_NOISE)))
    elif condition == 'flicker':
        camera = CameraConfig(flicker_hz=float(random.choice(_MAINS_HZ)),
                              flicker_depth=float(random.uniform(0.1, 0.3)))
    elif condition == 'noise events':
        events = EventCameraConfig(shot_noise_rate_hz=float(random.uniform(*_NOISE_EVENTS_HZ)))
    return condition, camera, events
