#!/usr/bin/env python3
"""
Keep a scene in memory for minutes, with all that may happen to it, and watch the memory.

Random weights of the shape of Qwen2-VL-2B behind ``VlmEngine``, with attention that looks at some
tokens more than at others, so that answers depend on all that was computed. Pictures with change
scores come in a row, of which any share changes; in between their size changes, time is set back
(a recording in a loop), the events begin an epoch or lose packets, the camera moves, the memory is
switched off and on, and questions are asked, of which some are broken off. Every fiftieth answer
or so is compared: all updates since its scene began are computed once more by the library's
layers, on the same weights, and each token of the answer must be the best one there, up to twice
the library's own spread between attention back ends. How many would be wrong without the updates
since all was first known tells what that is worth, and ``compare_with_dense`` how far answers are
from the dense model's. Memory must stay flat as in ``soak.py``; it is looked at after answers
about a scene of the largest size. Prints progress and, as its last line, one line of JSON; the
exit status is 1 if something was wrong.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
import json
import sys
from typing import Any

from epvlm_ros.vlm.checkpoint import Checkpoint, load_processor
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.engine import EngineAnswer, Moment, VlmEngine
from epvlm_ros.vlm.prompt import PromptBuilder
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import numpy as np
from scene_recording import RecordedModel
from scene_stream import Stream
from soak import (
    add_options, ALLOWED_GROWTH, find_growth, largest_gap, library_spread, run_rounds)
import torch
from vlm_models import GRIDS, load_model, make_vision

SPREAD_IMAGES = ('640x480', '1280x720')  # whose attention back ends are compared
MAX_PIXELS = 12_845_056  # of a picture, as Qwen2-VL has it
SCORE_DEVIATION = 1.5  # of attention scores of one query; more makes rounding grow too much
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25)  # of the tokens, changed in a frame
BUDGETS = (0.1, 0.25, 0.5)
# How likely each is in a round; else some of the picture changes.
INCIDENTS = {'size': 0.004, 'loop': 0.012, 'epoch': 0.012, 'packets lost': 0.03, 'motion': 0.01,
             'memory off': 0.004}
WORDS = ('what', 'is', 'red', 'left', 'of', 'the', 'blue', 'star')


class TokenNumbers:
    """A tokenizer, but answers are numbers of tokens: random weights know no words."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the tokenizer."""
        return getattr(self._tokenizer, name)

    def decode(self, token_ids: list[int], **_: Any) -> str:
        """Return numbers with blanks between them."""
        return ' '.join(map(str, map(int, token_ids)))


@torch.no_grad()
def sharpen_attention(model: Any) -> None:
    """Give random weights of queries and keys a size at which attention is not even."""
    for module in (*model.visual.modules(), *model.language_model.modules()):
        for name in ('qkv', 'q_proj', 'k_proj'):
            if hasattr(module, name):
                weight = getattr(module, name).weight
                num_rows = len(weight) // 3 * 2 if name == 'qkv' else len(weight)
                weight[:num_rows].normal_(0.0, (SCORE_DEVIATION / weight.shape[1]) ** 0.5)


class SceneSoak:
    """One engine with a scene in memory under random load, beside the library."""

    def __init__(self, options: argparse.Namespace) -> None:
        library = load_model(options.shape, options.device)
        sharpen_attention(library.model)
        self.tolerance = 2.0 * max(
            library_spread(library, make_vision(library.config, *GRIDS[image], 1.0,
                                                options.device)) for image in SPREAD_IMAGES)
        config = VlmConfig(
            device=options.device, scene_memory=True, max_pixels=MAX_PIXELS, memory_max_age=5.0)
        processor = load_processor(config)  # of the embedded checkpoint: any text will do
        library.config.image_token_id = processor.info.image_token_id
        library.config.video_token_id = processor.info.video_token_id
        self._eager = SparseQwenVl(library)
        self._graphs = CudaGraphQwenVl(self._eager, usual_ratios=())
        self._model = RecordedModel(self._graphs)
        self._engine = VlmEngine(Checkpoint(**{
            **vars(processor), 'info': self._eager.info, 'model': self._model,
            'tokenizer': TokenNumbers(processor.tokenizer)}), config)
        self._prompts = PromptBuilder(
            processor.tokenizer, processor.chat_template, library.config.image_token_id)
        self._random = np.random.default_rng(options.seed)
        self._stream = Stream(self._random)
        self._compare_every = self._num_until_compared = options.compare_every
        self._last_moment: Moment | None = None
        self.counts: Counter[str] = Counter()
        self.worst = {'worst_gap': 0.0, 'worst_difference': 0.0}
        self._found: dict[str, list[float]] = {
            'updates': [], 'gap_without_updates': [], 'difference_without_updates': [],
            'same_text': [], 'same_first_token': [], 'log_probability_lost': []}

    @property
    def num_graphs(self) -> int:
        """How many CUDA graphs are captured."""
        return self._graphs.num_graphs

    def run_round(self) -> bool:
        """Let something happen, then maybe ask; return whether memory is as it always is then."""
        moment = self._next_moment()
        if not self._engine.has_seen(moment.change, moment.stamp_ns or 0, moment.source):
            is_cancelled = self._random.random() < 0.05
            self.counts['updates'] += 1
            self._engine.prepare([moment], should_stop=lambda: is_cancelled)
        is_about_scene = self._random.random() < 0.25 and self._ask(moment)
        self._last_moment = moment
        return is_about_scene and self._stream.is_largest

    def summary(self) -> dict[str, Any]:
        """Return what was found out."""
        status = self._engine.scene_status
        return {
            **self.counts, 'restarts': status.num_restarts if status else 0,
            'tokens_refreshed': status.num_tokens_refreshed if status else 0,
            'graphs': self.num_graphs, 'tolerance': self.tolerance, **self.worst,
            **{f'mean_{name}': float(np.mean(values or [np.nan]))
               for name, values in self._found.items()}}

    def _next_moment(self) -> Moment:
        """Let something happen in front of the camera, or to the memory."""
        incident = str(self._random.choice(
            [*INCIDENTS, 'change'], p=[*INCIDENTS.values(), 1.0 - sum(INCIDENTS.values())]))
        self.counts[incident] += 1
        share = float(self._random.choice(SHARES) * self._random.uniform(0.8, 1.1))
        happens: dict[str, Callable[[], None]] = {
            'size': self._stream.change_size, 'loop': self._stream.go_back,
            'epoch': self._stream.begin_epoch, 'packets lost': self._stream.lose_packets,
            'motion': self._stream.move_camera, 'memory off': self._switch_off,
            'change': lambda: self._stream.change(share)}
        happens[incident]()
        if incident != 'change':
            self._engine.reconfigure(replace(
                self._engine.config, keep_ratio=float(self._random.choice(BUDGETS)),
                memory_fill=str(self._random.choice(['progressive', 'at_once']))))
        return self._stream.next_moment()

    def _switch_off(self) -> None:
        """Switch the memory off for a question, and on again."""
        config = self._engine.config
        self._engine.reconfigure(replace(config, scene_memory=False))
        self._answer([self._stream.next_moment()])
        self._engine.reconfigure(config)

    def _ask(self, moment: Moment) -> bool:
        """Ask something, whole or not; return whether the answer was about the scene."""
        if self._num_until_compared <= 0:
            question = self._make_question()
            length = int(self._random.integers(12, 48))
            answer = self._engine.answer_about([moment], question, max_new_tokens=length)
            self.counts['answers'] += 1
            if answer.scene is not None and answer.scene.is_used:
                self._num_until_compared = self._compare_every - 1
                self._compare(answer, moment, question, length)
        elif self._random.random() < 0.05 and self._last_moment is not None:
            self.counts['about_the_past'] += 1
            answer = self._answer([self._last_moment], is_past=True)
        else:
            answer = self._answer([moment])
        return answer.scene is not None and answer.scene.is_used

    def _answer(self, moments: list[Moment], *, is_past: bool = False) -> EngineAnswer:
        """Ask a question that may be broken off in the middle of its answer."""
        length = int(self._random.integers(12, 48))
        is_cancelled = self._random.random() < 0.3
        num_left = int(self._random.integers(0, length)) if is_cancelled else 10 * length

        def should_stop() -> bool:
            nonlocal num_left
            num_left -= 1
            return num_left < 0

        choices = ('red', 'blue') if self._random.random() < 0.1 else ()
        answer = self._engine.answer_about(
            moments, self._make_question(), choices=choices, is_past=is_past,
            should_stop=should_stop, max_new_tokens=length)
        self.counts['answers'] += 1
        self.counts['cancelled'] += answer.ending == 'stopped'
        self._num_until_compared -= 1
        return answer

    def _make_question(self) -> str:
        return ' '.join(self._random.choice(WORDS, int(self._random.integers(1, 60)))) + ' ?'

    def _compare(
        self, answer: EngineAnswer, moment: Moment, question: str, length: int,
    ) -> None:
        """Compare an answer with the replay of its scene, and with the dense model."""
        logits = self._model.first_logits  # before others take their place
        token_ids = [int(number) for number in answer.text.split()]
        recording = self._model.recording
        prompt_ids = self._prompts.prompt_ids(question, answer.num_tokens)
        gaps, differences = [], []
        for prefix in recording.replay(self._eager):
            state = self._eager.extend(prefix, prefix.text_after(prompt_ids))
            differences.append(float((state.logits.float() - logits).abs().max()))
            gaps.append(largest_gap(self._eager, state, token_ids))
        self.counts['compared'] += 1
        self.counts['wrong'] += gaps[0] > self.tolerance
        self.counts['wrong_without_updates'] += gaps[1] > self.tolerance
        self.counts['first_logits_beyond'] += differences[0] > self.tolerance
        self.worst['worst_gap'] = max(self.worst['worst_gap'], gaps[0])
        self.worst['worst_difference'] = max(self.worst['worst_difference'], differences[0])
        agreement = self._engine.compare_with_dense(
            answer, [moment], question, max_new_tokens=length)
        assert agreement is not None and answer.scene is not None
        for name, value in {
                'updates': recording.num_updates, 'gap_without_updates': gaps[1],
                'difference_without_updates': differences[1],
                'same_text': agreement.is_same_text,
                'same_first_token': agreement.is_same_first_token,
                'log_probability_lost': agreement.log_probability_lost}.items():
            self._found[name].append(float(value))
        print(f'compared with {recording.num_updates} updates of {answer.rows} x {answer.cols} '
              f'tokens ({answer.scene.num_stale + answer.scene.num_doubtful} outdated): gap '
              f'{gaps[0]:.4f}, {gaps[1]:.4f} without updates; logits differ by '
              f'{differences[0]:.4f}, {differences[1]:.4f}; {agreement}', flush=True)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    add_options(parser)
    parser.add_argument('--compare-every', type=int, default=50, help='answers')
    options = parser.parse_args()
    if not 0.0 < options.duty <= 1.0:
        parser.error('--duty: give more than 0 and at most 1')
    soak = SceneSoak(options)
    num_rounds, looks = run_rounds(
        options, soak.run_round, lambda: f'{dict(soak.counts)}, {soak.num_graphs} CUDA graphs')
    growth = find_growth(looks)
    is_well = (soak.counts['wrong'] == 0 and soak.counts['compared'] > 0
               and growth.get('reserved', 0.0) <= ALLOWED_GROWTH)
    print(json.dumps({
        'minutes': options.minutes, 'duty': options.duty, 'rounds': num_rounds,
        **soak.summary(), 'looks': len(looks), 'memory_mb': [looks[0], looks[-1]],
        'growth': growth, 'is_well': is_well}))
    sys.exit(0 if is_well else 1)


if __name__ == '__main__':
    main()
