#!/usr/bin/env python3
"""
How much of the objects each policy keeps, without any model.

``--photos FOLDER`` measures photographs with annotations (see ``epvlm_ros.eval.photographs``) and
objects of theirs that move before others of them; ``--half`` takes one half of them only, by a
hash of their names: ``choose`` to choose a policy by, ``report`` for figures of it.

Without it, for images of held-out scenes, each with the events about it, the script tells which
share of each object's area lies in kept tokens, and how many objects are kept whole (nine tenths
of them), for all objects and for those that move, that stand still before a still camera and
before a moving one. ``--times`` measures the selection on an image of 1920 x 1080 pixels instead.
Prints tables; JSON with ``--output``, a plot of photographs with ``--plot``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
import json
import math
from pathlib import Path
import time
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.kept_objects import (
    ActivityCache, BOXES, KeptObjects, moving_pictures, still_pictures)
from epvlm_ros.eval.photographs import HALVES, read_photographs
from epvlm_ros.eval.plot import draw_kept_objects
from epvlm_ros.eval.policies import activity_for, CONTROLS, POLICIES
from epvlm_ros.eval.question_set import Observation
from epvlm_ros.eval.report import format_table
from epvlm_ros.eval.settings import configure
from epvlm_ros.eval.simulated import observe_scene, SimulationConfig
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry, PatchGrid
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np
import torch

BUDGETS = (0.2, 0.35, 0.5)
WHOLE = 0.9
MIN_AREA = 0.2  # of a token: of less there is nothing to see
# The grid of the embedded model: 640 x 480 pixels become 12 x 16 tokens.
GEOMETRY = PatchGeometry(14, 2, 9 * 11 * 784, 155_000)
GROUPS = ('all', 'moving', 'still, camera still', 'still, camera moving')
NUM_RUNS = 200
REFERENCES = ('events_and_saliency', 'detail', 'events', 'objectness')
PHOTO_POLICIES = (
    'random', 'centre', 'saliency', 'detail', 'objectness', 'events', 'events_and_detail',
    'events_and_saliency', 'events_and_objectness')


def make_observations(
    split: str, num_images: int, first_scene: int,
) -> Iterator[tuple[Observation, np.ndarray, np.ndarray, bool]]:
    """Yield observations, owners (height, width) of pixels, which objects move, if all do."""
    config = SimulationConfig(split=split)
    height, width = config.image_height, config.image_width
    for index in range(first_scene, first_scene + num_images):
        scene = sample_scene(split, index, aspect_ratio=width / height)
        time_s = float(np.random.default_rng([27, index]).uniform(0.1, 3.0))
        observation = observe_scene(scene, time_s, config, seed=index)
        camera = SceneRenderer(stack_scenes([scene]), height, width)
        owner = camera.render(torch.tensor([[time_s]])).owner[0, 0].numpy()
        yield observation, owner, scene.moves, scene.camera_moves


def object_areas(owner: np.ndarray, grid: PatchGrid) -> np.ndarray:
    """Return the area of each object in each token, in tokens, (objects, tokens)."""
    height, width = owner.shape
    row = np.arange(height) * grid.rows // height
    col = np.arange(width) * grid.cols // width
    token = row[:, None] * grid.cols + col
    is_object = owner >= 0
    num_objects = int(owner.max(initial=0)) + 1
    counts = np.bincount(
        owner[is_object].astype(np.int64) * grid.num_tokens + token[is_object],
        minlength=num_objects * grid.num_tokens)
    return counts.reshape(num_objects, -1) * (grid.num_tokens / owner.size)


def kept_shares(options: argparse.Namespace) -> dict[str, list[tuple[str, float]]]:
    """Return, for each policy and budget, the group of each object and its kept share."""
    shares: dict[str, list[tuple[str, float]]] = {}
    observations = make_observations(options.split, options.images, options.first_scene)
    for number, (observation, owner, moves, camera_moves) in enumerate(observations):
        grid = GEOMETRY.grid(*owner.shape)
        areas = object_areas(owner, grid)
        seen = np.flatnonzero(areas.sum(axis=1) >= MIN_AREA)
        still = GROUPS[3] if camera_moves else GROUPS[2]
        groups = [GROUPS[1] if moves[item] else still for item in seen]
        for policy in options.policies:
            activity = activity_for(policy, observation, number)
            for budget in options.keep:
                config = configure(VlmConfig(), policy, budget)
                kept = select_for_frame(observation.rgb, grid, activity, config).kept_indices
                found = areas[seen][:, kept].sum(axis=1) / areas[seen].sum(axis=1)
                shares.setdefault(f'{policy}, keep {budget:g}', []).extend(zip(groups, found))
    return shares


def tabulate(shares: dict[str, list[tuple[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Return for each setting and group the mean share, the share of whole objects, the number."""
    table: dict[str, dict[str, list[float]]] = {}
    for name, found in shares.items():
        groups, values = np.array([item[0] for item in found]), np.array([i[1] for i in found])
        table[name] = {}
        for group in GROUPS:
            mine = values[(groups == group) | (group == GROUPS[0])]
            if len(mine):
                table[name][group] = [
                    float(mine.mean()), float((mine >= WHOLE).mean()), len(mine)]
    return table


def measure_times(policies: list[str]) -> dict[str, float]:
    """Return median milliseconds from activity to indices, 1920 x 1080 pixels, 2,691 tokens."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (1080, 1920, 3)).astype(np.uint8)
    counts = random.poisson(1.0, (270, 480)).astype(np.float32)
    activity = ActivityGrid(counts, 4, 1080, 1920, 0, 40_000_000)
    grid = PatchGeometry(14, 2, 3136, 12845056).grid(1080, 1920)
    times_ms = {}
    for policy in policies:
        config = replace(configure(VlmConfig(), policy, 0.5), static_scene_rate=2.0)
        times_s = []
        for _ in range(NUM_RUNS):
            start_s = time.perf_counter()
            select_for_frame(image, grid, activity, config)
            times_s.append(time.perf_counter() - start_s)
        times_ms[policy] = 1e3 * float(np.median(times_s))
    return times_ms


def measure_scenes(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is kept of the objects of simulated scenes, and print it as tables."""
    table = tabulate(kept_shares(options))
    print('mean share of an object that is kept, % / objects kept whole, %\n')
    for budget in options.keep:
        chosen = {name: item for name, item in table.items()
                  if name.endswith(f', keep {budget:g}')}
        groups = [group for group in GROUPS if group in next(iter(chosen.values()))]
        rows = [(name, *(f'{100 * item[group][0]:.1f} / {100 * item[group][1]:.1f}'
                         for group in groups)) for name, item in chosen.items()]
        rows.append(('objects', *(str(item) for item in (
            next(iter(chosen.values()))[group][2] for group in groups))))
        print(format_table(('setting', *groups), rows) + '\n')
    return table


def measure_photographs(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is kept of the objects of photographs, and print it as tables."""
    photographs = [item for item in read_photographs(options.photos)
                   if options.half in ('all', item.half)]
    cache = ActivityCache(options.cache)
    summary: dict[str, Any] = {}
    for pictures in (still_pictures, moving_pictures):
        kept = KeptObjects(pictures(photographs, cache), options.policies, options.keep)
        summary |= kept.summarise(REFERENCES)
    print(f'{len(photographs)} photographs; objects kept whole, % [95% interval], and by their '
          'middle, %; differences of whole ones, points\n')
    for group, found in summary.items():
        for keep_ratio in options.keep:
            print(f'{group}: {found["objects"]} objects, keep {keep_ratio:g}\n')
            print(format_table(
                ('policy', 'whole', 'centre', *(f'to {name}' for name in REFERENCES)),
                [(policy, *_cells(found[policy][f'{keep_ratio:g}']))
                 for policy in options.policies]) + '\n')
    if options.plot:
        draw_kept_objects(summary[f'{BOXES}, small and medium'], options.plot)
    return summary


def _cells(found: dict[str, tuple[float, float, float]]) -> list[str]:
    """Return the estimates of a policy as text: whole, centre, differences."""
    value, low, high = (100 * number for number in found['whole'])
    cells = [f'{value:.1f} [{low:.1f}, {high:.1f}]', f'{100 * found["centre"][0]:.1f}']
    for name in REFERENCES:
        value, low, high = (100 * number for number in found.get(
            f'whole less {name}', (float('nan'),) * 3))
        cells.append('' if math.isnan(value) else f'{value:+.1f} [{low:+.1f}, {high:+.1f}]')
    return cells


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--split', default='validation')
    parser.add_argument('--images', type=int, default=200)
    parser.add_argument('--first-scene', type=int, default=0)
    parser.add_argument('--policies', nargs='+', choices=POLICIES)
    parser.add_argument('--keep', type=float, nargs='+', default=list(BUDGETS))
    parser.add_argument('--photos', type=Path, metavar='FOLDER')
    parser.add_argument('--half', choices=(*HALVES, 'all'), default='all')
    parser.add_argument('--cache', type=Path, metavar='FOLDER',
                        help='keeps the simulated events of photographs')
    parser.add_argument('--plot', type=Path, help='PNG file')
    parser.add_argument('--times', action='store_true')
    parser.add_argument('--output', type=Path, help='JSON file')
    options = parser.parse_args()
    options.policies = options.policies or list(PHOTO_POLICIES if options.photos else POLICIES)
    if options.photos:
        result: dict[str, Any] = measure_photographs(options)
    elif options.times:
        result = dict(measure_times(
            [name for name in options.policies if name not in CONTROLS]))
        print(format_table(('policy', 'ms'), [
            (name, f'{value:.2f}') for name, value in result.items()]))
    else:
        result = measure_scenes(options)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
