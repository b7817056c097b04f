"""A sequence of DSEC: events in HDF5 with their rectification, and images with their times."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Iterator

import cv2
from epvlm_ros.bag.convert.event_tables import EventTable, open_hdf5
from epvlm_ros.bag.convert.sources import EventBatch, ImageFrame
from epvlm_ros.events.packet import Events
import numpy as np

_IMAGE_TOPIC, _IMAGE_FRAME_ID = '/camera/image_raw', 'camera'
_SIDES = ('left', 'right')


def is_dsec(folder: Path) -> bool:
    """Return whether a folder has the events of a DSEC sequence."""
    return any((folder / 'events' / side / 'events.h5').is_file() for side in _SIDES)


class DsecSequence:
    """
    A folder with events/left/events.h5, and images/timestamps.txt with images/left, if there.

    Pixels of events are rectified by rectify_map.h5 beside them, where that is there, and rounded;
    ``problems`` tells how many leave the sensor by that. Times are in us, and ROS time.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None) -> None:
        self._side = next(
            side for side in _SIDES if (folder / 'events' / side / 'events.h5').is_file())
        self._folder = folder
        self._map = self._read_map()
        if self._map is not None:
            size = self._map.shape[1], self._map.shape[0]
        self._events = EventTable(folder / 'events' / self._side / 'events.h5', size, 'us')
        self._images = self._find_images()
        self._num_outside = 0
        self.problems: list[str] = []
        self.num_steps = 0  # not known before

    def close(self) -> None:
        """Do nothing: files are closed as soon as they are read."""

    def __iter__(self) -> Iterator[EventBatch | ImageFrame]:
        parts: list[Iterator[EventBatch | ImageFrame]] = [self._rectified(), self._read_images()]
        yield from heapq.merge(*parts, key=lambda content: content.record_time_ns)
        if self._num_outside:
            self.problems.append(
                f'{self._num_outside} events are outside of the sensor once rectified')

    def _read_map(self) -> np.ndarray | None:
        path = self._folder / 'events' / self._side / 'rectify_map.h5'
        if not path.is_file():
            return None
        with open_hdf5(path) as file:
            if 'rectify_map' not in file or file['rectify_map'].shape[2:] != (2,):
                raise ValueError(f'{path} has no rectify_map of shape (height, width, 2)')
            return np.rint(file['rectify_map'][()]).astype(np.int64)

    def _rectified(self) -> Iterator[EventBatch]:
        for batch in self._events:
            if self._map is None:
                yield batch
                continue
            events = batch.events
            x, y = self._map[events.y, events.x].T
            inside = (x >= 0) & (x < batch.width) & (y >= 0) & (y < batch.height)
            self._num_outside += int(np.count_nonzero(~inside))
            if inside.any():
                kept = Events(x[inside].astype(np.uint16), y[inside].astype(np.uint16),
                              events.polarity[inside], events.t_ns[inside])
                yield batch._replace(stamp_ns=int(kept.t_ns[0]), events=kept)

    def _find_images(self) -> list[tuple[int, Path]]:
        """Return time in us and file of every image."""
        times = self._folder / 'images' / 'timestamps.txt'
        if not times.is_file():
            return []
        lines = times.read_text().split()
        paths = sorted((self._folder / 'images' / self._side).rglob('*.png'))
        if len(lines) != len(paths):
            raise ValueError(
                f'{times} has {len(lines)} times for {len(paths)} images in {times.parent}/'
                f'{self._side}: give both as DSEC has them')
        try:
            return list(zip(map(int, lines), paths))
        except ValueError:
            raise ValueError(f'{times} is not whole numbers of us, a line each') from None

    def _read_images(self) -> Iterator[ImageFrame]:
        for time_us, path in self._images:
            pixels = cv2.imread(str(path))
            if pixels is None:
                raise ValueError(f'{path} cannot be read as an image')
            yield ImageFrame(
                _IMAGE_TOPIC, time_us * 1000, time_us * 1000, _IMAGE_FRAME_ID, pixels, 'bgr8')
