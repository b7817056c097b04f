"""Pictures for the page: guided frames and overlays as JPEG."""

from __future__ import annotations

import time
from typing import Any, Callable

import cv2
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.images import image_to_rgb
from epvlm_ros.ros.conversions import to_activity
from epvlm_ros.vlm.overlay import add_heat
import numpy as np
from rclpy.serialization import deserialize_message

MAX_WIDTH_PX = 960
LIVE_QUALITY, ANSWER_QUALITY = 75, 85


def encode_jpeg(rgb: np.ndarray, quality: int = ANSWER_QUALITY) -> bytes:
    """Return an RGB picture, at most 960 pixels wide, as JPEG."""
    height, width = rgb.shape[:2]
    if width > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, max(1, round(height * MAX_WIDTH_PX / width)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(
        '.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded
    return jpeg.tobytes()


def draw_live(message: EventGuidedFrame) -> bytes:
    """Return frame and events as JPEG; ValueError if image or activity are at fault."""
    rgb = image_to_rgb(message.image)
    activity = to_activity(message)
    return encode_jpeg(rgb if activity is None else add_heat(rgb, activity), LIVE_QUALITY)


class LivePictures:
    """
    Draws some of the guided frames that come: at most ``max_rate`` in a second.

    Frames come serialised, so that those left out cost no more than their way. ``on_picture``
    takes the JPEG with height and width of the frame, which may be larger.
    """

    def __init__(
        self, on_picture: Callable[[bytes, tuple[int, int]], None],
        on_fault: Callable[[str], None], max_rate: float,
    ) -> None:
        self._on_picture, self._on_fault = on_picture, on_fault
        self._period_s = 1.0 / max_rate
        self._due_s = 0.0

    def add(self, serialised: Any) -> None:
        """Draw a frame, or leave it out."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = max(self._due_s + self._period_s, now_s)
        try:
            message = deserialize_message(serialised, EventGuidedFrame)
            self._on_picture(draw_live(message), (message.image.height, message.image.width))
        except ValueError as error:
            self._on_fault(str(error))
