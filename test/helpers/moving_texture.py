"""A texture that moves on a circle before two cameras, of which one sees events."""

from __future__ import annotations

import cv2
from epvlm_ros.events.calibration import CalibrationFrame
import numpy as np

IMAGE_SIZE = 120, 160
SENSOR_SIZE = 90, 120
STEP_S = 0.002
FRAME_STEPS = 16  # between frames
THRESHOLD = 0.08  # of an event, in the logarithm of brightness


def true_homography():
    """Return the map from sensor to image: scaled, turned by 2 degrees, shifted, tilted."""
    cosine, sine = 1.3 * np.cos(np.radians(2)), 1.3 * np.sin(np.radians(2))
    return np.array([[cosine, -sine, 6.0], [sine, cosine, -3.0], [1e-4, -2e-4, 1.0]])


def make_frames(num_frames: int, delay_s: float) -> list[CalibrationFrame]:
    """
    Return frames with all events of the recording around them.

    Frames show what was ``delay_s`` after their stamp: the best window is as much later.
    """
    random = np.random.default_rng(3)
    texture = cv2.GaussianBlur(random.uniform(0, 255, (300, 340)).astype(np.float32), (0, 0), 2.5)
    texture = np.clip((texture - texture.mean()) / texture.std() * 50 + 120, 10, 245)
    y, x = np.mgrid[:SENSOR_SIZE[0], :SENSOR_SIZE[1]].astype(np.float64)
    u, v, w = np.tensordot(true_homography(), np.stack([x, y, np.ones_like(x)]), 1)
    on_sensor = u / w, v / w
    in_image = np.mgrid[:IMAGE_SIZE[0], :IMAGE_SIZE[1]][::-1].astype(np.float64)
    pictures, events, memory = [], [], None
    for step in range((num_frames + 2) * FRAME_STEPS):
        place = 60 + 20 * np.cos(step * 0.035), 70 + 20 * np.sin(step * 0.035)
        if step % FRAME_STEPS == 0:
            pictures.append(np.rint(look(texture, in_image, place)).astype(np.uint8))
        brightness = np.log(look(texture, on_sensor, place) + 20)
        memory = brightness.copy() if memory is None else memory
        num = np.trunc((brightness - memory) / THRESHOLD)
        memory += num * THRESHOLD
        rows, cols = np.nonzero(num)
        times = np.abs(num[rows, cols]).astype(int)
        events.append((np.repeat(cols, times), np.repeat(rows, times),
                       np.full(times.sum(), step * STEP_S)))
    x, y, t_s = (np.concatenate(parts) for parts in zip(*events))
    frame_s = FRAME_STEPS * STEP_S
    return [
        CalibrationFrame(
            *pictures[index - 1:index + 2], frame_s, frame_s, x, y,
            t_s - (index * frame_s - delay_s))
        for index in range(1, num_frames + 1)]


def look(texture, points, place):
    """Return the texture where a camera at a place sees it."""
    return cv2.remap(
        texture.astype(np.float32), (points[0] + place[0]).astype(np.float32),
        (points[1] + place[1]).astype(np.float32), cv2.INTER_CUBIC)
