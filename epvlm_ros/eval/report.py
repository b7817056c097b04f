"""What the answers of a run come to: a summary for machines and tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
import math
from typing import Any

from epvlm_ros.eval.bootstrap import Estimate, PairedBootstrap
from epvlm_ros.eval.policies import DENSE, RANDOM
from epvlm_ros.eval.question_set import Problem
import numpy as np

Record = dict[str, Any]


def summarise(
    records: list[Record], problems: list[Problem], description: dict[str, Any],
) -> dict[str, Any]:
    """
    Return what a run came to, in JSON.

    Parameters
    ----------
    records : list of dict
        The answers, those to one question together, dense first.
    problems : list of Problem
        What could not be asked.
    description : dict
        What the run depends on.

    Returns
    -------
    dict
        ``settings``, one entry each: accuracy, retention and differences to dense and to random
        patches at the same budget, each with its 95% interval, means of FLOPs and tokens, median
        time to the first token, accuracies ``by_family`` and ``by_group``.

    Raises
    ------
    ValueError
        If there are no answers.

    """
    names = list(dict.fromkeys(record['setting'] for record in records))
    by_setting = {
        name: [record for record in records if record['setting'] == name] for name in names}
    first = by_setting[names[0]] if names else []
    images = {image: i for i, image in enumerate(dict.fromkeys(item['image'] for item in first))}
    bootstrap = PairedBootstrap(np.array([images[item['image']] for item in first], np.int64))
    right = {name: np.array([item['right'] for item in found], np.bool_)
             for name, found in by_setting.items()}
    masks = {kind: _masks(first, key) for kind, key in (
        ('by_family', 'family'), ('by_group', 'group'))}
    return {
        'run': description, 'questions': len(first), 'images': len(images),
        'problems': [asdict(problem) for problem in problems],
        'questions_by_family': {
            name: int(mask.sum()) for name, mask in masks['by_family'].items()},
        'questions_by_group': {
            name: int(mask.sum()) for name, mask in masks['by_group'].items()},
        'settings': {
            name: _summarise_one(found, right, bootstrap, masks)
            for name, found in by_setting.items()}}


def _masks(records: list[Record], key: str) -> dict[str, np.ndarray]:
    values = np.array([record[key] for record in records])
    return {str(value): values == value for value in dict.fromkeys(values) if value}


def _summarise_one(
    records: list[Record], right: dict[str, np.ndarray], bootstrap: PairedBootstrap,
    masks: dict[str, dict[str, np.ndarray]],
) -> dict[str, Any]:
    policy, budget, name = (records[0][key] for key in ('policy', 'budget', 'setting'))
    mine, dense = right[name], right[DENSE]
    control = right.get(f'{RANDOM}, {budget}')
    flops = np.array([[item['flops_used'], item['flops_dense']] for item in records], np.float64)
    summary: dict[str, Any] = {
        'policy': policy, 'budget': budget,
        'accuracy': asdict(bootstrap.accuracy(mine)),
        'retention': asdict(bootstrap.retention(mine, dense)),
        'difference_to_dense': asdict(bootstrap.difference(mine, dense)),
        'difference_to_random': None if control is None or policy in (DENSE, RANDOM) else
        asdict(bootstrap.difference(mine, control)),
        'flops_saved': float(np.mean(1.0 - flops[:, 0] / flops[:, 1])),
        'tokens_kept': float(np.mean([item['tokens_kept'] for item in records])),
        'tokens': float(np.mean([item['tokens'] for item in records])),
        'median_ttft_ms': float(np.median([item['ttft_ms'] for item in records])),
        'fallbacks': dict(Counter(item['fallback'] for item in records if item['fallback']))}
    for kind, chosen in masks.items():
        summary[kind] = {
            part: {'accuracy': asdict(bootstrap.accuracy(mine, mask)),
                   'retention': asdict(bootstrap.retention(mine, dense, mask))}
            for part, mask in chosen.items()}
    return summary


def format_report(summary: dict[str, Any]) -> str:
    """Return the tables of a summary as Markdown, and what could not be asked."""
    parts = [
        f'{summary["questions"]} questions about {summary["images"]} images; right answers in '
        'per cent, differences in points, [95% intervals of a paired bootstrap over images]',
        _format_settings(summary), _format_parts(summary, 'by_family')]
    if summary['questions_by_group']:
        parts.append(_format_groups(summary))
    fallbacks = [f'{name}: {number} answers by {fallback}'
                 for name, item in summary['settings'].items()
                 for fallback, number in item['fallbacks'].items()]
    if fallbacks:
        parts.append('\n'.join(fallbacks))
    if summary['problems']:
        lines = [f'{len(summary["problems"])} rows could not be asked:']
        lines += [f'  row {item["row"]}: {item["reason"]}' for item in summary['problems']]
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def _format_settings(summary: dict[str, Any]) -> str:
    header = ('setting', 'right', 'of dense', 'FLOPs saved', 'tokens', 'first token, ms',
              'to dense', 'to random')
    rows = [(
        name, f'{100 * item["accuracy"]["value"]:.1f}',
        f'{100 * item["retention"]["value"]:.1f}%', f'{100 * item["flops_saved"]:.1f}%',
        f'{item["tokens_kept"]:.0f} of {item["tokens"]:.0f}', f'{item["median_ttft_ms"]:.0f}',
        _format_interval(item['difference_to_dense']) if name != DENSE else '',
        _format_interval(item['difference_to_random']))
        for name, item in summary['settings'].items()]
    return format_table(header, rows)


def _format_parts(summary: dict[str, Any], kind: str) -> str:
    parts = list(summary[f'questions_{kind}'])
    rows = [(name, *(_per_cent(item[kind][part]['accuracy']['value']) for part in parts))
            for name, item in summary['settings'].items()]
    rows.append(('questions', *(str(summary[f'questions_{kind}'][part]) for part in parts)))
    return format_table(('right', *parts), rows)


def _format_groups(summary: dict[str, Any]) -> str:
    rows = []
    for name, item in summary['settings'].items():
        for part, number in summary['questions_by_group'].items():
            found = item['by_group'][part]
            rows.append((part, name, str(number), _per_cent(found['accuracy']['value']),
                         f'{_per_cent(found["retention"]["value"])}% '
                         + _format_bounds(found['retention'])))
    return format_table(('group', 'setting', 'questions', 'right', 'of dense'), rows)


def format_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table whose columns are lined up."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    texts = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths)) + ' |'
             for line in lines]
    return '\n'.join([texts[0], '| ' + ' | '.join('-' * width for width in widths) + ' |',
                      *texts[1:]])


def _format_interval(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return ''
    return f'{100 * estimate["value"]:+.1f} {_format_bounds(estimate, "+.1f")}'


def _format_bounds(estimate: dict[str, float], form: str = '.1f') -> str:
    low, high = (100 * Estimate(**estimate).low, 100 * Estimate(**estimate).high)
    return '[?]' if math.isnan(low) else f'[{low:{form}}, {high:{form}}]'


def _per_cent(value: float) -> str:
    return '?' if math.isnan(value) else f'{100 * value:.1f}'
