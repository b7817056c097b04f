"""
mono (legacy): 64-bit words of time after ``time_base`` in ns, column, row and polarity.

Bits 0 to 31 are the time, 32 to 47 the column, 48 to 62 the row, 63 the polarity.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.histogram.bin_kernels import (
    advance, change_row, count_event, find_cell, leave_row, NO_TIME_NS, PixelCounter)
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
import numpy as np


class MonoDecoder(PacketDecoder):
    """Decoder of ``mono``; nothing is carried from packet to packet."""

    encoding = 'mono'
    _word_dtype = 'u8'
    _counts_pixels = True

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, time_base, runs, tally, None)

    def _count_words(self, words: np.ndarray, time_base: int, counter: PixelCounter) -> None:
        _parse_words(
            words, self.width, self.height, time_base, self._runs, self._tally, counter)

    def _skim(
        self, words: np.ndarray, time_base: int, triggers: np.ndarray, tally: np.ndarray,
    ) -> None:
        if words.size:
            for name, word in (('first', words[0]), ('last', words[-1])):
                tally[f'{name}_ns'] = time_base + (int(word) & 0xFFFFFFFF)
                tally[f'has_{name}'] = True


@compiled
def _parse_words(  # type: ignore[no-untyped-def]
    words, width, height, time_base, runs, tallies, counter,
):
    """Make a run of every event, or count it where there is a ``counter``."""
    tally = tallies[0]
    num_events, num_out = 0, 0
    last_ns = np.int64(0)
    # Of the events that are counted; unused where runs are made.
    row, num_in_row = np.int64(-1), 0
    counted_ns, end_ns = np.int64(NO_TIME_NS), np.int64(NO_TIME_NS)
    if counter is not None:
        counts = counter.ring.counts.reshape(-1)
    for i in range(words.size):
        t_ns = time_base + np.int64(words[i] & np.uint64(0xFFFFFFFF))
        address = np.int64(words[i] >> np.uint64(32))
        if not tally.has_first:
            tally.first_ns, tally.has_first, tally.has_last = t_ns, True, True
            if counter is not None:
                advance(counter.ring, t_ns)
        last_ns = t_ns
        x, y = address & 0xFFFF, address >> 16 & 0x7FFF
        if x < width and y < height:
            if counter is None:
                run = runs[num_events]
                run.t_ns, run.x, run.y, run.mask = t_ns, x, y, 1
                run.polarity = address >> 31 & 1
            else:
                if t_ns >= end_ns or t_ns < counted_ns:
                    row, end_ns = change_row(counter.ring, row, num_in_row, counted_ns, t_ns)
                    num_in_row = 0
                counted_ns = t_ns
                num_in_row += count_event(counter, counts, row, find_cell(counter, x, y))
            num_events += 1
        else:
            num_out += 1
    tally.last_ns = last_ns
    if counter is None:
        tally.num_runs = num_events
    else:
        leave_row(counter.ring, row, num_in_row, counted_ns)
    tally.num_events, tally.num_out_of_range = num_events, num_out
