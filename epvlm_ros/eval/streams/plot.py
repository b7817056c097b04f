"""The plot of a run over streams: accuracy against FLOPs, and both against time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epvlm_ros.eval.plot import make_figure
from epvlm_ros.eval.policies import DENSE
from epvlm_ros.eval.streams.conditions import DRIFT, STILL
from epvlm_ros.eval.streams.policies import (
    BOTH, EVENTS, FIRST, GRADUAL, kind_of, PAPER, PIXELS, STATELESS)
from epvlm_ros.eval.streams.summary import POOLED, Summary

# Colour-blind safe (after Okabe and Ito).
_STYLES = {
    DENSE: ('#000000', 'o'), EVENTS: ('#D55E00', 's'), BOTH: ('#0072B2', 'D'),
    PIXELS: ('#009E73', '^'), GRADUAL: ('#56B4E9', 'v'), STATELESS: ('#CC79A7', 'P'),
    PAPER: ('#E69F00', 'X'), FIRST: ('#999999', '*')}


def draw_streams(summary: Summary, path: Path) -> None:
    """
    Draw accuracy against FLOPs of a frame, and both over the course of the streams, as a PNG.

    ``ValueError`` if matplotlib is missing.
    """
    figure = make_figure(12.0, 5.0)
    panels = figure.subplot_mosaic([['cost', 'flops'], ['cost', 'right']], width_ratios=(1.3, 1.0))
    conditions = summary['conditions']
    still = [name for name in STILL if name in conditions] or [next(iter(conditions))]
    _draw_costs(panels['cost'], [conditions[name] for name in still])
    names = [name for name in (DRIFT, POOLED, *still) if name in conditions]
    _draw_course(panels['flops'], panels['right'], conditions[names[0]])
    panels['cost'].set_title(', '.join(name.replace('_', ' ') for name in still))
    panels['flops'].set_title(names[0].replace('_', ' '))
    figure.savefig(path)


def _draw_costs(axes: Any, conditions: list[Summary]) -> None:
    for policy in conditions[0]['policies']:
        items = [condition['policies'][policy] for condition in conditions]
        value, low, high = ([100 * item['accuracy'][key] for item in items]
                            for key in ('value', 'low', 'high'))
        colour, marker = _STYLES[kind_of(policy)]
        axes.errorbar(
            [100 * item['flops_share'] for item in items], value,
            yerr=[[v - b for v, b in zip(value, low)], [b - v for v, b in zip(value, high)]],
            color=colour, marker=marker, label=policy.replace('_', ' '), linewidth=1.2,
            elinewidth=0.8, capsize=2)
    axes.set_xlabel('FLOPs of a frame, % of dense (all frames of a stream)')
    axes.set_ylabel('right answers, % (bars: 95% intervals)')
    axes.grid(color='0.9')
    axes.legend(frameon=False)


def _draw_course(flops: Any, right: Any, condition: Summary) -> None:
    for policy, item in condition['policies'].items():
        colour, marker = _STYLES[kind_of(policy)]
        flops.plot([100 * share for share in item['flops_by_frame']], color=colour, linewidth=1.2)
        course = sorted((int(update), 100 * accuracy['value'])
                        for update, accuracy in item['accuracy_by_update'].items())
        right.plot(*zip(*course), color=colour, marker=marker, linewidth=1.2, markersize=4)
    flops.set_ylabel('FLOPs, %')
    right.set_ylabel('right, %')
    right.set_xlabel('frame')
    for axes in (flops, right):
        axes.grid(color='0.9')
