"""The plot of accuracy against FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epvlm_ros.eval.groups import ONE_FRAME_GROUP
from epvlm_ros.eval.policies import DENSE, POLICIES
from epvlm_ros.vlm.token_selection.policies import EVENT_POLICIES

# Colour-blind safe (after Okabe and Ito), the same for a policy in every plot.
_COLOURS = {
    'events': '#D55E00', 'events_and_coverage': '#E69F00', 'events_and_detail': '#CC79A7',
    'events_and_saliency': '#0072B2', 'events_and_objectness': '#882255',
    'objectness': '#AA4499', 'oracle': '#000000', 'detail': '#8C6D31',
    'saliency': '#56B4E9', 'frame_difference': '#009E73', 'random': '#999999',
    'uniform': '#7F7F7F', 'centre': '#BBBBBB'}
_MARKERS = dict(zip(POLICIES, 'osD^vPX*<>h8pd'))
_BARS_APART = 0.25  # points of FLOPs


def draw_plot(summary: dict[str, Any], path: Path) -> None:
    """
    Draw accuracy against FLOPs as a PNG: a line for each policy, bars for the 95% intervals.

    Of simulated questions those count that one frame can answer, of others all. ``ValueError`` if
    matplotlib is missing.
    """
    figure = make_figure(9.5, 5.0)
    axes = figure.add_subplot()
    number = summary['questions_by_group'].get(ONE_FRAME_GROUP)
    dense = _accuracy(summary['settings'][DENSE])
    axes.axhspan(100 * dense['low'], 100 * dense['high'], color='0.92', zorder=0)
    axes.axhline(100 * dense['value'], color='0.4', linewidth=1.0, zorder=1)
    axes.annotate('dense', (0.005, 100 * dense['value']), xycoords=('axes fraction', 'data'),
                  va='bottom', color='0.3')
    policies = list(dict.fromkeys(item['policy'] for item in summary['settings'].values()))
    policies.remove(DENSE)
    for i, policy in enumerate(policies):
        # bars side by side, so that they do not hide one another
        _draw_line(axes, summary, policy, _BARS_APART * (i - (len(policies) - 1) / 2))
    axes.set_xlabel('FLOPs of encoder and prefill, % of dense')
    axes.set_ylabel('right answers, % (bars: 95% intervals)')
    what = f'{summary["questions"]} questions' if number is None else (
        f'{number} questions {ONE_FRAME_GROUP},')
    axes.set_title(f'{what} about {summary["images"]} images')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    if policies:
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False,
                    title='with events: solid')
    figure.savefig(path)


def make_figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches; ``ValueError`` if matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(
            'the plot needs matplotlib: pip install matplotlib, or give --no-plot') from None
    figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _accuracy(setting: dict[str, Any]) -> dict[str, float]:
    return setting['by_group'].get(ONE_FRAME_GROUP, setting)['accuracy']


def _draw_line(axes: Any, summary: dict[str, Any], policy: str, shift: float) -> None:
    """Draw the settings of a policy, moved sideways by a few points of FLOPs."""
    points = sorted(
        (100 * (1 - item['flops_saved']) + shift, *(
            100 * _accuracy(item)[key] for key in ('value', 'low', 'high')))
        for item in summary['settings'].values() if item['policy'] == policy)
    _draw_points(axes, policy, points)


def draw_kept_objects(group: dict[str, Any], path: Path) -> None:
    """
    Draw the share of objects that are kept whole against the budget as a PNG.

    ``group`` is one of those of ``KeptObjects.summarise``. ``ValueError`` if matplotlib is
    missing.
    """
    figure = make_figure(9.5, 5.0)
    axes = figure.add_subplot()
    policies = [name for name in group if name != 'objects']
    for i, policy in enumerate(policies):
        shift = _BARS_APART * (i - (len(policies) - 1) / 2)
        _draw_points(axes, policy, sorted(
            (100 * float(keep_ratio) + shift, *(100 * value for value in item['whole']))
            for keep_ratio, item in group[policy].items()))
    axes.set_xlabel('kept tokens, %')
    axes.set_ylabel('objects kept whole, % (bars: 95% intervals)')
    axes.set_title(f'{group["objects"]} small and medium objects of photographs')
    axes.grid(color='0.9')
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False,
                title='with events: solid')
    figure.savefig(path)


def _draw_points(
    axes: Any, policy: str, points: Sequence[tuple[float, ...]],
) -> None:
    """Draw a line through points (place, value, low, high)."""
    place, value, low, high = zip(*points)
    has_events = policy in EVENT_POLICIES
    axes.errorbar(
        place, value,
        yerr=[[v - b for v, b in zip(value, low)], [b - v for v, b in zip(value, high)]],
        label=policy.replace('_', ' '), color=_COLOURS.get(policy), marker=_MARKERS[policy],
        markersize=5, linestyle='-' if has_events else '--', linewidth=2.0 if has_events else 1.2,
        elinewidth=0.8, capsize=2)
