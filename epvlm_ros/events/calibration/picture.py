"""A picture for people: edges of a frame and its events, before and after calibration."""

from __future__ import annotations

from typing import Sequence

import cv2
from epvlm_ros.events.calibration.estimate import Calibration
from epvlm_ros.events.calibration.frame import CalibrationFrame
from epvlm_ros.events.registration import HomographyRegistration, Registration
import numpy as np

_MIN_PANEL_WIDTH = 640
_EVENT_RGB = (255, 120, 20)
_TEXT_RGB = (255, 255, 255)
_GAP = 8


def draw_calibration(
    frames: Sequence[CalibrationFrame], calibration: Calibration, sensor_size: tuple[int, int],
    window_length_s: float,
) -> np.ndarray:
    """
    Draw edges in grey and events in colour, left before and right after the calibration.

    Draws the frame with most events (there must be one) and a quarter of ``window_length_s``,
    which is sharper. ``sensor_size`` is (height, width). Returns uint8 (height, width, 3), red
    first.
    """
    frame = max(frames, key=lambda frame: frame.x.size)
    found = HomographyRegistration(calibration.homography, scale_to_image=False)
    panels = [
        _draw_panel(frame, HomographyRegistration(), sensor_size, 0.0, window_length_s / 4,
                    'before: sensor scaled to the image'),
        _draw_panel(frame, found, sensor_size, calibration.window_offset_s, window_length_s / 4,
                    f'after: residual {calibration.residual_px:.2f} px, offset '
                    f'{calibration.window_offset_s * 1e3:+.1f} ms')]
    gap = np.zeros((panels[0].shape[0], _GAP, 3), np.uint8)
    return np.hstack([panels[0], gap, panels[1]])


def _draw_panel(
    frame: CalibrationFrame, registration: Registration, sensor_size: tuple[int, int],
    offset_s: float, length_s: float, text: str,
) -> np.ndarray:
    height, width = frame.grey.shape
    zoom = max(1, -(-_MIN_PANEL_WIDTH // width))
    size = width * zoom, height * zoom
    along_x, along_y = (
        cv2.Sobel(frame.grey, cv2.CV_32F, *order, scale=1 / 4) for order in ((1, 0), (0, 1)))
    edges = np.clip(np.hypot(along_x, along_y) * 2, 0, 170).astype(np.uint8)
    panel = cv2.cvtColor(cv2.resize(edges, size), cv2.COLOR_GRAY2RGB).astype(np.float32)
    is_inside = np.abs(frame.t_s - offset_s) <= length_s / 2
    u, v = registration.map_pixels(
        frame.x[is_inside], frame.y[is_inside], sensor_size, (height, width))
    counts = np.zeros((height, width), np.float32)
    row, col = np.rint(v), np.rint(u)
    is_seen = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    np.add.at(counts, (row[is_seen].astype(int), col[is_seen].astype(int)), 1)
    opacity = np.clip(cv2.resize(counts, size) / 2, 0, 0.85)[..., None]
    panel = (panel * (1 - opacity) + np.array(_EVENT_RGB, np.float32) * opacity).astype(np.uint8)
    for colour, thickness in (((0, 0, 0), 4), (_TEXT_RGB, 1)):
        cv2.putText(panel, text, (12, 26), cv2.FONT_HERSHEY_DUPLEX, 0.6, colour, thickness,
                    cv2.LINE_AA)
    return panel
