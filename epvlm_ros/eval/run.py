"""A whole run: images in turn or spread over processes, and times of a sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
import copy
from dataclasses import dataclass
from itertools import groupby
import multiprocessing
import os
import queue
import signal
import traceback
from typing import Any

from epvlm_ros.eval.answer_file import AnswerFile, Record
from epvlm_ros.eval.question_set import Case, Observation, Problem, QuestionSet
from epvlm_ros.eval.runner import Runner
from epvlm_ros.eval.settings import Setting
from epvlm_ros.vlm.checkpoint import load_checkpoint, load_processor
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import OutOfMemory, VlmEngine
from epvlm_ros.vlm.remote import read_key, RemoteEngine
import torch

_LOOK_EVERY_S = 2.0  # whether all processes are still there
# Number of the image; the new answers to each of its questions.
_Answered = tuple[int, list[list[Record]]]


@dataclass(frozen=True)
class Job:
    """What every process needs: the model, what to compare, and the questions."""

    config: VlmConfig
    settings: list[Setting]
    questions: QuestionSet
    server: ServerConfig = ServerConfig()

    def make_runner(self, num_threads: int = 0) -> Runner:
        """Load the model; ``num_threads`` above 0 sets the threads of torch."""
        if self.config.num_threads or num_threads:
            torch.set_num_threads(self.config.num_threads or num_threads)
        if self.server.server:
            processor = load_processor(self.config)
            remote = RemoteEngine(processor, self.config, self.server, read_key())
            runner = Runner(remote, processor, self.config, self.settings)
        else:
            checkpoint = load_checkpoint(self.config)
            runner = Runner(
                VlmEngine(checkpoint, self.config), checkpoint, self.config, self.settings)
        runner.warm_up()
        return runner


def run_job(
    job: Job, answers: AnswerFile, show_progress: Callable[[Iterable[Any]], Iterable[Any]],
    num_processes: int = 1, num_in_flight: int = 1,
) -> list[Record]:
    """
    Ask what is not known yet, write it down at once, and return all answers in order.

    Answers are written in the order of the images; the problems of the questions of the job are
    complete afterwards. ``show_progress`` passes on what it is given, such as ``tqdm``. More than
    one process share the images; each loads the model. A server is asked so many questions at a
    time.

    Raises
    ------
    ValueError
        For less than one process.
    RuntimeError
        If a process fails.
    ServerError
        If the server fails; what was answered before is written down.

    """
    if num_processes < 1:
        raise ValueError(f'--processes is {num_processes}: give at least 1')
    known = frozenset(answers.known)
    if job.server.server:
        groups = _ask_in_flight(job, known, num_in_flight)
    elif num_processes == 1:
        groups = _ask_images(job, known)
    else:
        groups = _ask_in_processes(job, known, num_processes)
    found = (records for _, lists in groups for records in lists)
    new: dict[int, list[Record]] = {}
    for records in show_progress(found):
        answers.append(records)
        new[records[0]['number']] = records
    job.questions.problems.sort(key=lambda problem: problem.row)
    numbers = [case.number for case in copy.copy(job.questions)]
    everything = {**answers.known, **new}
    return [record for number in numbers for record in everything.get(number, ())]


def measure_times(
    job: Job, num_images: int, show_progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> dict[str, list[float]]:
    """
    Return times to the first token in ms by setting, of questions that are asked alone.

    They are the first question about each of the first ``num_images`` images. The problems of the
    questions of the job are left alone.
    """
    if not num_images:
        return {}
    questions = copy.copy(job.questions)
    runner = job.make_runner()
    times: dict[str, list[float]] = {setting.name: [] for setting in job.settings}
    for _, cases in show_progress(zip(range(num_images), group_by_image(questions))):
        observation = questions.observe(cases[0])
        if observation is None:
            continue
        try:
            found = runner.time_alone(cases[0], observation, cases[0].number)
        except (ValueError, OutOfMemory):
            continue  # a problem, which the run has reported
        for name, time_s in zip(times, found):
            times[name].append(round(1e3 * time_s, 3))
    return times


def group_by_image(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Yield the cases about one image that follow one another."""
    for _, group in groupby(cases, key=lambda case: case.image):
        yield list(group)


def _ask_images(
    job: Job, known: frozenset[int], share: int = 0, num_shares: int = 1, num_threads: int = 0,
) -> Iterator[_Answered]:
    """Yield number and new answers of every image, or of every n-th of them."""
    runner = None
    for number, cases in enumerate(group_by_image(job.questions)):
        if number % num_shares != share:
            continue
        new, observation = _observe(job, cases, known)
        if observation is None:
            yield number, []
            continue
        runner = runner or job.make_runner(num_threads)
        try:
            records, problems = runner.ask(new, observation, cases[0].number)
        except OutOfMemory as error:  # all settings answer the same questions, or none
            records, problems = {}, [Problem(case.number, str(error)) for case in new]
        job.questions.problems += problems
        yield number, list(records.values())


def _observe(
    job: Job, cases: list[Case], known: frozenset[int],
) -> tuple[list[Case], Observation | None]:
    """Return the cases about an image that are not known, and what there is to see."""
    new = [case for case in cases if case.number not in known]
    observation = job.questions.observe(new[0]) if new else None
    if observation is None:
        job.questions.problems += [
            Problem(case.number, f'the image {case.image} failed in a row before')
            for case in new[1:]]
    return new, observation


def _ask_in_flight(job: Job, known: frozenset[int], num_in_flight: int) -> Iterator[_Answered]:
    """Yield what ``_ask_images`` yields, with a server that is asked on several threads."""
    runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
    waiting: deque[tuple[int, Future[Any]]] = deque()

    def ask(new: list[Case], observation: Observation | None, seed: int) -> Any:
        if observation is None:
            return {}, []
        runner = runners.get()
        try:
            return runner.ask(new, observation, seed)
        finally:
            runners.put(runner)

    with ThreadPoolExecutor(num_in_flight) as pool:
        for _ in range(num_in_flight):
            runners.put(job.make_runner(1))
        try:
            for number, cases in enumerate(group_by_image(job.questions)):
                new, observation = _observe(job, cases, known)
                waiting.append((number, pool.submit(ask, new, observation, cases[0].number)))
                while waiting and (waiting[0][1].done() or len(waiting) > 2 * num_in_flight):
                    yield _receive_from(job, *waiting.popleft())
            while waiting:
                yield _receive_from(job, *waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()


def _receive_from(job: Job, number: int, future: Future[Any]) -> _Answered:
    records, problems = future.result()
    job.questions.problems += problems
    return number, list(records.values())


def _ask_in_processes(
    job: Job, known: frozenset[int], num_processes: int,
) -> Iterator[_Answered]:
    """Yield what ``_ask_images`` yields, in the same order, computed by several processes."""
    context = multiprocessing.get_context('spawn')  # a copy of a process with CUDA does not work
    results: Any = context.Queue()
    num_threads = max(1, (os.cpu_count() or 1) // num_processes)
    processes = [
        context.Process(
            target=_work, args=(job, known, share, num_processes, num_threads, results),
            daemon=True)
        for share in range(num_processes)]
    for process in processes:
        process.start()
    problems: set[Problem] = set()
    waiting: dict[int, list[list[Record]]] = {}
    next_number, num_working = 0, num_processes
    try:
        while num_working:
            kind, *content = _receive(results, processes)
            if kind == 'failed':
                raise RuntimeError(f'a process of the evaluation failed:\n{content[0]}')
            if kind == 'done':
                problems.update(content[0])
                num_working -= 1
                continue
            waiting[content[0]] = content[1]
            while next_number in waiting:
                yield next_number, waiting.pop(next_number)
                next_number += 1
    finally:
        for process in processes:
            process.terminate()
            process.join()
    job.questions.problems = list(problems)  # rows that are no cases, every process has found


def _receive(results: Any, processes: list[Any]) -> tuple[Any, ...]:
    """Return what some process sent, or what happened to it."""
    while True:
        try:
            return results.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            dead = [process.exitcode for process in processes if process.exitcode]
            if dead:
                return 'failed', f'it ended with status {dead[0]}'


def _work(
    job: Job, known: frozenset[int], share: int, num_shares: int, num_threads: int, results: Any,
) -> None:
    """Ask about every n-th image, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends all others
    try:
        for answered in _ask_images(job, known, share, num_shares, num_threads):
            results.put(('answered', *answered))
        results.put(('done', job.questions.problems))
    except Exception:
        results.put(('failed', traceback.format_exc()))
