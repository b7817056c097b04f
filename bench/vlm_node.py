#!/usr/bin/env python3
"""
Both nodes live on a simulated recording: what a scene in memory does to questions and to idling.

640 x 480 frames at 30 Hz. In one recording something moves, and the first token of questions is
timed with scene_memory (every frame an update) and without (keep 0.5, when asked), in turns. In
the other nothing moves, and the processor time of vlm_node is counted while nobody asks. Prints a
table and, with --json, writes a file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
import json
import os
from pathlib import Path
import platform
import tempfile
import time
from typing import Any

from epvlm_interfaces.msg import Answer
from epvlm_interfaces.srv import Ask
from epvlm_ros.ros.processes import NodeProcess
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.sim.recording import record_simulation
from epvlm_ros.sim.sampling import sample_scene
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

DOMAIN_ID = 100 + os.getpid() % 100
QUESTIONS = ('What do you see?', 'How many objects are there?', 'Is there a red star?')
WAYS = {
    'scene in memory': {'scene_memory': True, 'encode_ahead': 'on_arrival'},
    'frame by itself': {'scene_memory': False, 'encode_ahead': 'on_demand'}}
PERIOD_S = 0.37  # between two questions: no multiple of that of the frames


class Client:
    """Asks, and sets parameters of vlm_node."""

    def __init__(self, node: Any) -> None:
        self._ask = node.create_client(Ask, 'ask')
        self._parameters = node.create_client(SetParameters, 'vlm_node/set_parameters')
        for client in (self._ask, self._parameters):
            if not client.wait_for_service(60.0):
                raise RuntimeError('vlm_node did not start: see its log')

    def ask(self, question: str) -> Answer:
        """Ask and wait for the answer."""
        return _wait(self._ask.call_async(Ask.Request(question=question))).answer

    def wait_for_frame(self) -> None:
        """Ask until there is a frame, whatever its age."""
        while self.ask(QUESTIONS[0]).status not in (Answer.OK, Answer.STALE_FRAME):
            time.sleep(0.2)

    def set_parameters(self, **parameters: Any) -> None:
        """Set parameters."""
        _wait(self._parameters.call_async(SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg()
            for name, value in parameters.items()])))


def _wait(future: Any) -> Any:
    deadline = time.monotonic() + 60.0
    while not future.done():
        if time.monotonic() > deadline:
            raise RuntimeError('no response in 60 s')
        time.sleep(0.001)
    return future.result()


@contextmanager
def live(
    bag: Path, folder: Path, has_clock: bool = True,
) -> Iterator[tuple[Client, NodeProcess]]:
    """
    Start both nodes and the player; gives a client and the process of vlm_node.

    Without a clock, as on a robot, frames are as old as the recording and not asked about.
    """
    environment = {'ROS_DOMAIN_ID': str(DOMAIN_ID)}
    sim_time = ['--ros-args', '-p', f'use_sim_time:={str(has_clock).lower()}']
    with ExitStack() as stack:
        stack.enter_context(NodeProcess(
            'event_sync_node', [*sim_time, '-r', 'events:=/event_camera/events',
                                '-r', 'image:=/camera/image_raw'],
            folder / 'event_sync_node.log', environment))
        vlm = stack.enter_context(NodeProcess(
            'vlm_node', [*sim_time, '-p', 'memory_fill:=at_once'], folder / 'vlm_node.log',
            environment))
        client = Client(stack.enter_context(SpinningNode('bench', DOMAIN_ID)).node)
        stack.enter_context(NodeProcess(
            'bag_player', [str(bag), *(['--clock', '--loop'] if has_clock else []),
                           '--wait-for-subscribers', '60'],
            folder / 'bag_player.log', environment))
        client.wait_for_frame()
        yield client, vlm


def find_seed(moves: bool) -> int:
    """Return the first scene before a still camera in which several objects move, or none."""
    for seed in range(1000):
        scene = sample_scene('demo', seed, aspect_ratio=4 / 3, camera_moves=False)
        moving = (scene.orbit_radius > 0) | (scene.spin != 0) | (scene.appears_s > 0)
        if moving.sum() == (2 if moves else 0):
            return seed
    raise RuntimeError('no scene of this kind: give another simulator')


def record(recordings: Path, moves: bool, duration_s: float) -> Path:
    """Return a recording of such a scene, simulated unless it is there already."""
    bag = recordings / f'{"moving" if moves else "still"}_{duration_s:g}s'
    if not bag.exists():
        record_simulation(bag, seed=find_seed(moves), camera_moves=False, duration_s=duration_s)
    return bag


def cpu_seconds(process: NodeProcess) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure_questions(client: Client, num_questions: int) -> dict[str, list[Answer]]:
    """Ask in turns of a few questions, in both ways."""
    answers: dict[str, list[Answer]] = {way: [] for way in WAYS}
    while min(map(len, answers.values())) < num_questions:
        for way, parameters in WAYS.items():
            client.set_parameters(**parameters)
            time.sleep(1.0)
            for question in QUESTIONS * 3:
                answer = client.ask(question)
                if answer.status == Answer.OK:
                    answers[way].append(answer)
                time.sleep(PERIOD_S)
    return answers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--questions', type=int, default=60, help='of each way')
    parser.add_argument('--idle', type=float, default=10.0, help='seconds of idling')
    parser.add_argument('--recordings', type=Path, help='folder that recordings are kept in')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    options = parser.parse_args()
    report: dict[str, Any] = {'machine': f'{platform.machine()}, {os.cpu_count()} cores'}
    with tempfile.TemporaryDirectory() as name:
        folder, recordings = Path(name), options.recordings or Path(name)
        with live(record(recordings, True, 3.0), folder) as (client, _):
            for way, answers in measure_questions(client, options.questions).items():
                report[way] = summarise(answers)
        bag = record(recordings, False, options.idle + 4.0)
        for has_clock in (False, True):
            with live(bag, folder, has_clock) as (client, vlm):
                client.set_parameters(**WAYS['scene in memory'])
                time.sleep(1.0)
                start_s = cpu_seconds(vlm)
                time.sleep(options.idle)
                report[f'idle core share{" with /clock" if has_clock else ""}'] = (
                    cpu_seconds(vlm) - start_s) / options.idle
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def summarise(answers: list[Answer]) -> dict[str, Any]:
    """Return what came of the questions of one way."""
    first_ms = [1e3 * answer.time_to_first_token for answer in answers]
    ages_s = [answer.frame_age.sec + answer.frame_age.nanosec * 1e-9 for answer in answers]
    return {
        'questions': len(answers), 'first_token_median_ms': float(np.median(first_ms)),
        'first_token_p99_ms': float(np.percentile(first_ms, 99)),
        'frame_age_median_s': float(np.median(ages_s)),
        'tokens_refreshed_median': float(np.median([a.tokens_refreshed for a in answers])),
        'oldest_token_median_s': float(np.median([
            answer.oldest_token_age.sec + answer.oldest_token_age.nanosec * 1e-9
            for answer in answers])),
        'in_memory': sum(answer.scene == 'memory' for answer in answers),
        'stale_median': float(np.median([answer.tokens_stale for answer in answers]))}


if __name__ == '__main__':
    main()
