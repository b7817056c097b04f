"""Encoding of events into EVT3 words, the inverse of ``Evt3Decoder``."""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet.event_packet import Events
from epvlm_ros.events.packet_codecs.evt3 import (
    ADDR_X, ADDR_Y, TIME_HIGH, TIME_LOW, VECT_12, VECT_8, VECT_BASE_X)
import numpy as np

_MAX_ADDRESS = 0x7FF
# A decoder can tell a wrap of the time only if it hears of the time more often than once a wrap.
_MAX_SILENCE_US = 1 << 23
_MIN_VECTOR_EVENTS = 3  # two words for a vector, so fewer events are cheaper one by one


def encode_evt3(events: Events, *, start_ns: int | None = None) -> np.ndarray:
    """
    Write one EVT3 packet, which starts with a complete time stamp.

    Neighbouring events of equal time, row and polarity become vector words. A decoder that gets
    all packets in order returns the same events, with times cut to microseconds, as long as
    packets are at most 8 s of sensor time apart.

    Parameters
    ----------
    events : Events
        In order of time, may be empty; ``x`` and ``y`` below 2048. Not changed.
    start_ns : int, optional
        Sensor time of the first time stamp, in ns, not after the first event; default: that event.

    Returns
    -------
    numpy.ndarray
        The payload, uint8 of shape (num_bytes,).

    Raises
    ------
    ValueError
            If there is neither an event nor a start, times are negative or fall, or a value does
        not fit.

    """
    t_us = np.asarray(events.t_ns, np.int64) // 1000
    start_us = _check_start(t_us, start_ns)
    x, y, polarity = (np.asarray(events.x), np.asarray(events.y), np.asarray(events.polarity))
    _check_addresses(x, y, polarity, t_us.size)
    span_us = int(t_us[-1]) - start_us if t_us.size else 0
    words = np.empty(2 + 4 * t_us.size + span_us // _MAX_SILENCE_US + 1, np.uint16)
    num_words = _write_words(
        x.astype(np.int64), y.astype(np.int64), polarity.astype(np.int64), t_us, start_us, words)
    return words[:num_words].astype('<u2').view(np.uint8)


def _check_start(t_us: np.ndarray, start_ns: int | None) -> int:
    if t_us.size == 0 and start_ns is None:
        raise ValueError('a packet without events has no time: give start_ns')
    start_us = int(t_us[0]) if start_ns is None else start_ns // 1000
    if start_us < 0:
        raise ValueError(f'the packet starts at {start_us} us: give a time of 0 or more')
    if t_us.size and (t_us[0] < start_us or np.any(np.diff(t_us) < 0)):
        raise ValueError(
            'event times fall, or lie before start_ns: sort the events by time, start first')
    return start_us


def _check_addresses(x: np.ndarray, y: np.ndarray, polarity: np.ndarray, num_events: int) -> None:
    for name, values, maximum in (
            ('x', x, _MAX_ADDRESS), ('y', y, _MAX_ADDRESS), ('polarity', polarity, 1)):
        if values.shape != (num_events,):
            raise ValueError(
                f'{name} has shape {values.shape} for {num_events} times: give equal lengths')
        if num_events and (values.min() < 0 or values.max() > maximum):
            raise ValueError(
                f'{name} is {values.min()} to {values.max()}: evt3 takes 0 to {maximum}')


@compiled
def _count_vector(x, y, polarity, t_us, first, base):  # type: ignore[no-untyped-def]
    """Return how many events from ``first`` on fit a vector of 12 pixels that starts at base."""
    i = first
    while (i < x.size and t_us[i] == t_us[first] and y[i] == y[first]
           and polarity[i] == polarity[first] and base <= x[i] < base + 12
           and (i == first or x[i] > x[i - 1])):
        i += 1
    return i - first


@compiled
def _write_words(x, y, polarity, t_us, start_us, words):  # type: ignore[no-untyped-def]
    now_us = start_us
    words[0] = TIME_HIGH << 12 | now_us >> 12 & 0xFFF
    words[1] = TIME_LOW << 12 | now_us & 0xFFF
    num_words = 2
    row, base, base_polarity = -1, -1, -1
    i = 0
    while i < x.size:
        while t_us[i] != now_us:
            next_us = min(t_us[i], now_us + _MAX_SILENCE_US)
            if next_us >> 12 != now_us >> 12:
                words[num_words] = TIME_HIGH << 12 | next_us >> 12 & 0xFFF
                num_words += 1
            now_us = next_us
            if now_us == t_us[i]:
                words[num_words] = TIME_LOW << 12 | now_us & 0xFFF
                num_words += 1
        if y[i] != row:
            row = y[i]
            words[num_words] = ADDR_Y << 12 | row
            num_words += 1
        # A vector goes on where the last one ended, if that costs no new base.
        goes_on = base >= 0 and base <= x[i] < base + 12 and polarity[i] == base_polarity
        count = _count_vector(x, y, polarity, t_us, i, base if goes_on else x[i])
        if not goes_on and count < _MIN_VECTOR_EVENTS:
            words[num_words] = ADDR_X << 12 | polarity[i] << 11 | x[i]
            num_words += 1
            i += 1
            continue
        if not goes_on:
            base, base_polarity = x[i], polarity[i]
            words[num_words] = VECT_BASE_X << 12 | base_polarity << 11 | base
            num_words += 1
        mask = 0
        for j in range(i, i + count):
            mask |= 1 << (x[j] - base)
        is_short = mask < 256
        words[num_words] = (VECT_8 if is_short else VECT_12) << 12 | mask
        num_words += 1
        base += 8 if is_short else 12
        i += count
    return num_words
