"""What a calibration takes: frames with their neighbours and the events around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CalibrationFrame:
    """
    A camera frame, its neighbours in time, and the events around it.

    ``before``, ``grey`` (the frame) and ``after`` are uint8 (height, width), ``seconds_before``
    and ``seconds_after`` the positive times to the neighbours. ``x`` and ``y`` (num,) are event
    pixels, ``t_s`` their times after the stamp of the frame, in seconds, ascending.
    """

    before: np.ndarray
    grey: np.ndarray
    after: np.ndarray
    seconds_before: float
    seconds_after: float
    x: np.ndarray
    y: np.ndarray
    t_s: np.ndarray
