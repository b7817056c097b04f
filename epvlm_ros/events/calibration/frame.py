"""What a calibration takes: frames with their neighbours and the events around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CalibrationFrame:
    """
    A camera frame, its neighbours in time, and the events around it.

    Attributes
    ----------
    before, grey, after : numpy.ndarray
        uint8 of shape (height, width); the frame is the middle one.
    seconds_before, seconds_after : float
        From the frame to its neighbours, both positive.
    x, y : numpy.ndarray
        Event pixels, of shape (num,).
    t_s : numpy.ndarray
        Times of the events after the stamp of the frame, in seconds, ascending.

    """

    before: np.ndarray
    grey: np.ndarray
    after: np.ndarray
    seconds_before: float
    seconds_after: float
    x: np.ndarray
    y: np.ndarray
    t_s: np.ndarray
