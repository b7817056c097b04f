#!/usr/bin/env python3
"""
A scene in memory against computing every frame anew: right answers and tokens computed.

Streams of the simulator in which objects are moved, taken away and put back before a still
camera, asked about by the embedded checkpoint. The memory is refreshed by events, by pixels or by
both; beside it the dense run, the default selection at the budget of the memory, and the first
frame kept as it was. Prints a table and, with --json, writes every answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.eval.still_image_events import activity_of_events
from epvlm_ros.events.histogram.change_accumulator import ChangeAccumulator, INTERVAL_NS
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.question_maker import make_question
from epvlm_ros.sim.questions import ONE_FRAME_FAMILIES
from epvlm_ros.sim.rearrangement import simulate_stream, StreamConfig, StreamFrame
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import AnswerText, PromptBuilder
from epvlm_ros.vlm.scene_memory import SceneMemory, SceneOptions
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, VisionInput
import numpy as np
import torch
from tqdm import tqdm

CELL_SIZE_PX = 4
WINDOW_S = 0.04
BUDGET = 0.3
ASK_EVERY = 4  # updates
CONDITIONS = {
    'clean': StreamConfig(),
    'two changes': StreamConfig(num_changes=2),
    'three changes': StreamConfig(num_changes=3),
    'gain steps': StreamConfig(gains=(1.0, 0.7, 1.25, 0.8)),
    'dark': StreamConfig(light=0.2, image_noise=5 / 255),
    'darker': StreamConfig(light=0.2, image_noise=12 / 255),
    'noise events': StreamConfig(events=EventCameraConfig(shot_noise_rate_hz=5.0)),
}
MEMORIES = {
    'events': (SceneOptions(budget=BUDGET, fills_at_once=True), True),
    'pixels': (SceneOptions(budget=BUDGET, fills_at_once=True), False),
    'both': (SceneOptions(budget=BUDGET, fills_at_once=True, checks_image=True), True),
    'events, encoded alone': (SceneOptions(budget=BUDGET, fills_at_once=True), True),
}


class ChangeOfStream:
    """Scores of change of a stream whose sensor sees the whole image."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._image_size = (config.image_height, config.image_width)
        self._sensor_size = (config.sensor_height, config.sensor_width)
        density = np.prod(self._sensor_size) / np.prod(self._image_size)
        self._accumulator = ChangeAccumulator(
            grid_shape(*self._image_size, CELL_SIZE_PX), float(CELL_SIZE_PX ** 2 * density))
        self._next_ns = 0

    def follow(self, frame: StreamFrame) -> ChangeScore:
        """Return the score up to the exposure of a frame."""
        while self._next_ns + INTERVAL_NS <= frame.time_ns:
            end_ns = self._next_ns + INTERVAL_NS
            self._accumulator.add_interval(
                self.count(frame.events, self._next_ns, end_ns).counts)
            self._next_ns = end_ns
        return ChangeScore(self._accumulator.scores, CELL_SIZE_PX, *self._image_size, epoch=1)

    def count(self, events: Events, start_ns: int, end_ns: int) -> ActivityGrid:
        """Count the events of a window."""
        is_inside = (events.t_ns >= start_ns) & (events.t_ns < end_ns)
        return activity_of_events(
            Events(*(part[is_inside] for part in events)), self._sensor_size, self._image_size,
            (end_ns - start_ns) / 1e9)


class Asker:
    """The embedded checkpoint, with every way to come to an answer."""

    def __init__(self) -> None:
        config = VlmConfig(device='cpu', acceleration='eager')
        self._checkpoint = load_checkpoint(config)
        self._engine = VlmEngine(self._checkpoint, config)
        self.model: Any = self._checkpoint.model
        info = self.model.info
        self._prompts = PromptBuilder(
            self._checkpoint.tokenizer, self._checkpoint.chat_template, info.image_token_id,
            info.video_token_id, tells_times=info.tells_times)
        self._end_token_ids = info.end_token_ids

    def make_memory(self, attends_to_scene: bool) -> SceneMemory:
        """Return a scene in memory."""
        return SceneMemory(
            self.model.scene_forward(attends_to_scene), self._make_vision,
            lambda num_tokens: self._prompts.prompt_ids('?', num_tokens))

    def patch_grid(self, config: StreamConfig) -> PatchGrid:
        """Return the visual tokens of a frame."""
        return self._engine.patch_grid(config.image_height, config.image_width)

    def ask_engine(
        self, frame: StreamFrame, activity: ActivityGrid, keep_ratio: float, texts: list[str],
    ) -> list[str]:
        """Answer as without a memory."""
        answers = self._engine.answer_all(frame.rgb, texts, activity, keep_ratio=keep_ratio)
        return [answer.text for answer in answers]

    def ask_scene(self, prefix: PromptPrefix, num_tokens: int, texts: list[str]) -> list[str]:
        """Answer from a snapshot of a memory."""
        return [self._answer(prefix, self._prompts.prompt_ids(text, num_tokens))
                for text in texts]

    def _answer(self, prefix: PromptPrefix, prompt_ids: torch.Tensor) -> str:
        answer = AnswerText(self._checkpoint.tokenizer)
        state = self.model.extend(prefix, prefix.text_after(prompt_ids))
        for token_id in self.model.decode(state, self._end_token_ids, 64):
            answer.append(token_id)
        answer.finish()
        return answer.text

    def _make_vision(
        self, image_rgb: np.ndarray, grid: PatchGrid, kept_indices: np.ndarray,
    ) -> VisionInput:
        processed = self._checkpoint.image_processor(
            images=[image_rgb], input_data_format='channels_last', return_tensors='pt')
        return VisionInput(processed['pixel_values'], grid.rows, grid.cols, kept_indices)


def main() -> None:
    """Run the streams and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[1])
    parser.add_argument('--conditions', nargs='+', choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument('--streams', type=int, default=4, help='of each condition')
    parser.add_argument('--updates', type=int, default=20, help='frames of each stream')
    parser.add_argument('--first', type=int, default=1000, help='number of the first scene')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='file for all answers')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    asker, rows = Asker(), []
    for condition in options.conditions:
        config = replace(CONDITIONS[condition], num_updates=options.updates)
        for index in tqdm(range(options.first, options.first + options.streams), condition):
            for row in run_stream(asker, config, index):
                rows.append({'condition': condition, 'stream': index, **row})
        print_table(condition, [row for row in rows if row['condition'] == condition])
    if options.json:
        options.json.write_text(json.dumps(rows))


def run_stream(asker: Asker, config: StreamConfig, index: int) -> Iterable[dict[str, Any]]:
    """Yield the questions about a stream, with all answers and the shares computed so far."""
    change, grid = ChangeOfStream(config), asker.patch_grid(config)
    memories = {name: asker.make_memory('alone' not in name) for name in MEMORIES}
    shares: dict[str, list[float]] = {name: [] for name in MEMORIES}
    random = np.random.default_rng([5, index])
    first: PromptPrefix | None = None
    for number, frame in enumerate(simulate_stream('test', index, config)):
        score = change.follow(frame)
        for name, (options, has_events) in MEMORIES.items():
            update = memories[name].update(
                frame.rgb, grid, frame.time_ns, options, score if has_events else None)
            if number:
                shares[name].append(len(update.refreshed) / grid.num_tokens)
        if first is None:
            first = memories['events'].snapshot()
        elif number % ASK_EVERY == 0:
            made = [make_question(family, frame.view, random, 6) for family in ONE_FRAME_FAMILIES]
            questions = [question for question in made if question is not None]
            texts = [question.text + '?' for question, _ in questions]
            window_ns = round(WINDOW_S * 1e9)
            activity = change.count(frame.events, frame.time_ns - window_ns, frame.time_ns)
            answers = {
                'dense': asker.ask_engine(frame, activity, 1.0, texts),
                'stateless': asker.ask_engine(frame, activity, BUDGET, texts),
                'nothing refreshed': asker.ask_scene(first, grid.num_tokens, texts),
                **{name: asker.ask_scene(memory.snapshot(), grid.num_tokens, texts)
                   for name, memory in memories.items()}}
            for place, (_, truth) in enumerate(questions):
                yield {
                    'update': number, 'question': texts[place], 'truth': truth,
                    'answers': {name: given[place] for name, given in answers.items()},
                    'shares': {name: float(np.mean(values)) for name, values in shares.items()}}


def print_table(condition: str, rows: list[dict[str, Any]]) -> None:
    """Print the share of right answers and of tokens computed, by policy."""
    changed = [row for row in rows if not is_right(row, 'nothing refreshed')]
    print(f'\n{condition}: {len(rows)} questions, {len(changed)} whose answer changed')
    print('| policy | right | of those that changed | tokens computed an update |')
    print('| --- | --- | --- | --- |')
    for name in rows[0]['answers']:
        shares = [row['shares'][name] for row in rows if name in row['shares']]
        fixed = {'dense': 1.0, 'stateless': BUDGET, 'nothing refreshed': 0.0}
        share = float(np.mean(shares)) if shares else fixed[name]
        right, right_changed = (
            100 * np.mean([is_right(row, name) for row in part]) if part else float('nan')
            for part in (rows, changed))
        print(f'| {name} | {right:.1f}% | {right_changed:.1f}% | {100 * share:.1f}% |')


def is_right(row: dict[str, Any], name: str) -> bool:
    """Whether an answer is, word for word, the truth."""
    return normalise(row['answers'][name]) == normalise(row['truth'])


def normalise(text: str) -> str:
    """Return the text without what makes no difference."""
    return text.strip().lower().rstrip('.')


if __name__ == '__main__':
    main()
