"""Hot pixels: defective ones, which fire all the time whatever they see."""

from __future__ import annotations

from epvlm_ros.compiled import compiled, count_bits
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters.event_filter import EventFilter
from epvlm_ros.events.packet.pixel_runs import first_pixel
import numpy as np

_PERIOD_S = 0.25
_MIN_EVENTS = 25  # what is fewer in a period says nothing of a rate
_MAX_COUNT = 65535
_MAX_MIN_COUNT = 60000  # well below, so that it can be reached

# Of the 5 x 5 pixels around, so many more may be as active as that, as a share of the hot pixel:
# a small cluster of defects, but not a line through the square, which is an edge that moves.
_RADIUS = 2
_MAX_ACTIVE_NEIGHBOURS = 3
_ACTIVE_SHARE = 0.125
_RECOVERY_SHARE = 0.5  # of hot_pixel_rate, so that a pixel at the limit does not come and go

# Looking at all pixels takes a while: a packet of garbage, in which time jumps from word to word,
# must not make it happen each time. Packets are far shorter than a period.
_MAX_PERIODS_PER_PACKET = 4

_STATE_DTYPE = np.dtype([('is_started', np.bool_), ('start_ns', np.int64)])


class HotPixelFilter(EventFilter):
    """
    Drops the events of pixels that fire often while their neighbours are silent.

    Events are counted per pixel over periods of 0.25 s (longer for rates so low that 25 events
    take longer, shorter for rates beyond what is counted). At the end of each period a pixel of
    ``hot_pixel_rate`` or more is masked, unless more than 3 pixels of the 5 x 5 around it have an
    eighth of its events or more: then it sees something. A masked pixel is still counted, and is
    freed after a period with less than half of that rate. So a hot pixel is masked within two
    periods. Masking what fires most is common, as in the HotPixelFilter of jAER, in front of a
    still scene; comparing with the neighbours makes it work while something moves.
    """

    name = 'hot_pixels'

    def __init__(self, width: int, height: int, config: FilterConfig) -> None:
        super().__init__(width, height, config)
        rate = config.hot_pixel_rate
        period_s = min(max(_PERIOD_S, _MIN_EVENTS / rate), _MAX_MIN_COUNT / rate)
        self._period_ns = round(period_s * 1e9)
        self._min_count = rate * period_s
        self._state = np.zeros(1, _STATE_DTYPE)
        self._forget()

    @property
    def hot_pixels(self) -> np.ndarray:
        """Return where the masked pixels are, bool of shape (height, width), a copy."""
        words = self._hot.astype('<u4').view(np.uint8)
        bits = np.unpackbits(words, axis=1, bitorder='little')[:, :self._line_length]
        mask = bits.astype(np.bool_)
        return mask.T if self._is_vertical else mask

    def reset(self) -> None:
        """Begin a new period; masked pixels stay masked."""
        self._state['is_started'] = False  # the next run clears the counts

    def _forget(self) -> None:
        # 16 more, so that the last run needs no look at the edge of the sensor.
        self._counts = np.zeros(self._num_lines * self._line_length + 16, np.uint16)
        self._hot = np.zeros((self._num_lines, (self._line_length >> 5) + 2), np.uint32)
        self.reset()

    def _apply(self, records: np.ndarray) -> int:
        return int(_drop_hot(
            records, self._is_vertical, self._line_length, self._period_ns, self._min_count,
            self._state, self._counts, self._hot))


@compiled
def _drop_hot(  # type: ignore[no-untyped-def]
    records, is_vertical, line_length, period_ns, min_count, states, counts, hot,
):
    state = states[0]
    num_dropped, num_periods = 0, 0
    for i in range(records.size):
        run = records[i]
        elapsed_ns = run.t_ns - state.start_ns
        if not state.is_started or not -period_ns <= elapsed_ns < period_ns:
            if num_periods < _MAX_PERIODS_PER_PACKET:
                if state.is_started and elapsed_ns > 0:
                    _find_hot(counts, line_length, min_count, hot)
                state.is_started, state.start_ns = True, run.t_ns
                counts[:] = 0
                num_periods += 1
        mask = np.int64(run.mask)
        line = np.int64(run.x if is_vertical else run.y)
        start = np.int64(run.y if is_vertical else run.x)
        first = first_pixel(run, is_vertical, line_length)
        if mask == 1:
            counts[first] += counts[first] < _MAX_COUNT
        else:
            # Without a branch for each bit this becomes one or two wide additions.
            for bit in range(16):
                count = counts[first + bit]
                counts[first + bit] = count + np.uint16(
                    (mask >> bit & 1) & (count < _MAX_COUNT))
        word, shift = start >> 5, start & 31
        bits = np.int64(hot[line, word]) | np.int64(hot[line, word + 1]) << 32
        dropped = mask & bits >> shift
        if dropped:
            run.mask = mask ^ dropped
            num_dropped += count_bits(dropped)
    return num_dropped


@compiled
def _find_hot(counts, line_length, min_count, hot):  # type: ignore[no-untyped-def]
    """Mask the pixels that were hot in the period that ends, and let go those that recovered."""
    recovery = _RECOVERY_SHARE * min_count
    for line in range(hot.shape[0]):
        first = line * line_length
        for word in range(hot.shape[1]):
            hot_bits = hot[line, word]
            start = word << 5
            end = min(start + 32, line_length)
            for position in range(start, end):
                bit = np.uint32(1) << np.uint32(position - start)
                count = counts[first + position]
                if count < recovery:
                    hot_bits &= ~bit
                elif count >= min_count and _stands_out(
                        counts, hot.shape[0], line_length, line, position):
                    hot_bits |= bit
            hot[line, word] = hot_bits


@compiled
def _stands_out(counts, num_lines, line_length, line, position):  # type: ignore[no-untyped-def]
    """Tell whether the pixels around one are silent, in comparison with it."""
    active = _ACTIVE_SHARE * counts[line * line_length + position]
    num_active = -1  # less the pixel itself
    for other in range(max(line - _RADIUS, 0), min(line + _RADIUS + 1, num_lines)):
        first = other * line_length
        for near in range(max(position - _RADIUS, 0), min(position + _RADIUS + 1, line_length)):
            num_active += counts[first + near] >= active
    return num_active <= _MAX_ACTIVE_NEIGHBOURS
