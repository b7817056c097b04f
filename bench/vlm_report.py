"""Table and plot of what bench/vlm.py measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scene_times import print_scene

_BARS = (('encoder', '#0072B2'), ('prefill', '#E69F00'))


def print_table(report: dict[str, Any]) -> None:
    """Print everything as lines of a Markdown table."""
    print(f'{report["shape"]} {report["weights"]} on {report["machine"]}, torch '
          f'{report["torch"]}, transformers {report["transformers"]}')
    if 'embedded' in report:
        print(f'loaded in {report["embedded"]["load_s"]:.2f} s')
        for keep_ratio, result in report['embedded']['ratios'].items():
            print(f'| {keep_ratio} | {_times(result["first_token"])} | '
                  f'{result["speed_up"]:.2f} | {result["longest_answer_ms"]:.1f} |')
        return
    print(f'matrix rate {report["matrix_rate"] / 1e12:.0f} TFLOP/s')
    print('| image | run | tokens | encoder | prefill | first token | p99 | second question | '
          'ms/token | FLOPs saved | matrix rate | vs library | vs own dense |')
    for image, result in report.get('library', {}).items():
        print(f'| {image} | library eager (forward {_times(result["forward"])}) | '
              f'{_row(result)} |')
    for image, results in report.get('engine', {}).items():
        for keep_ratio, result in results.items():
            print(f'| {image} | engine {keep_ratio} | {result["tokens_kept"]} | {_row(result)} | '
                  f'{result["flops_saved"]:.1%} | {result["matrix_rate_share"]:.0%} | '
                  f'{result.get("against_library", 0.0):.2f} | '
                  f'{result["against_own_dense"]:.2f} |')
    for image, results in report.get('agreement', {}).items():
        for keep_ratio, result in results.items():
            print(f'| {image} | agreement {keep_ratio} | {_named(result["largest"])} | '
                  f'{_named(result["error"])} |')
    if 'scene' in report:
        print_scene(report['scene'])
    for name in ('compiled', 'memory', 'selection'):
        if name in report:
            print(name, report[name])


def _row(result: dict[str, Any]) -> str:
    parts = [f'{result[name]["median_ms"]:.2f}' for name in ('encoder', 'prefill', 'first_token')]
    parts += [f'{result["first_token"]["p99_ms"]:.2f}',
              f'{result["second_question"]["median_ms"]:.2f}']
    parts.append(f'{result["token_ms"]:.3f}' if 'token_ms' in result else '')
    return ' | '.join(parts)


def _named(values: dict[str, float]) -> str:
    return ' | '.join(f'{name}: {value:.4f}' for name, value in values.items())


def _times(result: dict[str, float]) -> str:
    return f'{result["median_ms"]:.2f} ms, p99 {result["p99_ms"]:.2f}'


def draw_plot(report: dict[str, Any], path: Path) -> None:
    """
    Draw encoder and prefill as stacked bars, a group for each image size.

    Raises
    ------
    ImportError
        If matplotlib is missing.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(9.0, 4.5), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    images = list(report['engine'])
    all_axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image in zip(all_axes, images):
        runs = {f'{ratio}': result for ratio, result in report['engine'][image].items()}
        if image in report.get('library', {}):
            runs = {'library\ndense': report['library'][image], **runs}
        bottom = [0.0] * len(runs)
        for part, colour in _BARS:
            heights = [result[part]['median_ms'] for result in runs.values()]
            axes.bar(range(len(runs)), heights, bottom=bottom, color=colour, label=part)
            bottom = [low + height for low, height in zip(bottom, heights)]
        for place, total in enumerate(bottom):
            axes.annotate(f'{total:.1f}', (place, total), ha='center', va='bottom', fontsize=7)
        axes.set_xticks(range(len(runs)), list(runs), fontsize=7)
        axes.set_title(image.replace('x', ' x '), fontsize=9)
        axes.set_xlabel('keep ratio', fontsize=8)
    all_axes[0].set_ylabel('encoder and prefill, ms')
    all_axes[0].legend(fontsize=8)
    figure.suptitle(
        f'Qwen2-VL-{report["shape"].upper()} shape, {report["machine"]}, bfloat16', fontsize=10)
    figure.savefig(path)
