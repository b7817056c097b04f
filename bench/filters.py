#!/usr/bin/env python3
"""
Cost of each event filter and of all together, as ratios to counting events without filters.

Made-up streams at 10 million events/s in packets of 4 ms, and recordings given with ``--bag``.
Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import platform
import time
from typing import Any

from epvlm_ros.bag import BagReader
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import EventFilter, make_filters
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet.pixel_runs import PixelRuns
from epvlm_ros.events.packet_codecs import encode_evt3, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, IDENTITY, make_cell_lookup
import numpy as np

PACKET_NS = 4_000_000
RATE = 10_000_000  # events per second of the made-up streams
RUN_LENGTH = 12
NUM_WARM_UP = 5  # packets that are not measured
CELL_SIZE_PX = 4
CONFIGS: dict[str, dict[str, Any]] = {
    'none': {},
    'hot pixels': {'hot_pixel_filter': True},
    'flicker': {'flicker_filter': True},
    'background': {'background_filter': True},
    'rate limit': {'max_pixel_rate': 1000.0},
}
CONFIGS['all'] = {key: value for config in CONFIGS.values() for key, value in config.items()}


def make_stream(height: int, width: int, length: int, num_packets: int) -> list[EventPacket]:
    """
    Make packets of random events, in runs of ``length`` neighbours in a row at one time.

    Runs of 1 are single words (the worst case of a filter); longer ones become vector words.
    """
    random = np.random.default_rng(0)
    num_runs = RATE * PACKET_NS // 10 ** 9 // length
    packets = []
    for index in range(num_packets):
        t_ns = np.sort(random.integers(0, PACKET_NS // 1000, num_runs)) * 1000
        x = random.integers(0, width - length + 1, num_runs)
        run = np.arange(length)
        events = Events(
            x=(x[:, None] + run).ravel().astype(np.uint16),
            y=np.repeat(random.integers(0, height, num_runs), length).astype(np.uint16),
            polarity=np.repeat(random.integers(0, 2, num_runs), length).astype(np.uint8),
            t_ns=np.repeat(t_ns + index * PACKET_NS, length))
        payload = encode_evt3(events, start_ns=index * PACKET_NS)
        packets.append(EventPacket(
            index * PACKET_NS, width, height, index, 0, 'evt3', payload, False))
    return packets


def read_bag(path: Path) -> list[EventPacket]:
    """Return all packets of a recording."""
    with BagReader(path) as bag:
        return list(bag.event_packets())


class CountedFilter:
    """A filter that remembers how much it dropped."""

    def __init__(self, event_filter: EventFilter) -> None:
        self._filter = event_filter
        self.name = event_filter.name
        self.num_dropped = 0

    def apply(self, runs: PixelRuns) -> int:
        """Drop events of the next packet and return how many."""
        dropped = self._filter.apply(runs)
        self.num_dropped += dropped
        return dropped


def run_once(
    packets: list[EventPacket], config: FilterConfig,
) -> tuple[float, int, dict[str, int]]:
    """Return seconds, events, and events dropped by each filter, of one pass over a stream."""
    height, width = packets[0].height, packets[0].width
    decoder = make_decoder(packets[0].encoding, width, height)
    lookup = make_cell_lookup(
        HomographyRegistration(IDENTITY), (height, width), (height, width), CELL_SIZE_PX)
    bins = ActivityBins(height, width, CELL_SIZE_PX, 1_000_000, 200_000_000, lookup)
    filters: list[Any] = [CountedFilter(item) for item in make_filters(config, width, height)]
    for packet in packets[:NUM_WARM_UP]:  # touches the memory of all pixels
        decoder.accumulate(packet, bins, filters)
    before = [item.num_dropped for item in filters]
    start = time.perf_counter()
    num_events = sum(
        decoder.accumulate(packet, bins, filters).num_events for packet in packets[NUM_WARM_UP:])
    seconds = time.perf_counter() - start
    return seconds, num_events, {
        item.name: item.num_dropped - count for item, count in zip(filters, before)}


def measure(packets: list[EventPacket], repeats: int) -> list[dict[str, Any]]:
    """Return cost and share of dropped events of every configuration, taken in turns."""
    configs = {name: FilterConfig(**values) for name, values in CONFIGS.items()}
    for config in configs.values():
        run_once(packets[:NUM_WARM_UP + 1], config)  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    results: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name, config in configs.items():
            spent, num_events, dropped = run_once(packets, config)
            seconds[name].append(spent)
            results[name] = {
                'filter': name, 'events': num_events,
                'ns_per_event': min(seconds[name]) / num_events * 1e9,
                'ratio': min(seconds[name]) / min(seconds['none']),
                'dropped': sum(dropped.values()) / num_events,
                'dropped_by': {key: value / num_events for key, value in dropped.items()}}
    return list(results.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument(
        '--bag', type=Path, action='append', default=[], help='a recording; may be repeated')
    parser.add_argument('--packets', type=int, default=50, help='in a made-up stream')
    parser.add_argument('--repeats', type=int, default=5)
    options = parser.parse_args()
    streams = {
        f'{width} x {height} {kind}': make_stream(height, width, length, options.packets)
        for height, width in ((480, 640), (720, 1280))
        for kind, length in (('single', 1), ('vectors', RUN_LENGTH))}
    streams.update({path.name: read_bag(path) for path in options.bag})
    report: dict[str, Any] = {
        'machine': platform.processor() or platform.machine(), 'streams': {}}
    print(f'{"stream":>24} {"filter":>11} {"ns/event":>9} {"ratio":>7} {"dropped":>8}')
    for stream, packets in streams.items():
        report['streams'][stream] = results = measure(packets, options.repeats)
        for result in results:
            print(f'{stream:>24} {result["filter"]:>11} {result["ns_per_event"]:9.1f} '
                  f'{result["ratio"]:6.2f}x {result["dropped"]:8.1%}', flush=True)
    print(json.dumps(report))


if __name__ == '__main__':
    main()
