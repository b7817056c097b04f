"""The tables of a run, for people."""

from __future__ import annotations

from collections.abc import Iterable
import math
from typing import Any

from epvlm_ros.eval.groups import ONE_FRAME_GROUP
from epvlm_ros.eval.policies import DENSE
from epvlm_ros.eval.summary import CONTROLS, is_significant, Summary

_MOST_PROBLEMS = 20  # that are listed
_INTRODUCTION = (
    'Right answers in per cent, differences in points; [95% interval of a paired bootstrap over '
    'images], * where the interval of a difference leaves 0 out.')


def format_overview(summary: Summary) -> str:
    """Return the table of all settings as Markdown, and what could not be asked."""
    parts = [
        f'{summary["questions"]} questions about {summary["images"]} images. {_INTRODUCTION}',
        _format_settings(summary)]
    if summary['timed_images']:
        parts.append(
            'First token: median time from the call to the first token of a question asked alone, '
            f'preparation of the image included, over {summary["timed_images"]} images.')
    unread = [f'{name}: {item["unread"]}' for name, item in summary['settings'].items()
              if item['unread']]
    if unread:
        parts.append('Answers that name none of the options, and are wrong: ' + '; '.join(unread))
    if summary['problems']:
        lines = [f'{len(summary["problems"])} rows could not be asked:']
        lines += [f'  row {item["row"]}: {item["reason"]}'
                  for item in summary['problems'][:_MOST_PROBLEMS]]
        if len(summary['problems']) > _MOST_PROBLEMS:
            lines.append('  the others are in summary.json')
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def format_report(summary: Summary) -> str:
    """Return the overview, tables of questions by kind, and where events were missing."""
    parts = [format_overview(summary)]
    if summary['questions_by_group']:
        parts += ['## Groups of questions', *_format_groups(summary)]
    if ONE_FRAME_GROUP in summary['questions_by_group']:
        parts += ['## Said to be unknowable', _format_unknowable(summary)]
    parts += ['## Families of questions', *_format_families(summary)]
    fallbacks = [f'- {name}: {number} answers by {fallback}'
                 for name, item in summary['settings'].items()
                 for fallback, number in item['fallbacks'].items()]
    if fallbacks:
        parts += ['## Where hardly any events came', '\n'.join(fallbacks)]
    return '\n\n'.join(parts)


def _format_settings(summary: Summary) -> str:
    header = ('setting', 'right', 'of dense, %', 'FLOPs saved, %', 'tokens', 'first token, ms',
              'to dense', *_control_headings())
    rows = []
    for name, item in summary['settings'].items():
        time_ms = item['median_ttft_ms']
        rows.append((
            name, format_share(item['accuracy']), format_share(item['retention']),
            f'{100 * item["flops_saved"]:.1f}',
            f'{item["tokens_kept"]:.0f} of {item["tokens"]:.0f}',
            '' if time_ms is None else f'{time_ms:.0f}',
            format_difference(None if name == DENSE else item['difference_to_dense']),
            *_format_controls(item)))
    return format_table(header, rows)


def _format_groups(summary: Summary) -> list[str]:
    """Return a heading and a table for each group."""
    parts = []
    for group, number in summary['questions_by_group'].items():
        rows = []
        for name, item in summary['settings'].items():
            found = item['by_group'][group]
            rows.append((name, format_share(found['accuracy']),
                         format_share(found['retention']), *_format_controls(found)))
        header = ('setting', 'right', 'of dense, %', *_control_headings())
        parts += [f'### {group[0].upper()}{group[1:]} ({number} questions)',
                  format_table(header, rows)]
    return parts


def _format_unknowable(summary: Summary) -> str:
    """Return how often an answer says that nothing can be known, and how often wrongly."""
    rows = [(name, *(format_share(item['said_unknowable'][kind]) for kind in ('share', 'wrongly')))
            for name, item in summary['settings'].items()]
    header = ('setting', 'said to be unknowable', 'said to be unknowable, wrongly')
    number = summary['questions_by_group'][ONE_FRAME_GROUP]
    return f'Of the {number} questions {ONE_FRAME_GROUP}, in per cent:\n\n' + format_table(
        header, rows)


def _format_families(summary: Summary) -> list[str]:
    """Return a table for each budget, a row for each family."""
    settings = summary['settings']
    budgets = dict.fromkeys(
        item['budget'] for name, item in settings.items() if name != DENSE)
    parts = []
    for budget in budgets or (settings[DENSE]['budget'],):
        columns = {DENSE: settings[DENSE], **{
            item['policy']: item for item in settings.values() if item['budget'] == budget}}
        rows = [
            (family, str(number), *(_per_cent(item['by_family'][family]['accuracy']['value'])
                                    for item in columns.values()))
            for family, number in summary['questions_by_family'].items()]
        rows.append(('all', str(summary['questions']), *(
            _per_cent(item['accuracy']['value']) for item in columns.values())))
        parts.append(format_table((f'right, {budget}', 'questions', *columns), rows))
    return parts


def format_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table whose columns are lined up."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    texts = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths)) + ' |'
             for line in lines]
    return '\n'.join([texts[0], '| ' + ' | '.join('-' * width for width in widths) + ' |',
                      *texts[1:]])


def _control_headings() -> list[str]:
    return [f'to {name.replace("_", " ")}' for name in CONTROLS]


def _format_controls(item: dict[str, Any]) -> list[str]:
    return [format_difference(item[f'difference_to_{name}']) for name in CONTROLS]


def format_share(estimate: dict[str, float]) -> str:
    """Return a share in per cent, with its interval."""
    return f'{_per_cent(estimate["value"])} {_format_bounds(estimate, ".1f")}'


def format_difference(estimate: dict[str, float] | None) -> str:
    """Return a difference in points, with its interval; marked where that leaves 0 out."""
    if estimate is None or math.isnan(estimate['value']):
        return ''
    mark = '*' if is_significant(estimate) else ''
    return f'{100 * estimate["value"]:+.1f}{mark} {_format_bounds(estimate, "+.1f")}'


def _format_bounds(estimate: dict[str, float], form: str) -> str:
    low, high = 100 * estimate['low'], 100 * estimate['high']
    return '[?]' if math.isnan(low) else f'[{low:{form}}, {high:{form}}]'


def _per_cent(value: float) -> str:
    return '?' if math.isnan(value) else f'{100 * value:.1f}'
