"""The summary of a run, in JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from epvlm_ros.eval.answer_file import Record
from epvlm_ros.eval.bootstrap import PairedBootstrap
from epvlm_ros.eval.groups import GROUPS, groups_of, ONE_FRAME_GROUP
from epvlm_ros.eval.policies import DENSE, RANDOM
from epvlm_ros.eval.question_set import Problem
from epvlm_ros.eval.scoring import is_right
from epvlm_ros.sim.questions import UNKNOWABLE_ANSWERS
import numpy as np

CONTROLS = (RANDOM, 'frame_difference')  # at the same budget, to which policies are compared
Summary = dict[str, Any]


def summarise(
    records: list[Record], problems: list[Problem], description: dict[str, Any],
    times_ms: dict[str, list[float]] | None = None,
) -> Summary:
    """
    Return the summary of a run.

    ``records`` are the answers, those to one question together, dense first; not empty.
    ``times_ms`` are times to the first token of questions asked alone, by setting.

    The summary has one entry for each setting in ``settings``: accuracy, retention and differences
    to dense, to random patches and to the frame difference at the same budget, each with its 95%
    interval, means of FLOPs and tokens, the median time to the first token, how many answers name
    none of the options (``unread``), and the same comparisons ``by_family`` and ``by_group``;
    ``said_unknowable`` is None, or of what one frame can answer the share with an answer that
    says that nothing can be known, and the share where that is wrong.
    """
    names = list(dict.fromkeys(record['setting'] for record in records))
    by_setting = {
        name: [record for record in records if record['setting'] == name] for name in names}
    first = by_setting[names[0]] if names else []
    images = {image: i for i, image in enumerate(dict.fromkeys(item['image'] for item in first))}
    bootstrap = PairedBootstrap(np.array([images[item['image']] for item in first], np.int64))
    right = {name: np.array([item['right'] for item in found], np.bool_)
             for name, found in by_setting.items()}
    masks = {'by_family': _family_masks(first), 'by_group': _group_masks(first)}
    times_ms = times_ms or {}
    return {
        'run': description, 'questions': len(first), 'images': len(images),
        'timed_images': max(map(len, times_ms.values()), default=0),
        'problems': [asdict(problem) for problem in problems],
        **{f'questions_{kind}': {name: int(mask.sum()) for name, mask in chosen.items()}
           for kind, chosen in masks.items()},
        'settings': {
            name: _summarise_one(found, right, bootstrap, masks, times_ms.get(name, []))
            for name, found in by_setting.items()}}


def is_significant(difference: dict[str, float] | None) -> bool:
    """Tell whether the 95% interval of a difference leaves 0 out."""
    return difference is not None and (difference['low'] > 0.0 or difference['high'] < 0.0)


def _family_masks(records: list[Record]) -> dict[str, np.ndarray]:
    families = np.array([record['family'] for record in records])
    return {str(name): families == name for name in dict.fromkeys(families)}


def _group_masks(records: list[Record]) -> dict[str, np.ndarray]:
    groups = [groups_of(record['family'], record['group']) for record in records]
    masks = {name: np.array([name in found for found in groups], np.bool_) for name in GROUPS}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _summarise_one(
    records: list[Record], right: dict[str, np.ndarray], bootstrap: PairedBootstrap,
    masks: dict[str, dict[str, np.ndarray]], times_ms: list[float],
) -> Summary:
    policy, budget, name = (records[0][key] for key in ('policy', 'budget', 'setting'))
    references = {'dense': right[DENSE], **{
        control: right.get(f'{control}, {budget}') for control in CONTROLS
        if policy not in (DENSE, control)}}
    flops = np.array([[item['flops_used'], item['flops_dense']] for item in records], np.float64)
    return {
        'policy': policy, 'budget': budget, **_compare(right[name], references, bootstrap, None),
        'flops_saved': float(np.mean(1.0 - flops[:, 0] / flops[:, 1])),
        'tokens_kept': float(np.mean([item['tokens_kept'] for item in records])),
        'tokens': float(np.mean([item['tokens'] for item in records])),
        'median_ttft_ms': float(np.median(times_ms)) if times_ms else None,
        'unread': sum(item['unread'] for item in records),
        'said_unknowable': _count_unknowable(
            records, right[name], bootstrap, masks['by_group'].get(ONE_FRAME_GROUP)),
        'fallbacks': dict(Counter(item['fallback'] for item in records if item['fallback'])),
        **{kind: {part: _compare(right[name], references, bootstrap, mask)
                  for part, mask in chosen.items()}
           for kind, chosen in masks.items()}}


def _count_unknowable(
    records: list[Record], right: np.ndarray, bootstrap: PairedBootstrap,
    chosen: np.ndarray | None,
) -> Summary | None:
    """Return the shares of said_unknowable for some questions; None for none."""
    if chosen is None:
        return None
    said = np.array([any(is_right(record['answer'], text, ()) for text in UNKNOWABLE_ANSWERS)
                     for record in records], np.bool_)
    return {'share': asdict(bootstrap.accuracy(said, chosen)),
            'wrongly': asdict(bootstrap.accuracy(said & ~right, chosen))}


def _compare(
    mine: np.ndarray, references: dict[str, np.ndarray | None], bootstrap: PairedBootstrap,
    chosen: np.ndarray | None,
) -> Summary:
    """Compare the answers of a setting with those of others, on some or all questions."""
    dense = references['dense']
    assert dense is not None
    differences = {
        f'difference_to_{name}': None if found is None else
        asdict(bootstrap.difference(mine, found, chosen)) for name, found in references.items()}
    return {
        'accuracy': asdict(bootstrap.accuracy(mine, chosen)),
        'retention': asdict(bootstrap.retention(mine, dense, chosen)),
        **{f'difference_to_{name}': None for name in CONTROLS}, **differences}
