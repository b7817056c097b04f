"""
An event camera that watches a sequence of images, after ESIM and v2e.

A pixel stores the logarithm of the brightness at its last event and reports every crossing of a
contrast threshold, at a time interpolated linearly between two images (Rebecq et al., "ESIM: an
Open Event Camera Simulator", CoRL 2018). As in v2e (Hu et al., CVPRW 2021) thresholds vary over
the pixels, pixels have a bandwidth and a refractory time, and there are leak events, shot noise
and hot pixels. Two simplifications: leakage acts at each image, so events that only it makes are
placed there; and noise respects the refractory time after the latest event of its pixel only.
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
        parts: list[_Part] = []
        if is_first:
            self._start(log)
        else:
            self._reference -= self._leak * (duration_ns * 1e-9)
            parts = self._find_crossings(log, duration_ns)
            parts += self._draw_noise(light, duration_ns)
        self._last_log, self._last_time_ns = log, time_ns
        return self._make_events(parts, time_ns - duration_ns)

    def _start(self, log: np.ndarray) -> None:
        # Pixels do not start in step: each is somewhere between its two thresholds.
        low, high = log - self._threshold[1], log + self._threshold[0]
        share = self._random.uniform(0.02, 0.98, log.size)
        self._reference = low + share * (high - low)

    def _find_crossings(self, log: np.ndarray, duration_ns: int) -> list[_Part]:
        """Return the events of the scene, round by round."""
        change = log - self._reference
        pixels = np.flatnonzero((change >= self._threshold[1]) | (change <= -self._threshold[0]))
        change = change[pixels]
        polarity = (change > 0.0).astype(np.uint8)
        step = np.where(polarity, self._threshold[1, pixels], -self._threshold[0, pixels])
        num_crossings = (change / step).astype(np.int64)  # rounds down: both have one sign
        start = self._last_log[pixels].astype(np.float64)
        way = log[pixels] - start
        way = np.where(way == 0.0, step, way)  # only leakage brought it there
        before = self._reference[pixels]
        parts = []
        for crossing in range(1, int(num_crossings.max(initial=0)) + 1):
            here = np.flatnonzero(num_crossings >= crossing)
            share = (before[here] + crossing * step[here] - start[here]) / way[here]
            # Leakage moves the reference as a whole at the start of the interval: a crossing may
            # seem to be early, and one by leakage alone comes right at that start.
            offset_ns = np.ceil(np.clip(share, 0.0, 1.0) * duration_ns).astype(np.int64)
            time_ns = self._last_time_ns + np.maximum(offset_ns, 1)
            seen = self._mark_seen(pixels[here], time_ns)
            parts.append((pixels[here][seen], polarity[here][seen], time_ns[seen]))
        self._reference[pixels] += num_crossings * step  # hidden ones move it all the same
        return parts

    def _mark_seen(self, pixels: np.ndarray, time_ns: np.ndarray) -> np.ndarray:
        """Tell which events no refractory time hides, at most one for each pixel."""
        refractory_ns = round(self._config.refractory_s * 1e9)
        last_ns = self._last_event_ns[pixels]
        seen = np.abs(time_ns - last_ns) >= refractory_ns  # noise comes after the scene's events
        self._last_event_ns[pixels[seen]] = np.maximum(last_ns, time_ns)[seen]
        return seen

    def _draw_noise(self, light: np.ndarray, duration_ns: int) -> list[_Part]:
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
        return self._hide_noise(pixels, polarity, time_ns)

    def _hide_noise(
        self, pixels: np.ndarray, polarity: np.ndarray, time_ns: np.ndarray,
    ) -> list[_Part]:
        """Return the events that no refractory time hides, the n-th of each pixel together."""
        order = np.lexsort((time_ns, pixels))
        pixels, polarity, time_ns = pixels[order], polarity[order], time_ns[order]
        _, first, count = np.unique(pixels, return_index=True, return_counts=True)
        parts = []
        while first.size:
            seen = first[self._mark_seen(pixels[first], time_ns[first])]
            parts.append((pixels[seen], polarity[seen], time_ns[seen]))
            first, count = first[count > 1] + 1, count[count > 1] - 1
        return parts

    def _make_events(self, parts: list[_Part], start_ns: int) -> Events:
        """Put events in order of time, then pixel; all lie after a moment."""
        pixels, polarity, time_ns = (np.concatenate(values) for values in zip(_NO_EVENTS, *parts))
        order = np.argsort((time_ns - start_ns) * (self.height * self.width) + pixels)
        y, x = np.divmod(pixels[order], self.width)
        return Events(
            x.astype(np.uint16), y.astype(np.uint16), polarity[order].astype(np.uint8),
            time_ns[order].astype(np.int64))


_NO_EVENTS = (np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int64))
