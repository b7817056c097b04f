#!/usr/bin/env python3
"""
Standing questions on recordings of a minute in which something moves for three short spans.

Both nodes live, 160 x 120 pixels, the embedded checkpoint. Counts the answers and the calls of the
encoder while something moves and between, before a camera at rest and one that moves (by a
region), then sets up 50 watches at once beside somebody who asks. Prints a table and, with
--json, writes a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
import json
import os
from pathlib import Path
import platform
import sys
import tempfile
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer, Query, StandingQuestion
from epvlm_interfaces.srv import Ask, ListWatches, Watch
from epvlm_ros.ros.processes import NodeProcess
from epvlm_ros.ros.qos import QUERIES, query_calls
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.time_units import SECOND, stamp_to_ns
import numpy as np
from rclpy.parameter import Parameter
from sensor_msgs.msg import RegionOfInterest

sys.path.append(str(Path(__file__).parents[1] / 'test/helpers'))
from moving_square_bag import (  # noqa: E402, I100, I202
    EVENTS, IMAGES, make_moving_square_bag, REGION, START_NS)
from ros_graph import DOMAIN_ID  # noqa: E402, I100

QUESTION = 'What moves?'
MOVING_LEVEL = 2.5  # of the region before a camera that moves
TAIL_S = 1.5  # after a span, in which the last answer ends
ASK_PERIOD_S = 2.0  # of the person beside 50 watches
INTERVALS_S, GAP_S = (15.0, 20.0, 30.0), 3.0  # of 50 watches


class Client:
    """Sets up watches, asks, and keeps what the node says, with the recording's time."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self.answers: list[tuple[float, Answer]] = []
        self.num_encoded: list[tuple[float, int]] = []
        node.create_subscription(Answer, 'answer', self._on_answer, QUERIES)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, 100)
        self._clients = {kind: node.create_client(kind, name, qos_profile=query_calls())
                         for kind, name in ((Watch, 'watch'), (Ask, 'ask'),
                                            (ListWatches, 'list_watches'))}
        for client in self._clients.values():
            if not client.wait_for_service(120.0):
                raise RuntimeError('vlm_node did not start: see its log')

    @property
    def now_s(self) -> float:
        """Return seconds since the start of the recording; below 0 before it."""
        return (self._node.get_clock().now().nanoseconds - START_NS) / SECOND

    def call(self, kind: Any, **fields: Any) -> Any:
        """Call a service and wait for the response."""
        future = self._clients[kind].call_async(kind.Request(**fields))
        wait_until(future.done, 60.0)
        return future.result()

    def _on_answer(self, answer: Answer) -> None:
        self.answers.append((self.now_s, answer))

    def _on_report(self, report: DiagnosticArray) -> None:
        for status in report.status:
            if status.name == 'vlm_node: model':
                values = {item.key: item.value for item in status.values}
                self.num_encoded.append((
                    (stamp_to_ns(report.header.stamp) - START_NS) / SECOND,
                    int(values['num_encoded'])))


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f'not within {timeout_s:g} s: see the logs of the nodes')
        time.sleep(0.01)


def replay(
    bag: Path, duration_s: float, folder: Path, watches: list[StandingQuestion],
    meanwhile: Callable[[Client], None] = lambda client: None,
) -> tuple[Client, Any]:
    """Replay a recording once before both nodes; return the client and the list of watches."""
    environment = {'ROS_DOMAIN_ID': str(DOMAIN_ID)}
    sim_time = ['--ros-args', '-p', 'use_sim_time:=true']
    with ExitStack() as stack:
        stack.enter_context(NodeProcess(
            'event_sync_node', [*sim_time, '-p', 'max_wait:=0.3', '-r', f'events:={EVENTS}',
                                '-r', f'image:={IMAGES}'],
            folder / 'event_sync_node.log', environment))
        stack.enter_context(NodeProcess(
            'vlm_node', [*sim_time, '-p', 'num_threads:=1', '-p', 'max_frame_age:=5.0'],
            folder / 'vlm_node.log', environment))
        node = stack.enter_context(SpinningNode('bench', DOMAIN_ID)).node
        node.set_parameters([Parameter('use_sim_time', value=True)])
        client = Client(node)
        for watch in watches:
            response = client.call(Watch, watch=watch)
            if not response.success:
                raise RuntimeError(response.message)
        player = stack.enter_context(NodeProcess(
            'bag_player', [str(bag), '--clock', '--wait-for-subscribers', '60'],
            folder / 'bag_player.log', environment))
        wait_until(lambda: client.now_s > 0.0 or not player.is_running(), 60.0)
        meanwhile(client)
        wait_until(lambda: not player.is_running(), duration_s * 3 + 60.0)
        time.sleep(2.0)
        return client, client.call(ListWatches)


def count_bursts(client: Client, spans: list[tuple[float, float]]) -> dict[str, Any]:
    """Return how answers and calls of the encoder lie to the spans of motion."""
    first_s, arrivals_s, num_inside = [], [], 0
    for begin_s, end_s in spans:
        burst = [(now_s, stamp_s(answer)) for now_s, answer in client.answers
                 if begin_s - 0.05 <= stamp_s(answer) < end_s + 0.1]
        num_inside += len(burst)
        first_s.append(min((stamp for _, stamp in burst), default=np.inf) - begin_s)
        arrivals_s.append(min((now_s for now_s, _ in burst), default=np.inf) - begin_s)
    borders = [0.0, *[time_s for span in spans for time_s in span], np.inf]
    quiet = []
    for begin_s, end_s in zip(borders[::2], borders[1::2]):
        numbers = [number for time_s, number in client.num_encoded
                   if begin_s + (TAIL_S if begin_s else 0.0) <= time_s < end_s]
        quiet.append(max(numbers) - min(numbers) if numbers else 0)
    return {
        'answers': len(client.answers),
        'answers while something moves': num_inside,
        'bad answers': sum(answer.status != Answer.OK for _, answer in client.answers),
        'first frame after motion starts, s': first_s,
        'first answer after motion starts, s': arrivals_s,
        'encoder calls while nothing moves': quiet,
        'encoder calls': client.num_encoded[-1][1] - client.num_encoded[0][1]}


def stamp_s(answer: Answer) -> float:
    """Return when the frame of an answer was, in seconds since the start of the recording."""
    return (stamp_to_ns(answer.header.stamp) - START_NS) / SECOND


def make_many(duration_s: float) -> list[StandingQuestion]:
    """Return 45 questions at intervals and 5 by activity."""
    return [StandingQuestion(
        watch_id=f'interval-{number}', query=Query(question=QUESTION, max_new_tokens=4),
        condition=StandingQuestion.INTERVAL,
        interval=INTERVALS_S[number % 3] * min(1.0, duration_s / 60.0) + 0.1 * number)
        for number in range(45)] + [StandingQuestion(
            watch_id=f'activity-{number}', query=Query(question=QUESTION, max_new_tokens=4),
            min_gap=GAP_S) for number in range(5)]


def measure_many(
    bag: Path, duration_s: float, spans: list[tuple[float, float]], folder: Path,
) -> dict[str, Any]:
    """Count how 50 watches keep their rates while somebody asks."""
    waits_s: list[float] = []
    statuses: list[int] = []

    def ask(client: Client) -> None:
        while client.now_s < duration_s - ASK_PERIOD_S:
            begin_s = time.monotonic()
            statuses.append(client.call(Ask, question=QUESTION).answer.status)
            waits_s.append(time.monotonic() - begin_s)
            time.sleep(max(0.0, ASK_PERIOD_S - waits_s[-1]))

    client, listed = replay(bag, duration_s, folder, make_many(duration_s), ask)
    if len(listed.watches) != 50:
        raise RuntimeError(f'{len(listed.watches)} watches instead of 50')
    asked = {watch.watch_id: number for watch, number in zip(listed.watches, listed.asked)}
    worst = 0.0
    for watch in listed.watches[:45]:
        stamps = [stamp_s(answer) for _, answer in client.answers
                  if answer.watch_id == watch.watch_id]
        expected = [stamps[0] + k * watch.interval for k in range(len(stamps))]
        worst = max(worst, max(np.abs(np.subtract(stamps, expected))))
    motion_s = sum(end - begin for begin, end in spans)
    return {
        'watches': len(listed.watches), 'asked': sum(listed.asked),
        'furthest from its interval, s': float(worst),
        'asked by activity': [asked[f'activity-{number}'] for number in range(5)],
        'at most, by the gap': len(spans) * (1 + int(motion_s / len(spans) / GAP_S)),
        'questions of a person': len(statuses),
        'of them BUSY': statuses.count(Answer.BUSY), 'of them OK': statuses.count(Answer.OK),
        'wait of a person, median and worst, s': [
            float(np.median(waits_s)), float(np.max(waits_s))]}


def show(title: str, values: dict[str, Any]) -> None:
    """Print one part of the report."""
    print(title)
    for name, value in values.items():
        print(f'  {name}: {value}', flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--duration', type=float, default=60.0, help='of the recordings, in s')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    options = parser.parse_args()
    duration_s = options.duration
    spans = [(share * duration_s, share * duration_s + min(3.0, duration_s / 12))
             for share in (0.2, 0.5, 0.75)]
    report: dict[str, Any] = {
        'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'spans': spans}
    x, y, width, height = REGION
    region = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        query = Query(question=QUESTION, max_new_tokens=8)
        for key, moves, watch in (
                ('camera at rest', False, StandingQuestion(query=query)),
                ('camera that moves, by a region', True, StandingQuestion(
                    query=query, level=MOVING_LEVEL, region=region))):
            bag = make_moving_square_bag(
                folder / key.replace(' ', '_'), duration_s, spans, camera_moves=moves)
            client, _ = replay(bag, duration_s, folder, [watch])
            report[key] = count_bursts(client, spans)
            show(key, report[key])
        report['50 watches'] = measure_many(folder / 'camera_at_rest', duration_s, spans, folder)
        show('50 watches', report['50 watches'])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
