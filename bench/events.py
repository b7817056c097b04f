#!/usr/bin/env python3
"""
Events per second of decoding and counting into activity bins, beside other ways to do the same.

All in one process, one after the other in turns, so that the ratios hold on a busy machine: the
decoders' `accumulate` and `skim`, a plain numba loop that visits every event, decoding to arrays
and `numpy.add.at`, and the `evt3` package from PyPI where it is installed. Prints a table and,
with ``--json``, writes a file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import platform
import time
from typing import Any, Callable, Iterator

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet_codecs import make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
from event_streams import make_packets, PACKET_US, STREAMS
import numba
import numpy as np
from plain_loops import PlainCounter

try:
    import evt3
except ImportError:
    evt3 = None

SENSORS = {'346x260': (260, 346), '640x480': (480, 640), '1280x720': (720, 1280)}
REGISTRATIONS = {
    'identity': (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    'homography': (0.97, 0.05, 10.0, -0.04, 0.98, 20.0, 1e-5, 2e-5, 1.0),
}
BIN_LENGTH_NS = 1_000_000
HISTORY_LENGTH_NS = 500_000_000
NUM_WARMING = 5  # packets


class ArrayCounter:
    """The obvious way: arrays of events, then one indexed addition into the same bins."""

    def __init__(self, lookup: np.ndarray, num_cells: int, num_bins: int) -> None:
        # Pixels that see nothing count in a cell behind the others.
        self.lookup = np.where(lookup < 0, num_cells, lookup)
        self.counts = np.zeros((num_bins, num_cells + 1), np.uint16)

    def add(self, events: Events) -> None:
        """Count all events of the next packet."""
        rows = events.t_ns // BIN_LENGTH_NS % self.counts.shape[0]
        np.add.at(self.counts, (rows, self.lookup[events.y, events.x]), 1)


class Case:
    """One stream, sensor, registration and size of cells, and all the ways to count it."""

    def __init__(
        self, stream: str, sensor: str, registration: str, cell_size_px: int, num_packets: int,
    ) -> None:
        self.name = f'{stream:19} {sensor:>8} {registration:>10} {cell_size_px:4d}'
        self.height, self.width = size = SENSORS[sensor]
        self.encoding = STREAMS[stream]
        self.packets = make_packets(stream, size, num_packets + NUM_WARMING)
        lookup = make_cell_lookup(
            HomographyRegistration(REGISTRATIONS[registration], scale_to_image=False), size,
            size, cell_size_px)
        self.bins = ActivityBins(
            *size, cell_size_px, BIN_LENGTH_NS, HISTORY_LENGTH_NS, lookup)
        num_cells = self.bins.shape[0] * self.bins.shape[1]
        num_bins = (len(self.packets) + 2) * PACKET_US // 1000  # all of the stream
        self.plain_counter = PlainCounter(
            self.encoding, lookup, num_cells, num_bins, BIN_LENGTH_NS)
        self.array_counter = ArrayCounter(lookup, num_cells, num_bins)

    def ways(self) -> dict[str, Callable[[], float]]:
        """Return all ways by name; each counts all packets and returns the seconds it took."""
        ways = {'accumulate': self.accumulate, 'plain': self.plain, 'skim': self.skim,
                'numpy': self.numpy}
        if evt3 is not None and self.encoding == 'evt3':
            ways['evt3'] = self.evt3_package
        return ways

    def accumulate(self) -> float:
        """Count with the decoder and the bins."""
        self.bins.reset()
        decoder = make_decoder(self.encoding, self.width, self.height)
        return timed(lambda packet: decoder.accumulate(packet, self.bins), self.packets)

    def skim(self) -> float:
        """Skim over the packets."""
        decoder = make_decoder(self.encoding, self.width, self.height)
        return timed(decoder.skim, self.packets)

    def plain(self) -> float:
        """Count with the plain loop."""
        self.plain_counter.reset()
        return timed(self.plain_counter.add, self.packets)

    def numpy(self) -> float:
        """Decode to arrays and count these."""
        self.array_counter.counts.fill(0)
        decoder = make_decoder(self.encoding, self.width, self.height)
        return timed(
            lambda packet: self.array_counter.add(decoder.decode(packet).events), self.packets)

    def evt3_package(self) -> float:
        """Decode to arrays by the package from PyPI and count these."""
        self.array_counter.counts.fill(0)
        decoder = evt3.Decoder(self.width, self.height)

        def add(payload: bytes) -> None:
            events = decoder.feed(payload)
            self.array_counter.add(Events(
                events.x, events.y, events.polarity, events.timestamp.astype(np.int64) * 1000))

        return timed(add, [packet.events.tobytes() for packet in self.packets])

    def num_events(self) -> int:
        """Return the number of events that the times are for."""
        decoder = make_decoder(self.encoding, self.width, self.height)
        return sum(decoder.decode(packet).events.t_ns.size for packet in self.packets) - sum(
            decoder.decode(packet).events.t_ns.size for packet in self.packets[:NUM_WARMING])

    def check(self, way: str) -> None:
        """Fail if a way has counted anything else than `accumulate` did."""
        window = self.bins.window(0, len(self.packets) * PACKET_US * 1000)
        counts = {'plain': self.plain_counter.counts, 'numpy': self.array_counter.counts[:, :-1],
                  'evt3': self.array_counter.counts[:, :-1]}.get(way)
        if counts is not None:
            total = counts.sum(axis=0, dtype=np.int64).reshape(window.counts.shape)
            np.testing.assert_array_equal(window.counts, total, f'{way}: {self.name}')


def timed(step: Callable[[Any], Any], items: list[Any]) -> float:
    """Return the seconds of CPU time that ``step`` takes for all items behind the first few."""
    # These bring the tables back into the cache that the clearing of the counts pushed out.
    for item in items[:NUM_WARMING]:
        step(item)
    start = time.thread_time()
    for item in items[NUM_WARMING:]:
        step(item)
    return time.thread_time() - start


def measure(case: Case, repeats: int) -> dict[str, float]:
    """Return million events per second of every way, medians over turns."""
    seconds: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        for way, run in case.ways().items():
            taken = run()
            if turn:  # the first one compiles
                seconds.setdefault(way, []).append(taken)
            else:
                case.check(way)
    num_events = case.num_events()
    return {way: num_events / float(np.median(taken)) / 1e6
            for way, taken in seconds.items()}


def all_cases() -> Iterator[tuple[str, str, str, int]]:
    """Yield stream, sensor, registration and cell size of all cases."""
    for stream in STREAMS:
        for sensor in SENSORS:
            for registration in REGISTRATIONS:
                yield stream, sensor, registration, 4
        yield stream, '1280x720', 'identity', 28
        yield stream, '1280x720', 'homography', 28


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--packets', type=int, default=25, help='in each stream, of 4 ms')
    parser.add_argument(
        '--only', nargs='*', default=(), help='cases with all of these in stream, sensor, ...')
    parser.add_argument('--json', type=Path, help='file to write the results to')
    options = parser.parse_args()
    cases = [
        case for case in all_cases()
        if all(word in ' '.join(map(str, case)) for word in options.only)]
    report: dict[str, Any] = {
        'machine': platform.processor() or platform.machine(), 'numpy': np.__version__,
        'numba': numba.__version__,
        'evt3': getattr(evt3, '__version__', 'not installed'), 'cases': []}
    print(f'{report["machine"]}, one core, bins of 1 ms, million events/s; the evt3 package: '
          f'{report["evt3"]}')
    print(f'{"":10}{"stream":19} {"sensor":>8} {"registered":>10} {"cell":>4} {"here":>8} '
          f'{"plain loop":>10} {"ratio":>6} {"NumPy":>8} {"evt3":>8} {"skim":>8}')
    for index, (stream, sensor, registration, cell_size_px) in enumerate(cases):
        case = Case(stream, sensor, registration, cell_size_px, options.packets)
        speeds = measure(case, options.repeats)
        ratio = speeds['accumulate'] / speeds['plain']
        print(f'[{index + 1:3}/{len(cases):3}] {case.name} {speeds["accumulate"]:8.0f} '
              f'{speeds["plain"]:10.0f} {ratio:5.2f}x {speeds["numpy"]:8.1f} '
              f'{speeds.get("evt3", float("nan")):8.1f} {speeds["skim"]:8.0f}', flush=True)
        report['cases'].append({
            'stream': stream, 'sensor': sensor, 'registration': registration,
            'cell_size_px': cell_size_px, 'million_events_per_s': speeds,
            'ratio_to_plain': ratio})
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
