"""Time-binned event counts on the image's activity grid: any window in O(bins x cells)."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.core.compiled import compiled
from epvlm_ros.core.packets.runs import PixelRuns
import numpy as np

_MAX_COUNT = 65535

_STATE_DTYPE = np.dtype([
    ('newest_bin', np.int64),  # time divided by the length of a bin
    ('oldest_ns', np.int64),
    ('latest_ns', np.int64),
    ('is_started', np.bool_),
    ('num_too_old', np.int64),
    ('num_out_of_image', np.int64),
    ('num_saturated', np.int64),
])


@dataclass(frozen=True, eq=False)
class ActivityGrid:
    """
    Event counts of one window of time on a grid of the image.

    ``counts`` is float32 of shape (rows, cols), 0 or more; cell (row, col) covers the image
    pixels from ``row * cell_size_px`` to ``(row + 1) * cell_size_px`` (exclusive), likewise for
    columns; the last row and column may reach beyond the image. The window is in the clock of
    whoever made the grid. ``pixel_density`` is the number of sensor pixels that see one pixel of
    the image: with it, counts can be compared between sensors of any resolution.
    """

    counts: np.ndarray
    cell_size_px: int
    image_height: int
    image_width: int
    window_start_ns: int
    window_end_ns: int
    pixel_density: float = 1.0

    def __post_init__(self) -> None:
        shape = grid_shape(self.image_height, self.image_width, self.cell_size_px)
        if self.counts.shape != shape:
            raise ValueError(
                f'counts have shape {self.counts.shape}: {self.image_height} x {self.image_width} '
                f'pixels in cells of {self.cell_size_px} make {shape}')

    @property
    def num_events(self) -> float:
        """Return the sum of all counts; not whole if the window cuts through time bins."""
        return float(self.counts.sum(dtype=np.float64))


def grid_shape(image_height: int, image_width: int, cell_size_px: int) -> tuple[int, int]:
    """
    Return rows and columns of the grid that covers an image.

    Raises
    ------
    ValueError
        If a size is not positive.

    """
    if min(image_height, image_width, cell_size_px) < 1:
        raise ValueError(
            f'image is {image_height} x {image_width} px in cells of {cell_size_px} px: give '
            'sizes of 1 or more')
    return -(-image_height // cell_size_px), -(-image_width // cell_size_px)


class ActivityBins:
    """
    Ring of time bins, each with one event count (uint16, saturating) per cell of the image.

    All times are SENSOR times in ns. Events in disorder land in their bins as long as those are
    remembered; older ones are counted in ``num_too_old``.

    Parameters
    ----------
    image_height, image_width : int
        Size of the image, in pixels.
    cell_size_px : int
        Side of a cell, in image pixels.
    bin_length_ns, history_length_ns : int
        Length of a time bin and of what is remembered; the latter is rounded up to whole bins.
    cell_lookup : numpy.ndarray
        int32 of shape (sensor_height, sensor_width): the index of the cell of every sensor
        pixel, row by row, or -1 outside the image. From ``registration.make_cell_lookup``.

    Raises
    ------
    ValueError
        If a length is not positive, the history shorter than a bin, or an index of the look-up
        table is outside the grid.

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
        self._lookup = np.ascontiguousarray(cell_lookup, np.int32)
        self._counts = np.zeros((num_bins, num_cells), np.uint16)
        self._state = np.zeros(1, _STATE_DTYPE)

    @property
    def latest_ns(self) -> int | None:
        """Return the latest sensor time seen, None before any."""
        return int(self._state[0]['latest_ns']) if self._state[0]['is_started'] else None

    @property
    def oldest_ns(self) -> int | None:
        """Return the sensor time from which on every event seen is remembered, None at first."""
        state = self._state[0]
        if not state['is_started']:
            return None
        oldest_bin = int(state['newest_bin']) - self._counts.shape[0] + 1
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
        return int(self._state[0]['num_saturated'])

    def reset(self) -> None:
        """Forget all events and times; the numbers of dropped events go on."""
        self._counts.fill(0)
        self._state['is_started'] = False

    def advance(self, sensor_time_ns: int) -> None:
        """Let time pass up to ``sensor_time_ns`` without events; a past time changes nothing."""
        _advance(self._counts, self._state, self.bin_length_ns, sensor_time_ns)

    def check_sensor_size(self, height: int, width: int) -> None:
        """
        Check that the look-up table is for a sensor of this size.

        Raises
        ------
        ValueError
            If it is not.

        """
        if self._lookup.shape != (height, width):
            raise ValueError(
                f'the look-up table is for a sensor of {self._lookup.shape} pixels, events come '
                f'from {(height, width)}: make bins for this sensor')

    def add_runs(self, runs: PixelRuns) -> None:
        """
        Count the events of ``runs``, which must lie inside the sensor.

        A decoder's ``accumulate`` calls this.
        """
        _add_runs(
            runs.records, runs.is_vertical, self._lookup, self._counts, self._state,
            self.bin_length_ns)

    def window(self, start_ns: int, end_ns: int) -> ActivityGrid:
        """
        Sum the events of a window of sensor time.

        Parameters
        ----------
        start_ns, end_ns : int
            The window [start, end). Bins that it cuts count by the share that lies inside. What
            is not between ``oldest_ns`` and ``latest_ns`` counts as silent.

        Returns
        -------
        ActivityGrid
            Zeros for an empty window.

        Raises
        ------
        ValueError
            If the window ends before it starts.

        """
        if end_ns < start_ns:
            raise ValueError(f'the window ends at {end_ns} ns, before its start at {start_ns} ns')
        total = np.zeros(self._counts.shape[1], np.float32)
        _sum_window(self._counts, self._state, self.bin_length_ns, start_ns, end_ns, total)
        return ActivityGrid(
            total.reshape(self.shape), self.cell_size_px, self.image_height, self.image_width,
            start_ns, end_ns)


@compiled
def _open_bin(counts, state, bin_length_ns, t_ns):  # type: ignore[no-untyped-def]
    """Return the row of ``counts`` for a time, cleared if it is new, or -1 if it is too old."""
    num_bins = counts.shape[0]
    time_bin = t_ns // bin_length_ns
    if not state.is_started:
        state.is_started = True
        state.newest_bin = time_bin
        state.oldest_ns = t_ns
        state.latest_ns = t_ns
    elif time_bin > state.newest_bin:
        num_new = min(time_bin - state.newest_bin, num_bins)
        for fresh in range(time_bin - num_new + 1, time_bin + 1):
            counts[fresh % num_bins, :] = 0
        state.newest_bin = time_bin
    if t_ns > state.latest_ns:
        state.latest_ns = t_ns
    if time_bin <= state.newest_bin - num_bins:
        return -1
    if t_ns < state.oldest_ns:
        state.oldest_ns = t_ns
    return time_bin % num_bins


@compiled
def _advance(counts, states, bin_length_ns, t_ns):  # type: ignore[no-untyped-def]
    state = states[0]
    if not state.is_started or t_ns > state.latest_ns:
        _open_bin(counts, state, bin_length_ns, t_ns)


@compiled
def _add_runs(  # type: ignore[no-untyped-def]
    records, is_vertical, lookup, counts, states, bin_length_ns,
):
    state = states[0]
    num_too_old, num_out, num_saturated = 0, 0, 0
    row, t_ns = -1, np.int64(0)
    for i in range(records.size):
        run = records[i]
        if i == 0 or run.t_ns != t_ns:
            t_ns = run.t_ns
            row = _open_bin(counts, state, bin_length_ns, t_ns)
        mask = np.int64(run.mask)
        x, y = np.int64(run.x), np.int64(run.y)
        while mask:
            if mask & 1:
                cell = lookup[y, x]
                if row < 0:
                    num_too_old += 1
                elif cell < 0:
                    num_out += 1
                elif counts[row, cell] == _MAX_COUNT:
                    num_saturated += 1
                else:
                    counts[row, cell] += 1
            mask >>= 1
            if is_vertical:
                y += 1
            else:
                x += 1
    state.num_too_old += num_too_old
    state.num_out_of_image += num_out
    state.num_saturated += num_saturated


@compiled
def _sum_window(counts, states, bin_length_ns, start_ns, end_ns, total):
    # type: ignore[no-untyped-def]
    state = states[0]
    if not state.is_started or end_ns <= start_ns:
        return
    num_bins = counts.shape[0]
    first = max(start_ns // bin_length_ns, state.newest_bin - num_bins + 1)
    last = min((end_ns - 1) // bin_length_ns, state.newest_bin)
    for time_bin in range(first, last + 1):
        inside_ns = min(end_ns, (time_bin + 1) * bin_length_ns) - max(
            start_ns, time_bin * bin_length_ns)
        weight = np.float32(inside_ns / bin_length_ns)
        row = time_bin % num_bins
        for cell in range(total.size):
            total[cell] += weight * counts[row, cell]
