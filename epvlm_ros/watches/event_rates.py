"""How many events come where, frame by frame: what conditions are judged by."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
import math

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.time_units import SECOND
import numpy as np

_PARTS = 4  # of the image along each side
_SURROUNDINGS_SHARE = 0.75  # of the parts, which a region has to stand out from
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
        everywhere, as when the camera moves. By each map; the least counts, and 0 if that is
        negative.

        Raises
        ------
        ValueError
            If the region is not inside of the image.

        """
        region.check_inside(self.image_width, self.image_height)
        if self._is_silent:
            return 0.0
        if region not in self._known:
            place = _locate(self.image_height, self.image_width, self.cell_size_px, region)
            self._known[region] = 0.0 if any(
                not rates[place.cells].any() for rates in self.maps) else max(0.0, min(
                    place.find_excess(rates, sums)
                    for rates, sums in zip(self.maps, self._part_sums)))
        return self._known[region]

    @cached_property
    def _is_silent(self) -> bool:
        return not all(rates.any() for rates in self.maps)

    @cached_property
    def _part_sums(self) -> list[np.ndarray]:
        """Return rate times pixels in each part of the image, of each map."""
        whole = _locate(self.image_height, self.image_width, self.cell_size_px, Region())
        return [whole.rows @ rates @ whole.cols.T for rates in self.maps]


@dataclass(frozen=True, eq=False)
class _Place:
    """
    Where a region is among the cells, and among the 4 x 4 parts of the image.

    ``rows`` and ``cols`` are float32 of shape (4, rows or cols of ``cells``): how many pixels of
    each the region has in each part. ``outside`` are the pixels of each part beside the region.
    """

    cells: tuple[slice, slice]
    rows: np.ndarray
    cols: np.ndarray
    outside: np.ndarray  # (4, 4)
    is_outside: np.ndarray  # bool, (4, 4): parts that it is compared with

    def find_excess(self, rates: np.ndarray, part_sums: np.ndarray) -> float:
        """Return the mean rate inside above that of most parts outside."""
        inside = self.rows @ rates[self.cells] @ self.cols.T
        mean = inside.sum() / (self.rows.sum() * self.cols.sum())
        if not self.is_outside.any():
            return float(mean)
        rest = np.sort((part_sums - inside)[self.is_outside] / self.outside[self.is_outside])
        return float(mean - rest[math.ceil(_SURROUNDINGS_SHARE * (len(rest) - 1))])


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
def _locate(image_height: int, image_width: int, cell_size_px: int, region: Region) -> _Place:
    rows = _weigh(image_height, cell_size_px, region.y, region.height)
    cols = _weigh(image_width, cell_size_px, region.x, region.width)
    area = np.outer(*(np.diff(_part_edges(length)) for length in (image_height, image_width)))
    outside = area - np.outer(rows.sum(1), cols.sum(1))
    cells = tuple(slice(*(np.flatnonzero(weights.any(0))[[0, -1]] + [0, 1]))
                  for weights in (rows, cols))
    return _Place((cells[0], cells[1]), rows[:, cells[0]], cols[:, cells[1]], outside,
                  outside >= np.maximum(_LEAST_OUTSIDE * area, 1.0))


def _part_edges(length_px: int) -> np.ndarray:
    return np.round(np.arange(_PARTS + 1) * length_px / _PARTS)


def _weigh(length_px: int, cell_size_px: int, begin_px: int, span_px: int) -> np.ndarray:
    """
    Return how many pixels of each row, or column, of cells a region has in each part.

    ``begin_px`` and ``span_px`` are of the region; a span of 0 is the whole image. Returns
    float32 of shape (parts, cells).
    """
    end_px = begin_px + span_px if span_px else length_px
    edges = np.clip(_part_edges(length_px), begin_px, end_px)
    starts = np.arange(0, length_px, cell_size_px)
    ends = np.minimum(starts + cell_size_px, length_px)
    overlaps = np.minimum(ends, edges[1:, None]) - np.maximum(starts, edges[:-1, None])
    return np.clip(overlaps, 0, None).astype(np.float32)
