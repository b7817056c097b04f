"""The summary of a run over streams, in JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from epvlm_ros.eval.answer_file import Record
from epvlm_ros.eval.bootstrap import PairedBootstrap
from epvlm_ros.eval.policies import DENSE
from epvlm_ros.eval.streams.conditions import STILL
from epvlm_ros.eval.streams.policies import PIXELS, STATELESS
import numpy as np

Summary = dict[str, Any]
REFERENCES = (DENSE, STATELESS, PIXELS)  # to which all policies are compared
POOLED = ' + '.join(STILL)
CHANGED, MOVING, RESTING = 'answer changed', 'camera moves', 'camera rests'
_FEW_UPDATES = 20  # a longer stream is compared with itself up to here


def summarise(streams: list[list[Record]], description: dict[str, Any]) -> Summary:
    """
    Return the summary of a run.

    Parameters
    ----------
    streams : list of list
        As ``StreamRunner.run`` returns them; at least one question in each condition.
    description : dict
        What the run depends on.

    Returns
    -------
    dict
        For each of the ``conditions``: numbers of streams and questions, the share of the tokens
        that truly changed an update, and for each of its ``policies`` accuracy, share of the
        dense accuracy and differences, with 95% intervals of a paired bootstrap over scenes, for
        all questions and ``by_group``; FLOPs and tokens a frame as shares of dense ones, with and
        without the first frame; tokens that show what is no longer there; and the course of
        all three over the stream.

    """
    names = list(dict.fromkeys(records[0]['condition'] for records in streams))
    found = {name: [records for records in streams if records[0]['condition'] == name]
             for name in names}
    if sum(name in STILL for name in names) > 1:
        found[POOLED] = [records for name in STILL for records in found.get(name, ())]
    return {'run': description,
            'conditions': {name: _summarise_condition(part) for name, part in found.items()}}


def _summarise_condition(streams: list[list[Record]]) -> Summary:
    questions = [record for records in streams for record in records[1:]]
    scenes = {index: number for number, index in enumerate(
        sorted({records[0]['stream'] for records in streams}))}
    bootstrap = PairedBootstrap(np.array(
        [scenes[records[0]['stream']] for records in streams for _ in records[1:]], np.int64))
    groups = _group_masks(questions)
    heads = [records[0] for records in streams]
    right = {name: np.array([record['right'][name] for record in questions], np.bool_)
             for name in heads[0]['spent']}
    updates = np.array([record['update'] for record in questions])
    return {
        'streams': len(streams), 'scenes': len(scenes), 'questions': len(questions),
        'updates': max(len(head['changed']) for head in heads),
        'questions_by_group': {name: int(mask.sum()) for name, mask in groups.items()},
        'changed_share': float(np.mean([share for head in heads for share in head['changed']])),
        'policies': {name: {
            **_compare(name, right, bootstrap, None),
            'by_group': {group: _compare(name, right, bootstrap, mask)
                         for group, mask in groups.items()},
            **_count_costs(name, heads), **_follow(right[name], updates, bootstrap),
        } for name in right}}


def _group_masks(questions: list[Record]) -> dict[str, np.ndarray]:
    changed, moving = (np.array([record[key] for record in questions], np.bool_)
                       for key in ('has_changed', 'camera_moves'))
    masks = {CHANGED: changed}
    if moving.any():
        masks |= {MOVING: moving, RESTING: ~moving}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _compare(
    name: str, right: dict[str, np.ndarray], bootstrap: PairedBootstrap,
    chosen: np.ndarray | None,
) -> Summary:
    return {
        'accuracy': asdict(bootstrap.accuracy(right[name], chosen)),
        'retention': asdict(bootstrap.retention(right[name], right[DENSE], chosen)),
        **{f'difference_to_{reference}': asdict(bootstrap.difference(
            right[name], right[reference], chosen))
           for reference in REFERENCES if reference in right and reference != name}}


def _count_costs(name: str, heads: list[Record]) -> Summary:
    """Count what a policy spent on a frame, on average over the streams."""
    def mean(key: str, divisor: str, first: int) -> float:
        return float(np.mean([value / head[divisor] for head in heads
                              for value in head['spent'][name][key][first:]]))

    spent = [head['spent'][name] for head in heads]
    kept: Callable[[str], float] = lambda key: float(np.mean([
        value for item in spent for value, alone in zip(item[key][1:], item['is_alone'][1:])
        if not alone] or [0.0]))
    flops = [np.divide(head['spent'][name]['flops'], head['flops_dense']) for head in heads]
    return {
        'flops_share': mean('flops', 'flops_dense', 0),
        'flops_share_after_first': mean('flops', 'flops_dense', 1),
        'tokens_share_after_first': mean('num_tokens', 'tokens', 1),
        'frames_alone': float(np.mean([alone for item in spent for alone in item['is_alone']])),
        'outdated_tokens': kept('num_outdated'), 'admitted_tokens': kept('num_admitted'),
        'flops_by_frame': _mean_by_frame(flops),
        'outdated_by_frame': _mean_by_frame([np.array(item['num_outdated']) for item in spent])}


def _mean_by_frame(streams: list[np.ndarray]) -> list[float]:
    """Return the mean over streams, which may end early, frame by frame."""
    longest = max(map(len, streams))
    return [float(np.mean([values[frame] for values in streams if frame < len(values)]))
            for frame in range(longest)]


def _follow(right: np.ndarray, updates: np.ndarray, bootstrap: PairedBootstrap) -> Summary:
    """Return accuracies update by update, and how late ones differ from early ones."""
    course = {int(update): asdict(bootstrap.accuracy(right, updates == update))
              for update in np.unique(updates)}
    early = updates <= _FEW_UPDATES
    drift = None if early.all() or not early.any() else asdict(
        bootstrap.change(right, ~early, early))
    return {'accuracy_by_update': course, 'drift': drift}
