"""Estimation of a homography from event pixels to image pixels, from a recording."""

from epvlm_ros.events.calibration.estimate import calibrate, Calibration, MAX_OFFSET_S, MIN_FRAMES
from epvlm_ros.events.calibration.frame import CalibrationFrame
from epvlm_ros.events.calibration.picture import draw_calibration

__all__ = [
    'calibrate', 'Calibration', 'CalibrationFrame', 'draw_calibration', 'MAX_OFFSET_S',
    'MIN_FRAMES',
]
