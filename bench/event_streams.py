"""Synthetic streams of event packets for the benchmarks, a few ms a packet, seeded."""

from __future__ import annotations

from epvlm_ros.events.packet import EventPacket
import numpy as np

STREAMS = {  # the encoding of each stream
    'evt3 mixed': 'evt3', 'evt3 rows': 'evt3', 'libcaer_cmp mixed': 'libcaer_cmp',
    'libcaer_cmp columns': 'libcaer_cmp', 'libcaer': 'libcaer', 'mono': 'mono'}
PACKET_US = 4000
WORDS_PER_PACKET = 30_000

# Codes of what words mean: line, single event, base, vectors of 12 and of 8, time low and high.
_CODES = {'evt3': (0, 2, 3, 4, 5, 6, 8), 'libcaer_cmp': (2, 3, 4, 6, 5, 1, 0)}
_MIX = (0.15, 0.38, 0.10, 0.14, 0.08, 0.15)  # of a random mix of words, but for TIME_HIGH
_DENSITIES = (0.3, 0.5, 0.7, 0.9)  # of the events in a line of vectors


def make_packets(
    stream: str, sensor_size: tuple[int, int], num_packets: int, seed: int = 0,
) -> list[EventPacket]:
    """
    Make packets of one of ``STREAMS``.

    'mixed' is a random mix of words (38% single events, 22% vectors, the rest times, lines and
    bases), all anywhere on the sensor; 'rows' and 'columns' are lines of 6 to 30 vectors; the
    other formats have events anywhere.

    Parameters
    ----------
    stream : str
        One of ``STREAMS``.
    sensor_size : tuple of int
        Height and width, in pixels; at least 100.
    num_packets : int
        Number of packets, of 4 ms each.
    seed : int
        Of the random numbers.

    """
    random = np.random.default_rng(seed)
    encoding = STREAMS[stream]
    height, width = sensor_size
    packets = []
    for seq in range(num_packets):
        start_us = seq * PACKET_US
        time_base = 0 if encoding == 'evt3' else start_us * 1000
        if encoding in _CODES:
            num_lines, length = (height, width) if encoding == 'evt3' else (width, height)
            make = _mixed_words if stream.endswith('mixed') else _line_words
            words = make(random, num_lines, length)
            if encoding == 'libcaer_cmp':
                start_us = 0
            payload = _with_times(random, *words, start_us, _CODES[encoding])
        else:
            payload = _single_events(random, encoding, height, width)
        packets.append(EventPacket(
            start_us * 1000, width, height, seq, time_base, encoding, payload.view(np.uint8)))
    return packets


def _mixed_words(
    random: np.random.Generator, num_lines: int, length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return meanings (0 to 5, as in ``_MIX``) and values of random words."""
    meanings = random.choice(6, WORDS_PER_PACKET, p=_MIX)
    meanings[:3] = 5, 0, 2  # no event before the first time, line and base
    polarity = random.integers(0, 2, meanings.size) << 11
    values = np.select(
        [meanings == 0, meanings == 1, meanings == 2],
        [random.integers(0, num_lines, meanings.size),
         polarity | random.integers(0, length, meanings.size),
         polarity | random.integers(0, _rooms(meanings, length))],
        random.integers(0, 4096, meanings.size))
    return meanings, np.where(meanings == 4, values & 0xFF, values)


def _rooms(meanings: np.ndarray, length: int) -> np.ndarray:
    """Return from how many positions the vectors behind each base stay on the sensor."""
    advances = np.cumsum(np.select([meanings == 3, meanings == 4], [12, 8], 0))
    at_bases = np.append(np.flatnonzero(meanings == 2), meanings.size - 1)
    rooms = np.full(meanings.size, 1)
    rooms[at_bases[:-1]] = np.maximum(length - np.diff(advances[at_bases]), 1)
    return rooms


def _line_words(
    random: np.random.Generator, num_lines: int, length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return meanings and values of lines of vectors, a time before each line."""
    meanings, values, num_words = [], [], 0
    while num_words < WORDS_PER_PACKET:
        num_vectors = min(int(random.integers(6, 31)), length // 12)
        kinds = np.resize([3, 3, 4], num_vectors)  # 12, 12 and 8 make 32 pixels
        bits = random.random((num_vectors, 12)) < random.choice(_DENSITIES)
        masks = bits @ (1 << np.arange(12)) & np.where(kinds == 4, 0xFF, 0xFFF)
        base = int(random.integers(0, length - 12 * num_vectors + 1))
        meanings.append(np.concatenate([[5, 0, 2], kinds]))
        values.append(np.concatenate([
            [0, random.integers(0, num_lines), random.integers(0, 2) << 11 | base], masks]))
        num_words += num_vectors + 3
    return np.concatenate(meanings), np.concatenate(values)


def _with_times(
    random: np.random.Generator, meanings: np.ndarray, values: np.ndarray, start_us: int,
    codes: tuple[int, ...],
) -> np.ndarray:
    """Encode words, with rising times in the time words and TIME_HIGH where it changes."""
    at = np.flatnonzero(meanings == 5)
    times = start_us + np.sort(random.integers(0, PACKET_US, at.size))
    words = np.array(codes)[meanings] << 12 | values
    words[at] = codes[5] << 12 | times & 0xFFF
    highs = times >> 12
    changes = np.flatnonzero(np.diff(highs, prepend=-1))
    words = np.insert(words, at[changes], codes[6] << 12 | highs[changes] & 0xFFF)
    return words.astype('<u2')


def _single_events(
    random: np.random.Generator, encoding: str, height: int, width: int,
) -> np.ndarray:
    x, y, polarity = (random.integers(0, end, WORDS_PER_PACKET) for end in (width, height, 2))
    times = np.sort(random.integers(0, PACKET_US, WORDS_PER_PACKET))
    if encoding == 'libcaer':
        return (times << 32 | x << 17 | y << 2 | polarity << 1 | 1).astype('<u8')
    return (polarity << 63 | y << 48 | x << 32 | times * 1000).astype('<u8')
