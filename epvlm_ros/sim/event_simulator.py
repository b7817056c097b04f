"""
An event camera that watches a sequence of images, after ESIM and v2e.

A pixel stores the logarithm of the brightness at its last event and reports every crossing of a
contrast threshold, at a time interpolated linearly between two images (Rebecq et al., "ESIM: an
Open Event Camera Simulator", CoRL 2018). As in v2e (Hu et al., CVPRW 2021) thresholds vary over
the pixels, pixels have a bandwidth and a refractory time, and there are leak events (the stored
value sinks steadily), shot noise and hot pixels. The refractory time follows every event that a
pixel sends, whether of the scene or of noise. Noise leaves the stored values alone.
"""

from __future__ import annotations

from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.photoreceptor import Photoreceptor
import numpy as np

__all__ = ['EventCameraConfig', 'EventSimulator']

_MIN_THRESHOLD = 0.02
_BRIGHT_NOISE = 0.25  # shot noise of a pixel that sees white, as a share of that in the dark
_HOT_RATES = (0.5, 1.5)  # of hot pixels, as shares of their mean
_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # pixels, polarities and times of events


class EventSimulator:
    """An event camera of height x width pixels; ``seed`` determines mismatch and noise."""

    def __init__(
        self, height: int, width: int, config: EventCameraConfig | None = None, seed: int = 0,
    ) -> None:
        if height < 1 or width < 1:
            raise ValueError(f'sensor of {height} x {width} pixels: give at least 1 x 1')
        self.height, self.width = height, width
        self._config = config = config or EventCameraConfig()
        self._random = np.random.default_rng([7, seed])
        num_pixels = height * width
        darker = config.darker_threshold or config.contrast_threshold
        # One row for darker events, one for brighter ones.
        self._threshold = np.maximum(_MIN_THRESHOLD, self._random.normal(
            [[darker], [config.contrast_threshold]], config.threshold_mismatch, (2, num_pixels)))
        # what leaks in a second, of the logarithm
        self._leak = self._threshold[1] * config.leak_rate_hz * 10.0 ** self._random.normal(
            0.0, config.leak_spread, num_pixels)
        self._hot_pixels = np.flatnonzero(
            self._random.random(num_pixels) < config.hot_pixel_share)
        self._hot_rate_hz = config.hot_pixel_rate_hz * self._random.uniform(
            *_HOT_RATES, self._hot_pixels.size)
        self._photoreceptor = Photoreceptor(config.cutoff_hz)
        self._reference = np.empty(0)  # logarithm of the brightness at the last event
        self._last_log = np.empty(0, np.float32)
        self._last_time_ns = 0
        self._last_event_ns = np.full(num_pixels, np.iinfo(np.int64).min // 2)

    def step(self, brightness: np.ndarray, time_ns: int) -> Events:
        """
        Return the events between the last image and the next one, none for the first image.

        ``brightness``, float (height, width), is linear, 0 to 1, and not changed. ``time_ns`` must
        rise. Events are in order of time, then row, then column, in the clock of ``time_ns``.

        Raises
        ------
        ValueError
            If the image has another size than the sensor or time does not move forward.

        """
        if brightness.shape != (self.height, self.width):
            raise ValueError(
                f'picture of shape {brightness.shape}: the sensor has {self.height} x '
                f'{self.width} pixels')
        duration_ns = time_ns - self._last_time_ns
        is_first = not self._last_log.size
        if duration_ns <= 0 and not is_first:
            raise ValueError(
                f'picture at {time_ns} ns after one at {self._last_time_ns} ns: give rising times')
        light = brightness.astype(np.float32).ravel()
        log = self._photoreceptor.follow(light, duration_ns * 1e-9)
        if is_first:
            self._start(log)
            events = _NO_EVENTS
        else:
            parts = [self._find_crossings(log, duration_ns), self._draw_noise(light, duration_ns)]
            events = self._hide_refractory(*(np.concatenate(part) for part in zip(*parts)))
        self._last_log, self._last_time_ns = log, time_ns
        return self._make_events(*events, time_ns - duration_ns)

    def _start(self, log: np.ndarray) -> None:
        # Pixels do not start in step: each is somewhere between its two thresholds.
        low, high = log - self._threshold[1], log + self._threshold[0]
        share = self._random.uniform(0.02, 0.98, log.size)
        self._reference = low + share * (high - low)

    def _find_crossings(self, log: np.ndarray, duration_ns: int) -> _Part:
        """Return the events of the scene and of leakage, and store what the pixels saw."""
        change_before = self._last_log - self._reference
        self._reference -= self._leak * (duration_ns * 1e-9)
        change = log - self._reference
        pixels = np.flatnonzero((change >= self._threshold[1]) | (change <= -self._threshold[0]))
        start, change = change_before[pixels], change[pixels]
        polarity = (change > 0.0).astype(np.uint8)
        step = np.where(polarity, self._threshold[1, pixels], -self._threshold[0, pixels])
        num_crossings = (change / step).astype(np.int64)  # rounds down: both have one sign
        self._reference[pixels] += num_crossings * step  # hidden ones move it all the same
        which = np.arange(len(pixels)).repeat(num_crossings)
        crossing = np.arange(len(which)) - (np.cumsum(num_crossings) - num_crossings)[which] + 1
        # The change from the stored value is linear between two images, as light and leakage are.
        way = change - start
        way = np.where(way == 0.0, step, way)  # what rounding left at a threshold
        share = (crossing * step[which] - start[which]) / way[which]
        offset_ns = np.ceil(np.clip(share, 0.0, 1.0) * duration_ns).astype(np.int64)
        return pixels[which], polarity[which], self._last_time_ns + np.maximum(offset_ns, 1)

    def _draw_noise(self, light: np.ndarray, duration_ns: int) -> _Part:
        """Return shot noise and the events of hot pixels; they leave the references alone."""
        in_dark = self._config.shot_noise_rate_hz * light.size * duration_ns * 1e-9
        pixels = self._random.integers(light.size, size=self._random.poisson(in_dark))
        # drawn as if all were dark: the brighter the pixel, the fewer are real
        share = 1.0 - (1.0 - _BRIGHT_NOISE) * np.clip(light[pixels], 0.0, 1.0)
        pixels = pixels[self._random.random(pixels.size) < share]
        polarity = self._random.integers(2, size=pixels.size).astype(np.uint8)
        num_hot = self._random.poisson(self._hot_rate_hz * (duration_ns * 1e-9))
        pixels = np.concatenate([pixels, self._hot_pixels.repeat(num_hot)])
        polarity = np.concatenate([polarity, np.ones(num_hot.sum(), np.uint8)])
        time_ns = self._last_time_ns + self._random.integers(1, duration_ns + 1, pixels.size)
        return pixels, polarity, time_ns

    def _hide_refractory(
        self, pixels: np.ndarray, polarity: np.ndarray, time_ns: np.ndarray,
    ) -> _Part:
        """Return the events that come no earlier than the refractory time after one before."""
        refractory_ns = round(self._config.refractory_s * 1e9)
        order = np.lexsort((time_ns, pixels))
        pixels, polarity, time_ns = pixels[order], polarity[order], time_ns[order]
        is_seen = np.zeros(len(pixels), np.bool_)
        _, place, num_left = np.unique(pixels, return_index=True, return_counts=True)
        while place.size:  # the first event of each pixel, then the second, ...
            seen = place[time_ns[place] - self._last_event_ns[pixels[place]] >= refractory_ns]
            is_seen[seen] = True
            self._last_event_ns[pixels[seen]] = time_ns[seen]
            place, num_left = place[num_left > 1] + 1, num_left[num_left > 1] - 1
        return pixels[is_seen], polarity[is_seen], time_ns[is_seen]

    def _make_events(
        self, pixels: np.ndarray, polarity: np.ndarray, time_ns: np.ndarray, start_ns: int,
    ) -> Events:
        """Put events in order of time, then pixel; all lie after a moment."""
        order = np.argsort((time_ns - start_ns) * (self.height * self.width) + pixels)
        y, x = np.divmod(pixels[order], self.width)
        return Events(
            x.astype(np.uint16), y.astype(np.uint16), polarity[order].astype(np.uint8),
            time_ns[order].astype(np.int64))


_NO_EVENTS = (np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int64))
