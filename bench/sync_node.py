#!/usr/bin/env python3
"""
event_sync_node as a process: DDS in, guided frames out, at rising event rates and under overload.

Feeds 1280 x 720 evt3 packets of 4 ms and 640 x 480 frames at 30 Hz. Prints a table, and writes
JSON with ``--output``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import platform
import tempfile
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.processes import NodeProcess
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.time_units import stamp_to_ns
from event_feed import EventFeed, FeedLog
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy

DOMAIN_ID = 100 + os.getpid() % 100
LAST_FRAMES_S = 1.0  # how long the last frames may take to arrive


class Receiver:
    """Keeps what comes out of the node, with the time at which it came."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int, float, float]] = []
        self.totals: dict[str, float] = {}
        self._client = SpinningNode('receiver', DOMAIN_ID)
        node = self._client.node
        node.create_subscription(
            EventGuidedFrame, 'event_guided_frame', self._on_frame,
            QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE))
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_frame(self, message: EventGuidedFrame) -> None:
        self.frames.append((
            stamp_to_ns(message.header.stamp), stamp_to_ns(message.window_end), message.missing,
            message.coverage, time.monotonic()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for item in status.values:
                try:
                    self.totals[item.key] = float(item.value)
                except ValueError:
                    pass

    def close(self) -> None:
        """Leave the graph."""
        self._client.close()


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process, in megabytes."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024 / 1e6
    return float('nan')


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def run(
    feed: EventFeed, receiver: Receiver, node: NodeProcess, rate: float, seconds: float,
) -> dict[str, Any]:
    """Feed one rate and return what came out."""
    feed.prepare(rate)
    time.sleep(1.2)  # diagnostics are up to date
    before, first = dict(receiver.totals), len(receiver.frames)
    begin_s, begin_cpu_s, peak_mb = time.monotonic(), cpu_s(node.pid), memory_mb(node.pid)
    start_mb = peak_mb
    done = threading.Event()
    logs: list[FeedLog] = []

    def publish() -> None:
        logs.append(feed.run(rate, seconds))
        done.set()

    thread = threading.Thread(target=publish)
    thread.start()
    while not done.wait(0.2):
        peak_mb = max(peak_mb, memory_mb(node.pid))
    thread.join()
    elapsed_s = time.monotonic() - begin_s
    used_cpu_s = cpu_s(node.pid) - begin_cpu_s
    time.sleep(LAST_FRAMES_S + 1.2)
    log, frames = logs[0], receiver.frames[first:]
    news = {key: receiver.totals.get(key, 0.0) - before.get(key, 0.0) for key in (
        'num_packets', 'num_lost_packets', 'num_shed_packets', 'num_dropped_packets')}
    latencies_ms = _latencies_ms(log, frames)
    return {
        'asked_mev_s': rate / 1e6, 'fed_mev_s': log.num_events / elapsed_s / 1e6,
        'fed_mb_s': log.num_bytes / elapsed_s / 1e6, 'feed_late_ms': log.late_s * 1e3,
        'frames_fed': len(log.frames_ns),
        'frames_out': len({frame[0] for frame in frames} & set(log.frames_ns)),
        'frames_incomplete': sum(frame[2] != 0 for frame in frames),
        'packets_fed': len(log.packets), 'packets_seen': news['num_packets'],
        'lost': news['num_lost_packets'], 'shed': news['num_shed_packets'],
        'dropped': news['num_dropped_packets'],
        'latency_median_ms': float(np.median(latencies_ms)) if latencies_ms else None,
        'latency_p99_ms': float(np.percentile(latencies_ms, 99)) if latencies_ms else None,
        'latency_max_ms': max(latencies_ms, default=None),
        'cpu_share': used_cpu_s / elapsed_s, 'memory_before_mb': start_mb,
        'memory_peak_mb': peak_mb,
    }


def _latencies_ms(log: FeedLog, frames: list[tuple[int, int, int, float, float]]) -> list[float]:
    """Return from the last packet of each frame's window to the arrival of the guided frame."""
    ends_ns = np.array([packet[0] for packet in log.packets])
    fed = set(log.frames_ns)
    latencies = []
    for stamp_ns, window_end_ns, _, _, arrival_s in frames:
        last = int(np.searchsorted(ends_ns, window_end_ns))
        if stamp_ns in fed and last < len(log.packets):
            latencies.append((arrival_s - log.packets[last][1]) * 1e3)
    return latencies


def recover(
    feed: EventFeed, receiver: Receiver, node: NodeProcess, rate: float, overload: float,
) -> dict[str, Any]:
    """Feed far too much for 5 s and then ``rate``; return how long the node takes to be well."""
    feed.prepare(overload), feed.prepare(rate)
    result = {'overload_mev_s': overload / 1e6, 'memory_before_mb': memory_mb(node.pid)}
    before, first = dict(receiver.totals), len(receiver.frames)
    peak_mb, logs = [0.0], []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak_mb[0] = max(peak_mb[0], memory_mb(node.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    logs.append(feed.run(overload, 5.0))
    end_ns = logs[0].packets[-1][0]
    logs.append(feed.run(rate, 5.0))
    time.sleep(LAST_FRAMES_S + 1.2)
    done.set()
    watcher.join()
    after = [frame for frame in receiver.frames[first:] if frame[0] > end_ns]
    ends_ns = np.array([packet[0] for packet in logs[1].packets])
    last_bad_s = 0.0
    for stamp_ns, window_end_ns, missing, _, arrival_s in after:
        last = min(int(np.searchsorted(ends_ns, window_end_ns)), len(ends_ns) - 1)
        if missing or arrival_s - logs[1].packets[last][1] > 0.025:
            last_bad_s = (stamp_ns - end_ns) / 1e9
    result.update({
        'fed_mev_s': logs[0].num_events / 5e6, 'fed_mb_s': logs[0].num_bytes / 5e6,
        'memory_peak_mb': peak_mb[0], 'memory_after_mb': memory_mb(node.pid),
        'frames_during': len(receiver.frames) - first - len(after),
        'frames_after': len(after), 'frames_after_fed': len(logs[1].frames_ns),
        'well_after_s': last_bad_s,
        **{key: receiver.totals.get(key, 0.0) - before.get(key, 0.0) for key in (
            'num_lost_packets', 'num_shed_packets', 'num_dropped_packets')}})
    return result


def describe(result: dict[str, Any]) -> str:
    """Return a line of the table."""
    def number(key: str) -> str:
        return '-' if result[key] is None else f'{result[key]:.1f}'
    return (
        f'{result["asked_mev_s"]:7.1f} {result["fed_mev_s"]:7.1f} {result["fed_mb_s"]:7.1f}   '
        f'{result["frames_out"]:5d} of {result["frames_fed"]:<5d} {result["frames_incomplete"]:5d}'
        f'   {result["packets_seen"]:7.0f} of {result["packets_fed"]:<6d} {result["lost"]:6.0f} '
        f'{result["shed"]:6.0f} {result["dropped"]:6.0f}   {number("latency_median_ms"):>6} '
        f'{number("latency_p99_ms"):>6} {number("latency_max_ms"):>6}   '
        f'{result["cpu_share"]:5.2f} {result["memory_peak_mb"]:7.0f}')


HEADER = (
    '  asked     fed    MB/s    frames out   incompl.  packets seen       lost   shed dropped'
    '   median  p99   max ms    CPU  memory MB')


def main() -> None:
    """Run the rates that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rates', type=float, nargs='*', default=[5, 10, 20, 40, 80],
                        help='million events a second')
    parser.add_argument('--seconds', type=float, default=5.0, help='of every rate')
    parser.add_argument('--overload', type=float, nargs='*', default=[],
                        help='million events a second, for 5 s, and --after it')
    parser.add_argument('--after', type=float, default=20.0, help='million events a second')
    parser.add_argument('--parameters', nargs='*', default=[], help='of the node, as name:=value')
    parser.add_argument('--output', type=Path, help='JSON file to write')
    options = parser.parse_args()
    environment = {'ROS_DOMAIN_ID': str(DOMAIN_ID), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    os.environ.update(environment)
    arguments = ['--ros-args'] + [
        word for text in options.parameters for word in ('-p', text)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'node.log'
        with NodeProcess('event_sync_node', arguments, log, environment) as node:
            feed, receiver = EventFeed(DOMAIN_ID), Receiver()
            deadline_s = time.monotonic() + 60
            while not feed.is_matched() and node.is_running() and time.monotonic() < deadline_s:
                time.sleep(0.1)
            print(HEADER)
            for rate in options.rates:
                results.append(run(feed, receiver, node, rate * 1e6, options.seconds))
                print(describe(results[-1]), flush=True)
            overloads = []
            for rate in options.overload:
                overloads.append(recover(
                    feed, receiver, node, options.after * 1e6, rate * 1e6))
                print(json.dumps(overloads[-1], indent=2), flush=True)
            feed.close()
            receiver.close()
        print(log.read_text()[-3000:], flush=True)
    report = {'machine': platform.platform(), 'cores': os.cpu_count(), 'results': results,
              'overloads': overloads}
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
