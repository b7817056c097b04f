#!/usr/bin/env python3
"""
Feed decoders with garbage: no crash, no write out of bounds, no unbounded time.

``python test/fuzz_packets.py --payloads 1000000`` runs that many payloads of every format; the
tests run a few thousand. Arrays that the loops write to lie between guard zones, which are looked
at after every payload.
"""

from __future__ import annotations

import argparse
from collections import Counter
import time

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.packet.pixel_runs import RUN_DTYPE, TRIGGER_DTYPE
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder, PacketDecoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
from random_packets import random_packets

SIZES = ((0, 0), (0, 9), (9, 0), (1, 1), (20, 13), (30, 40), (60, 346), (3, 2100), (2100, 3))
HOMOGRAPHIES = ((1, 0, 0, 0, 1, 0, 0, 0, 1), (1, 0, -5, 0, 1, 3, 0, 0, 1),
                (0.9, 0.1, 4, -0.1, 1.1, 0, 0, 0, 1), (-1, 0, 30, 0, -1, 20, 0, 0, 1))
MS = 1_000_000
PAYLOADS_PER_STREAM = 400
GUARD_BYTES = 64
GUARD = 0xA5
MAX_PAYLOAD_S = 2.0  # of CPU time; the longest has 20 kB


class Guarded:
    """Bytes between two guard zones."""

    def __init__(self, num_bytes: int) -> None:
        self.memory = np.full(num_bytes + 2 * GUARD_BYTES, GUARD, np.uint8)

    def take(self, num_items: int, dtype: np.dtype | type) -> np.ndarray:
        """Return the first items; what follows is the guard zone behind them."""
        num_bytes = num_items * np.dtype(dtype).itemsize
        self.end = GUARD_BYTES + num_bytes
        self.memory[self.end:self.end + GUARD_BYTES] = GUARD
        return self.memory[GUARD_BYTES:self.end].view(dtype)

    def check(self) -> None:
        assert self.memory[:GUARD_BYTES].tobytes() == b'\xA5' * GUARD_BYTES
        assert self.memory[self.end:self.end + GUARD_BYTES].tobytes() == b'\xA5' * GUARD_BYTES


class Fuzzer:
    """Garbage for the decoder of one format."""

    def __init__(self, encoding: str, seed: int) -> None:
        self.encoding = encoding
        self.random = np.random.default_rng(seed)
        self.word_size = 2 if encoding in ('evt3', 'libcaer_cmp') else 8
        self.sound = [packet.events.tobytes() for packet in random_packets(encoding, 300, seed)]
        self.runs, self.triggers = Guarded(400_000), Guarded(400_000)
        self.seen: Counter[str] = Counter()
        self.max_payload_s = float('inf')  # while loops are compiled
        for _ in range(20):
            self.run_stream(20, 13, 20)
        self.max_payload_s = MAX_PAYLOAD_S
        self.seen.clear()

    def run(self, num_payloads: int) -> None:
        """Feed so many payloads, as streams of a few hundred."""
        while self.seen['payloads'] < num_payloads:
            size = SIZES[self.random.integers(len(SIZES))]
            self.run_stream(*size, min(PAYLOADS_PER_STREAM,
                                       num_payloads - self.seen['payloads']))

    def run_stream(self, height: int, width: int, num_payloads: int) -> None:
        """Feed one decoder, with good packets in between."""
        decoder = make_decoder(self.encoding, width, height)
        bins, counts = self.make_bins(height, width)
        draws = self.random.integers(0, 1 << 30, (num_payloads, 4)).tolist()
        for index, (kind, way, place, bits) in enumerate(draws):
            payload = self.make_payload(kind, place)
            time_base = (0, index * MS, (1 << 62) - 1, (1 << 64) - 1)[bits % 4]
            packet = EventPacket(
                0, width, height, 0, time_base, self.encoding, payload, bits & 64 == 64)
            # Arrays of just the size that the payload needs, each with its guards.
            num_words = len(payload) // self.word_size
            decoder._runs = self.runs.take(num_words, RUN_DTYPE)
            decoder._triggers = self.triggers.take(num_words, TRIGGER_DTYPE)
            start = time.thread_time()
            self.feed(decoder, packet, bins, way % 8)
            assert time.thread_time() - start < self.max_payload_s
            self.runs.check()
            self.triggers.check()
            if index % 50 == 0:
                self.check_next_good_packet(decoder, bins)
                counts.check()
                # What lies behind the cells only ever gets zeros.
                assert not bins._ring.counts[:, bins.shape[0] * bins.shape[1]:].any()
        counts.check()
        self.seen['payloads'] += num_payloads
        self.seen['events'] += decoder.counters.num_events

    def make_bins(self, height: int, width: int) -> tuple[ActivityBins, Guarded]:
        cell_size_px = int(self.random.integers(1, 33))
        image_size = (max(height, 1), max(width, 1)) if height * width % 7 else (70, 90)
        homography = HOMOGRAPHIES[self.random.integers(len(HOMOGRAPHIES))]
        lookup = make_cell_lookup(
            HomographyRegistration(homography, scale_to_image=bool(self.random.integers(2))),
            (height, width), image_size, cell_size_px)
        bins = ActivityBins(*image_size, cell_size_px, MS, 5 * MS, lookup)
        shape = bins._ring.counts.shape
        guarded = Guarded(2 * shape[0] * shape[1])
        counts = guarded.take(shape[0] * shape[1], np.uint16).reshape(shape)
        counts[:] = 0
        bins._ring = bins._ring._replace(counts=counts)
        return bins, guarded

    def make_payload(self, kind: int, place: int) -> bytes:
        """Return random bytes, or a sound payload cut off, doubled or with bytes changed."""
        if kind % 4 == 0:
            return self.random.bytes(place % 100)
        if kind % 997 == 1:
            return self.random.bytes(place % 20_000)
        payload = self.sound[kind % len(self.sound)]
        if kind % 4 == 1:
            return payload[:place % (len(payload) + 1)]
        if kind % 4 == 2:
            return payload[place % (len(payload) + 1):] + self.sound[place % len(self.sound)]
        changed = bytearray(payload)
        for shift in (0, 7, 13):
            if changed:
                changed[(place >> shift) % len(changed)] = place >> shift & 0xFF
        return bytes(changed)

    def feed(
        self, decoder: PacketDecoder, packet: EventPacket, bins: ActivityBins, way: int,
    ) -> None:
        if way == 0:
            events, _ = decoder.decode(packet)
            assert not events.x.size or (
                events.x.max() < packet.width and events.y.max() < packet.height)
        elif way == 1:
            decoder.skim(packet)
        elif way == 2:
            decoder.accumulate(packet, bins, [_EverySecond()])
        elif way == 3:
            self.feed_wrong(decoder, packet, bins)
        else:
            decoder.accumulate(packet, bins)

    def feed_wrong(
        self, decoder: PacketDecoder, packet: EventPacket, bins: ActivityBins,
    ) -> None:
        """Expect packets of another size or encoding to be refused, with nothing done."""
        before = vars(decoder.counters).copy()
        width, encoding = packet.width, packet.encoding
        wrong = [(width + 1, encoding), (-1, encoding), (width, 'evt4'), (width, '')]
        wrong_width, wrong_encoding = wrong[packet.events.size % 4]
        packet = EventPacket(
            0, wrong_width, packet.height, 0, 0, wrong_encoding, packet.events.tobytes())
        try:
            decoder.accumulate(packet, bins)
        except ValueError:
            self.seen['refused'] += 1
        else:
            raise AssertionError(f'{packet} was taken')
        assert vars(decoder.counters) == before

    def check_next_good_packet(self, decoder: PacketDecoder, bins: ActivityBins) -> None:
        """Check that after all that a good packet gives its events."""
        if not decoder.width or not decoder.height:
            return
        words, word_type = {
            'evt2': ([0x80000040, 0x10800000, 0x00800000], '<u4'),
            'evt21': ([0x80000040 << 32, 0x10800000 << 32 | 1, 0x00800000 << 32 | 1], '<u8'),
            'evt3': ([0x8001, 0x6002, 0x0000, 0x2800, 0x3000, 0x5001], '<u2'),
            'libcaer_cmp': ([0x0001, 0x1002, 0x2000, 0x3800, 0x4000, 0x5001], '<u2'),
            'libcaer': ([4098 << 32 | 3, 4098 << 32 | 1], '<u8'),
            'mono': ([4_098_000 | 1 << 63, 4_098_000], '<u8'),
            'trigger': ([4_098_000 | 1 << 63, 4_098_000], '<u8')}[self.encoding]
        payload = np.array(words, np.uint64).astype(word_type).tobytes()
        packet = EventPacket(0, decoder.width, decoder.height, 0, 0, self.encoding, payload)
        decoder._runs, decoder._triggers = np.empty(6, RUN_DTYPE), np.empty(6, TRIGGER_DTYPE)
        events, triggers = decoder.decode(packet)
        if self.encoding == 'trigger':
            assert triggers.edge.tolist() == [1, 0]
            assert triggers.t_ns.tolist() == [4_098_000] * 2
        else:
            assert events.x.tolist() == events.y.tolist() == [0, 0]
            assert events.polarity.tolist() == [1, 0]
            # The garbage before may have moved a stream on by whole wraps of its time.
            wrap_ns = {'evt2': 2 ** 34 * 1000, 'evt21': 2 ** 34 * 1000,
                       'evt3': 2 ** 24 * 1000}.get(self.encoding, 1 << 62)
            assert (events.t_ns % wrap_ns).tolist() == [4_098_000] * 2
            assert decoder.accumulate(packet, bins).num_events == 2


class _EverySecond:
    """A filter that removes every second bit."""

    def apply(self, runs: object) -> int:
        runs.records['mask'] &= 0x5555
        return 0


def main() -> None:
    """Run many payloads and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--payloads', type=int, default=1_000_000, help='of every format')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--encodings', nargs='+', default=ENCODINGS, choices=ENCODINGS)
    options = parser.parse_args()
    for encoding in options.encodings:
        fuzzer = Fuzzer(encoding, options.seed)
        start, cpu_start = time.monotonic(), time.process_time()
        while fuzzer.seen['payloads'] < options.payloads:
            fuzzer.run(min(fuzzer.seen['payloads'] + 50_000, options.payloads))
            print(f'\r{encoding}: {fuzzer.seen["payloads"]}', end='', flush=True)
        print(f'\r{encoding}: {dict(fuzzer.seen)} in {time.monotonic() - start:.0f} s '
              f'({time.process_time() - cpu_start:.0f} s of CPU time)', flush=True)


if __name__ == '__main__':
    main()
