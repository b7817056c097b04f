"""
EVT3: 16-bit words of Prophesee sensors, stateful from packet to packet.

The code of a word is in its top 4 bits; a pixel's row, the time and the base of a vector hold
until they are replaced. Sensor time has 24 bits of microseconds on the wire and is unwrapped
here; a stream joined in its middle has an arbitrary epoch within 16.78 s.
"""

from __future__ import annotations

from epvlm_ros.core.compiled import compiled
from epvlm_ros.core.packets.decoder import PacketDecoder
from epvlm_ros.core.packets.runs import clip_mask, count_bits
import numpy as np

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW = 0, 2, 3, 4, 5, 6
CONTINUED_4, TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED_12 = 7, 8, 10, 14, 15

# TIME_HIGH sometimes steps back a little although the counter has not wrapped.
MAX_TIME_HIGH_NOISE = 10
_EPOCH_US = 1 << 24  # the time on the wire wraps after this
_UNKNOWN = -1 << 40  # no vector advances from here to a real column

_STATE_DTYPE = np.dtype([
    ('epoch_us', np.int64),  # whole wraps of the time so far
    ('time_high', np.int64),  # 12 bits, as on the wire
    ('time_low', np.int64),
    ('has_high', np.bool_),
    ('has_time', np.bool_),  # whether a complete time stamp was seen
    ('y', np.int64),
    ('base_x', np.int64),
    ('polarity', np.int64),  # of vectors
])


class Evt3Decoder(PacketDecoder):
    """
    Decoder of ``evt3``.

    Events before the first complete time stamp (TIME_HIGH, then TIME_LOW) or before the first
    row are dropped and counted. ``time_base`` of the packets is not used.
    """

    encoding = 'evt3'
    _word_dtype = 'u2'
    _uses_time_base = False

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._state = np.zeros(1, _STATE_DTYPE)
        self.reset()

    def reset(self) -> None:
        """Forget time, row and vector base; the next packet starts a new stream."""
        super().reset()
        self._state.fill(0)
        self._state['y'] = _UNKNOWN
        self._state['base_x'] = _UNKNOWN

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, self._state, runs, triggers, tally)


@compiled
def _update_time_high(epoch_us, last, new):  # type: ignore[no-untyped-def]
    """Return the epoch after TIME_HIGH went from ``last`` to ``new``."""
    if last - new > MAX_TIME_HIGH_NOISE:
        return epoch_us + _EPOCH_US
    # The same little step back, across the moment of the wrap.
    if epoch_us > 0 and new - last >= 4096 - MAX_TIME_HIGH_NOISE:
        return epoch_us - _EPOCH_US
    return epoch_us


@compiled
def _parse_words(  # type: ignore[no-untyped-def]
    words, width, height, states, runs, triggers, tallies,
):
    state, tally = states[0], tallies[0]
    epoch_us, time_high, time_low = state.epoch_us, state.time_high, state.time_low
    has_high, has_time = state.has_high, state.has_time
    y, base_x, polarity = state.y, state.base_x, state.polarity
    t_ns = (epoch_us + (time_high << 12 | time_low)) * 1000
    num_runs, num_triggers, num_events, num_out, num_before, num_unknown = 0, 0, 0, 0, 0, 0
    for i in range(words.size):
        word = np.int64(words[i])
        code = word >> 12
        if code == ADDR_X:
            x = word & 0x7FF
            if not has_time or y < 0:
                num_before += 1
            elif x < width and y < height:
                run = runs[num_runs]
                run.t_ns, run.x, run.y, run.mask = t_ns, x, y, 1
                run.polarity = word >> 11 & 1
                num_runs += 1
                num_events += 1
            else:
                num_out += 1
        elif code == TIME_LOW:
            time_low = word & 0xFFF
            has_time = has_high
            if has_time:
                t_ns = (epoch_us + (time_high << 12 | time_low)) * 1000
                if not tally.has_first:
                    tally.first_ns, tally.has_first = t_ns, True
                tally.last_ns, tally.has_last = t_ns, True
        elif code == ADDR_Y:
            y = word & 0x7FF
        elif code == TIME_HIGH:
            new = word & 0xFFF
            if has_high:
                epoch_us = _update_time_high(epoch_us, time_high, new)
            time_high, has_high = new, True
            if has_time:
                # In a silent scene nothing but TIME_HIGH says that time goes on.
                floor_ns = (epoch_us + (time_high << 12)) * 1000
                if floor_ns > t_ns:
                    tally.last_ns, tally.has_last = floor_ns, True
                t_ns = floor_ns + time_low * 1000
        elif code == VECT_12 or code == VECT_8:
            mask = word & (0xFFF if code == VECT_12 else 0xFF)
            count = count_bits(mask)
            if not has_time or y < 0 or base_x < 0:
                num_before += count
            else:
                kept = clip_mask(mask, base_x, width) if y < height else 0
                if kept:
                    run = runs[num_runs]
                    run.t_ns, run.x, run.y, run.mask = t_ns, base_x, y, kept
                    run.polarity = polarity
                    num_runs += 1
                num_kept = count_bits(kept)
                num_events += num_kept
                num_out += count - num_kept
            base_x += 12 if code == VECT_12 else 8
        elif code == VECT_BASE_X:
            base_x, polarity = word & 0x7FF, word >> 11 & 1
        elif code == EXT_TRIGGER:
            if has_time:
                trigger = triggers[num_triggers]
                trigger.t_ns, trigger.edge, trigger.index = t_ns, word & 1, word >> 8 & 0xF
                num_triggers += 1
            else:
                num_before += 1
        elif code != OTHERS and code != CONTINUED_4 and code != CONTINUED_12:
            num_unknown += 1
    state.epoch_us, state.time_high, state.time_low = epoch_us, time_high, time_low
    state.has_high, state.has_time = has_high, has_time
    state.y, state.base_x, state.polarity = y, base_x, polarity
    tally.num_runs, tally.num_triggers, tally.num_events = num_runs, num_triggers, num_events
    tally.num_out_of_range, tally.num_before_time = num_out, num_before
    tally.num_unknown_words = num_unknown
