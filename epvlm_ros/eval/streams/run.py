"""A whole run: streams in turn or spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed, ProcessPoolExecutor
from dataclasses import dataclass
import multiprocessing
import os
import signal
from typing import Any

import cv2
from epvlm_ros.eval.answer_file import AnswerFile, Record
from epvlm_ros.eval.streams.conditions import CONDITIONS
from epvlm_ros.eval.streams.model import StreamModel
from epvlm_ros.eval.streams.runner import StreamRunner
from epvlm_ros.vlm.config import VlmConfig
import torch


@dataclass(frozen=True)
class StreamJob:
    """
    What every process needs.

    Attributes
    ----------
    config : VlmConfig
        The model.
    policies, conditions : tuple of str
        What is compared, and in which streams.
    num_streams : int
        Of each condition.
    split, first_scene : str, int
        Of the scenes: stream i is about scene ``first_scene + i``.
    num_updates : int
        Most updates of a stream; 0 leaves them as they are.

    """

    config: VlmConfig
    policies: tuple[str, ...]
    conditions: tuple[str, ...]
    num_streams: int
    split: str = 'test'
    first_scene: int = 0
    num_updates: int = 0

    def units(self) -> list[tuple[int, str, int]]:
        """Return number, condition and scene of every stream, those of one scene together."""
        pairs = [(condition, self.first_scene + stream)
                 for stream in range(self.num_streams) for condition in self.conditions]
        return [(number, *pair) for number, pair in enumerate(pairs, 1)]

    def make_runner(self, num_threads: int = 0) -> StreamRunner:
        """Load the model; ``num_threads`` above 0 sets the threads of torch."""
        if self.config.num_threads or num_threads:
            torch.set_num_threads(self.config.num_threads or num_threads)
        return StreamRunner(
            StreamModel(self.config), list(self.policies), self.split, self.num_updates)


def run_streams(
    job: StreamJob, answers: AnswerFile, show_progress: Callable[[Iterable[Any]], Iterable[Any]],
    num_processes: int = 1,
) -> list[list[Record]]:
    """
    Run the streams that are not known yet, write each down at once, and return all in order.

    ``show_progress`` passes on what it is given, such as ``tqdm``. More than one process share
    the streams; each loads the model.

    Raises
    ------
    ValueError
        For less than one process.
    concurrent.futures.process.BrokenProcessPool
        If a process was ended from outside.

    """
    if num_processes < 1:
        raise ValueError(f'--processes is {num_processes}: give at least 1')
    everything = dict(answers.known)
    units = job.units()
    new = [unit for unit in units if unit[0] not in everything]
    found = _run_here(job, new) if num_processes == 1 else _run_apart(job, new, num_processes)
    for records in show_progress(found):
        answers.append(records)
        everything[records[0]['number']] = records
    return [everything[number] for number, _, _ in units]


def _run_here(job: StreamJob, units: list[tuple[int, str, int]]) -> Iterator[list[Record]]:
    runner = None
    for number, condition, index in units:
        runner = runner or job.make_runner()
        yield runner.run(condition, index, number)


def _run_apart(
    job: StreamJob, units: list[tuple[int, str, int]], num_processes: int,
) -> Iterator[list[Record]]:
    """Yield streams as they are finished; the longest begin first."""
    context = multiprocessing.get_context('spawn')  # a copy of a process with CUDA does not work
    num_threads = max(1, (os.cpu_count() or 1) // num_processes)
    longest_first = sorted(units, key=lambda unit: -CONDITIONS[unit[1]].stream.num_updates)
    with ProcessPoolExecutor(
            num_processes, context, _start_process, (job, num_threads)) as executor:
        futures = [executor.submit(_run_unit, *unit) for unit in longest_first]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


_runners: list[StreamRunner] = []  # of this process


def _start_process(job: StreamJob, num_threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends all others
    cv2.setNumThreads(num_threads)
    _runners.append(job.make_runner(num_threads))


def _run_unit(number: int, condition: str, index: int) -> list[Record]:
    return _runners[0].run(condition, index, number)
