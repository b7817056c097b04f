"""
Events of a still image, from a simulated small motion of the camera.

The view moves once around a circle of 2 pixels of the sensor within the window (as an eye's
microsaccades do), so that edges of every direction make events. The result is the image's edges
weighted by their contrast: it tells nothing about motion.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.packet import Events
from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
import numpy as np

RADIUS_PX = 2.0  # of the circle, in pixels of the sensor
WINDOW_S = 0.04
SENSOR_LONG_SIDE_PX = 320
NUM_STEPS = 16  # views around the circle: 0.8 px from one to the next
_CELL_SIZE_PX = 4
_GAMMA = 2.2  # of the image; the simulated sensor sees linear light


def still_image_activity(
    rgb: np.ndarray, *, radius_px: float = RADIUS_PX, config: EventCameraConfig | None = None,
    gamma: float = _GAMMA, seed: int = 0,
) -> ActivityGrid:
    """
    Return the events of one small circle of the camera, on cells of 4 pixels in 40 ms.

    ``rgb``, uint8 (height, width, 3), is not changed; its border pixels are repeated outwards.
    ``radius_px`` is in pixels of a sensor whose longer side has 320; 0 leaves only noise.
    ``gamma`` is the exponent that turns pixel values into light.
    """
    height, width = rgb.shape[:2]
    rows, cols = _sensor_size(height, width)
    small = _light_on_sensor(rgb, gamma)

    def view(step: int) -> np.ndarray:
        # starts and ends in the middle of the image's own place
        angle = 2.0 * np.pi * step / NUM_STEPS
        shift = np.array([[1, 0, radius_px * (np.cos(angle) - 1.0)],
                          [0, 1, radius_px * np.sin(angle)]])
        return cv2.warpAffine(small, shift, (cols, rows), borderMode=cv2.BORDER_REPLICATE)

    return _watch((view(step) for step in range(NUM_STEPS + 1)), (height, width), config, seed)


def activity_of_views(
    views: Iterable[np.ndarray], image_size: tuple[int, int], *,
    config: EventCameraConfig | None = None, gamma: float = _GAMMA, seed: int = 0,
) -> ActivityGrid:
    """
    Return the events of ``NUM_STEPS + 1`` pictures of 40 ms, on cells of 4 pixels.

    ``views`` are uint8 (height, width, 3), equal times apart, of ``image_size`` (height, width).
    """
    return _watch((_light_on_sensor(rgb, gamma) for rgb in views), image_size, config, seed)


def _watch(
    lights: Iterable[np.ndarray], image_size: tuple[int, int], config: EventCameraConfig | None,
    seed: int,
) -> ActivityGrid:
    """Return the events of what the sensor sees, linear light of its own size."""
    size = _sensor_size(*image_size)
    sensor = EventSimulator(*size, config, seed)
    parts = [sensor.step(light, round(step / NUM_STEPS * WINDOW_S * 1e9))
             for step, light in enumerate(lights)]
    return activity_of_events(
        Events(*(np.concatenate(part) for part in zip(*parts))), size, image_size, WINDOW_S)


def _sensor_size(height: int, width: int) -> tuple[int, int]:
    scale = SENSOR_LONG_SIDE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _light_on_sensor(rgb: np.ndarray, gamma: float) -> np.ndarray:
    """Return the linear light that each pixel of the sensor sees of an image, float32."""
    light = (rgb.astype(np.float32) / 255.0) ** gamma @ np.array(LUMA_WEIGHTS, np.float32)
    rows, cols = _sensor_size(*rgb.shape[:2])
    return cv2.resize(light, (cols, rows), interpolation=cv2.INTER_AREA)


def activity_of_events(
    events: Events, sensor_size: tuple[int, int], image_size: tuple[int, int], window_s: float,
) -> ActivityGrid:
    """
    Count events on a grid of an image that covers the view of the sensor.

    Sizes are (height, width) in pixels; ``window_s`` is the time in which the events came.
    """
    rows, cols = grid_shape(*image_size, _CELL_SIZE_PX)
    # the middle of a sensor's pixel, in the image
    y = (events.y.astype(np.int64) * 2 + 1) * image_size[0] // (2 * sensor_size[0])
    x = (events.x.astype(np.int64) * 2 + 1) * image_size[1] // (2 * sensor_size[1])
    cells = y // _CELL_SIZE_PX * cols + x // _CELL_SIZE_PX
    counts = np.bincount(cells, minlength=rows * cols).reshape(rows, cols).astype(np.float32)
    density = sensor_size[0] * sensor_size[1] / (image_size[0] * image_size[1])
    return ActivityGrid(
        counts, _CELL_SIZE_PX, *image_size, 0, round(window_s * 1e9), density)
