"""Expected and observed activity around a frame, in maps of one working size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from epvlm_ros.events.calibration.frame import CalibrationFrame
from epvlm_ros.events.registration import scaling
import numpy as np

_MAX_WORKING_SIDE = 480
_DARK = 20.0  # grey levels added before the logarithm: dark pixels are mostly noise
_MIN_MOTION_PX = 0.5  # working pixels between frames, of the fastest tenth of the image
_MIN_EVENTS_PER_PIXEL = 0.01


@dataclass(frozen=True)
class WorkingSize:
    """
    Sizes of the working maps: never larger than image or sensor, pixels square.

    All sizes are (height, width). ``image_scale`` and ``sensor_scale`` are working pixels per
    image and sensor pixel, that of the image before its sides were rounded to whole pixels.
    ``from_image_size`` is the image, which is stretched to the rounded sides.
    """

    image_size: tuple[int, int]
    sensor_size: tuple[int, int]
    image_scale: float
    sensor_scale: float
    from_image_size: tuple[int, int]

    @classmethod
    def of(cls, sensor_size: tuple[int, int], image_size: tuple[int, int]) -> WorkingSize:
        """Choose the working sizes of a sensor and an image; ValueError if one has no pixels."""
        if min(*sensor_size, *image_size) < 1:
            raise ValueError(f'sensor {sensor_size}, image {image_size}: both must have pixels')
        image_scale = min(
            1.0, _MAX_WORKING_SIDE / max(image_size), sensor_size[1] / image_size[1])
        sensor_scale = image_scale * image_size[1] / sensor_size[1]
        return cls(
            _scaled_size(image_size, image_scale), _scaled_size(sensor_size, sensor_scale),
            image_scale, sensor_scale, image_size)

    def initial_inverse(self) -> np.ndarray:
        """Return the map from working image to working sensor that puts edges on edges."""
        return scaling(self.image_size, self.sensor_size)

    def to_homography(self, inverse: np.ndarray) -> np.ndarray:
        """Return the map from sensor pixels to image pixels of a working inverse map."""
        enlarge = scaling(self.image_size, self.from_image_size)
        matrix = enlarge @ np.linalg.inv(inverse) @ _shrinking(self.sensor_scale)
        return matrix / matrix[2, 2]


@dataclass(frozen=True, eq=False)
class AlignmentFrame:
    """
    One frame for the alignment, in working pixels.

    ``expected`` is float32 (height, width): the rate of brightness change, 0 or more. ``flow`` is
    float32 (height, width, 2): motion along columns and rows, in pixels a second. ``pixels`` is
    int64 (num,): where on the working sensor events were, row by row; ``t_s`` their times after
    the stamp, in seconds, ascending. ``grey_level`` is the median of the frame, 0 to 255.
    """

    expected: np.ndarray
    flow: np.ndarray
    pixels: np.ndarray
    t_s: np.ndarray
    grey_level: float
    sensor_size: tuple[int, int]
    window_length_s: float

    def activity(self, offset_s: float, blur_px: float) -> np.ndarray:
        """
        Return the blurred activity of a window on the working sensor, float32 ``sensor_size``.

        The window is centred ``offset_s`` seconds after the stamp; ``blur_px`` is the standard
        deviation of the blur. It is the root of counts, whose noise is the same everywhere.
        """
        start, end = np.searchsorted(
            self.t_s, [offset_s - self.window_length_s / 2, offset_s + self.window_length_s / 2])
        height, width = self.sensor_size
        counts = np.bincount(self.pixels[start:end], minlength=height * width)
        return _blurred_root(counts.reshape(height, width).astype(np.float32), blur_px)

    def target(self, blur_px: float) -> np.ndarray:
        """Return the expected activity in the same form, on the working image."""
        return _blurred_root(self.expected, blur_px)


def make_alignment_frame(
    frame: CalibrationFrame, working: WorkingSize, window_length_s: float,
) -> AlignmentFrame | None:
    """Prepare one frame; None if hardly anything moves or there are hardly any events."""
    before, grey, after = (
        cv2.resize(picture, working.image_size[::-1], interpolation=cv2.INTER_AREA)
        for picture in (frame.before, frame.grey, frame.after))
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # What is given is where the search begins.
    flow_after, flow_before = (
        finder.calc(grey, other, np.zeros((*grey.shape, 2), np.float32))
        for other in (after, before))
    fast_px = np.percentile(np.hypot(*np.moveaxis(flow_after, -1, 0)), 90)
    if fast_px < _MIN_MOTION_PX:
        return None
    flow = (flow_after / float(frame.seconds_after)
            - flow_before / float(frame.seconds_before)) / 2
    x = ((frame.x + 0.5) * working.sensor_scale).astype(np.int64)
    y = ((frame.y + 0.5) * working.sensor_scale).astype(np.int64)
    height, width = working.sensor_size
    x, y = np.minimum(x, width - 1), np.minimum(y, height - 1)
    is_near = np.abs(frame.t_s) < window_length_s / 2
    if is_near.sum() < _MIN_EVENTS_PER_PIXEL * height * width:
        return None
    return AlignmentFrame(
        _expected_activity(grey, flow), flow, y * width + x, np.asarray(frame.t_s),
        float(np.median(grey)), working.sensor_size, window_length_s)


def _expected_activity(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    brightness = cv2.GaussianBlur(np.log(grey.astype(np.float32) + _DARK), (0, 0), 0.7)
    along_x = cv2.Sobel(brightness, cv2.CV_32F, 1, 0, scale=1 / 8)
    along_y = cv2.Sobel(brightness, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.abs(along_x * flow[..., 0] + along_y * flow[..., 1])


def _blurred_root(picture: np.ndarray, blur_px: float) -> np.ndarray:
    return np.sqrt(cv2.GaussianBlur(picture, (0, 0), blur_px))


def _scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _shrinking(scale: float) -> np.ndarray:
    """Return the 3 x 3 scaling of pixels with whole centres, whatever sides that makes."""
    offset = 0.5 * scale - 0.5
    return np.array([[scale, 0.0, offset], [0.0, scale, offset], [0.0, 0.0, 1.0]])
