"""The plot of accuracy against FLOPs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epvlm_ros.eval.policies import DENSE

# Colour-blind safe (Okabe and Ito), one for each policy in order.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#999999',
            '#7F5AA2', '#8C6D31')
_MARKERS = 'osD^vPX*<>'


def draw_plot(summary: dict[str, Any], path: Path) -> None:
    """
    Draw accuracy against the FLOPs used, a line for each policy, bars for the 95% intervals.

    Parameters
    ----------
    summary : dict
        Of ``report.summarise``.
    path : Path
        PNG to write.

    Raises
    ------
    ValueError
        If matplotlib is missing.

    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(
            'the plot needs matplotlib: pip install matplotlib, or give --no-plot') from None
    figure = Figure(figsize=(8.0, 5.0), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dense = summary['settings'][DENSE]['accuracy']
    axes.axhspan(100 * dense['low'], 100 * dense['high'], color='0.92', zorder=0)
    axes.axhline(100 * dense['value'], color='0.5', linewidth=1.0, zorder=1)
    axes.annotate('dense', (0.005, 100 * dense['value']), xycoords=('axes fraction', 'data'),
                  va='bottom', color='0.4')
    policies = list(dict.fromkeys(item['policy'] for item in summary['settings'].values()))
    policies.remove(DENSE)
    for i, policy in enumerate(policies):
        points = sorted(
            (100 * (1 - item['flops_saved']), *(
                100 * item['accuracy'][key] for key in ('value', 'low', 'high')))
            for item in summary['settings'].values() if item['policy'] == policy)
        used, value, low, high = zip(*points)
        # bars side by side, so that they do not hide one another
        shift = 0.35 * (i - (len(policies) - 1) / 2)
        axes.errorbar(
            [x + shift for x in used], value,
            yerr=[[v - b for v, b in zip(value, low)], [b - v for v, b in zip(value, high)]],
            label=policy.replace('_', ' '), color=_COLOURS[i % len(_COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)], markersize=5, linewidth=1.5, elinewidth=0.8,
            capsize=2)
    axes.set_xlabel('FLOPs of encoder and prefill, % of dense')
    axes.set_ylabel('right answers, %')
    axes.set_title(f'{summary["questions"]} questions about {summary["images"]} images')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.legend(loc='lower right', frameon=False)
    figure.savefig(path)
