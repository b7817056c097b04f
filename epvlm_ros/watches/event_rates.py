"""How many events come where, frame by frame: what conditions are judged by."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.time_units import SECOND
import numpy as np

_PARTS = 4  # of the image along each side
_SURROUNDINGS_PERCENTILE = 75  # of the parts, which a region has to stand out from
_LEAST_OUTSIDE = 0.5  # of a part, for it to count as outside of a region
_NOISE_SHARE = 0.1  # of a frame in the running mean of the noise


@dataclass(frozen=True)
class Region:
    """A rectangle of image pixels; ``width`` and ``height`` of 0 are the whole image."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is the image, whatever its size."""
        return self.width == 0 and self.height == 0

    def check_inside(self, image_width: int, image_height: int) -> None:
        """Raise a ValueError if it is not inside of an image."""
        if self.x + self.width > image_width or self.y + self.height > image_height:
            raise ValueError(
                f'region {self} is not inside of the image of {image_width} x {image_height}: '
                'give one that is, in image pixels')

    def __str__(self) -> str:
        return f'{self.width} x {self.height} at ({self.x}, {self.y})'


@dataclass(frozen=True, eq=False)
class EventRates:
    """
    Events in each cell of the image, counted in one or two ways.

    Attributes
    ----------
    maps : tuple of numpy.ndarray
        Each float32 of shape (rows, cols): events per sensor pixel and second in each cell. What
        is in all maps is activity.
    cell_size_px, image_height, image_width : int
        As in ``ActivityGrid``.

    """

    maps: tuple[np.ndarray, ...]
    cell_size_px: int
    image_height: int
    image_width: int
    _known: dict[Region, float] = field(default_factory=dict)

    def find_activity(self, region: Region) -> float:
        """
        Return the activity of a region, in events per sensor pixel and second.

        Of the whole image it is the mean. Of a smaller region it is the mean less what three
        quarters of the image outside of it (of its 4 x 4 parts) stay below: that much comes
        everywhere, as when the camera moves. By each map; the least counts.

        Raises
        ------
        ValueError
            If the region is not inside of the image.

        """
        region.check_inside(self.image_width, self.image_height)
        if region not in self._known:
            self._known[region] = min(self._excess(rates, region) for rates in self.maps)
        return self._known[region]

    def _excess(self, rates: np.ndarray, region: Region) -> float:
        if not rates.any():
            return 0.0
        rows = _weights(self.image_height, self.cell_size_px, region.y, region.height)
        cols = _weights(self.image_width, self.cell_size_px, region.x, region.width)
        sums = rows @ rates @ cols.T  # (2 * parts, 2 * parts), see _weights
        areas = np.outer(rows.sum(1), cols.sum(1))
        inside, area_inside = sums[_PARTS:, _PARTS:], areas[_PARTS:, _PARTS:]
        outside, area = sums[:_PARTS, :_PARTS] - inside, areas[:_PARTS, :_PARTS]
        is_outside = area - area_inside >= _LEAST_OUTSIDE * area
        surroundings = np.percentile(
            outside[is_outside] / (area - area_inside)[is_outside],
            _SURROUNDINGS_PERCENTILE) if is_outside.any() else 0.0
        return float(inside.sum() / area_inside.sum() - surroundings)


class RateReader:
    """Tells from frame to frame of one camera where events came."""

    def __init__(self) -> None:
        self._change: ChangeScore | None = None
        self._stamp_ns = 0
        self._noise: float | None = None  # rate of events while nothing changes

    def read(
        self, activity: ActivityGrid | None, change: ChangeScore | None, stamp_ns: int,
    ) -> EventRates | None:
        """
        Return the rates of events at a frame.

        They are those of its event window and, with change scores, those of what changed since
        the frame before. Scores leave noise out, but tell of slow motion late and all at once; the
        window says what comes now, above the mean of windows in which nothing changed.

        Parameters
        ----------
        activity : ActivityGrid or None
            Of the frame; None if its events are not known.
        change : ChangeScore or None
            Of the frame; None if there is none.
        stamp_ns : int
            Of the frame.

        Returns
        -------
        EventRates or None
            None if nothing is known: no events, or scores that do not go on from the last ones.

        """
        before, elapsed_s = self._change, (stamp_ns - self._stamp_ns) / SECOND
        self._change, self._stamp_ns = change, stamp_ns
        if activity is None:
            return None
        height, width, cell = activity.image_height, activity.image_width, activity.cell_size_px
        pixels = activity.pixel_density * np.outer(_cell_sides(height, cell),
                                                   _cell_sides(width, cell))
        window_s = (activity.window_end_ns - activity.window_start_ns) / SECOND
        maps = [activity.counts / (pixels * window_s)]
        if change is not None:
            if before is None or not change.continues(before) or elapsed_s <= 0.0:
                self._noise = None
                return None
            changed = change.since(before)
            if not changed.any():
                self._learn_noise(activity.num_events / (pixels.sum() * window_s))
            maps = [maps[0] - (self._noise or 0.0), changed / (pixels * elapsed_s)]
        return EventRates(tuple(rates.astype(np.float32) for rates in maps), cell, height, width)

    def _learn_noise(self, rate: float) -> None:
        before = rate if self._noise is None else self._noise
        self._noise = before + _NOISE_SHARE * (rate - before)


def _cell_sides(length_px: int, cell_size_px: int) -> np.ndarray:
    """Return how many pixels of an image each row, or column, of cells covers."""
    starts = np.arange(0, length_px, cell_size_px)
    return np.minimum(starts + cell_size_px, length_px) - starts


@lru_cache(maxsize=1000)
def _weights(length_px: int, cell_size_px: int, begin_px: int, span_px: int) -> np.ndarray:
    """
    Return how many pixels of each row, or column, of cells lie in which part of the image.

    Returns
    -------
    numpy.ndarray
        float32, shape (2 * parts, rows): first the parts, then what the region, from ``begin_px``
        on, has of each. A ``span_px`` of 0 is the whole image.

    """
    edges = np.round(np.arange(_PARTS + 1) * length_px / _PARTS)
    end_px = begin_px + span_px if span_px else length_px
    parts = [*zip(edges, edges[1:]),
             *zip(np.clip(edges, begin_px, end_px), np.clip(edges[1:], begin_px, end_px))]
    starts = np.arange(0, length_px, cell_size_px)
    ends = np.minimum(starts + cell_size_px, length_px)
    return np.array([
        np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0, None)
        for start, end in parts], np.float32)
