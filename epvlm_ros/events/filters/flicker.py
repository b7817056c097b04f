"""Flicker: pixels that follow a light which goes on and off with the mains."""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters.event_filter import EventFilter
from epvlm_ros.events.packet.pixel_runs import first_pixel
import numpy as np

_TOLERANCE = 0.2  # of the period
_MAX_PERIODS = 2  # between two onsets: one may be missed
_MAX_SILENT_PERIODS = 4  # after more than that there is no rhythm left

# An onset in rhythm counts 1, another one as much as two of them; 5 make a flicker.
_OUT_OF_RHYTHM = 2
_MIN_SCORE = 5
_MAX_SCORE = 8

# All that is known of a pixel is packed in 32 bits, since most of the cost is that of memory:
# tick of the last onset << 8 | score << 1 | polarity of the last event. Ticks of 24 bits wrap, at
# 100 Hz after 37 minutes; a flickering pixel that was silent for just as long may lose an event.
_MIN_TICKS = 64  # of a period; a tick is a power of two of nanoseconds
_TICK_MASK = 0xFFFFFF
_NO_ONSET = 0x7F  # a score


class FlickerFilter(EventFilter):
    """
    Drops the events of pixels whose brightness rises once in every period of the flicker.

    A light on the mains gives every pixel that it lights a burst of brighter and one of darker
    events in each period. An onset is a brighter event after a darker one. A pixel flickers when
    onset after onset comes one or two periods after the last, give or take a fifth of a period;
    all its events are dropped until the rhythm breaks, those of an edge that passes in front of
    the light too. The anti-flicker filters of event sensors measure the period of each pixel, too;
    the alternative is a comb filter (Wang et al., "A Linear Comb Filter for Event Flicker
    Removal", ICRA 2022), which keeps a period of the past of every pixel.
    """

    name = 'flicker'

    def __init__(self, width: int, height: int, config: FilterConfig) -> None:
        super().__init__(width, height, config)
        period_ns = 1e9 / config.flicker_frequency
        self._tick_shift = int(period_ns / _MIN_TICKS).bit_length() - 1
        ticks = period_ns / (1 << self._tick_shift)
        self._period = round(ticks)
        self._tolerance = round(_TOLERANCE * ticks)
        self._forget()

    def reset(self) -> None:
        """Forget every rhythm."""
        self._pixels.fill(_NO_ONSET << 1)

    def _forget(self) -> None:
        self._pixels = np.zeros(self._num_lines * self._line_length, np.uint32)
        self.reset()

    def _apply(self, records: np.ndarray) -> int:
        return int(_drop_flicker(
            records, self._is_vertical, self._line_length, self._tick_shift, self._period,
            self._tolerance, self._pixels))


@compiled
def _drop_flicker(  # type: ignore[no-untyped-def]
    records, is_vertical, line_length, tick_shift, period, tolerance, pixels,
):
    num_dropped = 0
    longest = _MAX_PERIODS * period + tolerance
    for i in range(records.size):
        run = records[i]
        tick, is_brighter = run.t_ns >> tick_shift, run.polarity != 0
        mask = np.int64(run.mask)
        rest, bit, pixel = mask, 1, first_pixel(run, is_vertical, line_length)
        while rest:
            if rest & 1:
                state = np.int64(pixels[pixel])
                elapsed = tick - (state >> 8) & _TICK_MASK
                score = state >> 1 & 0x7F
                if not is_brighter:
                    pixels[pixel] = np.uint32(state & ~1)
                elif not state & 1:
                    score = _judge_onset(elapsed, score, period, tolerance)
                    pixels[pixel] = np.uint32((tick & _TICK_MASK) << 8 | score << 1 | 1)
                if _MIN_SCORE <= score <= _MAX_SCORE and elapsed <= longest:
                    mask ^= bit
                    num_dropped += 1
            rest >>= 1
            bit <<= 1
            pixel += 1
        if mask != run.mask:
            run.mask = mask
    return num_dropped


@compiled
def _judge_onset(elapsed, score, period, tolerance):  # type: ignore[no-untyped-def]
    """Return the score after an onset so long after the last one."""
    # A step back in time is a very long time, since ticks wrap.
    if score == _NO_ONSET or elapsed > _MAX_SILENT_PERIODS * period + tolerance:
        return 0
    for periods in range(1, _MAX_PERIODS + 1):
        if abs(elapsed - periods * period) <= tolerance:
            return min(score + 1, _MAX_SCORE)
    return max(score - _OUT_OF_RHYTHM, 0)
