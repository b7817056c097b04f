"""
EVT3: 16-bit words of Prophesee sensors, stateful from packet to packet.

The top 4 bits of a word are its code. Row, time and vector base hold until replaced. Sensor time
has 24 bits of microseconds on the wire and is unwrapped here; joining a stream in its middle gives
an arbitrary epoch within 16.78 s.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
from epvlm_ros.events.packet_codecs.vector_words import (
    advance_time_high, has_time_low, limit_base, make_meanings, pack_base, parse_vector_words,
    STATE_DTYPE, state_time_ns, UNKNOWN)
import numpy as np

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW = 0, 2, 3, 4, 5, 6
CONTINUED_4, TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED_12 = 7, 8, 10, 14, 15

_BLOCK_WORDS = 128  # searched at once in a skim

_MEANINGS = make_meanings({
    ADDR_Y: 'line', ADDR_X: 'single', VECT_BASE_X: 'base', VECT_12: 'vector_12',
    VECT_8: 'vector_8', TIME_LOW: 'time_low', TIME_HIGH: 'time_high', EXT_TRIGGER: 'trigger',
    CONTINUED_4: 'ignored', OTHERS: 'ignored', CONTINUED_12: 'ignored'})


class Evt3Decoder(PacketDecoder):
    """
    Decoder of ``evt3``; ``time_base`` of the packets is not used.

    Events before the first complete time stamp (TIME_HIGH, then TIME_LOW) or before the first row
    are dropped and counted.
    """

    encoding = 'evt3'
    _word_dtype = 'u2'
    _uses_time_base = False

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._state = np.zeros(1, STATE_DTYPE)
        self.reset()

    def reset(self) -> None:
        """Forget time, row and vector base; the next packet starts a new stream."""
        super().reset()
        self._state.fill(0)
        self._state['line'] = UNKNOWN
        self._state['base'] = UNKNOWN

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(
            words, _MEANINGS, self.width, self.height, self._state, runs, triggers, tally)

    def _skim(
        self, words: np.ndarray, time_base: int, triggers: np.ndarray, tally: np.ndarray,
    ) -> None:
        if self._state[0]['has_time']:
            _skim_words(words, self._state, triggers, tally)
        else:
            self._parse(words, time_base, self._runs, triggers, tally)


@compiled
def _find_time_low(words, has_high):  # type: ignore[no-untyped-def]
    """Return the index behind the first TIME_LOW that completes a time stamp, or 0."""
    for i in range(words.size):
        code = words[i] >> 12
        if code == TIME_HIGH:
            has_high = True
        elif code == TIME_LOW and has_high:
            return i + 1
    return 0


@compiled
def _parse_words(  # type: ignore[no-untyped-def]
    words, meanings, width, height, states, runs, triggers, tallies,
):
    state, tally = states[0], tallies[0]
    # In two parts: up to the first time stamp, which may be the first of the stream, and after.
    first = _find_time_low(words, state.has_high)
    high_index = parse_vector_words(
        words, 0, first if first else words.size, meanings, False, True, height, width, state,
        runs, triggers, tally)
    if not first:
        return
    state.has_time = True
    tally.first_ns, tally.has_first = state_time_ns(state), True
    high_index = max(high_index, parse_vector_words(
        words, first, words.size, meanings, False, True, height, width, state, runs, triggers,
        tally))
    if has_time_low(words, high_index + 1, words.size, meanings):
        tally.last_ns, tally.has_last = state_time_ns(state), True


@compiled
def _has_landmark(words, start, stop, time_high):  # type: ignore[no-untyped-def]
    """Return whether there is a trigger or a TIME_HIGH other than the latest among some words."""
    known = np.uint16(TIME_HIGH << 12 | time_high)
    found = False
    for i in range(start, stop):
        # Both codes are 0b1000 but for one bit.
        found |= (words[i] & np.uint16(0xD000)) == np.uint16(0x8000) and words[i] != known
    return found


@compiled
def _take_time_low(words, start, stop, state, tally):  # type: ignore[no-untyped-def]
    """Take the last TIME_LOW of some words without a TIME_HIGH into the state."""
    last = stop - 1
    while last >= start and words[last] >> 12 != TIME_LOW:
        last -= 1
    if last < start:
        return
    if not tally.has_first:
        first = start
        while words[first] >> 12 != TIME_LOW:
            first += 1
        state.time_low = words[first] & 0xFFF
        tally.first_ns, tally.has_first = state_time_ns(state), True
    state.time_low = words[last] & 0xFFF
    tally.last_ns, tally.has_last = state_time_ns(state), True


@compiled
def _take_addresses(words, state):  # type: ignore[no-untyped-def]
    """Take the last row and the last vector base, moved on by the vectors after it."""
    misses_line, advance = True, 0
    for i in range(words.size - 1, -1, -1):
        code = words[i] >> 12
        if code == ADDR_Y and misses_line:
            state.line, misses_line = words[i] & 0x7FF, False
        elif code == VECT_BASE_X:
            state.base = pack_base(words[i])
            while misses_line and i > 0:
                i -= 1
                if words[i] >> 12 == ADDR_Y:
                    state.line, misses_line = words[i] & 0x7FF, False
            break
        elif code == VECT_12:
            advance += 12
        elif code == VECT_8:
            advance += 8
    state.base += advance
    limit_base(state)


@compiled
def _skim_words(words, states, triggers, tallies):  # type: ignore[no-untyped-def]
    """
    Do to the state what `_parse_words` does, once it knows the time.

    Few words matter: those of TIME_HIGH, for which whole blocks are searched at once, and the
    last ones of the other kinds.
    """
    state, tally = states[0], tallies[0]
    done = 0
    for start in range(0, words.size, _BLOCK_WORDS):
        stop = min(start + _BLOCK_WORDS, words.size)
        if not _has_landmark(words, start, stop, state.time_high):
            continue
        for i in range(start, stop):
            code = words[i] >> 12
            if code != TIME_HIGH and code != EXT_TRIGGER:
                continue
            _take_time_low(words, done, i, state, tally)
            done = i + 1
            t_ns = state_time_ns(state)
            if code == TIME_HIGH:
                advance_time_high(state, np.int64(words[i] & 0xFFF), True)
                floor_ns = state.epoch_ns + (state.time_high << 12) * 1000
                if floor_ns > t_ns:
                    tally.last_ns, tally.has_last = floor_ns, True
            else:
                trigger = triggers[tally.num_triggers]
                trigger.t_ns, trigger.edge = t_ns, words[i] & 1
                trigger.index = words[i] >> 8 & 0xF
                tally.num_triggers += 1
    _take_time_low(words, done, words.size, state, tally)
    _take_addresses(words, state)
