"""Loops over the counts of a ring of time bins: runs and single events in, windows out."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.compiled import compiled, count_bits
from epvlm_ros.events.histogram.run_tables import LONGEST_RUN_PX
import numpy as np

NO_TIME_NS = -1 << 62  # earlier than any time
_MAX_COUNT = 65535

STATE_DTYPE = np.dtype([
    ('newest_bin', np.int64),  # time divided by the length of a bin
    ('first_open_bin', np.int64),  # events come too late for those before
    ('oldest_ns', np.int64),
    ('latest_ns', np.int64),
    ('is_started', np.bool_),
    ('num_too_old', np.int64),
    ('num_out_of_image', np.int64),
    ('num_saturated', np.int64),
    ('num_late', np.int64),
])


class BinRing(NamedTuple):
    """
    Arrays of a ring of time bins.

    ``counts`` is uint16 (num_bins, num_cells + some); what lies behind the cells stays zero.
    ``totals`` is int64 (num_bins,): all events in the image, saturated ones as well. ``states`` is
    of STATE_DTYPE, shape (1,).
    """

    counts: np.ndarray
    totals: np.ndarray
    states: np.ndarray
    bin_length_ns: int


class PixelCounter(NamedTuple):
    """
    Arrays that a loop over single events counts with.

    The cell of a pixel is ``line_cells[y] + position_cells[x]`` where ``lookup`` is empty, else
    ``lookup[y, x]``; all int32, negative outside the image.
    """

    ring: BinRing
    line_cells: np.ndarray
    position_cells: np.ndarray
    lookup: np.ndarray


@compiled
def _open_bin(ring, t_ns):  # type: ignore[no-untyped-def]
    """Return the row of the counts for a time, cleared if it is new, or -1 if it is too old."""
    state, num_bins = ring.states[0], ring.counts.shape[0]
    time_bin = t_ns // ring.bin_length_ns
    if time_bin < state.first_open_bin:
        state.num_late += 1
    if not state.is_started:
        state.is_started = True
        state.newest_bin = time_bin
        state.oldest_ns = t_ns
        state.latest_ns = t_ns
    elif time_bin > state.newest_bin:
        num_new = min(time_bin - state.newest_bin, num_bins)
        for fresh in range(time_bin - num_new + 1, time_bin + 1):
            ring.counts[fresh % num_bins, :] = 0
            ring.totals[fresh % num_bins] = 0
        state.newest_bin = time_bin
    state.latest_ns = max(state.latest_ns, t_ns)
    if time_bin <= state.newest_bin - num_bins:
        return -1
    state.oldest_ns = min(state.oldest_ns, t_ns)
    return time_bin % num_bins


@compiled
def advance(ring, t_ns):  # type: ignore[no-untyped-def]
    """Let time pass up to ``t_ns``; a past time changes nothing."""
    state = ring.states[0]
    if not state.is_started or t_ns > state.latest_ns:
        _open_bin(ring, t_ns)


@compiled
def leave_row(ring, row, num_events, t_ns):  # type: ignore[no-untyped-def]
    """Note the events that were counted in a row, and the time of the last of them."""
    if row >= 0:
        ring.totals[row] += num_events
        state = ring.states[0]
        state.latest_ns = max(state.latest_ns, t_ns)


@compiled
def change_row(ring, row, num_events, last_ns, t_ns):  # type: ignore[no-untyped-def]
    """Leave a row for that of ``t_ns``; return it (-1 if it is too old) and the end of its bin."""
    leave_row(ring, row, num_events, last_ns)
    row = _open_bin(ring, t_ns)
    return row, (t_ns // ring.bin_length_ns + 1) * ring.bin_length_ns


@compiled
def find_cell(counter, x, y):  # type: ignore[no-untyped-def]
    """Return the cell of a pixel of the sensor, negative outside the image."""
    if counter.lookup.size:
        return np.int64(counter.lookup[np.uint64(y), np.uint64(x)])
    return np.int64(counter.line_cells[np.uint64(y)]) + np.int64(
        counter.position_cells[np.uint64(x)])


@compiled
def count_event(counter, counts, row, cell):  # type: ignore[no-untyped-def]
    """Count one event in a row, of all ``counts``, unless it is too old or outside the image."""
    if row < 0 or cell < 0:
        state = counter.ring.states[0]
        if row < 0:
            state.num_too_old += 1
        else:
            state.num_out_of_image += 1
        return 0
    index = np.uint64(row * counter.ring.counts.shape[1] + cell)
    count = counts[index]
    if count == _MAX_COUNT:
        counter.ring.states[0].num_saturated += 1
    else:
        counts[index] = count + 1
    return 1


@compiled
def _split(mask, ends):  # type: ignore[no-untyped-def]
    """Return the number of events in the first cell of a run, and mask and ends of the rest."""
    bits = ends ^ (ends - np.uint64(1))
    return count_bits(mask & bits), mask & ~bits, ends & (ends - np.uint64(1))


@compiled
def _add(counts, index, number, state):  # type: ignore[no-untyped-def]
    count = np.int64(counts[index]) + np.int64(number)
    if count > _MAX_COUNT:
        state.num_saturated += count - _MAX_COUNT
        count = np.int64(_MAX_COUNT)
    counts[index] = count


@compiled
def _add_pair(counts, index, step, number_0, number_1, state):  # type: ignore[no-untyped-def]
    """Add to two cells, of which the second may lie behind the grid if nothing is added there."""
    count_0 = np.uint64(counts[index]) + number_0
    count_1 = np.uint64(counts[index + step]) + number_1
    if count_0 | count_1 > np.uint64(_MAX_COUNT):
        _add(counts, index, number_0, state)
        _add(counts, index + step, number_1, state)
    else:
        counts[index] = count_0
        counts[index + step] = count_1


@compiled
def _clip_to_image(mask, position, start, stop):  # type: ignore[no-untyped-def]
    """Clear the bits of a run on positions before ``start`` or from ``stop`` on."""
    one, longest = np.uint64(1), np.uint64(LONGEST_RUN_PX)
    mask &= ~((one << min(start - min(position, start), longest)) - one)
    return mask & ((one << min(stop - min(position, stop), longest)) - one)


@compiled
def add_separable(ring, records, is_vertical, table):  # type: ignore[no-untyped-def]
    """Count runs by a `SeparableTable`."""
    state = ring.states[0]
    counts, num_columns = ring.counts.reshape(-1), np.uint64(ring.counts.shape[1])
    start, stop, step = np.uint64(table.start), np.uint64(table.stop), np.uint64(table.step)
    # A run that starts at one of these ends in the image.
    num_safe = np.uint64(max(table.stop - table.start - LONGEST_RUN_PX + 1, 0))
    row, row_start, num_in_row = np.int64(-1), np.uint64(0), np.uint64(0)
    t_ns, end_ns = np.int64(NO_TIME_NS), np.int64(NO_TIME_NS)
    for i in range(records.size):
        run = records[i]
        previous_ns, t_ns = t_ns, run.t_ns
        if t_ns >= end_ns or t_ns < previous_ns:
            row, end_ns = change_row(ring, row, np.int64(num_in_row), previous_ns, t_ns)
            row_start, num_in_row = np.uint64(row) * num_columns, np.uint64(0)
        mask = np.uint64(run.mask)
        position = np.uint64(run.y if is_vertical else run.x)
        line_cell = np.int64(table.line_cells[np.uint64(run.x if is_vertical else run.y)])
        if position - start >= num_safe or line_cell < 0 or row < 0:
            num_events = count_bits(mask)
            if row < 0:
                state.num_too_old += np.int64(num_events)
                continue
            mask = _clip_to_image(mask, position, start, stop) if line_cell >= 0 else np.uint64(0)
            state.num_out_of_image += np.int64(num_events - count_bits(mask))
            if mask == np.uint64(0):
                continue
        num_in_row += count_bits(mask)
        first = table.positions[position]
        index = row_start + np.uint64(line_cell) + np.uint64(first.cell)
        # Two or four cells at once, whether there are events for all of them or not: to ask
        # would cost more, as the answer is not to be foreseen.
        ends = np.uint64(first.ends)
        number_0, mask, ends = _split(mask, ends)
        number_1, mask, ends = _split(mask, ends)
        _add_pair(counts, index, step, number_0, number_1, state)
        if table.cells_per_run > 2:
            number_0, mask, ends = _split(mask, ends)
            number_1, mask, ends = _split(mask, ends)
            index += step + step
            _add_pair(counts, index, step, number_0, number_1, state)
            while mask != np.uint64(0):
                number_0, mask, ends = _split(mask, ends)
                number_1, mask, ends = _split(mask, ends)
                index += step + step
                _add_pair(counts, index, step, number_0, number_1, state)
    leave_row(ring, row, np.int64(num_in_row), t_ns)


@compiled
def add_stretches(ring, records, is_vertical, table):  # type: ignore[no-untyped-def]
    """Count runs by a `StretchTable`."""
    state = ring.states[0]
    counts, num_columns = ring.counts.reshape(-1), np.uint64(ring.counts.shape[1])
    one, num_out = np.uint64(1), np.uint64(0)
    row, row_start, num_in_row = np.int64(-1), np.uint64(0), np.uint64(0)
    t_ns, end_ns = np.int64(NO_TIME_NS), np.int64(NO_TIME_NS)
    for i in range(records.size):
        run = records[i]
        previous_ns, t_ns = t_ns, run.t_ns
        if t_ns >= end_ns or t_ns < previous_ns:
            row, end_ns = change_row(ring, row, np.int64(num_in_row), previous_ns, t_ns)
            row_start, num_in_row = np.uint64(row) * num_columns, np.uint64(0)
        mask = np.uint64(run.mask)
        if row < 0:
            state.num_too_old += np.int64(count_bits(mask))
            continue
        position = np.uint64(run.y if is_vertical else run.x)
        block = table.blocks[np.uint64(run.x if is_vertical else run.y), position >> np.uint64(5)]
        offset = position & np.uint64(31)
        stretch = np.uint64(block.first) + count_bits(block.ends & ((one << offset) - one))
        ends = block.ends >> offset
        while mask != np.uint64(0):
            number, mask, ends = _split(mask, ends)
            cell = np.int64(table.cells[stretch])
            if cell < 0:
                num_out += number
            else:
                num_in_row += number
                _add(counts, row_start + np.uint64(cell), number, state)
            stretch += one
    state.num_out_of_image += np.int64(num_out)
    leave_row(ring, row, np.int64(num_in_row), t_ns)


@compiled
def sum_window(ring, start_ns, end_ns, total):  # type: ignore[no-untyped-def]
    """Add the counts of a window to ``total``, those of a bin that it cuts by their share."""
    state, num_bins, bin_length_ns = ring.states[0], ring.counts.shape[0], ring.bin_length_ns
    if not state.is_started or end_ns <= start_ns:
        return
    first = max(start_ns // bin_length_ns, state.newest_bin - num_bins + 1)
    last = min((end_ns - 1) // bin_length_ns, state.newest_bin)
    for time_bin in range(first, last + 1):
        inside_ns = min(end_ns, (time_bin + 1) * bin_length_ns) - max(
            start_ns, time_bin * bin_length_ns)
        weight = np.float32(inside_ns / bin_length_ns)
        row = time_bin % num_bins
        for cell in range(total.size):
            total[cell] += weight * ring.counts[row, cell]


@compiled
def count_back(  # type: ignore[no-untyped-def]
    ring, end_ns, earliest_ns, num_events, num_active_cells, is_active,
):
    """Return the latest start of a bin from which a window holds enough, or ``earliest_ns``."""
    state, num_bins, bin_length_ns = ring.states[0], ring.counts.shape[0], ring.bin_length_ns
    if not state.is_started or end_ns <= earliest_ns:
        return earliest_ns
    last = min((end_ns - 1) // bin_length_ns, state.newest_bin)
    first = max(-(-earliest_ns // bin_length_ns), state.newest_bin - num_bins + 1)
    total, num_active = 0.0, 0
    for time_bin in range(last, first - 1, -1):
        row = time_bin % num_bins
        inside_ns = min(end_ns - time_bin * bin_length_ns, bin_length_ns)
        total += ring.totals[row] * (inside_ns / bin_length_ns)
        if num_active < num_active_cells and ring.totals[row]:
            for cell in range(is_active.size):
                if ring.counts[row, cell] and not is_active[cell]:
                    is_active[cell] = True
                    num_active += 1
        if total >= num_events and num_active >= num_active_cells:
            return time_bin * bin_length_ns
    return earliest_ns
