"""
Events of a still image, from a simulated small motion of the camera.

The view moves once around a circle of 2 pixels of the sensor within the window (as an eye's
microsaccades do), so that edges of every direction make events. The result is the image's edges
weighted by their contrast: it tells nothing about motion.
"""

from __future__ import annotations

import cv2
from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.packet import Events
from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
import numpy as np

RADIUS_PX = 2.0  # of the circle, in pixels of the sensor
WINDOW_S = 0.04
SENSOR_LONG_SIDE_PX = 320
_NUM_STEPS = 16  # views around the circle: 0.8 px from one to the next
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
    scale = SENSOR_LONG_SIDE_PX / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    light = (rgb.astype(np.float32) / 255.0) ** gamma @ np.array(LUMA_WEIGHTS, np.float32)
    small = cv2.resize(light, (cols, rows), interpolation=cv2.INTER_AREA)
    sensor = EventSimulator(rows, cols, config, seed)
    parts = []
    for step in range(_NUM_STEPS + 1):
        angle = 2.0 * np.pi * step / _NUM_STEPS
        # starts and ends in the middle of the image's own place
        shift = np.array([[1, 0, radius_px * (np.cos(angle) - 1.0)],
                          [0, 1, radius_px * np.sin(angle)]])
        view = cv2.warpAffine(small, shift, (cols, rows), borderMode=cv2.BORDER_REPLICATE)
        parts.append(sensor.step(view, round(step / _NUM_STEPS * WINDOW_S * 1e9)))
    return activity_of_events(
        Events(*(np.concatenate(part) for part in zip(*parts))), (rows, cols), (height, width),
        WINDOW_S)


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
