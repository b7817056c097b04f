"""
libcaer: the polarity events of libcaer as they lie in memory, 8 bytes each.

A 32-bit word of address and polarity, then a signed 32-bit time stamp in microseconds after
the packet's ``time_base``.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.histogram.bin_kernels import (
    advance, change_row, count_event, find_cell, leave_row, PixelCounter)
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
import numpy as np

_WRAP_US = 1 << 31  # the time stamp wraps after this
_HALF_WRAP_US = 1 << 30  # a step back by more than this is a wrap, by less it is disorder


class LibcaerDecoder(PacketDecoder):
    """
    Decoder of ``libcaer``.

    Time stamps that wrap inside a packet are continued; afterwards the driver moves ``time_base``.
    Events marked as invalid, or with a negative time stamp, are dropped and counted.
    """

    encoding = 'libcaer'
    _word_dtype = 'u8'
    _number_dtype = 'u4'
    _counts_pixels = True

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, time_base, runs, tally)

    def _count_words(self, words: np.ndarray, time_base: int, counter: PixelCounter) -> None:
        _count_words(words, self.width, self.height, time_base, self._tally, counter)

    def _skim(
        self, words: np.ndarray, time_base: int, triggers: np.ndarray, tally: np.ndarray,
    ) -> None:
        _skim_words(words, time_base, tally)


@compiled
def _wrap(wrapped_us, last_us, stamp_us):  # type: ignore[no-untyped-def]
    """Return by how much the time stamps have wrapped after ``stamp_us`` followed ``last_us``."""
    if abs(stamp_us - last_us) > _HALF_WRAP_US:
        if stamp_us < last_us:
            return wrapped_us + _WRAP_US
        if wrapped_us:
            return wrapped_us - _WRAP_US  # disorder at the moment of the wrap
    return wrapped_us


@compiled
def _skim_words(words, time_base, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    wrapped_us, last_us = np.int64(0), np.int64(0)
    for i in range(words.size):
        stamp_us = np.int64(words[i] >> np.uint64(32))
        if words[i] & np.uint64(1) and stamp_us < _WRAP_US:
            wrapped_us = _wrap(wrapped_us, last_us, stamp_us)
            last_us = stamp_us
            if not tally.has_first:
                tally.first_ns = time_base + stamp_us * 1000
                tally.has_first, tally.has_last = True, True
    tally.last_ns = time_base + (wrapped_us + last_us) * 1000


@compiled
def _parse_words(words, width, height, time_base, runs, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    num_runs, num_out, num_invalid = 0, 0, 0
    wrapped_us, last_us = np.int64(0), np.int64(0)
    last_ns = np.int64(0)
    for i in range(words.size):
        data = np.int64(words[i] & np.uint64(0xFFFFFFFF))
        stamp_us = np.int64(words[i] >> np.uint64(32))
        if not data & 1 or stamp_us >= _WRAP_US:
            num_invalid += 1
            continue
        wrapped_us = _wrap(wrapped_us, last_us, stamp_us)
        last_us = stamp_us
        last_ns = time_base + (wrapped_us + stamp_us) * 1000
        if not tally.has_first:
            tally.first_ns, tally.has_first, tally.has_last = last_ns, True, True
        x, y = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF
        if x < width and y < height:
            run = runs[num_runs]
            run.t_ns, run.x, run.y, run.mask = last_ns, x, y, 1
            run.polarity = data >> 1 & 1
            num_runs += 1
        else:
            num_out += 1
    tally.last_ns = last_ns
    tally.num_runs, tally.num_events = num_runs, num_runs
    tally.num_out_of_range, tally.num_invalid = num_out, num_invalid


@compiled
def _stamps_of_bin(end_ns, length_ns, time_base, wrapped_us):  # type: ignore[no-untyped-def]
    """Return the first time stamp of a bin and how many there are, but for those that wrap."""
    zero_ns = time_base + wrapped_us * 1000
    first_us = max(-((zero_ns - (end_ns - length_ns)) // 1000), 0)
    stop_us = min(-((zero_ns - end_ns) // 1000), _WRAP_US)
    return np.int64(first_us), np.uint64(max(stop_us - first_us, 0))


@compiled
def _count_words(  # type: ignore[no-untyped-def]
        words, width, height, time_base, tallies, counter):
    """Do what `_parse_words` does, but count each event at once."""
    tally, ring = tallies[0], counter.ring
    counts = ring.counts.reshape(-1)
    num_out, num_invalid = 0, 0
    wrapped_us, last_us = np.int64(0), np.int64(0)
    # The bin of the last event: stamps in it need no further look at their time.
    row, num_before, latest_us = np.int64(-1), 0, np.int64(0)
    first_us, num_stamps = np.int64(0), np.uint64(0)
    num_in_image = 0
    for i in range(words.size):
        data = np.int64(words[i] & np.uint64(0xFFFFFFFF))
        stamp_us = np.int64(words[i] >> np.uint64(32))
        x, y = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF
        if not data & 1 or np.uint64(stamp_us - first_us) >= num_stamps:
            if not data & 1 or stamp_us >= _WRAP_US:
                num_invalid += 1
                continue
            latest_ns = time_base + (wrapped_us + latest_us) * 1000
            if abs(stamp_us - last_us) > _HALF_WRAP_US:
                leave_row(ring, row, num_in_image - num_before, latest_ns)
                num_before, row, num_stamps = num_in_image, np.int64(-1), np.uint64(0)
                wrapped_us = _wrap(wrapped_us, last_us, stamp_us)
            t_ns = time_base + (wrapped_us + stamp_us) * 1000
            if not tally.has_first:
                tally.first_ns, tally.has_first, tally.has_last = t_ns, True, True
                advance(ring, t_ns)
            if x < width and y < height:
                row, end_ns = change_row(
                    ring, row, num_in_image - num_before, latest_ns, t_ns)
                num_before, latest_us = num_in_image, stamp_us
                first_us, num_stamps = _stamps_of_bin(
                    end_ns, ring.bin_length_ns, time_base, wrapped_us)
        last_us = stamp_us
        if x < width and y < height:
            latest_us = max(latest_us, stamp_us)
            num_in_image += count_event(counter, counts, row, find_cell(counter, x, y))
        else:
            num_out += 1
    latest_ns = time_base + (wrapped_us + latest_us) * 1000
    leave_row(ring, row, num_in_image - num_before, latest_ns)
    tally.last_ns = time_base + (wrapped_us + last_us) * 1000
    tally.num_events = words.size - num_out - num_invalid
    tally.num_out_of_range, tally.num_invalid = num_out, num_invalid
