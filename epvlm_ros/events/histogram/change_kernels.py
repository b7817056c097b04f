"""Loops of the change score: whole time bins summed, cells compared with the noise floor."""

from __future__ import annotations

from epvlm_ros.compiled import compiled
import numpy as np

BLOCK = 4  # cells along a side: enough events for a floor, few enough to place a change
# Standard deviations above the floor that chance reaches about once a minute somewhere, and what
# the long tail of small counts adds (Cornish and Fisher, for a Poisson count).
_SIGNIFICANCE = 5.5
_TAIL = (_SIGNIFICANCE ** 2 - 1.0) / 6.0


@compiled
def sum_bins(ring, first_bin, end_bin, sums):  # type: ignore[no-untyped-def]
    """
    Sum the counts of bins [first_bin, end_bin) into ``sums``; those not remembered are silent.

    ``sums`` is uint16 or float32 of shape (num_cells,). Returns whether they hold all events: a
    sum in uint16 may have wrapped around, or a count is saturated.
    """
    state, num_bins = ring.states[0], ring.counts.shape[0]
    first_bin = max(first_bin, state.newest_bin - num_bins + 1)
    end_bin = min(end_bin, state.newest_bin + 1)
    sums[:] = 0
    num_events, num_summed = np.int64(0), np.int64(0)
    # Four bins at once: the sums are read and written as often as the counts otherwise.
    for four in range(first_bin, end_bin - 3, 4):
        row_0, row_1 = four % num_bins, (four + 1) % num_bins
        row_2, row_3 = (four + 2) % num_bins, (four + 3) % num_bins
        in_four = (
            ring.totals[row_0] + ring.totals[row_1] + ring.totals[row_2] + ring.totals[row_3])
        if in_four:
            num_events += in_four
            for cell in range(sums.size):
                sums[cell] += (ring.counts[row_0, cell] + ring.counts[row_1, cell]
                               + ring.counts[row_2, cell] + ring.counts[row_3, cell])
    for time_bin in range(end_bin - max(end_bin - first_bin, 0) % 4, end_bin):
        row = time_bin % num_bins
        num_events += ring.totals[row]
        for cell in range(sums.size):
            sums[cell] += ring.counts[row, cell]
    for cell in range(sums.size):
        num_summed += np.int64(sums[cell])
    return num_summed == num_events


@compiled
def sum_blocks(counts, in_blocks):  # type: ignore[no-untyped-def]
    """Sum counts (rows, cols) in blocks of ``BLOCK`` x ``BLOCK`` cells."""
    rows, cols = counts.shape
    columns = np.zeros(in_blocks.shape[1] * BLOCK, np.float32)
    for block_row in range(in_blocks.shape[0]):
        columns[:] = 0.0
        for row in range(block_row * BLOCK, min((block_row + 1) * BLOCK, rows)):
            for col in range(cols):
                columns[col] += counts[row, col]
        for block_col in range(in_blocks.shape[1]):
            first = block_col * BLOCK
            in_block = 0.0
            for col in range(first, first + BLOCK):
                in_block += columns[col]
            in_blocks[block_row, block_col] = in_block


@compiled
def add_to(sums, values):  # type: ignore[no-untyped-def]
    """Add one array to another of the same size, both contiguous."""
    sums, values = sums.reshape(-1), values.reshape(-1)
    for index in range(sums.size):
        sums[index] += values[index]


@compiled
def find_excess(in_blocks, floors, length, num_learned, excess):  # type: ignore[no-untyped-def]
    """
    Find what blocks have in ``length`` intervals above floors that were learned over some.

    Returns whether any has.
    """
    found = False
    in_blocks, floors, excess = in_blocks.reshape(-1), floors.reshape(-1), excess.reshape(-1)
    uncertain = length / num_learned
    for block in range(excess.size):
        # of the count and of the floor, which is uncertain even where nothing came
        expected = floors[block] * length
        deviation = np.sqrt((expected + uncertain) * (1.0 + uncertain))
        above = in_blocks[block] - expected
        excess[block] = above if above > _SIGNIFICANCE * deviation + _TAIL else 0.0
        found |= excess[block] > 0.0
    return found


@compiled
def credit(counts, in_blocks, excess, totals):  # type: ignore[no-untyped-def]
    """Share the excess of each block among its cells, as their events are shared."""
    rows, cols = counts.shape
    shares = np.zeros(excess.shape[1] * BLOCK)  # of the columns in a row of blocks
    for block_row in range(excess.shape[0]):
        found = False
        for block_col in range(excess.shape[1]):
            share = 0.0
            if excess[block_row, block_col] > 0.0:
                share = excess[block_row, block_col] / in_blocks[block_row, block_col]
                found = True
            shares[block_col * BLOCK:(block_col + 1) * BLOCK] = share
        if not found:
            continue
        for row in range(block_row * BLOCK, min((block_row + 1) * BLOCK, rows)):
            for col in range(cols):
                totals[row, col] += counts[row, col] * shares[col]


@compiled
def learn_floor(in_blocks, excess, rate, largest, floors):  # type: ignore[no-untyped-def]
    """Move floors towards the counts of an interval, where nothing stands out."""
    in_blocks, floors, excess = in_blocks.reshape(-1), floors.reshape(-1), excess.reshape(-1)
    for block in range(floors.size):
        if excess[block] == 0.0:
            floors[block] += rate * (in_blocks[block] - floors[block])
        floors[block] = min(floors[block], largest)


@compiled
def read_scores(totals, scores):  # type: ignore[no-untyped-def]
    """Round totals down to ``scores``, uint16 of the same shape, modulo 65536."""
    totals, scores = totals.reshape(-1), scores.reshape(-1)
    for cell in range(scores.size):
        scores[cell] = np.int64(totals[cell]) & 0xFFFF
