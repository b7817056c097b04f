"""
Estimates where event pixels are in the image from a recording, without a calibration target.

An event says that the brightness of a pixel changed, and brightness changes where an edge moves
across it: by the gradient of the logarithmic image times its motion. From three frames in a row
comes a picture of the activity that events should show around the middle one; the homography and
the time offset are sought that bring the events closest to it, over many frames at once.
Correlation is maximised as in Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced
Correlation Coefficient Maximization" (TPAMI 2008), with one more parameter: time, along which
edges move with the optical flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterable, Sequence

from epvlm_ros.events.calibration.alignment import Alignment, refine
from epvlm_ros.events.calibration.alignment_frame import (
    AlignmentFrame, make_alignment_frame, WorkingSize)
from epvlm_ros.events.calibration.frame import CalibrationFrame
from epvlm_ros.events.calibration.judgement import judge
from epvlm_ros.events.calibration.search import MAX_SEARCH_OFFSET_S, search
import numpy as np

MIN_FRAMES = 8  # of which some are held out; of fewer, too little tells how far they disagree
MAX_OFFSET_S = MAX_SEARCH_OFFSET_S + 0.04  # of the event window; more events are of no use
_HOLD_OUT_EVERY = 4
_STAGES = ((4.0, 6), (2.5, 8), (1.5, 8), (1.0, 8))  # blur in working pixels, parameters


@dataclass(frozen=True, eq=False)
class Calibration:
    """
    A measured homography, 3 x 3 from event pixels to image pixels, and how good it is.

    Attributes
    ----------
    window_offset_s : float
        Best centre of the event window after the stamp of the frame, in seconds.
    residual_px : float
        Mean distance, in image pixels, by which blocks of the activity of held-out frames still
        have to be shifted to fit the edges best.
    standard_error_px : float
        How far off the homography may be, as a root mean square over the image, in image pixels.
    num_frames, num_held_out : int
        Frames that it was fitted to, and frames that the residual was measured on.
    num_blocks : int
        Blocks with enough texture to be measured.
    correlation, correlation_before : float
        Mean correlation of activity and edges on the held-out frames, with the result, and with
        the sensor scaled to the image at the stamp.

    """

    homography: np.ndarray
    window_offset_s: float
    residual_px: float
    standard_error_px: float
    num_frames: int
    num_held_out: int
    num_blocks: int
    correlation: float
    correlation_before: float


def calibrate(
    frames: Sequence[CalibrationFrame], sensor_size: tuple[int, int],
    window_length_s: float = 0.04, progress: Callable[[Iterable], Iterable] = iter,
) -> Calibration:
    """
    Estimate the homography from event pixels to image pixels, and the time offset of events.

    Parameters
    ----------
    frames : sequence of CalibrationFrame
        All of one size, from different moments of the recording.
    sensor_size : tuple of int
        Height and width of the event sensor, in pixels.
    window_length_s : float
        Length of the window of events around a frame, in seconds.
    progress : callable
        Wraps the sequence of steps to show how far it is.

    Raises
    ------
    ValueError
        If there are too few frames with motion and events, events and edges do not fit, or the
        scene does not determine the result to half a pixel of the coarser camera; the text says
        what to record.

    """
    if not frames:
        raise ValueError('no frames with events: record images and events together')
    working = WorkingSize.of(sensor_size, frames[0].grey.shape[:2])
    moving = [
        prepared for frame in frames
        if (prepared := make_alignment_frame(frame, working, window_length_s)) is not None]
    if len(moving) < MIN_FRAMES:
        raise ValueError(
            f'{len(moving)} of {len(frames)} frames have motion and events: move the camera in '
            f'front of a scene with texture, {MIN_FRAMES} frames or more')
    held_out = moving[_HOLD_OUT_EVERY // 2::_HOLD_OUT_EVERY]
    fitted = [frame for frame in moving if all(frame is not other for other in held_out)]
    alignment = _align(fitted, working, progress)
    correlation, blocks, uncertainty = judge(alignment, fitted, held_out, working)
    before = Alignment(working.initial_inverse(), 0.0)
    return Calibration(
        working.to_homography(alignment.inverse), alignment.offset_s,
        blocks.mean_distance / working.image_scale, uncertainty.mean_px / working.image_scale,
        len(fitted), len(held_out), len(blocks), correlation, before.mean_correlation(held_out))


def _align(
    frames: Sequence[AlignmentFrame], working: WorkingSize, progress: Callable,
) -> Alignment:
    alignment: Alignment | None = None
    for stage in progress((None, *_STAGES)):
        if stage is None:
            alignment = search(frames, working)
        else:
            assert alignment is not None
            alignment = refine(frames, alignment, *stage)
    assert alignment is not None
    return alignment
