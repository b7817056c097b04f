#!/usr/bin/env python3
"""
Ask for minutes, with changing images, budgets, questions and cancellations, and watch the memory.

Random weights of the shape of Qwen2-VL-2B. After a warm-up of a quarter of the time memory must
stay flat: the most that torch holds, free blocks given back, in the last third of the remaining
time against the most in its first third. Every ten seconds answers are set aside, and in the end
compared with the library's eager run: each of their tokens must be the best one there, up to twice
the library's own spread between attention back ends. Prints progress and, as its last line, one
line of JSON; the exit status is 1 if something was wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import gc
import json
from pathlib import Path
import sys
import time
from typing import Any

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.sparse_qwen import (
    DecodingState, GREEDY, Sampling, SparseQwenVl, VisionInput)
import numpy as np
import torch
from torch import Tensor
from vlm_models import GRIDS, library_logits, load_model, make_prompt, make_vision, SHAPES

KEEP_RATIOS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
USUAL_RATIOS = (0.25, 0.5)
MAX_NEW_TOKENS = 48
NUM_COMPARED_TOKENS = 12
WARM_UP_SHARE = 0.25
ALLOWED_GROWTH = 0.01
SECONDS_BETWEEN_LOOKS = 5.0  # at the memory


class Soak:
    """One engine under random load, beside the library on the same weights."""

    def __init__(self, shape: str, device: str, seed: int) -> None:
        library = load_model(shape, device)
        self._config, self._device = library.config, device
        self._eager = SparseQwenVl(library)
        self._random = np.random.default_rng(seed)
        self._visions = [
            make_vision(library.config, *grid, 1.0, device) for grid in GRIDS.values()]
        self._tolerance = 2.0 * library_spread(library, self._visions[0])
        self._engine = CudaGraphQwenVl(self._eager, usual_ratios=USUAL_RATIOS)
        self.counts = {'answers': 0, 'tokens': 0, 'cancelled': 0, 'compared': 0, 'wrong': 0}
        self.worst_gap = 0.0
        self._aside: list[tuple[Tensor, VisionInput, list[int]]] = []

    @property
    def num_graphs(self) -> int:
        """How many CUDA graphs are captured."""
        return self._engine.num_graphs

    @property
    def tolerance(self) -> float:
        """How far below the best logit of the eager run that of a chosen token may lie."""
        return self._tolerance

    def run_round(self, *, sets_aside: bool) -> None:
        """Ask one or two questions about a picture."""
        vision = self._choose_vision()
        num_tokens = vision.rows * vision.cols
        prompts = [self._make_prompt(num_tokens) for _ in range(2)]
        features = self._engine.encode(vision)
        state = self._engine.prefill(prompts[0], vision, features)
        token_ids = self._read(state, cancels=not sets_aside)
        if sets_aside:
            self._aside.append((prompts[0], vision, token_ids))
        if self._random.random() < 0.5:
            text_ids = state.prefix.text_after(prompts[1])
            state = self._engine.extend(state.prefix, text_ids)
            token_ids = self._read(state, cancels=not sets_aside)
            if sets_aside:
                self._aside.append((prompts[1], vision, token_ids))

    def compare_all(self) -> None:
        """Follow the answers that were set aside with the eager run."""
        for number, (prompt_ids, vision, token_ids) in enumerate(self._aside):
            if number % 10 == 0:
                print(f'compared {number} of {len(self._aside)} answers, '
                      f'{self.counts["wrong"]} wrong', flush=True)
            self._compare(prompt_ids, vision, token_ids)

    def _choose_vision(self) -> VisionInput:
        full = self._visions[self._random.integers(len(self._visions))]
        num_tokens = full.rows * full.cols
        budget = max(1, round(self._random.choice(KEEP_RATIOS) * num_tokens))
        kept = np.sort(self._random.permutation(num_tokens)[:budget])
        return VisionInput(full.pixel_values, full.rows, full.cols, kept)

    def _make_prompt(self, num_tokens: int) -> Tensor:
        """Return a prompt whose question is of any length."""
        prompt_ids = make_prompt(self._config, num_tokens, seed=0)
        length = int(self._random.integers(1, 80))
        return torch.cat([
            prompt_ids[:-25], torch.from_numpy(self._random.integers(2, 30, length))])

    def _read(self, state: Any, *, cancels: bool) -> list[int]:
        """Read an answer, whole, or up to anywhere."""
        sampling = GREEDY
        if cancels and self._random.random() < 0.3:
            sampling = Sampling(0.8, 0.95, int(self._random.integers(1000)))
        length = int(self._random.integers(NUM_COMPARED_TOKENS, MAX_NEW_TOKENS + 1))
        stop = int(self._random.integers(1, 2 * length)) if cancels else length
        token_ids: list[int] = []
        for token_id in self._engine.decode(state, (), length, sampling):
            token_ids.append(token_id)
            if len(token_ids) == stop:
                break
        self.counts['answers'] += 1
        self.counts['tokens'] += len(token_ids)
        self.counts['cancelled'] += stop < length
        return token_ids

    def _compare(self, prompt_ids: Tensor, vision: VisionInput, token_ids: list[int]) -> None:
        """Follow one answer."""
        state = self._eager.prefill(prompt_ids, vision, self._eager.encode(vision))
        gap = largest_gap(self._eager, state, token_ids)
        self.worst_gap = max(self.worst_gap, gap)
        self.counts['compared'] += 1
        self.counts['wrong'] += gap > self._tolerance


def largest_gap(model: SparseQwenVl, state: DecodingState, token_ids: list[int]) -> float:
    """Return how far the logit of a token of an answer is below the best one, at most."""
    gap = 0.0
    for token_id in token_ids[:NUM_COMPARED_TOKENS]:
        gap = max(gap, float(state.logits.max() - state.logits[token_id]))
        model.step(state, token_id)
    return gap


def library_spread(library: Any, vision: VisionInput) -> float:
    """Return the largest difference of a logit between the library's own back ends."""
    prompt_ids = make_prompt(library.config, vision.rows * vision.cols)
    eager, sdpa = library_logits(library, prompt_ids, vision).values()
    return float((eager - sdpa).abs().max())


def memory_mb(device: str) -> dict[str, float]:
    """Return what the process holds on the host, and torch on the device, in megabytes."""
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    memory = {'host': pages * 4096 / 1e6}
    if device.startswith('cuda'):
        torch.cuda.empty_cache()
        memory['reserved'] = torch.cuda.memory_reserved() / 1e6
    return memory


def find_growth(looks: list[dict[str, float]]) -> dict[str, float]:
    """Return by which share the most of the last third exceeds the most of the first third."""
    third = -(-len(looks) // 3)
    return {name: max(look[name] for look in looks[-third:])
            / max(look[name] for look in looks[:third]) - 1.0 for name in looks[0]}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every soak."""
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--shape', choices=[name for name in SHAPES if name != 'embedded'],
                        default='2b')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--duty', type=float, default=1.0,
                        help='share of the time that the device is asked for anything')
    parser.add_argument('--seed', type=int, default=0)


def run_rounds(
    options: argparse.Namespace, run_round: Callable[[], bool], describe: Callable[[], str],
) -> tuple[int, list[dict[str, float]]]:
    """
    Run rounds for minutes; return their number and what memory there was after the warm-up.

    ``run_round`` returns whether memory may be looked at after it, ``describe`` what to print.
    """
    start_s = time.perf_counter()
    end_s = start_s + 60.0 * options.minutes
    warm_s = start_s + WARM_UP_SHARE * 60.0 * options.minutes
    looks: list[dict[str, float]] = []
    memory: dict[str, float] = {}
    num_rounds, looked_s, said_s = 0, start_s, start_s
    while (round_start_s := time.perf_counter()) < end_s:
        may_look = run_round()
        num_rounds += 1
        now_s = time.perf_counter()
        if may_look and now_s - looked_s > SECONDS_BETWEEN_LOOKS:
            looked_s, memory = now_s, memory_mb(options.device)
            if now_s >= warm_s:
                looks.append(memory)
        if now_s - said_s > 15.0:
            said_s = now_s
            print(f'{now_s - start_s:.0f} s: {describe()}, {memory}', flush=True)
        time.sleep((now_s - round_start_s) * (1.0 / options.duty - 1.0))
    return num_rounds, looks or [memory_mb(options.device)]


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    add_options(parser)
    parser.add_argument('--set-aside-every', type=float, default=10.0,
                        help='seconds between answers that are compared in the end')
    options = parser.parse_args()
    if not 0.0 < options.duty <= 1.0:
        parser.error('--duty: give more than 0 and at most 1')
    soak = Soak(options.shape, options.device, options.seed)
    set_aside_s = float('-inf')

    def run_round() -> bool:
        nonlocal set_aside_s
        now_s = time.perf_counter()
        sets_aside = now_s - set_aside_s >= options.set_aside_every
        if sets_aside:
            set_aside_s = now_s
        soak.run_round(sets_aside=sets_aside)
        return True

    num_rounds, looks = run_rounds(
        options, run_round, lambda: f'{soak.counts}, {soak.num_graphs} CUDA graphs')
    looks.append(memory_mb(options.device))
    growth = find_growth(looks)
    soak.compare_all()
    # the host's memory is reported only: on a CPU it holds the random weights and all inputs
    is_well = soak.counts['wrong'] == 0 and growth.get('reserved', 0.0) <= ALLOWED_GROWTH
    print(json.dumps({
        'minutes': options.minutes, 'duty': options.duty, 'rounds': num_rounds, **soak.counts,
        'graphs': soak.num_graphs, 'memory_mb': [looks[0], looks[-1]],
        'growth': growth, 'worst_gap': soak.worst_gap, 'tolerance': soak.tolerance,
        'is_well': is_well}))
    sys.exit(0 if is_well else 1)


if __name__ == '__main__':
    main()
