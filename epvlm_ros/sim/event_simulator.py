"""
An event camera that watches a sequence of pictures, after the principle of ESIM.

Each pixel remembers the logarithm of the brightness at its last event and reports every crossing
of a contrast threshold, at the time at which the brightness, linear between two pictures, crosses
it (Rebecq et al., "ESIM: an Open Event Camera Simulator", CoRL 2018). Thresholds differ from pixel
to pixel; a pixel is blind for a while after an event; leakage and shot noise add events.
"""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.core.packets import Events
from epvlm_ros.sim.activity_model import LOG_OFFSET
import numpy as np

_MIN_THRESHOLD = 0.02


@dataclass(frozen=True)
class EventCameraConfig:
    """
    Properties of the sensor.

    Attributes
    ----------
    contrast_threshold : float
        Mean change of the logarithm of the brightness that makes an event, above 0.
    threshold_mismatch : float
        Standard deviation of the thresholds over the pixels, at least 0.
    refractory_s : float
        How long a pixel is blind after an event, in seconds.
    leak_rate_hz : float
        Brighter-events of a pixel that sees no change, per second.
    shot_noise_rate_hz : float
        Events at random moments, per pixel and second.

    """

    contrast_threshold: float = 0.2
    threshold_mismatch: float = 0.02
    refractory_s: float = 0.0003
    leak_rate_hz: float = 0.05
    shot_noise_rate_hz: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what no sensor can have."""
        if not self.contrast_threshold > 0.0:
            raise ValueError(
                f'contrast_threshold is {self.contrast_threshold}: give more than 0')
        for name in ('threshold_mismatch', 'refractory_s', 'leak_rate_hz', 'shot_noise_rate_hz'):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}: give at least 0')


class EventSimulator:
    """
    An event camera.

    Parameters
    ----------
    height, width : int
        Size of the sensor in pixels, at least 1 each.
    config : EventCameraConfig, optional
        Properties of the sensor.
    seed : int
        Determines mismatch and noise.

    Raises
    ------
    ValueError
        If the sensor has no pixels.

    """

    def __init__(
        self, height: int, width: int, config: EventCameraConfig | None = None, seed: int = 0,
    ) -> None:
        if height < 1 or width < 1:
            raise ValueError(f'sensor of {height} x {width} pixels: give at least 1 x 1')
        self.height, self.width = height, width
        self._config = config or EventCameraConfig()
        self._random = np.random.default_rng([7, seed])
        mean, spread = self._config.contrast_threshold, self._config.threshold_mismatch
        # One row for darker events, one for brighter ones.
        self._threshold = np.maximum(
            self._random.normal(mean, spread, (2, height * width)), _MIN_THRESHOLD)
        self._reference = np.empty(0)  # logarithm of the brightness at the last event
        self._last_log = np.empty(0)
        self._last_time_ns = 0
        self._last_event_ns = np.full(height * width, np.iinfo(np.int64).min // 2)

    def step(self, brightness: np.ndarray, time_ns: int) -> Events:
        """
        Look at the next picture.

        Parameters
        ----------
        brightness : numpy.ndarray
            Float of shape (height, width), linear, 0 to 1. Not changed.
        time_ns : int
            When it holds, later than that of the picture before.

        Returns
        -------
        Events
            Those after the last picture and up to this one, in order of time, then row, then
            column; none for the first picture. Times are in the clock of ``time_ns``.

        Raises
        ------
        ValueError
            If the picture has another size than the sensor or time does not move forward.

        """
        if brightness.shape != (self.height, self.width):
            raise ValueError(
                f'picture of shape {brightness.shape}: the sensor has {self.height} x '
                f'{self.width} pixels')
        log = np.log(brightness.astype(np.float64).ravel() + LOG_OFFSET)
        if not self._last_log.size:
            self._start(log, time_ns)
            return _make_events([], self.width)
        duration_ns = time_ns - self._last_time_ns
        if duration_ns <= 0:
            raise ValueError(
                f'picture at {time_ns} ns after one at {self._last_time_ns} ns: give rising times')
        leak = self._config.leak_rate_hz * duration_ns * 1e-9
        self._reference -= leak * self._threshold[1]
        parts = self._find_crossings(log, duration_ns)
        parts.append(self._draw_noise(duration_ns))
        self._last_log, self._last_time_ns = log, time_ns
        return _make_events(parts, self.width)

    def _start(self, log: np.ndarray, time_ns: int) -> None:
        self._last_log, self._last_time_ns = log, time_ns
        # Pixels do not start in step: each is somewhere between its two thresholds.
        low, high = log - self._threshold[1], log + self._threshold[0]
        share = self._random.uniform(0.02, 0.98, log.size)
        self._reference = low + share * (high - low)

    def _find_crossings(
        self, log: np.ndarray, duration_ns: int,
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return pixels, polarities and times of the events of the scene, round by round."""
        change = log - self._reference
        polarity = (change > 0.0).astype(np.uint8)
        threshold = np.where(polarity, self._threshold[1], self._threshold[0])
        pixels = np.flatnonzero(np.abs(change) >= threshold)
        threshold, polarity = threshold[pixels], polarity[pixels]
        step = np.where(polarity, threshold, -threshold)
        num_crossings = np.floor(np.abs(change[pixels]) / threshold).astype(np.int64)
        way = log[pixels] - self._last_log[pixels]
        way = np.where(way == 0.0, step, way)  # only leakage brought it there
        parts = []
        for crossing in range(1, int(num_crossings.max(initial=0)) + 1):
            here = np.flatnonzero(num_crossings >= crossing)
            level = self._reference[pixels[here]] + crossing * step[here]
            share = (level - self._last_log[pixels[here]]) / way[here]
            # Leakage moves the reference as a whole, so that a crossing may seem to be early.
            offset_ns = np.ceil(np.clip(share, 0.0, 1.0) * duration_ns).astype(np.int64)
            time_ns = self._last_time_ns + np.maximum(offset_ns, 1)
            seen = self._mark_seen(pixels[here], time_ns)
            parts.append((pixels[here][seen], polarity[here][seen], time_ns[seen]))
        self._reference[pixels] += num_crossings * step
        return parts

    def _mark_seen(self, pixels: np.ndarray, time_ns: np.ndarray) -> np.ndarray:
        """Tell which events no refractory time hides, at most one for each pixel."""
        refractory_ns = round(self._config.refractory_s * 1e9)
        seen = time_ns - self._last_event_ns[pixels] >= refractory_ns
        self._last_event_ns[pixels[seen]] = time_ns[seen]
        return seen

    def _draw_noise(self, duration_ns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return pixels, polarities and times of shot noise; it leaves the references alone."""
        mean = self._config.shot_noise_rate_hz * self._last_log.size * duration_ns * 1e-9
        num_events = self._random.poisson(mean)
        pixels = self._random.integers(self._last_log.size, size=num_events)
        polarity = self._random.integers(2, size=num_events).astype(np.uint8)
        time_ns = self._last_time_ns + self._random.integers(1, duration_ns + 1, num_events)
        return pixels, polarity, time_ns


def _make_events(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], width: int,
) -> Events:
    pixels = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int64)])
    polarity = np.concatenate([part[1] for part in parts] or [np.empty(0, np.uint8)])
    time_ns = np.concatenate([part[2] for part in parts] or [np.empty(0, np.int64)])
    order = np.lexsort((pixels, time_ns))
    y, x = np.divmod(pixels[order], width)
    return Events(
        x.astype(np.uint16), y.astype(np.uint16), polarity[order].astype(np.uint8),
        time_ns[order].astype(np.int64))
