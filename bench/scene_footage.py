#!/usr/bin/env python3
"""
A scene in memory on a recording: what is refreshed, what is left stale, and what answers say.

Every frame of a recording updates the scene, as a question about it does. Tokens
whose pixels differ from those they were computed from, beyond the noise of the frames, count as
outdated. Every few frames the same questions are asked about the scene, about the frame by itself
with the default selection, and about all of its tokens. Prints a table and, with --json, writes a
file.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

from epvlm_ros.bag.offline_sync import guided_frames
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.eval.streams.token_pixels import copy_tokens
from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, VlmEngine
from epvlm_ros.vlm.engine.answer import SceneReport
from epvlm_ros.vlm.image_check import find_differences, find_gain, sample_tokens
import numpy as np
from tqdm import tqdm

QUESTIONS = ('What do you see?', 'How many objects are there?', 'Is anything red?')
ASK_EVERY = 5  # frames
LEVELS, DEVIATIONS = 12.0, 6.0  # of a difference that is no noise


class Footage:
    """Follows a recording with and without a scene in memory."""

    def __init__(self, config: VlmConfig) -> None:
        checkpoint = load_checkpoint(config)
        self._engine = VlmEngine(checkpoint, config)
        self._alone = VlmEngine(checkpoint, replace(config, scene_memory=False))
        self._sources: np.ndarray | None = None
        self.updates: list[dict[str, Any]] = []
        self.agreement: Counter[str] = Counter()

    def take(self, moment: Moment) -> None:
        """Update the scene by a frame, and ask now and then."""
        answer = self._engine.answer_about([moment], QUESTIONS[0], max_new_tokens=1)
        scene = answer.scene
        assert scene is not None
        in_memory = scene.is_used
        self.updates.append({
            'tokens': answer.num_tokens, 'in_memory': in_memory,
            'refreshed': scene.num_refreshed, 'stale': scene.num_stale,
            'outdated': self._count_outdated(moment, scene), 'flops': scene.flops_refresh})
        if len(self.updates) % ASK_EVERY == 0:
            self._ask(moment, in_memory)

    def _count_outdated(self, moment: Moment, scene: SceneReport) -> int:
        """Count tokens that are held for known and whose pixels are others by now."""
        if not scene.is_used:
            self._sources = None
            return 0
        grid = self._engine.patch_grid(*moment.image_rgb.shape[:2])
        if self._sources is None:
            self._sources = moment.image_rgb.copy()
        fresh = np.flatnonzero(scene.ages_ns == 0)
        copy_tokens(moment.image_rgb, self._sources, fresh, grid)
        samples = sample_tokens(moment.image_rgb, grid)
        sources = sample_tokens(self._sources, grid)
        gain = find_gain(samples, sources, np.ones(grid.num_tokens, np.bool_))
        differs = find_differences(samples / gain, sources).exceed(LEVELS, DEVIATIONS)
        return int((differs & (scene.ages_ns >= 0)).sum())

    def _ask(self, moment: Moment, in_memory: bool) -> None:
        kind = 'in memory' if in_memory else 'moving'
        for text in QUESTIONS:
            living, alone = (
                engine.answer_about([moment], text).text for engine in (self._engine, self._alone))
            dense = self._alone.answer_about([moment], text, keep_ratio=1.0).text
            self.agreement.update({
                f'{kind}: questions': 1, f'{kind}: as dense': living == dense,
                f'{kind}: the frame by itself as dense': alone == dense})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('recording', type=Path)
    parser.add_argument('--keep-ratio', type=float, default=0.5)
    parser.add_argument('--model', default='')
    parser.add_argument('--motion-share', type=float, default=0.6)
    parser.add_argument('--without-pixels', action='store_true', help='events alone decide')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    options = parser.parse_args()
    footage = Footage(VlmConfig(
        model=options.model, scene_memory=True, memory_fill='at_once',
        keep_ratio=options.keep_ratio, memory_motion_share=options.motion_share,
        memory_image_check=not options.without_pixels, max_new_tokens=24))
    with BagReader(options.recording) as bag:
        for number, guided in enumerate(tqdm(guided_frames(bag, EventSyncConfig()), unit='frame')):
            footage.take(Moment(
                bag.image(guided.frame.payload).rgb, guided.activity, number,
                guided.frame.stamp_ns, guided.change))
    updates = footage.updates
    in_memory = [update for update in updates if update['in_memory']]
    tokens = max(1, sum(update['tokens'] for update in in_memory))
    print(f'{len(updates)} frames, {len(in_memory)} of them in memory; of their tokens:')
    for name in ('refreshed', 'stale', 'outdated'):
        print(f'  {name}: {sum(update[name] for update in in_memory) / tokens:.1%}')
    for name, count in sorted(footage.agreement.items()):
        print(f'  {name}: {count}')
    if options.json:
        options.json.write_text(json.dumps(
            {'updates': updates, 'agreement': dict(footage.agreement)}, indent=1))


if __name__ == '__main__':
    main()
