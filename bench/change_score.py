#!/usr/bin/env python3
"""
Cost of the change score, as a share of the time that packets and frames take without it.

Made-up streams of evt3 through the synchronizer, in packets of 4.096 ms, with 30 frames/s: all
events anywhere (at 20 million a second: change everywhere), or nine in ten in a corner. With and
without the score in turns, in one process. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import Any

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer, warm_up
import numpy as np

HEIGHT, WIDTH = 720, 1280
PACKET_NS = 4_096_000  # a step of TIME_HIGH
FRAME_NS = 33_000_000
TIME_HIGH = 8  # code of the word
NUM_TEMPLATES = 16
NUM_WARM_UP = 260  # packets that are not measured: longer than the history


class NoChange:
    """Stands in for the tracker of the change score, and does nothing."""

    def before_packet(self, stamp_ns: int) -> None:
        """Do nothing."""

    def after_packet(self, first_ns: int, stamp_ns: int) -> None:
        """Do nothing."""

    def score_until(self, end_ns: int) -> None:
        """Do nothing."""


def make_templates(rate: float, length: int, still: bool) -> list[np.ndarray]:
    """
    Return payloads of packets that begin at time 0, as words of evt3.

    Events come in runs of ``length`` neighbours in a row at one time. If ``still``, nine in ten of
    them are in a corner of a tenth of the image.
    """
    random = np.random.default_rng(0)
    num_runs = round(rate * PACKET_NS / 1e9) // length
    payloads = []
    for _ in range(NUM_TEMPLATES):
        is_corner = random.random(num_runs) < (0.9 if still else 0.0)
        x = random.integers(0, np.where(is_corner, WIDTH // 3, WIDTH) - length + 1)
        y = random.integers(0, np.where(is_corner, HEIGHT // 3, HEIGHT))
        t_ns = np.sort(random.integers(0, PACKET_NS // 1000, num_runs)) * 1000
        payload = encode_evt3(Events(
            (x[:, None] + np.arange(length)).ravel().astype(np.uint16),
            np.repeat(y, length).astype(np.uint16),
            np.repeat(random.integers(0, 2, num_runs), length).astype(np.uint8),
            np.repeat(t_ns, length)), start_ns=0)
        payloads.append(payload.view('<u2'))
    return payloads


def make_packet(templates: list[np.ndarray], number: int) -> EventPacket:
    """Return the packet of a number."""
    words = templates[number % NUM_TEMPLATES].copy()
    words[words >> 12 == TIME_HIGH] = TIME_HIGH << 12 | number & 0xFFF
    return EventPacket(
        number * PACKET_NS, WIDTH, HEIGHT, number, 0, 'evt3', words.view(np.uint8))


def run_once(templates: list[np.ndarray], num_packets: int, with_score: bool) -> float:
    """Return the seconds of processor time that packets and their frames take."""
    synchronizer = FrameSynchronizer(EventSyncConfig(cell_size=4))
    synchronizer.add_frame(Frame(0, HEIGHT, WIDTH), 0.0)
    synchronizer.add_packet(make_packet(templates, 0), 0.0)
    if not with_score:
        stream: Any = synchronizer._stream
        stream._change = NoChange()
    seconds, next_frame_ns, num_frames = 0.0, 0, 0
    for number in range(1, NUM_WARM_UP + num_packets):
        packet = make_packet(templates, number)
        now_s = number * PACKET_NS / 1e9
        begin_s = time.thread_time()
        synchronizer.add_packet(packet, now_s)
        if number * PACKET_NS >= next_frame_ns:
            synchronizer.add_frame(Frame(next_frame_ns, HEIGHT, WIDTH), now_s)
            next_frame_ns += FRAME_NS
        frames = synchronizer.poll(now_s)
        if number >= NUM_WARM_UP:
            seconds += time.thread_time() - begin_s
            num_frames += len(frames)
            assert all((frame.change is not None) == with_score for frame in frames)
    assert num_frames >= num_packets * PACKET_NS // FRAME_NS - 1
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--rates', type=float, nargs='+', default=[1.0, 20.0], help='Mev/s')
    parser.add_argument('--packets', type=int, default=244, help='that are measured: 1 s')
    parser.add_argument('--repeats', type=int, default=7)
    options = parser.parse_args()
    warm_up()
    rows: list[dict[str, Any]] = []
    print(f'{platform.machine()}, {WIDTH} x {HEIGHT}, cells of 4 px, ms of processor time for a '
          'second of events; least of turns')
    print(f'{"Mev/s":>6} {"run":>4} {"changes":>10} {"without":>8} {"with":>8} {"more":>7}')
    for rate in options.rates:
        for length in (1, 4, 12):
            for still in (True, False):
                templates = make_templates(rate * 1e6, length, still)
                times = np.array([
                    [run_once(templates, options.packets, with_score)
                     for with_score in (False, True)] for _ in range(options.repeats)])
                times *= 1e3 / (options.packets * PACKET_NS / 1e9)
                without, with_score = times.min(axis=0)  # others on the machine only add
                more = float(with_score / without) - 1.0
                rows.append({'million_events_per_s': rate, 'run_length': length, 'still': still,
                             'ms_without': without, 'ms_with': with_score, 'more': more})
                print(f'{rate:6g} {length:4} {"a corner" if still else "everywhere":>10} '
                      f'{without:8.1f} {with_score:8.1f} {more:+7.1%}', flush=True)
    print(json.dumps({'machine': platform.machine(), 'results': rows}))


if __name__ == '__main__':
    main()
