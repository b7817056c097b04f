"""Between ROS messages and the types of the core."""

from __future__ import annotations

import array
import math

from builtin_interfaces.msg import Duration, Time
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.events.sync.guided_frame import GuidedFrame
from epvlm_ros.time_units import SECOND, stamp_to_ns
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

_NUM_UINT32 = 1 << 32


def to_time(time_ns: int) -> Time:
    """Return a time message; before 1970, which messages cannot hold well, is 1970."""
    time_ns = max(time_ns, 0)
    return Time(sec=time_ns // SECOND, nanosec=time_ns % SECOND)


def to_duration(duration_ns: int) -> Duration:
    """Return a duration message; sec is rounded down, so that nanosec is never negative."""
    limit_ns = (2 ** 31 - 1) * SECOND
    duration_ns = min(max(duration_ns, -limit_ns), limit_ns)
    return Duration(sec=duration_ns // SECOND, nanosec=duration_ns % SECOND)


def to_seconds(duration: Duration) -> float:
    """Return the seconds of a duration message."""
    return duration.sec + duration.nanosec / SECOND


def rgb_to_image(header: Header, rgb: np.ndarray) -> Image:
    """Return an rgb8 Image message of an array (height, width, 3) of uint8."""
    height, width = rgb.shape[:2]
    # An array of bytes is the one sequence that rclpy takes over without a loop in Python.
    return Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width,
                 data=array.array('B', np.ascontiguousarray(rgb).tobytes()))


def to_guided_frame_message(guided: GuidedFrame) -> EventGuidedFrame:
    """Return the message of a guided frame whose payload is its Image message."""
    activity = guided.activity
    rows, cols = activity.counts.shape
    message = EventGuidedFrame(
        header=guided.frame.payload.header, image=guided.frame.payload,
        window_start=to_time(activity.window_start_ns),
        window_end=to_time(activity.window_end_ns),
        missing=int(guided.missing), coverage=float(guided.completeness),
        wait=float(guided.wait_s), reason=guided.reason,
        num_events=round(activity.num_events),
        cell_size=activity.cell_size_px, rows=rows, cols=cols,
        pixel_density=activity.pixel_density)
    message.activity = array.array('f', activity.counts.astype(np.float32).tobytes())
    if guided.change is not None:
        message.change_scores = array.array('H', guided.change.scores.tobytes())
        message.change_epoch = guided.change.epoch
        message.change_doubts = guided.change.num_doubts % _NUM_UINT32
    return message


def to_activity(message: EventGuidedFrame) -> ActivityGrid | None:
    """
    Return the activity of a guided frame message, None if no event data of its window came.

    Raises ``ValueError`` if the grid does not fit the image, or a number is out of range.
    """
    if message.missing & EventGuidedFrame.NO_EVENT_STREAM or message.coverage == 0.0:
        return None
    cell, image = message.cell_size, message.image
    rows, cols = message.rows, message.cols
    if cell < 1 or (rows, cols) != (-(-image.height // cell), -(-image.width // cell)) or \
            len(message.activity) != rows * cols:
        raise ValueError(
            f'{len(message.activity)} activity values as {rows} x {cols} cells of {cell} px do '
            f'not fit an image of {image.width} x {image.height}: let event_sync_node make them')
    start_ns, end_ns = stamp_to_ns(message.window_start), stamp_to_ns(message.window_end)
    if not (0.0 < message.pixel_density < math.inf and end_ns > start_ns):
        raise ValueError(
            f'pixel_density is {message.pixel_density}, the window is from {start_ns} to '
            f'{end_ns} ns: give a finite density above 0 and a window that has a length')
    counts = np.frombuffer(message.activity, np.float32).reshape(rows, cols)
    bad = counts[~(np.isfinite(counts) & (counts >= 0.0))]
    if len(bad):
        raise ValueError(f'the activity of a cell is {bad[0]}: give finite numbers from 0 on')
    return ActivityGrid(
        counts, cell, image.height, image.width, start_ns, end_ns,
        message.pixel_density)


def to_change_score(message: EventGuidedFrame) -> ChangeScore | None:
    """
    Return the change score of a guided frame message, None if it has none.

    Raises ``ValueError`` if the scores are not one for each cell of the image.
    """
    num_scores, cell, image = len(message.change_scores), message.cell_size, message.image
    if not num_scores:
        return None
    shape = grid_shape(image.height, image.width, cell) if cell else (0, 0)
    if num_scores != shape[0] * shape[1]:
        raise ValueError(
            f'{num_scores} change scores do not fit an image of {image.width} x {image.height} in '
            f'cells of {cell} px: let event_sync_node make them')
    return ChangeScore(
        np.array(message.change_scores, np.uint16).reshape(shape), cell, image.height,
        image.width, message.change_epoch, message.change_doubts)
