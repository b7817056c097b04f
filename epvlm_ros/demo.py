"""
Two nodes answer questions about a recording that is replayed.

Makes a recording with the simulator, starts both nodes, replays, asks over topic and service,
prints each answer beside the truth, writes an overlay picture, and ends with a line of JSON. With
--ui it also serves the page of `epvlm ui`, until Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
import json
import os
from pathlib import Path
import shutil
import signal
import sys
import threading
import time
from typing import Any, TypeVar

import cv2
from epvlm_interfaces.msg import Answer, EventGuidedFrame, Query
from epvlm_interfaces.srv import Ask
from epvlm_ros.images import image_to_rgb
from epvlm_ros.ros.processes import NodeProcess
from epvlm_ros.ros.qos import FRAMES, QUERIES, query_calls
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.sim.recording import record_simulation, TruthQuestion
from rclpy.node import Node
from sensor_msgs.msg import Image

Value = TypeVar('Value')
SEED = 20
ONE_FRAME = ('colour', 'shape', 'count', 'existence', 'place', 'symbol')
SEVERAL_FRAMES = (
    'colour', 'count', 'place', 'symbol', 'moving', 'moving_count', 'still', 'moving_symbol')
DURATION_S = 2.5  # of the recording
TIMEOUT_S = 120.0
SETTLE_S = 1.0  # of replay before the first question
# Frames that a question is about, so that what moves can be asked.
NUM_MOMENTS, MOMENT_PERIOD_S = 3, 0.4


class DemoError(RuntimeError):
    """Something that the demo waits for did not happen."""


class Asker:
    """A node that asks over topic and service and keeps the answers and the last overlay."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._answers: list[Answer] = []
        self.num_answered = 0  # as many overlays are to come
        self.overlays: list[Image] = []
        self._queries = self.node.create_publisher(Query, 'query_with_options', QUERIES)
        self.node.create_subscription(Answer, 'answer', self._answers.append, QUERIES)
        self.node.create_subscription(Image, 'overlay', self.overlays.append, FRAMES)
        self._service: Any = self.node.create_client(
            Ask, 'ask', qos_profile=query_calls())
        self._frame_seen = threading.Event()
        self._frames: Any = self.node.create_subscription(
            EventGuidedFrame, 'event_guided_frame', lambda frame: self._frame_seen.set(), FRAMES)

    def is_connected(self) -> bool:
        """Whether the node that answers is there, with its topics."""
        return (self._service.service_is_ready() and self._queries.get_subscription_count() > 0
                and self.node.count_publishers('answer') > 0
                and self.node.count_publishers('overlay') > 0)

    def has_seen_a_frame(self) -> bool:
        """Whether a guided frame has come; then frames are no longer listened to."""
        if self._frame_seen.is_set() and self._frames is not None:
            self.node.destroy_subscription(self._frames)
            self._frames = None
        return self._frame_seen.is_set()

    def ask_by_topic(self, question: str, num_moments: int) -> Answer:
        """Publish a query about so many frames and wait for its answer."""
        known = len(self._answers)
        self._queries.publish(Query(question=question, num_moments=num_moments))
        return self._count(wait_for(
            lambda: next((answer for answer in self._answers[known:]
                          if answer.question == question), None), f'an answer to {question!r}'))

    def ask_by_service(self, question: str, num_moments: int) -> Answer:
        """Call the service about so many frames and wait for its answer."""
        future = self._service.call_async(
            Ask.Request(question=question, num_moments=num_moments))
        return self._count(wait_for(future.result, f'an answer to {question!r}').answer)

    def _count(self, answer: Answer) -> Answer:
        self.num_answered += answer.status == Answer.OK
        return answer


def main(arguments: list[str] | None = None) -> None:
    """Run the demo; the exit status is 0 if every answer came and was right."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--output', type=Path, default=Path('build/demo'),
                        help='folder of recording, overlay and logs (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=SEED, help='which scene is simulated')
    parser.add_argument('--ui', action='store_true',
                        help='serve the page in the browser until Ctrl-C')
    parser.add_argument('--port', type=int, default=8080, help='of the page; 0 takes a free one')
    parser.add_argument('--server', default='', metavar='URL',
                        help='ask a server with the embedded checkpoint (docs/fleet.md)')
    options = parser.parse_args(arguments)
    # As Ctrl-C does it: the nodes, which are processes of their own, end as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.output.mkdir(parents=True, exist_ok=True)
    # Nobody else's graph is to be disturbed, nor to disturb.
    os.environ.setdefault('ROS_DOMAIN_ID', str(100 + os.getpid() % 100))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    try:
        report = run(
            options.output, options.seed, options.port if options.ui else None, options.server)
    except DemoError as error:
        report = {'ok': False, 'error': str(error), 'answers': [], 'overlay': ''}
    print(json.dumps(report))
    sys.exit(0 if report['ok'] else 1)


def run(
    output: Path, seed: int, port: int | None = None, server: str = '',
) -> dict[str, Any]:
    """
    Make the recording, run the graph on it and return the report.

    With a ``port`` the page is served there, until Ctrl-C. The model is on a ``server``, a URL, or
    in the node.
    """
    bag = output / 'recording'
    shutil.rmtree(bag, ignore_errors=True)
    with ExitStack() as stack:
        print('Starting event_sync_node and vlm_node ...', flush=True)
        processes = start_nodes(stack, output, server, has_page=port is not None)
        if port is not None:
            processes.append(start_page(stack, output, port))
        print('Simulating a scene with an event camera ...', flush=True)
        truth = choose_questions(
            record_simulation(bag, seed=seed, camera_moves=False, duration_s=DURATION_S),
            ONE_FRAME if server else SEVERAL_FRAMES)
        asker = Asker(stack.enter_context(SpinningNode('demo')).node)
        wait_for(asker.is_connected, f'the nodes; their logs are in {output}', processes)
        print(f'Replaying {bag} in a loop ...', flush=True)
        player = stack.enter_context(NodeProcess(
            'bag_player', [str(bag), '--clock', '--loop', '--wait-for-subscribers', '30'],
            output / 'bag_player.log', {}))
        wait_for(asker.has_seen_a_frame, 'the first guided frame', [*processes, player])
        time.sleep(SETTLE_S)
        num_moments = 1 if server else NUM_MOMENTS
        answers = [ask_one(asker, number, item, num_moments) for number, item in enumerate(truth)]
        overlay = write_overlay(output / 'overlay.png', asker)
        if port is None:
            print('In the browser: make demo-ui', flush=True)
        else:
            wait_for_end([*processes, player])
    right = all(answer['status'] == 'OK' and answer['answer'] == answer['expected']
                for answer in answers)
    return {'ok': right and len(answers) >= 3, 'answers': answers, 'overlay': str(overlay)}


def choose_questions(
    truth: list[TruthQuestion], families: Sequence[str],
) -> list[TruthQuestion]:
    """Return one question of each family whose answer holds all through the recording."""
    lasting = [item for item in truth if item.always_valid]
    chosen = [next((item for item in lasting if item.family == family), None)
              for family in families]
    return [item for item in chosen if item is not None]


def start_nodes(
    stack: ExitStack, output: Path, server: str, has_page: bool,
) -> list[NodeProcess]:
    """Start both nodes on the topics of the recording, in simulated time."""
    sync = ['--ros-args', '-p', 'use_sim_time:=true', '-p', 'window_offset:=0.006',
            '-r', 'events:=/event_camera/events', '-r', 'image:=/camera/image_raw']
    vlm = ['--ros-args', '-p', 'use_sim_time:=true']
    if server:  # which takes one picture
        vlm += ['-p', f'server:={server}']
    else:
        vlm += ['-p', f'moment_period:={MOMENT_PERIOD_S}']
        if has_page:  # people ask there what moves, and do not say about how many frames
            vlm += ['-p', f'num_moments:={NUM_MOMENTS}']
    return [
        stack.enter_context(NodeProcess(name, arguments, output / f'{name}.log', {}))
        for name, arguments in (('event_sync_node', sync), ('vlm_node', vlm))]


def start_page(stack: ExitStack, output: Path, port: int) -> NodeProcess:
    """Start the page and print its address."""
    page = stack.enter_context(NodeProcess(
        'ui', ['--port', str(port)], output / 'ui.log', {}, module='epvlm_ros.cli'))
    print(wait_for(page.log.read_text, f'the page; see {page.log}', [page]).strip(), flush=True)
    return page


def wait_for_end(processes: list[NodeProcess]) -> None:
    """Wait for Ctrl-C, or for a process that ends."""
    print('\nThe recording goes on and on, and the page too. Ctrl-C ends it.', flush=True)
    try:
        while all(process.is_running() for process in processes):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass


def ask_until_ready(
    ask: Callable[[str, int], Answer], question: str, num_moments: int,
) -> Answer:
    """
    Ask, and ask again while the answer is about fewer frames, or about one of another age.

    Fewer have come where the recording has just begun anew; on a busy machine /clock comes late.
    """
    def try_once() -> Answer | None:
        answer = ask(question, num_moments)
        is_too_early = answer.status == Answer.STALE_FRAME or (
            answer.status == Answer.OK and answer.moments < num_moments)
        return None if is_too_early else answer

    return wait_for(try_once, f'an answer about {num_moments} frames to {question!r}')


def ask_one(
    asker: Asker, number: int, item: TruthQuestion, num_moments: int,
) -> dict[str, Any]:
    """Ask one question, by topic and by service in turns, and print what came of it."""
    ask, way = (asker.ask_by_topic, 'topic') if number % 2 else (asker.ask_by_service, 'service')
    answer = ask_until_ready(ask, item.question, num_moments)
    saved = 1.0 - answer.flops_used / answer.flops_dense if answer.flops_dense else 0.0
    print(f'\n  {item.question}  (by {way})\n'
          f'    {answer.text or answer.message}  (truth: {item.answer})\n'
          f'    {answer.tokens_kept} of {answer.tokens} visual tokens, {saved:.0%} of the FLOPs '
          f'saved, {answer.total_time * 1e3:.0f} ms'
          + (f', fallback: {answer.fallback}' if answer.fallback else ''), flush=True)
    return {
        'question': item.question, 'answer': answer.text, 'expected': item.answer,
        'model': answer.model, 'moments': answer.moments,
        'status': 'OK' if answer.status == Answer.OK else answer.message,
        'tokens': answer.tokens, 'tokens_kept': answer.tokens_kept, 'flops_saved': saved,
        'ttft_ms': answer.time_to_first_token * 1e3, 'total_ms': answer.total_time * 1e3}


def write_overlay(path: Path, asker: Asker) -> Path:
    """Write the overlay of the last answer as a picture; it may come after that."""
    image = wait_for(
        lambda: asker.overlays[max(0, asker.num_answered - 1):],
        'the overlay of the last answer')[0]
    cv2.imwrite(str(path), cv2.cvtColor(image_to_rgb(image), cv2.COLOR_RGB2BGR))
    print(f'\nOverlay of the last answer: {path}', flush=True)
    return path


def wait_for(
    find: Callable[[], Value | None], what: str, processes: list[NodeProcess] | None = None,
) -> Value:
    """Return the first true value of ``find``; `DemoError` if there is none in time."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        value = find()
        if value:
            return value
        for process in processes or []:
            if not process.is_running():
                raise DemoError(f'waiting for {what}, a process ended: see {process.log}')
        time.sleep(0.05)
    raise DemoError(f'waited {TIMEOUT_S:g} s in vain for {what}')


if __name__ == '__main__':
    main()
