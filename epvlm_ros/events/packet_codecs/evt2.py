"""
evt2 and evt21: words of Prophesee sensors, stateful from packet to packet.

A word of evt2 has 32 bits: the code in bits 28 to 31, and for an event (0 off, 1 on) the low 6
bits of its time at 22, the column at 11 and the row at 0, 11 bits each. Code 8 has the upper 28
bits of the time in us, code 10 is a trigger with its input at 8 and its edge at 0; others are
skipped. A word of evt21 has 64 bits: the upper half is a word of evt2, the lower half has a bit
for each of 32 neighbouring pixels (https://docs.prophesee.ai, data encoding formats). Time wraps
after 4.8 hours, which is undone here.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
import numpy as np

_TIME_HIGH, _EXT_TRIGGER, _OTHERS, _CONTINUED = 8, 10, 14, 15
_HIGH_VALUES = 1 << 28
_RUN_PIXELS = 16
_STATE_DTYPE = np.dtype([('high', np.int64), ('time_us', np.int64)])  # -1 before the first time
_STEP_US = 1 << 6  # of the upper part


class Evt2Decoder(PacketDecoder):
    """
    Decoder of ``evt2``; ``time_base`` of the packets is not used.

    Events before the first upper part of the time are dropped and counted.
    """

    encoding = 'evt2'
    _word_dtype = 'u4'
    _uses_time_base = False

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._state = np.empty(1, _STATE_DTYPE)
        self.reset()

    def reset(self) -> None:
        """Forget the time; the next packet starts a new stream."""
        super().reset()
        self._state['high'] = self._state['time_us'] = -1

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, self._state, runs, triggers, tally)


class Evt21Decoder(Evt2Decoder):
    """Decoder of ``evt21``, up to 32 events a word."""

    encoding = 'evt21'
    _word_dtype = 'u8'
    _runs_per_word = 2


@compiled
def _advance(state, value):  # type: ignore[no-untyped-def]
    """Take the upper part of a time, which wraps where it steps back by more than half."""
    if state.high < 0:
        state.high = value
    else:
        step = value - state.high % _HIGH_VALUES
        if step < -_HIGH_VALUES // 2:
            step += _HIGH_VALUES
        elif step > _HIGH_VALUES // 2 and state.high >= _HIGH_VALUES:
            step -= _HIGH_VALUES
        state.high += step
    # The part is sent again and again: later events have been seen.
    state.time_us = max(state.time_us, state.high * _STEP_US)


@compiled
def _add_runs(  # type: ignore[no-untyped-def]
    pixels, x, y, polarity, t_ns, width, height, runs, tally,
):
    """Add the runs of up to 32 pixels, clipped to the sensor."""
    for first in range(0, 32, _RUN_PIXELS):
        mask = pixels >> first & 0xFFFF
        inside = 0
        for bit in range(_RUN_PIXELS):
            if mask >> bit & 1:
                if y < height and x + first + bit < width:
                    inside |= 1 << bit
                    tally.num_events += 1
                else:
                    tally.num_out_of_range += 1
        if inside:
            run = runs[tally.num_runs]
            run.t_ns, run.x, run.y, run.mask, run.polarity = t_ns, x + first, y, inside, polarity
            tally.num_runs += 1


@compiled
def _parse_words(  # type: ignore[no-untyped-def]
    words, width, height, states, runs, triggers, tallies,
):
    state, tally = states[0], tallies[0]
    has_mask = words.itemsize == 8
    for i in range(words.size):
        word, mask = np.int64(words[i]), np.int64(1)
        if has_mask:
            word, mask = word >> 32 & 0xFFFFFFFF, word & 0xFFFFFFFF
        code = word >> 28
        if code == _TIME_HIGH:
            _advance(state, word & (_HIGH_VALUES - 1))
        elif code <= 1 or code == _EXT_TRIGGER:
            if state.high < 0:
                tally.num_before_time += 1
                continue
            state.time_us = state.high * _STEP_US + (word >> 22 & (_STEP_US - 1))
            if code <= 1:
                _add_runs(mask, word >> 11 & 0x7FF, word & 0x7FF, code, state.time_us * 1000,
                          width, height, runs, tally)
            else:
                trigger = triggers[tally.num_triggers]
                trigger.t_ns, trigger.edge = state.time_us * 1000, word & 1
                trigger.index = word >> 8 & 0x1F
                tally.num_triggers += 1
        else:
            if code != _OTHERS and code != _CONTINUED:
                tally.num_unknown_words += 1
            continue
        if not tally.has_first:
            tally.first_ns, tally.has_first = state.time_us * 1000, True
        tally.last_ns, tally.has_last = state.time_us * 1000, True
