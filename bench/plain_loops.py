"""Plain numba loops that visit every event and count it: what the decoders are compared with."""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet import EventPacket
import numpy as np


class PlainCounter:
    """
    Decodes packets and counts their events into a ring of time bins, one event after another.

    Counts and look-up table are those of `ActivityBins`; there are no counters of what was
    dropped, and no care for words that make no sense.
    """

    def __init__(
        self, encoding: str, lookup: np.ndarray, num_cells: int, num_bins: int,
        bin_length_ns: int,
    ) -> None:
        self.loop = _LOOPS[encoding]
        self.word_dtype = '<u2' if encoding in ('evt3', 'libcaer_cmp') else '<u8'
        self.lookup, self.bin_length_ns = lookup, bin_length_ns
        self.counts = np.zeros((num_bins, num_cells), np.uint16)
        self.state = np.zeros(8, np.int64)

    def reset(self) -> None:
        """Start a new stream."""
        self.counts.fill(0)
        self.state.fill(0)

    def add(self, packet: EventPacket) -> None:
        """Count all events of the next packet."""
        self.loop(
            packet.events.view(self.word_dtype), packet.time_base, self.lookup, self.counts,
            self.state, self.bin_length_ns)


@compiled
def _open_row(counts, newest, bin_length_ns, t_ns):  # type: ignore[no-untyped-def]
    """Return row, start and end of the bin of a time, and the newest bin so far."""
    time_bin = t_ns // bin_length_ns
    while newest < time_bin:
        newest += 1
        counts[newest % counts.shape[0], :] = 0
    row = time_bin % counts.shape[0] if newest - time_bin < counts.shape[0] else -1
    return row, time_bin * bin_length_ns, (time_bin + 1) * bin_length_ns, newest


@compiled
def _count(counts, row, cell):  # type: ignore[no-untyped-def]
    if row >= 0 and cell >= 0 and counts[row, cell] < 65535:
        counts[row, cell] += 1


@compiled
def _evt3(words, time_base, lookup, counts, state, bin_length_ns):  # type: ignore[no-untyped-def]
    height, width = lookup.shape
    high, low, y, base, newest, epoch_us = state[:6]
    t_ns = (epoch_us + (high << 12 | low)) * 1000
    row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, t_ns)
    for word in words:
        code = word >> 12
        if code == 2:
            x = word & 0x7FF
            if x < width and y < height:
                _count(counts, row, lookup[y, x])
        elif code == 4 or code == 5:
            mask, x = word & (0xFFF if code == 4 else 0xFF), base
            if y < height:
                while mask:
                    if mask & 1 and x < width:
                        _count(counts, row, lookup[y, x])
                    mask >>= 1
                    x += 1
            base += 12 if code == 4 else 8
        elif code == 0:
            y = np.int64(word & 0x7FF)
        elif code == 3:
            base = np.int64(word & 0x7FF)
        elif code == 6 or code == 8:
            if code == 6:
                low = np.int64(word & 0xFFF)
            else:
                new = np.int64(word & 0xFFF)
                if high - new > 10:
                    epoch_us += 1 << 24
                high = new
            t_ns = (epoch_us + (high << 12 | low)) * 1000
            if t_ns < start_ns or t_ns >= end_ns:
                row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, t_ns)
    state[0], state[1], state[2], state[3] = high, low, y, base
    state[4], state[5] = newest, epoch_us


@compiled
def _libcaer_cmp(  # type: ignore[no-untyped-def]
        words, time_base, lookup, counts, state, bin_length_ns):
    height, width = lookup.shape
    high, low, x, base, newest = 0, 0, 0, 0, state[4]
    row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, time_base)
    for word in words:
        code = word >> 12
        if code == 3:
            y = word & 0x7FF
            if x < width and y < height:
                _count(counts, row, lookup[y, x])
        elif code == 5 or code == 6:
            mask, y = word & (0xFFF if code == 6 else 0xFF), base
            if x < width:
                while mask:
                    if mask & 1 and y < height:
                        _count(counts, row, lookup[y, x])
                    mask >>= 1
                    y += 1
            base += 12 if code == 6 else 8
        elif code == 2:
            x = np.int64(word & 0x7FF)
        elif code == 4:
            base = np.int64(word & 0x7FF)
        elif code <= 1:
            if code == 1:
                low = np.int64(word & 0xFFF)
            else:
                high = np.int64(word & 0xFFF)
            t_ns = time_base + (high << 12 | low) * 1000
            if t_ns < start_ns or t_ns >= end_ns:
                row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, t_ns)
    state[4] = newest


@compiled
def _libcaer(  # type: ignore[no-untyped-def]
        words, time_base, lookup, counts, state, bin_length_ns):
    height, width = lookup.shape
    newest, wrapped_us, last_us = state[4], 0, 0
    row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, time_base)
    for word in words:
        data, stamp_us = np.int64(word & np.uint64(0xFFFFFFFF)), np.int64(word >> np.uint64(32))
        if data & 1 == 0:
            continue
        if last_us - stamp_us > 1 << 30:
            wrapped_us += 1 << 31
        last_us = stamp_us
        t_ns = time_base + (wrapped_us + stamp_us) * 1000
        if t_ns < start_ns or t_ns >= end_ns:
            row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, t_ns)
        x, y = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF
        if x < width and y < height:
            _count(counts, row, lookup[y, x])
    state[4] = newest


@compiled
def _mono(words, time_base, lookup, counts, state, bin_length_ns):  # type: ignore[no-untyped-def]
    height, width = lookup.shape
    newest = state[4]
    row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, time_base)
    for word in words:
        t_ns = time_base + np.int64(word & np.uint64(0xFFFFFFFF))
        if t_ns < start_ns or t_ns >= end_ns:
            row, start_ns, end_ns, newest = _open_row(counts, newest, bin_length_ns, t_ns)
        address = np.int64(word >> np.uint64(32))
        x, y = address & 0xFFFF, address >> 16 & 0x7FFF
        if x < width and y < height:
            _count(counts, row, lookup[y, x])
    state[4] = newest


_LOOPS = {'evt3': _evt3, 'libcaer_cmp': _libcaer_cmp, 'libcaer': _libcaer, 'mono': _mono}
