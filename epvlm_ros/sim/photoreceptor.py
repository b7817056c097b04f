"""The photoreceptor of an event camera pixel: log brightness with a limited bandwidth."""

from __future__ import annotations

from epvlm_ros.sim.activity_model import LOG_OFFSET
import numpy as np

_SHORT = np.float32(1e-3)  # in time constants


class Photoreceptor:
    """
    A first-order low-pass on the logarithm of the photocurrent.

    The current is the brightness plus a dark current of 0.02. The bandwidth, ``cutoff_hz`` at
    brightness 1 (0: no limit), is proportional to the current (Lichtsteiner et al., "A 128 x 128
    120 dB 15 us latency asynchronous temporal contrast vision sensor", JSSC 2008; as in v2e, Hu et
    al., CVPRW 2021). The filter is computed exactly for a logarithm that is linear in time between
    two images, with the bandwidth of the later one.
    """

    def __init__(self, cutoff_hz: float) -> None:
        self._rate_per_s = 2.0 * np.pi * cutoff_hz / (1.0 + LOG_OFFSET)  # of a current of 1
        self._input: np.ndarray = np.empty(0, np.float32)
        self._output: np.ndarray = np.empty(0, np.float32)

    def follow(self, brightness: np.ndarray, duration_s: float) -> np.ndarray:
        """
        Return the output of all pixels at the next image, float32 (pixels,).

        ``brightness`` is float32 (pixels,), linear, 0 to 1, and not changed; ``duration_s`` is the
        time since the last image, above 0, and ignored for the first one.
        """
        current = brightness + np.float32(LOG_OFFSET)
        log = np.log(current)
        if not self._rate_per_s or not self._input.size:
            self._input = self._output = log
            return log
        # y' = (x - y) / tau for x = x0 + (x1 - x0) t / T:
        # y1 = x1 - (x1 - x0) (1 - e) / k + (y0 - x0) e with k = T / tau, e = exp(-k)
        ratio = current * np.float32(self._rate_per_s * duration_s)
        decay = np.exp(-ratio)
        # 1 - e of a very short time is lost in rounding
        delay = np.where(ratio < _SHORT, 1.0 - 0.5 * ratio, (1.0 - decay) / ratio)
        self._output = log - (log - self._input) * delay + (self._output - self._input) * decay
        self._input = log
        return self._output
