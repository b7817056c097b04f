"""
Parser of evt3 and libcaer_cmp: 16-bit words with a code in the top 4 bits.

Both formats hold the address of a line of pixels (a row in evt3, a column in libcaer_cmp); words
then name one position on it, or a mask of 8 or 12 positions from a base that moves on by as many.
`make_meanings` makes the table of codes. Codes come in no order that a processor could predict,
and a wrong guess costs more than all the work on a word, so the loop has no branch between them:
every word goes through the same arithmetic with operands picked from the table by its code.
"""

from __future__ import annotations

from typing import Mapping

from epvlm_ros.compiled import compiled, count_bits
import numpy as np

UNKNOWN = 1 << 30  # an address that was not told yet; no vector advances from here to a real one
_WRAP_NS = (1 << 24) * 1000  # the 24 bits of time on the wire wrap after this
# TIME_HIGH sometimes steps back a little although the counter has not wrapped.
MAX_TIME_HIGH_NOISE = 10

STATE_DTYPE = np.dtype([
    ('epoch_ns', np.int64),  # what the time on the wire is added to
    ('time_high', np.int64),  # 12 bits, as on the wire
    ('time_low', np.int64),
    ('has_high', np.bool_),
    ('has_time', np.bool_),  # whether a complete time stamp was seen
    ('line', np.int64),
    ('base', np.int64),  # with the polarity of vectors, see _POLARITY_SHIFT
])

# An address in the loop has its polarity far above the position, which vectors add to.
_POLARITY_SHIFT = 52
_POSITION_BITS = (1 << 32) - 1

# What a word of one code contributes, as masks on its bits.
_MEANING_DTYPE = np.dtype([
    ('takes_line', np.uint64), ('takes_base', np.uint64), ('takes_position', np.uint64),
    ('takes_low', np.uint64), ('mask', np.uint64), ('single', np.uint64),
    ('advance', np.uint64),  # of the base
    ('kind', np.uint64),
])
# Kinds of words that are rare enough to branch for.
_TIME_HIGH, _TRIGGER, _UNKNOWN_WORD, _IGNORED = range(1, 5)

_ALL = (1 << 64) - 1
_MEANINGS = {
    'line': {'takes_line': _ALL},
    'single': {'single': 1, 'takes_position': _ALL},
    'base': {'takes_base': _ALL},
    'vector_12': {'mask': 0xFFF, 'advance': 12},
    'vector_8': {'mask': 0xFF, 'advance': 8},
    'time_low': {'takes_low': 0xFFF},
    'time_high': {'kind': _TIME_HIGH},
    'trigger': {'kind': _TRIGGER},
    'ignored': {'kind': _IGNORED},
}


def make_meanings(codes: Mapping[int, str]) -> np.ndarray:
    """
    Make the table of 16 records, one for each 4-bit code of a format.

    ``codes`` maps a code to 'line', 'single', 'base', 'vector_12', 'vector_8', 'time_low',
    'time_high', 'trigger' or 'ignored'. Other codes are counted as unknown.
    """
    table = np.zeros(16, _MEANING_DTYPE)
    table['kind'] = _UNKNOWN_WORD
    for code, meaning in codes.items():
        table[code]['kind'] = 0
        for name, value in _MEANINGS[meaning].items():
            table[code][name] = value
    return table


@compiled
def state_time_ns(state):  # type: ignore[no-untyped-def]
    """Return the time of an event that followed now."""
    return state.epoch_ns + (state.time_high << 12 | state.time_low) * 1000


@compiled
def advance_time_high(state, new, wraps):  # type: ignore[no-untyped-def]
    """Take a TIME_HIGH word into the state; the epoch moves on where the time ``wraps``."""
    if wraps and state.has_high:
        if state.time_high - new > MAX_TIME_HIGH_NOISE:
            state.epoch_ns += _WRAP_NS
        elif state.epoch_ns > 0 and new - state.time_high >= 4096 - MAX_TIME_HIGH_NOISE:
            # The same little step back, across the moment of the wrap.
            state.epoch_ns -= _WRAP_NS
    state.time_high, state.has_high = new, True


@compiled
def has_time_low(words, start, stop, meanings):  # type: ignore[no-untyped-def]
    """Return whether there is a TIME_LOW among some words, searched from their end."""
    for i in range(stop - 1, max(start, 0) - 1, -1):
        if meanings[words[i] >> 12].takes_low:
            return True
    return False


@compiled
def pack_base(word):  # type: ignore[no-untyped-def]
    """Return what the state keeps of a word that sets the base."""
    return np.int64(word & 0x7FF) | np.int64(word >> 11 & 1) << _POLARITY_SHIFT


@compiled
def limit_base(state):  # type: ignore[no-untyped-def]
    """Keep a known base known and an unknown one unknown, however many vectors come after it."""
    position = state.base & _POSITION_BITS
    if position >= UNKNOWN:
        state.base = UNKNOWN
    else:
        state.base = min(position, 1 << 16) | state.base & ~_POSITION_BITS


@compiled
def _choose(old, new, bits):  # type: ignore[no-untyped-def]
    """Return ``old`` with ``bits`` replaced by those of ``new``."""
    return old ^ ((old ^ new) & bits)


@compiled
def _clip_run(  # type: ignore[no-untyped-def]
        mask, position, line, length, num_lines, has_place, tally):
    """Return the bits of a run that lie on the sensor and count the others."""
    one, longest = np.uint64(1), np.uint64(16)
    num_events = count_bits(mask)
    if not has_place:
        tally.num_before_time += np.int64(num_events)
        return np.uint64(0)
    room = min(length - min(position, length), longest)
    mask = mask & ((one << room) - one) if line < num_lines else np.uint64(0)
    tally.num_out_of_range += np.int64(num_events - count_bits(mask))
    return mask


@compiled
def parse_vector_words(  # type: ignore[no-untyped-def]
    words, start, stop, meanings, is_vertical, wraps, num_lines, length, state, runs, triggers,
    tally,
):
    """
    Parse the words from ``start`` to ``stop`` into runs and triggers; return the last TIME_HIGH.

    ``tally.last_ns`` is noted up to that index, with the word before ``start`` as part of it.
    """
    one, no_bits = np.uint64(1), np.uint64(0)
    thousand, code_shift, low_bits = np.uint64(1000), np.uint64(12), np.uint64(_POSITION_BITS)
    length, unknown = np.uint64(length), np.uint64(UNKNOWN)
    # Before any time no line is on the sensor: those events take the branch that tells why.
    has_time = state.has_time
    known_lines = np.uint64(num_lines if has_time else 0)
    num_lines = np.uint64(num_lines)
    # A run that starts at one of these ends on the sensor.
    num_safe = length - min(length, np.uint64(11))
    high_ns = np.uint64(state.epoch_ns + (state.time_high << 12) * 1000)
    time_low, line, base = np.uint64(state.time_low), np.uint64(state.line), np.uint64(state.base)
    num_runs, num_events, high_index = np.uint64(tally.num_runs), no_bits, start - 2
    for i in range(start, stop):
        word = np.uint64(words[i])
        meaning = meanings[word >> code_shift]
        kind = meaning.kind
        if kind != no_bits:
            t_ns = np.int64(high_ns + time_low * thousand)
            if kind == np.uint64(_TIME_HIGH):
                advance_time_high(state, np.int64(word & np.uint64(0xFFF)), wraps)
                high_ns = np.uint64(state.epoch_ns + (state.time_high << 12) * 1000)
                if has_time and wraps:
                    if has_time_low(words, high_index + 1, i, meanings):
                        tally.last_ns, tally.has_last = t_ns, True
                    # In a silent scene nothing but TIME_HIGH says that time goes on.
                    if np.int64(high_ns) > t_ns:
                        tally.last_ns, tally.has_last = np.int64(high_ns), True
                high_index = i
            elif kind == np.uint64(_TRIGGER):
                if has_time:
                    trigger = triggers[tally.num_triggers]
                    trigger.t_ns = t_ns
                    trigger.edge = word & one
                    trigger.index = word >> np.uint64(8) & np.uint64(0xF)
                    tally.num_triggers += 1
                else:
                    tally.num_before_time += 1
            elif kind == np.uint64(_UNKNOWN_WORD):
                tally.num_unknown_words += 1
            continue
        time_low = _choose(time_low, word, meaning.takes_low)
        address = word & np.uint64(0x7FF)
        line = _choose(line, address, meaning.takes_line)
        address |= (word & np.uint64(0x800)) << np.uint64(_POLARITY_SHIFT - 11)
        base = _choose(base, address, meaning.takes_base)
        mask = word & meaning.mask | meaning.single
        address = _choose(base, address, meaning.takes_position)
        position = address & low_bits
        if position >= num_safe or line >= known_lines:
            has_place = has_time and line < unknown and position < unknown
            mask = _clip_run(mask, position, line, length, num_lines, has_place, tally)
        # Always written, and kept if there is an event in it.
        run = runs[num_runs]
        run.t_ns = np.int64(high_ns + time_low * thousand)
        run.x = line if is_vertical else position
        run.y = position if is_vertical else line
        run.mask = mask
        run.polarity = address >> np.uint64(_POLARITY_SHIFT)
        num_runs += np.uint64(mask != no_bits)
        num_events += count_bits(mask)
        base += meaning.advance
    state.time_low, state.line, state.base = np.int64(time_low), np.int64(line), np.int64(base)
    limit_base(state)
    tally.num_runs = np.int64(num_runs)
    tally.num_events += np.int64(num_events)
    return high_index
