#!/usr/bin/env python3
"""
A fleet of robots asks one server: how many questions a second, and how soon they are answered.

``--sparse`` is an epvlm-serve, ``--dense`` a plain ``vllm serve`` with the same checkpoint, which
gets whole pictures; both run already. Questions are those of the simulated benchmark, as a Poisson
process of each robot, each about a picture that the server has not seen. Rates rise until the 99th
percentile of whole answers is above --limit, twice; both servers take turns at every rate.
Capacity is the highest rate before. Prints tables and, with --json, writes a file.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
import json
from pathlib import Path
import time
from typing import Any

from epvlm_ros.eval.question_set import Case, Observation
from epvlm_ros.eval.scoring import is_right
from epvlm_ros.eval.simulated import SimulatedSet, SimulationConfig
from epvlm_ros.vlm.checkpoint import load_processor, Processor
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.engine.moment_selector import MomentSelector
from epvlm_ros.vlm.remote import ServerError
from epvlm_ros.vlm.remote.chat_stream import ChatStream
from epvlm_ros.vlm.remote.event_lines import EventLines
from epvlm_ros.vlm.remote.http_client import HttpClient
from epvlm_ros.vlm.remote.picture import encode_picture
from epvlm_ros.vlm.remote.request import make_request
import numpy as np
import torch

TIMEOUT_S = 30.0
MAX_TOKENS = 16
MIN_QUESTIONS = 30  # at every rate
END_TOKEN = '<|im_end|>'
STEP = 1.35  # from one rate to the next
CHANGING = (0.1, 0.25, 0.5, 1.0)  # budgets of robots that do not agree


@dataclass(frozen=True)
class Server:
    """A running server, its model, and the budgets that robots ask it with in turns."""

    way: str
    url: str
    keep: tuple[float, ...]

    @cached_property
    def model(self) -> str:
        """Return the name of the first model that it lists."""
        http = HttpClient(self.url, '', TIMEOUT_S)
        return http.run(http.get_object('/v1/models'), lambda: None)['data'][0]['id']


@dataclass(frozen=True)
class Asked:
    """What came of a question; times in s from its arrival, None if it failed."""

    first_s: float | None
    whole_s: float | None
    is_right: bool = False
    fault: str = ''


@dataclass(frozen=True)
class Result:
    """A server under a load."""

    way: str
    rate: float  # questions a second that came
    answers_per_s: float
    first_p50_ms: float
    first_p99_ms: float
    whole_p50_ms: float
    whole_p99_ms: float
    kilobytes_sent: float  # a question
    kilobytes_received: float
    num_asked: int
    num_failed: int
    share_right: float
    fault: str = ''

    def is_within(self, limit_s: float) -> bool:
        """Whether all were answered, and the 99th percentile of whole answers in this time."""
        return not self.num_failed and self.whole_p99_ms <= 1e3 * limit_s


class Robots:
    """Makes questions as robots do, each about a picture of its own."""

    def __init__(self, processor: Processor, config: VlmConfig, num_scenes: int) -> None:
        self.processor, self.config = processor, config
        self._selector = MomentSelector(processor.geometry)
        questions = SimulatedSet(SimulationConfig(num_questions=6 * num_scenes))
        scenes: dict[str, Observation] = {}
        self.cases: list[tuple[Case, Observation]] = []
        for case in questions:
            if case.image not in scenes:
                scenes[case.image] = questions.observe(case)
            self.cases.append((case, scenes[case.image]))
        self._random = np.random.default_rng(1)

    def see(self) -> tuple[Case, Moment]:
        """Return a question and what it is about: a scene in light that nobody has seen."""
        case, seen = self.cases[self._random.integers(len(self.cases))]
        noise = self._random.integers(0, 3, seen.rgb.shape, np.uint8)
        return case, Moment(np.where(seen.rgb < 250, seen.rgb + noise, seen.rgb), seen.activity)

    def request(self, model: str, keep_ratio: float) -> tuple[Case, bytes]:
        """Return a question and the body of its request."""
        case, moment = self.see()
        config = replace(self.config, keep_ratio=keep_ratio)
        selected = self._selector.select([moment], 1.0, config)
        kept = selected.kept_indices
        picture = encode_picture(moment.image_rgb, selected.grid, kept, 95)
        body = make_request(picture, selected.grid, kept, case.question, config, 1.0)
        return case, json.dumps({'model': model, **body}).encode()


async def ask(http: HttpClient, case: Case, body: bytes) -> Asked:
    """Send a question and wait for its answer."""
    stream, lines = ChatStream({END_TOKEN}, MAX_TOKENS), EventLines()

    async def read() -> None:
        async for piece in http.post('/v1/chat/completions', body):
            for data in lines.feed(piece):
                stream.read(data)

    try:
        await asyncio.wait_for(read(), TIMEOUT_S)
    except ServerError as error:
        return Asked(None, None, fault=str(error))
    except asyncio.TimeoutError:
        return Asked(None, None, fault=f'no answer in {TIMEOUT_S:g} s')
    now_s = time.perf_counter()
    return Asked((stream.first_token_s or now_s) - stream.start_s, now_s - stream.start_s,
                 is_right(stream.text, case.answer, case.options))


def draw_arrivals(rate: float, num_robots: int, seconds: float, seed: int) -> np.ndarray:
    """Return when questions come, in s: the Poisson processes of all robots together."""
    random = np.random.default_rng(seed)
    return np.sort(np.concatenate([
        random.uniform(0.0, seconds, random.poisson(rate * seconds / num_robots))
        for _ in range(num_robots)]))


async def load(
    url: str, arrivals_s: np.ndarray, requests: list[tuple[Case, bytes]],
) -> tuple[list[Asked], float, int]:
    """Ask all questions, each when it comes; also return s until the end, and bytes received."""
    clients = [HttpClient(url, '', TIMEOUT_S) for _ in requests]
    start_s = time.perf_counter()

    async def ask_in_time(
        arrival_s: float, http: HttpClient, request: tuple[Case, bytes],
    ) -> Asked:
        await asyncio.sleep(arrival_s)
        return await ask(http, *request)

    found = await asyncio.gather(*map(ask_in_time, arrivals_s, clients, requests))
    return (list(found), time.perf_counter() - start_s,
            sum(client.num_bytes_received for client in clients))


def measure(
    server: Server, rate: float, robots: Robots, options: argparse.Namespace,
) -> Result:
    """Put a load on a server for some time."""
    arrivals_s = draw_arrivals(
        rate, options.robots, max(options.seconds, MIN_QUESTIONS / rate), seed=round(1e3 * rate))
    requests = [robots.request(server.model, server.keep[number % len(server.keep)])
                for number in range(len(arrivals_s))]
    found, seconds, num_bytes = asyncio.run(load(server.url, arrivals_s, requests))
    good = [item for item in found if item.whole_s is not None]
    first_ms = [1e3 * (item.first_s or 0.0) for item in good] or [float('nan')]
    whole_ms = [1e3 * (item.whole_s or 0.0) for item in good] or [float('nan')]
    first_50, first_99 = np.percentile(first_ms, [50, 99]).tolist()
    whole_50, whole_99 = np.percentile(whole_ms, [50, 99]).tolist()
    result = Result(
        server.way, rate, len(good) / seconds, first_50, first_99, whole_50, whole_99,
        sum(len(body) for _, body in requests) / len(requests) / 1e3,
        num_bytes / len(requests) / 1e3, len(found), len(found) - len(good),
        sum(item.is_right for item in good) / max(1, len(good)),
        next((item.fault for item in found if item.fault), ''))
    print(format_row(result), flush=True)
    return result


def climb(
    servers: list[Server], robots: Robots, options: argparse.Namespace,
) -> tuple[list[Result], dict[str, float]]:
    """Raise the rate until no server keeps up; return all results and the capacities."""
    results: list[Result] = []
    capacities = {server.way: 0.0 for server in servers}
    climbing, rate = list(servers), options.first_rate
    while climbing:
        for server in list(climbing):
            for _ in range(2):  # a busy machine has a second try
                results.append(measure(server, rate, robots, options))
                if results[-1].is_within(options.limit):
                    capacities[server.way] = rate
                    break
            else:
                climbing.remove(server)
        rate *= STEP
    return results, capacities


def ask_alone(servers: list[Server], robots: Robots, number: int) -> Iterator[dict[str, Any]]:
    """Yield medians of questions one after the other, of the own engine and of servers in turn."""
    engine = VlmEngine.from_config(robots.config)
    engine.warm_up()
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(number):
        case, moment = robots.see()
        answer = engine.answer_about([moment], case.question)
        times.setdefault('own engine', []).append(
            (answer.time_to_first_token_s, answer.total_time_s))
        for server in servers:
            asked = asyncio.run(ask(
                HttpClient(server.url, '', TIMEOUT_S),
                *robots.request(server.model, server.keep[0])))
            if asked.first_s is not None and asked.whole_s is not None:
                times.setdefault(server.way, []).append((asked.first_s, asked.whole_s))
    for way, pairs in times.items():
        first_ms, whole_ms = 1e3 * np.median(pairs, axis=0)
        yield {'way': way, 'first_ms': float(first_ms), 'whole_ms': float(whole_ms)}


def format_row(result: Result) -> str:
    """Return a row of the table of loads."""
    return (f'| {result.way} | {result.rate:.2f} | {result.answers_per_s:.2f} | '
            f'{result.first_p50_ms:.0f} / {result.first_p99_ms:.0f} | '
            f'{result.whole_p50_ms:.0f} / {result.whole_p99_ms:.0f} | '
            f'{result.kilobytes_sent:.1f} / {result.kilobytes_received:.1f} | '
            f'{result.num_failed} of {result.num_asked} | {result.share_right:.0%} |'
            + (f' {result.fault}' if result.fault else ''))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0].strip())
    parser.add_argument('--sparse', required=True, metavar='URL')
    parser.add_argument('--dense', required=True, metavar='URL')
    parser.add_argument('--model', default='', help='the checkpoint of both')
    parser.add_argument('--keep', type=float, default=0.25)
    parser.add_argument('--robots', type=int, default=16)
    parser.add_argument('--seconds', type=float, default=20.0, help='at every rate')
    parser.add_argument('--first-rate', type=float, default=1.0)
    parser.add_argument('--limit', type=float, default=1.0,
                        help='of the 99th percentile of whole answers, in seconds')
    parser.add_argument('--alone', type=int, default=20, help='questions one after the other')
    parser.add_argument('--json', type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = VlmConfig(
        model=options.model, device='cpu', num_threads=1, keep_ratio=options.keep,
        max_new_tokens=MAX_TOKENS, static_scene_policy='objectness')
    robots = Robots(load_processor(config), config, num_scenes=20)
    servers = [Server('dense', options.dense, (1.0,)),
               Server(f'keep {options.keep:g}', options.sparse, (options.keep,))]
    alone = list(ask_alone(servers, robots, options.alone))
    print('| one at a time | first token, ms | whole answer, ms |\n| --- | --- | --- |')
    for row in alone:
        print(f'| {row["way"]} | {row["first_ms"]:.0f} | {row["whole_ms"]:.0f} |')
    print('\n| | questions/s | answers/s | first token p50 / p99, ms | whole p50 / p99, ms | '
          'kB sent / received | failed | right |\n' + '| --- ' * 8 + '|')
    results, capacities = climb(servers, robots, options)
    changing = measure(
        Server('budgets of 0.1 to 1', options.sparse, CHANGING),
        max(options.first_rate, capacities['dense']), robots, options)
    for way, rate in capacities.items():
        print(f'capacity, {way}: {rate:.2f} questions/s')
    if options.json:
        options.json.write_text(json.dumps({
            'alone': alone, 'loads': [asdict(item) for item in (*results, changing)],
            'capacities': capacities}, indent=1) + '\n')


if __name__ == '__main__':
    main()
