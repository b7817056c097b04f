"""Time-binned event counts on the activity grid of the image: any window in O(bins x cells)."""

from __future__ import annotations

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.histogram.bin_kernels import (
    add_separable, add_stretches, advance, BinRing, count_back, NO_TIME_NS, PixelCounter,
    STATE_DTYPE, sum_window)
from epvlm_ros.events.histogram.change_kernels import sum_bins
from epvlm_ros.events.histogram.grid_size import SPARE_ROWS
from epvlm_ros.events.histogram.run_tables import (
    make_separable_table, make_stretch_table, SeparableTable, StretchTable)
from epvlm_ros.events.packet.pixel_runs import PixelRuns
import numpy as np

_OUTSIDE = -1 << 30  # stays negative when a cell is added


class ActivityBins:
    """
    Ring of time bins, each with one event count (uint16, saturating) per cell of the image.

    All times are sensor times in ns. Events out of order go to their bins as long as those are
    remembered; older ones are counted in ``num_too_old``.

    Parameters
    ----------
    image_height, image_width, cell_size_px : int
        Size of the image and of a cell, in image pixels.
    bin_length_ns, history_length_ns : int
        Length of a time bin and of the history, which is rounded up to whole bins.
    cell_lookup : numpy.ndarray
        int32 of shape (sensor_height, sensor_width): cell index of every sensor pixel, row by row,
        or -1 outside the image. From ``registration.make_cell_lookup``.

    Raises
    ------
    ValueError
        If a length is not positive, the history is shorter than a bin, or an index is outside.

    """

    def __init__(
        self, image_height: int, image_width: int, cell_size_px: int, bin_length_ns: int,
        history_length_ns: int, cell_lookup: np.ndarray,
    ) -> None:
        if bin_length_ns < 1 or history_length_ns < bin_length_ns:
            raise ValueError(
                f'bins of {bin_length_ns} ns in a history of {history_length_ns} ns: give a bin '
                'of at least 1 ns and a history of at least one bin')
        self.shape = grid_shape(image_height, image_width, cell_size_px)
        num_cells = self.shape[0] * self.shape[1]
        if cell_lookup.ndim != 2 or cell_lookup.size and (
                cell_lookup.max() >= num_cells or cell_lookup.min() < -1):
            raise ValueError(
                f'the look-up table of shape {cell_lookup.shape} leaves the grid of {num_cells} '
                'cells: make it for this image and cell size')
        self.image_height, self.image_width = image_height, image_width
        self.cell_size_px = cell_size_px
        self.bin_length_ns = int(bin_length_ns)
        # One more bin than the history: the newest one has only begun.
        num_bins = -(-int(history_length_ns) // self.bin_length_ns) + 1
        self.history_length_ns = (num_bins - 1) * self.bin_length_ns
        self._lookup = np.ascontiguousarray(cell_lookup, np.int32)
        self._pixel_counter: PixelCounter | None = None
        self._tables: dict[bool, SeparableTable | StretchTable] = {}  # by direction of runs
        # Behind the cells there is room for nothing: loops add zeros there.
        self._num_cells = num_cells
        self._ring = BinRing(
            np.zeros((num_bins, num_cells + SPARE_ROWS * self.shape[1]), np.uint16),
            np.zeros(num_bins, np.int64), np.zeros(1, STATE_DTYPE), self.bin_length_ns)
        self._state = self._ring.states
        self._state['first_open_bin'] = NO_TIME_NS
        self._saturated, self._late = self._state['num_saturated'], self._state['num_late']
        self._sums = np.zeros(num_cells, np.uint16)

    @property
    def latest_ns(self) -> int | None:
        """Return the latest sensor time seen, None before any."""
        return int(self._state[0]['latest_ns']) if self._state[0]['is_started'] else None

    @property
    def oldest_ns(self) -> int | None:
        """Return the sensor time since which every event seen is remembered, None at first."""
        state = self._state[0]
        if not state['is_started']:
            return None
        oldest_bin = int(state['newest_bin']) - self._ring.totals.size + 1
        return max(int(state['oldest_ns']), oldest_bin * self.bin_length_ns)

    @property
    def num_too_old(self) -> int:
        """Return how many events were older than the history."""
        return int(self._state[0]['num_too_old'])

    @property
    def num_out_of_image(self) -> int:
        """Return how many events fell on sensor pixels that see nothing of the image."""
        return int(self._state[0]['num_out_of_image'])

    @property
    def num_saturated(self) -> int:
        """Return how many events were lost to the maximum of a count."""
        return int(self._saturated[0])

    @property
    def num_late(self) -> int:
        """Return how many times events came for a bin that was closed; they are counted."""
        return int(self._late[0])

    def reset(self) -> None:
        """Forget all events and times; the numbers of dropped events go on."""
        self._ring.counts.fill(0)
        self._ring.totals.fill(0)
        self._state['is_started'] = False
        self.close_before(NO_TIME_NS)

    def close_before(self, time_bin: int) -> None:
        """Let events of bins before this one, a time divided by the length, be late."""
        self._state['first_open_bin'] = time_bin

    def advance(self, sensor_time_ns: int) -> None:
        """Let time pass up to ``sensor_time_ns`` without events; a past time changes nothing."""
        advance(self._ring, sensor_time_ns)

    def check_sensor_size(self, height: int, width: int) -> None:
        """Raise ValueError if the look-up table is for a sensor of another size."""
        if self._lookup.shape != (height, width):
            raise ValueError(
                f'the look-up table is for a sensor of {self._lookup.shape} pixels, events come '
                f'from {(height, width)}: make bins for this sensor')

    def add_runs(self, runs: PixelRuns) -> None:
        """Count runs that lie inside the sensor; ``accumulate`` calls this."""
        table = self._table(runs.is_vertical)
        add = add_separable if isinstance(table, SeparableTable) else add_stretches
        add(self._ring, runs.records, runs.is_vertical, table)

    def pixel_counter(self) -> PixelCounter:
        """Return the arrays to count single events with; ``accumulate`` calls this."""
        if self._pixel_counter is None:
            table, none = self._table(False), np.zeros(0, np.int32)
            if isinstance(table, SeparableTable):
                x = np.arange(self._lookup.shape[1])
                is_inside = (x >= table.start) & (x < table.stop)
                self._pixel_counter = PixelCounter(
                    self._ring, np.where(table.line_cells < 0, _OUTSIDE, table.line_cells),
                    np.where(is_inside, table.positions['cell'], _OUTSIDE),
                    np.zeros((0, 0), np.int32))
            else:
                self._pixel_counter = PixelCounter(self._ring, none, none, self._lookup)
        return self._pixel_counter

    def _table(self, is_vertical: bool) -> SeparableTable | StretchTable:
        """Return the table for runs of a direction, made when it is first asked for."""
        if is_vertical not in self._tables:
            lookup = self._lookup.T if is_vertical else self._lookup
            step = self.shape[1] if is_vertical else 1
            self._tables[is_vertical] = \
                make_separable_table(lookup, step) or make_stretch_table(lookup)
        return self._tables[is_vertical]

    def window(self, start_ns: int, end_ns: int) -> ActivityGrid:
        """
        Sum the events of the window [start_ns, end_ns) of sensor time; zeros if it is empty.

        Bins that the window cuts count by the share inside. Times before ``oldest_ns`` or after
        ``latest_ns`` count as silent. Raises ValueError if the window ends before it starts.
        """
        if end_ns < start_ns:
            raise ValueError(f'the window ends at {end_ns} ns, before its start at {start_ns} ns')
        first, end = -(-start_ns // self.bin_length_ns), end_ns // self.bin_length_ns
        if first < end:  # whole bins are quicker
            total = self.sum_bins(first, end).astype(np.float32).reshape(-1)
            sum_window(self._ring, start_ns, first * self.bin_length_ns, total)
            sum_window(self._ring, end * self.bin_length_ns, end_ns, total)
        else:
            total = np.zeros(self._num_cells, np.float32)
            sum_window(self._ring, start_ns, end_ns, total)
        return ActivityGrid(
            total.reshape(self.shape), self.cell_size_px, self.image_height, self.image_width,
            start_ns, end_ns)

    def sum_bins(self, first_bin: int, end_bin: int) -> np.ndarray:
        """
        Sum whole bins, by their times divided by the length of a bin, ``end_bin`` exclusive.

        Returns uint16, or float32 where that is not enough, of ``shape``, valid until the next
        call. Bins that are not remembered count as silent.
        """
        sums = self._sums
        if not sum_bins(self._ring, first_bin, end_bin, sums):
            sums = np.zeros(sums.size, np.float32)
            sum_bins(self._ring, first_bin, end_bin, sums)
        return sums.reshape(self.shape)

    def count_back(
        self, end_ns: int, earliest_ns: int, num_events: int | None = None,
        num_active_cells: int | None = None,
    ) -> int:
        """
        Find how far back a window has to reach to hold enough activity.

        Parameters
        ----------
        end_ns : int
                End of the window, in sensor time (exclusive); a bin that it cuts counts as in
            `window`.
        earliest_ns : int
            The window starts no earlier than this.
        num_events, num_active_cells : int, optional
                Events, and cells with events, that the window should hold; at least one of them is
            needed.

        Returns
        -------
        int
            The latest start of a bin, in ns, from which the window holds what was asked for;
            ``earliest_ns`` if there is none.

        Raises
        ------
        ValueError
            If the window ends before ``earliest_ns``, or if no number, or one below 1, is given.

        """
        if end_ns < earliest_ns:
            raise ValueError(
                f'the window ends at {end_ns} ns, before its earliest start at {earliest_ns} ns')
        wanted = [number for number in (num_events, num_active_cells) if number is not None]
        if not wanted or min(wanted) < 1:
            raise ValueError(
                f'{num_events} events and {num_active_cells} active cells are wanted: give one or '
                'both, 1 or more')
        is_active = np.zeros(self._num_cells, np.bool_)
        return int(count_back(
            self._ring, end_ns, earliest_ns, num_events or 0, num_active_cells or 0, is_active))
