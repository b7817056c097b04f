"""
libcaer_cmp: 16-bit words that libcaer_driver makes of the events of iniVation sensors.

Like EVT3 with rows and columns exchanged: the column holds, vectors run down it. Nothing is
carried from packet to packet: time restarts at the packet's ``time_base``.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
from epvlm_ros.events.packet_codecs.vector_words import (
    make_meanings, parse_vector_words, STATE_DTYPE, state_time_ns, UNKNOWN)
import numpy as np

TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8, VECT_12 = range(7)

_MEANINGS = make_meanings({
    TIME_HIGH: 'time_high', TIME_LOW: 'time_low', ADDR_X: 'line', ADDR_Y: 'single',
    VECT_BASE_Y: 'base', VECT_8: 'vector_8', VECT_12: 'vector_12'})


class LibcaerCmpDecoder(PacketDecoder):
    """
    Decoder of ``libcaer_cmp``.

    Event time is ``time_base`` + 1000 x (TIME_HIGH, TIME_LOW), both 0 at the start of a packet.
    Events before the first column of the packet are dropped and counted.
    """

    encoding = 'libcaer_cmp'
    _word_dtype = 'u2'
    _is_vertical = True

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self._state = np.zeros(1, STATE_DTYPE)

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(
            words, _MEANINGS, self.width, self.height, time_base, self._state, runs, triggers,
            tally)

    def _skim(
        self, words: np.ndarray, time_base: int, triggers: np.ndarray, tally: np.ndarray,
    ) -> None:
        _skim_words(words, time_base, self._state, tally)


@compiled
def _start_packet(state, time_base):  # type: ignore[no-untyped-def]
    state.epoch_ns, state.time_high, state.time_low = time_base, 0, 0
    state.has_high, state.has_time = True, True
    state.line, state.base = UNKNOWN, UNKNOWN


@compiled
def _note_times(state, time_base, tally):  # type: ignore[no-untyped-def]
    tally.first_ns, tally.has_first = time_base, True
    tally.last_ns, tally.has_last = state_time_ns(state), True


@compiled
def _parse_words(  # type: ignore[no-untyped-def]
    words, meanings, width, height, time_base, states, runs, triggers, tallies,
):
    state, tally = states[0], tallies[0]
    _start_packet(state, time_base)
    parse_vector_words(
        words, 0, words.size, meanings, True, False, width, height, state, runs, triggers, tally)
    if words.size:
        _note_times(state, time_base, tally)


@compiled
def _skim_words(words, time_base, states, tallies):  # type: ignore[no-untyped-def]
    state = states[0]
    _start_packet(state, time_base)
    misses_high, misses_low = True, True
    i = words.size - 1
    while i >= 0 and (misses_high or misses_low):
        code = words[i] >> 12
        if code == TIME_HIGH and misses_high:
            state.time_high, misses_high = words[i] & 0xFFF, False
        elif code == TIME_LOW and misses_low:
            state.time_low, misses_low = words[i] & 0xFFF, False
        i -= 1
    if words.size:
        _note_times(state, time_base, tallies[0])
