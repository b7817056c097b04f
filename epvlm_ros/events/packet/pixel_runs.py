"""
Pixel runs: every wire format is parsed into them, before events or counts are made.

A run is a time, a polarity, a first pixel and a mask of up to 16 neighbouring pixels in a row (for
libcaer_cmp: in a column), as in one word of the vector formats. Parsers clip the mask to the
sensor, so that later steps need no bounds checks.
"""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet.event_packet import Events, Triggers
import numpy as np

RUN_DTYPE = np.dtype([
    ('t_ns', np.int64),
    ('x', np.uint16),  # of bit 0 of the mask
    ('y', np.uint16),
    ('mask', np.uint16),  # bit i is the event at x + i, or at y + i if the runs are vertical
    ('polarity', np.uint8),
    ('unused', np.uint8),
])
TRIGGER_DTYPE = np.dtype([('t_ns', np.int64), ('edge', np.uint8), ('index', np.uint8)])

# What a parser says about one packet; a number of events or words, unless a comment says more.
TALLY_DTYPE = np.dtype([
    ('num_runs', np.int64),
    ('num_triggers', np.int64),
    ('num_events', np.int64),
    ('num_unknown_words', np.int64),
    ('num_out_of_range', np.int64),
    ('num_invalid', np.int64),
    ('num_before_time', np.int64),
    ('first_ns', np.int64),
    ('last_ns', np.int64),
    ('has_first', np.bool_),  # whether first_ns is set
    ('has_last', np.bool_),
])


class PixelRuns(NamedTuple):
    """
    Runs of one packet: ``records`` of RUN_DTYPE, shape (num_runs,).

    ``num_events`` is the number of bits in all masks, as parsed.
    """

    records: np.ndarray
    num_events: int
    is_vertical: bool


def runs_to_events(runs: PixelRuns) -> Events:
    """Return one event for every set bit, in stream order, lowest bit first."""
    events = Events(
        x=np.empty(runs.num_events, np.uint16), y=np.empty(runs.num_events, np.uint16),
        polarity=np.empty(runs.num_events, np.uint8), t_ns=np.empty(runs.num_events, np.int64))
    _fill_events(runs.records, runs.is_vertical, events.x, events.y, events.polarity, events.t_ns)
    return events


def records_to_triggers(records: np.ndarray) -> Triggers:
    """Copy trigger records, of TRIGGER_DTYPE, into arrays of their own."""
    return Triggers(
        t_ns=records['t_ns'].copy(), edge=records['edge'].copy(), index=records['index'].copy())


@compiled
def first_pixel(run, is_vertical, line_length):  # type: ignore[no-untyped-def]
    """Return the index of the first pixel of a run, counted line by line along the runs."""
    if is_vertical:
        return np.int64(run.x) * line_length + np.int64(run.y)
    return np.int64(run.y) * line_length + np.int64(run.x)


@compiled
def _fill_events(records, is_vertical, x, y, polarity, t_ns):  # type: ignore[no-untyped-def]
    num_events = 0
    for i in range(records.size):
        run = records[i]
        mask = np.int64(run.mask)
        offset = 0
        while mask:
            if mask & 1 and num_events < x.size:
                x[num_events] = run.x if is_vertical else run.x + offset
                y[num_events] = run.y + offset if is_vertical else run.y
                polarity[num_events] = run.polarity
                t_ns[num_events] = run.t_ns
                num_events += 1
            mask >>= 1
            offset += 1
