"""The command ``epvlm plan``; libraries are loaded when it runs, not with its options."""

from __future__ import annotations

import argparse
from dataclasses import replace
import re
from typing import Any

from epvlm_ros.vlm.config import VlmConfig

_UNITS = {'': 1.0, 'B': 1.0, 'MB': 1e6, 'GB': 1e9, 'MIB': 2.0 ** 20, 'GIB': 2.0 ** 30}
_SCENES = (  # of the table: a heading, and whether and how a scene is in memory
    ('no scene', False, 'scene'), ('scene alone', True, 'alone'), ('scene', True, 'scene'))


def add_plan_options(plan: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    model = VlmConfig()
    plan.add_argument('--model', default=model.model,
                      help='folder or hub name of a Qwen-VL (default: the embedded one); of a '
                           'folder config.json and preprocessor_config.json suffice')
    plan.add_argument('--revision', default=model.revision, help='of a model on the hub')
    plan.add_argument('--image', default='1280x720', metavar='WIDTHxHEIGHT',
                      help='largest image (default: %(default)s)')
    plan.add_argument('--memory', metavar='SIZE', help='what there is, such as 8GB or 7.5GiB')
    plan.add_argument('--cache-tokens', type=int, default=model.cache_tokens,
                      help='default: %(default)s')
    plan.add_argument('--max-pixels', type=int, default=model.max_pixels,
                      help='of the resized image; 0 leaves it to the model')
    plan.add_argument('--dtype', default='bfloat16', help='default: %(default)s')
    plan.add_argument('--cpu', action='store_true', help='plan for a CPU, not for a GPU')
    plan.set_defaults(run=plan_command)


def plan_command(options: argparse.Namespace) -> None:
    """Print what a model needs with each size of its weights, and what fits."""
    from epvlm_ros.vlm.checkpoint import read_model_config

    memory = read_memory(options.memory) if options.memory else None
    config = VlmConfig(
        model=options.model, revision=options.revision, cache_tokens=options.cache_tokens,
        max_pixels=options.max_pixels, dtype=options.dtype, warm_up_sizes=options.image)
    sizes = config.read_warm_up_sizes()
    if len(sizes) != 1:
        raise ValueError(f'--image is {options.image!r}: give one, such as 1280x720')
    model_config, geometry = read_model_config(config)
    width, height = sizes[0]
    grid = geometry.grid(height, width)
    print(f'{grid.num_tokens} visual tokens of {width} x {height} px; GB, all tokens kept')
    for line in make_table(model_config, config, grid.num_tokens, memory, not options.cpu):
        print(line)


def read_memory(text: str) -> float:
    """Return bytes of a size such as 8GB; a ValueError if it is none."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?) ?([A-Za-z]*)', text)
    if not match or match[2].upper() not in _UNITS or not float(match[1]):
        raise ValueError(f'--memory is {text!r}: give a size such as 8GB or 7.5GiB')
    return float(match[1]) * _UNITS[match[2].upper()]


def make_table(
    model_config: Any, config: VlmConfig, num_tokens: int, memory: float | None, on_gpu: bool,
) -> list[str]:
    """Return the lines of the table, and one that says what fits."""
    from epvlm_ros.vlm.checkpoint import DTYPES
    from epvlm_ros.vlm.memory_plan import GIGABYTE, plan_memory, WEIGHTS

    lines = ['weights     weights   cache  activations' + ''.join(
        f'{name:>15}' for name, _, _ in _SCENES)]
    largest: dict[str, str] = {}  # weights that fit, by what is in memory beside
    for weights in WEIGHTS:
        plans = [plan_memory(
            model_config, replace(
                config, weights=weights, scene_memory=in_memory, memory_context=context),
            num_tokens, on_gpu=on_gpu, dtype=DTYPES[config.dtype])
            for _, in_memory, context in _SCENES]
        first, line = plans[0], ''
        for (name, _, _), plan in zip(_SCENES, plans):
            fits = memory is not None and plan.total <= memory
            line += f'{plan.total / GIGABYTE:12.2f}' + (
                '   ' if memory is None else ' ok' if fits else ' no')
            if fits:
                largest.setdefault(name, weights)
        lines.append(
            f'{weights:<10}{first.weights / GIGABYTE:9.2f}{first.cache / GIGABYTE:8.2f}'
            f'{first.activations / GIGABYTE:13.2f}{line}')
    if memory is not None:
        fitting = '; '.join(f'{name}: weights {weights}' for name, weights in largest.items())
        lines.append(f'in {memory / GIGABYTE:.1f} GB fits at most: ' + (
            fitting or 'nothing; give a smaller model, or lower max_pixels or cache_tokens'))
    return lines
