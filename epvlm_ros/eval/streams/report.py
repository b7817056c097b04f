"""The tables of a run over streams, for people."""

from __future__ import annotations

from typing import Any

from epvlm_ros.eval.report import format_difference, format_share, format_table
from epvlm_ros.eval.streams.summary import CHANGED, REFERENCES, Summary

_INTRODUCTION = (
    'Right answers in per cent, differences in points; [95% interval of a paired bootstrap over '
    'scenes], * where the interval of a difference leaves 0 out. FLOPs are those of a frame, '
    'encoder and language model up to the question, of dense ones: on average, in brackets '
    'without the first frame, and as a multiple of the share of the tokens that truly changed. '
    'Outdated tokens show what is no longer there, in brackets those that the memory knows of.')


def format_streams(summary: Summary) -> str:
    """Return a table for each condition as Markdown."""
    parts = [_INTRODUCTION]
    for name, condition in summary['conditions'].items():
        parts += [_format_heading(name, condition), _format_policies(condition)]
        groups = [group for group in condition['questions_by_group'] if group != CHANGED]
        if groups:
            parts.append(_format_groups(condition, groups))
    return '\n\n'.join(parts)


def _format_heading(name: str, condition: Summary) -> str:
    return (
        f'### {name.replace("_", " ")}\n\n{condition["questions"]} questions about '
        f'{condition["streams"]} streams of {condition["updates"]} updates, '
        f'{condition["questions_by_group"].get(CHANGED, 0)} whose answer is another than at '
        f'first; {100 * condition["changed_share"]:.1f}% of the tokens change an update.')


def _format_policies(condition: Summary) -> str:
    has_drift = any(item['drift'] for item in condition['policies'].values())
    header = ('policy', 'right', 'of dense', 'right where the answer changed',
              *(f'to {_in_words(name)}' for name in REFERENCES), 'FLOPs', 'outdated',
              *(['late less early'] if has_drift else []))
    rows = []
    for name, item in condition['policies'].items():
        changed = item['by_group'].get(CHANGED)
        rows.append((
            _in_words(name), format_share(item['accuracy']), format_share(item['retention']),
            format_share(changed['accuracy']) if changed else '',
            *(format_difference(item.get(f'difference_to_{reference}'))
              for reference in REFERENCES),
            _format_flops(item, condition['changed_share']),
            f'{item["outdated_tokens"]:.1f} ({item["admitted_tokens"]:.1f})',
            *([format_difference(item['drift'])] if has_drift else [])))
    return format_table(header, rows)


def _format_flops(item: dict[str, Any], changed_share: float) -> str:
    share, later = item['flops_share'], item['flops_share_after_first']
    text = f'{100 * share:.1f}% ({100 * later:.1f}%'
    return text + (f', x {later / changed_share:.2f})' if changed_share else ')')


def _format_groups(condition: Summary, groups: list[str]) -> str:
    header = ('policy', *(f'{group}, {condition["questions_by_group"][group]} questions'
                          for group in groups), 'frames by themselves')
    rows = [(_in_words(name),
             *(format_share(item['by_group'][group]['accuracy']) for group in groups),
             f'{100 * item["frames_alone"]:.0f}%')
            for name, item in condition['policies'].items()]
    return format_table(header, rows)


def _in_words(name: str) -> str:
    return name.replace('_', ' ')
