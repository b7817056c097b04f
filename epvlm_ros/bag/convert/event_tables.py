"""Events as tables: .npz and HDF5 with an array for each column, text with a line for each."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator
import warnings
import zipfile

from epvlm_ros.bag.convert.prophesee_files import FRAME_ID, TOPIC
from epvlm_ros.bag.convert.sources import EventBatch, split_in_time
from epvlm_ros.bag.convert.text_rows import parse_text_rows
from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet import Events
import numpy as np

_NAMES = {'x': ('x', 'xs'), 'y': ('y', 'ys'), 'polarity': ('p', 'ps', 'pol', 'polarity'),
          't': ('t', 'ts', 'time', 'timestamp', 'timestamps')}
_NS = {'s': 10 ** 9, 'ms': 10 ** 6, 'us': 1000, 'ns': 1}
_TEXT_SIZE, _NUM_ROWS = 1 << 19, 1_000_000  # bytes and rows at once
_MAX_WHOLE = 2 ** 63
HDF5_SUFFIXES = ('.h5', '.hdf5')


class EventTable:
    """
    A table of events in the order of their times, which become ROS time.

    Columns of text are time, x, y and polarity. Arrays of HDF5 are in the group events, and
    t_offset beside it is added to the times, as in DSEC. Times are in ``time_unit`` (s, ms, us,
    ns); if that is empty, in seconds where they have a fraction and in us where they are whole
    numbers, and ``problems`` says which.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None, time_unit: str) -> None:
        if not path.is_file():
            raise ValueError(f'{path} does not exist: give a recording')
        if size is None:
            raise ValueError(
                f'{path} does not say the size of its sensor: give --size WIDTHxHEIGHT')
        if time_unit and time_unit not in _NS:
            raise ValueError(f'time unit is {time_unit!r}: give one of {", ".join(_NS)}')
        self.problems: list[str] = []
        self._has_default_us = False
        self.num_steps = 0  # not known before
        self._path, self._size, self._unit = path, size, time_unit

    def close(self) -> None:
        """Do nothing: files are closed as soon as they are read."""

    def __iter__(self) -> Iterator[EventBatch]:
        if self._path.suffix == '.npz':
            tables = self._read_npz()
        else:
            is_hdf5 = self._path.suffix in HDF5_SUFFIXES
            tables = self._read_hdf5() if is_hdf5 else self._read_text()
        for columns in tables:
            events = self._to_events(*columns)
            for part in split_in_time(events):
                yield EventBatch(TOPIC, int(part.t_ns.max()), int(part.t_ns[0]), FRAME_ID,
                                 *self._size, part)

    def _read_npz(self) -> Iterator[list[np.ndarray]]:
        try:
            with zipfile.ZipFile(self._path):
                pass
            with np.load(self._path, allow_pickle=False) as arrays:
                found = {name.lower(): arrays[name] for name in arrays.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f'{self._path} cannot be read as .npz: {error}') from None
        yield [self._find(found, column) for column in ('t', 'x', 'y', 'polarity')]

    def _read_hdf5(self) -> Iterator[list[np.ndarray]]:
        with open_hdf5(self._path) as file:
            group = file['events'] if 'events' in file else file
            found = {name.lower(): item for name, item in group.items()
                     if hasattr(item, 'dtype')}
            offset = int(file['t_offset'][()]) if 't_offset' in file else 0
            columns = [self._find(found, column) for column in ('t', 'x', 'y', 'polarity')]
            for start in range(0, len(columns[0]), _NUM_ROWS):
                t, *others = (column[start:start + _NUM_ROWS] for column in columns)
                yield [t.astype(np.int64) + offset if offset else t, *others]

    def _find(self, arrays: dict[str, Any], column: str) -> Any:
        for name in _NAMES[column]:
            if name in arrays:
                return arrays[name]
        raise ValueError(
            f'{self._path} has no array {" or ".join(_NAMES[column])}: it has '
            f'{clean_text(", ".join(sorted(arrays)))}')

    def _read_text(self) -> Iterator[list[np.ndarray]]:
        with self._path.open('rb') as file:
            while block := file.read(_TEXT_SIZE):
                columns, has_points = self._parse_block(block + file.readline())
                t = columns[0]
                if not t.size:
                    continue
                if not (t % 1).any() and t.max() < _MAX_WHOLE:
                    # '10.0' is whole, but its unit is not that of '10'.
                    if self._unit or not has_points:
                        columns[0] = t.astype(np.int64)
                elif self._has_default_us:
                    raise ValueError(
                        f'{self._path} has whole numbers as times first and other ones later: '
                        'give --time-unit')
                yield columns

    def _parse_block(self, block: bytes) -> tuple[list[np.ndarray], bool]:
        """Return the columns, and whether a time has a point."""
        rows = parse_text_rows(block)
        if rows is not None:
            has_points = bool((rows.places >= 0).any())
            t = rows.mantissa
            if has_points:  # 64 bits of digits, where the machine has them
                t = t / np.longdouble(10) ** np.maximum(rows.places, 0)
            return [t, *rows.others.T], has_points
        lines = [line for line in block.decode(errors='replace').splitlines()
                 if line.strip() and line[0] not in '#%']
        return self._parse_lines(lines), any(
            '.' in line.replace(',', ' ').split()[0] for line in lines)

    def _parse_lines(self, lines: list[str]) -> list[np.ndarray]:
        text = ' '.join(lines).replace(',', ' ')
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            try:
                numbers = np.fromstring(text, sep=' ')
            except (DeprecationWarning, ValueError):
                raise ValueError(f'{self._path} has a line that is not made of numbers') from None
        if numbers.size != 4 * len(lines) or not np.isfinite(numbers).all():
            raise ValueError(f'{self._path} has a line that is not: time x y polarity')
        return list(numbers.reshape(-1, 4).T)

    def _to_events(
        self, t: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray,
    ) -> Events:
        if not t.shape == x.shape == y.shape == polarity.shape or t.ndim != 1:
            raise ValueError(
                f'{self._path} has columns of shapes {t.shape}, {x.shape}, {y.shape} and '
                f'{polarity.shape}: give one number of each for an event')
        if not self._unit:
            self._unit = 's' if t.dtype.kind == 'f' else 'us'
            self._has_default_us = self._unit == 'us'
            self.problems.append(f'times are taken to be in {self._unit}: give --time-unit')
        if t.dtype.kind == 'f':
            t_ns = np.rint(t * _NS[self._unit]).astype(np.int64)
        else:
            t_ns = t.astype(np.int64) * _NS[self._unit]
        for name, values, limit in (('x', x, self._size[0]), ('y', y, self._size[1])):
            if values.size and not 0 <= values.min() <= values.max() < limit:
                raise ValueError(
                    f'{self._path} has {name} from {values.min():g} to {values.max():g}: give a '
                    '--size that holds all events')
        return Events(x.astype(np.uint16), y.astype(np.uint16), (polarity > 0).astype(np.uint8),
                      t_ns)


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading; a ValueError where h5py is missing or it cannot be read."""
    try:
        import h5py
    except ImportError:
        raise ValueError(
            f'{path} needs h5py: run pip install h5py, and hdf5plugin for files that are '
            'compressed by Blosc as those of DSEC') from None
    try:
        import hdf5plugin  # noqa: F401  adds compressions to h5py
    except ImportError:
        pass
    try:
        with h5py.File(path, 'r') as file:
            yield file
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} cannot be read as HDF5 of events: {error} (files that are compressed by '
            'Blosc need hdf5plugin)') from None
