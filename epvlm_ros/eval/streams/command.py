"""What ``epvlm eval simulated-streams`` does."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from typing import Any

from epvlm_ros.eval.answer_file import AnswerFile, ANSWERS_FILE
from epvlm_ros.eval.policies import DENSE
from epvlm_ros.eval.streams.conditions import COMPARED, CONDITIONS
from epvlm_ros.eval.streams.plot import draw_streams
from epvlm_ros.eval.streams.policies import kind_of, POLICIES
from epvlm_ros.eval.streams.report import format_streams
from epvlm_ros.eval.streams.run import run_streams, StreamJob
from epvlm_ros.eval.streams.summary import summarise
from epvlm_ros.sim.scene import RANDOMISED_SPLITS, SPLITS
from epvlm_ros.vlm.config import VlmConfig
from tqdm import tqdm

VERSION = 2  # to be raised where equal options come to give other streams, questions or scores


def evaluate_streams(
    options: argparse.Namespace, config: VlmConfig, model: dict[str, Any],
) -> None:
    """
    Run the streams, write answers, summary and plot, print the tables.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command.
    config : VlmConfig
        The model.
    model : dict
        What the answers depend on of it, in JSON.

    Raises
    ------
    ValueError
        For values that cannot be, and answers of another run.

    """
    job = make_job(options, config)
    description = {
        'kind': 'simulated-streams', 'version': VERSION, **model, 'split': job.split,
        'first_scene': job.first_scene, 'updates': job.num_updates, 'policies': job.policies,
        'conditions': {name: asdict(CONDITIONS[name]) for name in job.conditions}}
    options.output.mkdir(parents=True, exist_ok=True)
    answers = AnswerFile(options.output / ANSWERS_FILE, description)
    num_streams = len(job.units())
    streams = run_streams(job, answers, lambda found: tqdm(
        found, total=num_streams, initial=min(len(answers.known), num_streams), unit='stream',
        disable=None), options.processes)
    summary = summarise(streams, description)
    (options.output / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n')
    report = format_streams(summary)
    (options.output / 'report.md').write_text(report + '\n')
    print(report)
    if not options.no_plot:
        draw_streams(summary, options.output / 'streams.png')
    print(f'\nanswers, summary, report and plot: {options.output}')


def make_job(options: argparse.Namespace, config: VlmConfig) -> StreamJob:
    """Return what is to be run, checked; as ``evaluate_streams``."""
    conditions = options.conditions or list(COMPARED)
    # What is moved may not be seen on the ground of a randomised scene.
    splits = [name for name in SPLITS if name not in RANDOMISED_SPLITS]
    policies = list(dict.fromkeys([*(options.policies or POLICIES), DENSE]))
    policies.sort(key=lambda name: POLICIES.index(kind_of(name)))
    for option, chosen, possible in (('--conditions', conditions, CONDITIONS),
                                     ('--split', [options.split], splits)):
        for name in chosen:
            if name not in possible:
                raise ValueError(f'{option} {name}: give some of {", ".join(possible)}')
    for name in ('streams', 'updates'):
        least = int(name == 'streams')
        if getattr(options, name) < least:
            raise ValueError(f'--{name} is {getattr(options, name)}: give at least {least}')
    return StreamJob(
        config, tuple(policies), tuple(dict.fromkeys(conditions)), options.streams,
        options.split, options.first_scene, options.updates)
