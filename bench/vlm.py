#!/usr/bin/env python3
"""
The vision-language model in one run: the library, and the engine dense and at several keep ratios.

``--shape 2b`` and ``7b`` are random weights of the shapes of Qwen2-VL in bfloat16 on a GPU,
or packed in 4 and 8 bits beside it with ``--weights as_stored int4 int8``,
``embedded`` the checkpoint that ships with the package, through ``VlmEngine`` on a CPU. Times on
a GPU are between CUDA events, of the host's work as well, with patches on the device. Prints a
table and writes JSON and, if asked to, a plot. ``--parts`` and ``--images`` choose what runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
import gc
from itertools import combinations
import json
import logging
from pathlib import Path
import platform
import time
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.flops import ModelShape, prefill_flops
from epvlm_ros.vlm.memory_plan import plan_memory, WEIGHTS
from epvlm_ros.vlm.packed_weights import PackedEmbedding
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.sparse_qwen import SparseBackend, SparseQwenVl, VisionInput
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np
from scene_times import measure_scene
import torch
import transformers
from vlm_models import (
    GRIDS, library_logits, load_model, make_prompt, make_vision, NUM_TEXT_AFTER, NUM_TEXT_BEFORE,
    prompt_logits, SHAPES)
from vlm_report import draw_plot, print_table
from vlm_times import Clock, measure_decoding, measure_prompt, NUM_NEW_TOKENS

KEEP_RATIOS = (1.0, 0.5, 0.3, 0.25, 0.2, 0.1)
PARTS = ('library', 'compiled', 'engine', 'agreement', 'memory', 'selection', 'scene')
NUM_AGREEMENTS = 8  # pictures and prompts whose logits are compared
NUM_TEXT_TOKENS = NUM_TEXT_BEFORE + NUM_TEXT_AFTER


def measure_library(library: Any, images: list[str], device: str, clock: Clock) -> dict[str, Any]:
    """Run the library as it is: its own forward, and its parts one by one."""
    eager = SparseQwenVl(library)
    results = {}
    for image in images:
        vision = make_vision(library.config, *GRIDS[image], 1.0, device)
        inputs = library_inputs(library, vision, device)
        with torch.inference_mode():
            whole = clock.measure(lambda: library(**inputs, logits_to_keep=1), 7)
        results[image] = {**measure_prompt(eager, vision, clock, 7), 'forward': whole}
    results[images[-1]]['token_ms'] = measure_decoding(eager, vision, 1)
    return results


def library_inputs(library: Any, vision: VisionInput, device: str) -> dict[str, torch.Tensor]:
    """Return what the library's own forward takes."""
    prompt_ids = make_prompt(library.config, vision.rows * vision.cols)
    is_image = (prompt_ids == library.config.image_token_id).int()
    inputs = {
        'input_ids': prompt_ids[None], 'attention_mask': torch.ones_like(prompt_ids)[None],
        'pixel_values': vision.pixel_values.to(library.dtype),
        'image_grid_thw': torch.tensor([[1, 2 * vision.rows, 2 * vision.cols]]),
        'mm_token_type_ids': is_image[None]}
    return {name: value.to(device) for name, value in inputs.items()}


def measure_compiled(library: Any, image: str, device: str) -> dict[str, Any]:
    """Run the library's generate with its static cache, which it compiles by itself."""
    inputs = library_inputs(
        library, make_vision(library.config, *GRIDS[image], 1.0, device), device)

    def generate_ms(num_tokens: int) -> float:
        start_s = time.perf_counter()
        library.generate(
            **inputs, do_sample=False, max_new_tokens=num_tokens, min_new_tokens=num_tokens,
            cache_implementation='static', pad_token_id=0)
        return (time.perf_counter() - start_s) * 1e3

    start_s = time.perf_counter()
    try:
        for _ in range(2):
            generate_ms(NUM_NEW_TOKENS)
    except (RuntimeError, TypeError, ValueError) as error:  # some versions do not compile it
        return {'failed': f'{type(error).__name__}: {error}'[:300]}
    warm_up_s = time.perf_counter() - start_s
    short = float(np.median([generate_ms(1) for _ in range(4)][1:]))
    long = float(np.median([generate_ms(NUM_NEW_TOKENS) for _ in range(3)]))
    return {'warm_up_s': warm_up_s, 'first_token_ms': short,
            'token_ms': (long - short) / (NUM_NEW_TOKENS - 1)}


def measure_engine(
    library: Any, images: list[str], keep_ratios: list[float], device: str, clock: Clock,
) -> dict[str, Any]:
    """Run the engine with CUDA graphs at every size and keep ratio."""
    model = CudaGraphQwenVl(SparseQwenVl(library), usual_ratios=keep_ratios)
    results: dict[str, Any] = {}
    for image in images:
        results[image] = {}
        for keep_ratio in keep_ratios:
            vision = make_vision(library.config, *GRIDS[image], keep_ratio, device)
            results[image][keep_ratio] = {
                'tokens_kept': len(vision.kept_indices),
                **measure_prompt(model, vision, clock),
                'token_ms': measure_decoding(model, vision)}
    return results


def measure_memory(
    library: Any, images: list[str], device: str, weights: str,
) -> dict[str, Any]:
    """
    Return the most memory that dense and sparse runs take, weights included, in megabytes.

    ``loaded`` is what is taken before the first run, ``planned`` what ``epvlm plan`` expects of
    the engine's dense run.
    """
    results: dict[str, Any] = {}
    for image in images:
        results[image] = {}
        makers: list[tuple[str, Callable[[SparseQwenVl], SparseBackend], float]] = [
            ('library dense', lambda eager: eager, 1.0), ('engine dense', CudaGraphQwenVl, 1.0),
            ('engine 0.25', lambda eager: CudaGraphQwenVl(eager, usual_ratios=(0.25,)), 0.25)]
        for name, make_backend, keep_ratio in makers:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            model = make_backend(SparseQwenVl(library))
            loaded = torch.cuda.memory_allocated() / 1e6
            vision = make_vision(library.config, *GRIDS[image], keep_ratio, device)
            for _ in range(3):
                prompt_ids = make_prompt(library.config, vision.rows * vision.cols)
                state = model.prefill(prompt_ids, vision, model.encode(vision))
                list(model.decode(state, (), 8))
            results[image][name] = {
                'loaded': loaded,
                'allocated': torch.cuda.max_memory_allocated() / 1e6,
                'reserved': torch.cuda.max_memory_reserved() / 1e6}
            del model, state
        rows, cols = GRIDS[image]
        results[image]['planned'] = plan_memory(
            library.config, VlmConfig(weights=weights), rows * cols, on_gpu=True).total / 1e6
    return results


def measure_agreement(
    library: Any, images: list[str], keep_ratios: list[float], device: str,
) -> dict[str, Any]:
    """
    Return how far apart the logits after the prompt are: the engine's and, by back end, library's.

    ``largest`` holds the largest difference of a logit between each two of them, the median over
    pictures and prompts; ``error`` the difference of each from the same weights in float32,
    as a share of the norm of its logits, the mean.
    """
    torch.backends.cudnn.allow_tf32 = False  # the float32 model begins with a convolution
    exact = SparseQwenVl(in_float32(library))
    engine = CudaGraphQwenVl(SparseQwenVl(library), usual_ratios=keep_ratios)
    results: dict[str, Any] = {}
    for image in images:
        results[image] = {}
        for keep_ratio in keep_ratios:
            largest, error = zip(*(
                compare_logits(library, engine, exact, seed, make_vision(
                    library.config, *GRIDS[image], keep_ratio, device, seed))
                for seed in range(NUM_AGREEMENTS)))
            results[image][keep_ratio] = {
                'largest': {pair: float(np.median([prompt[pair] for prompt in largest]))
                            for pair in largest[0]},
                'error': {name: float(np.mean([prompt[name] for prompt in error]))
                          for name in error[0]}}
    return results


def in_float32(library: Any) -> Any:
    """Return a copy with the same weights, which computes in float32."""
    exact = deepcopy(library).float()
    for module in exact.modules():
        if isinstance(module, PackedEmbedding):
            module._dtype = torch.float32
    return exact


def compare_logits(
    library: Any, engine: CudaGraphQwenVl, exact: SparseQwenVl, seed: int, vision: VisionInput,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return what ``measure_agreement`` calls largest and error, of one picture and prompt."""
    prompt_ids = make_prompt(library.config, vision.rows * vision.cols, seed)
    for _ in range(2):  # so that the next run is one of CUDA graphs
        prompt_logits(engine, prompt_ids, vision)
    logits = {'engine': prompt_logits(engine, prompt_ids, vision),
              **library_logits(library, prompt_ids, vision)}
    expected = prompt_logits(exact, prompt_ids, vision)
    largest = {f'{left}, {right}': float((logits[left] - logits[right]).abs().max())
               for left, right in combinations(logits, 2)}
    error = {name: float((rounded - expected).norm() / expected.norm())
             for name, rounded in logits.items()}
    return largest, error


def measure_selection(device: str, clock: Clock) -> dict[str, Any]:
    """Return the time from activity to the kept patches of a 1920 x 1080 image."""
    geometry = PatchGeometry(14, 2, 3136, 12845056)
    grid = geometry.grid(1080, 1920)
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (1080, 1920, 3)).astype(np.uint8)
    counts = random.poisson(3.0, grid_shape(1080, 1920, 4)).astype(np.float32)
    activity = ActivityGrid(counts, 4, 1080, 1920, 0, 50_000_000)
    pixels = torch.randn(4 * grid.num_tokens, 1176, device=device)
    results = {}
    for policy in ('events', 'events_and_saliency', 'events_and_coverage', 'events_and_detail'):
        config = VlmConfig(keep_ratio=0.25, selection=policy)

        def select(config: VlmConfig = config) -> torch.Tensor:
            kept = select_for_frame(picture, grid, activity, config).kept_indices
            return VisionInput(pixels, grid.rows, grid.cols, kept).keep(pixels)

        results[policy] = clock.measure(select, 50)
    return results


def measure_embedded(keep_ratios: list[float], repeats: int) -> dict[str, Any]:
    """Load, and answer about changing pictures through VlmEngine on a CPU, ratios in turn."""
    start_s = time.perf_counter()
    engine = VlmEngine.from_config(VlmConfig(device='cpu', selection='events'))
    load_s = time.perf_counter() - start_s
    height, width = 336, 448
    random = np.random.default_rng(0)
    times_ms: dict[float, list[float]] = {ratio: [] for ratio in keep_ratios}
    answers_ms: dict[float, list[float]] = {ratio: [] for ratio in keep_ratios}
    for index in range(repeats + 2):
        for ratio in keep_ratios:
            picture = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
            counts = random.poisson(3.0, grid_shape(height, width, 4)).astype(np.float32)
            answer = engine.answer(
                picture, 'what moves ?', ActivityGrid(counts, 4, height, width, 0, 50_000_000),
                keep_ratio=ratio)
            if index >= 2:
                times_ms[ratio].append(answer.time_to_first_token_s * 1e3)
                answers_ms[ratio].append(answer.total_time_s * 1e3)
    dense = float(np.median(times_ms[keep_ratios[0]]))
    return {'load_s': load_s, 'ratios': {str(ratio): {
        'first_token': {'median_ms': float(np.median(times)),
                        'p99_ms': float(np.percentile(times, 99))},
        'speed_up': dense / float(np.median(times)),
        'longest_answer_ms': max(answers_ms[ratio])} for ratio, times in times_ms.items()}}


def matrix_rate(clock: Clock, device: str) -> float:
    """Return the rate of a large bfloat16 product on random data, in FLOP/s."""
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192 ** 3 / (clock.measure(lambda: left @ right, 10)['median_ms'] / 1e3)


def add_ratios(report: dict[str, Any], shape: ModelShape) -> None:
    """Add to the engine's results FLOPs, the share of the matrix rate and the speed-ups."""
    for image, results in report['engine'].items():
        rows, cols = GRIDS[image]
        dense = results[1.0]['first_token']['median_ms']
        base = report.get('library', {}).get(image)
        for result in results.values():
            flops = prefill_flops(shape, result['tokens_kept'], NUM_TEXT_TOKENS)
            time_ms = result['first_token']['median_ms']
            result['flops_saved'] = 1.0 - flops / prefill_flops(
                shape, rows * cols, NUM_TEXT_TOKENS)
            result['matrix_rate_share'] = flops / (time_ms / 1e3) / report['matrix_rate']
            result['against_own_dense'] = dense / time_ms
            if base:
                # the library's forward in one call, which beats the sum of its timed parts
                result['against_library'] = base['forward']['median_ms'] / time_ms


def run_parts(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Run the parts that were asked for on one model."""
    clock = Clock(options.device, options.repeats)
    library = load_model(options.shape, options.device, report['weights'])
    report['matrix_rate'] = matrix_rate(clock, options.device) if options.device == 'cuda' else 1e9
    steps: dict[str, Callable[[], Any]] = {
        'library': lambda: measure_library(library, options.images, options.device, clock),
        'memory': lambda: measure_memory(
            library, options.images, options.device, report['weights']),
        'engine': lambda: measure_engine(
            library, options.images, options.keep_ratios, options.device, clock),
        'agreement': lambda: measure_agreement(
            library, options.images, options.keep_ratios, options.device),
        'selection': lambda: measure_selection(options.device, clock),
        'scene': lambda: measure_scene(
            library, options.images, options.device, clock, options.updates),
        'compiled': lambda: measure_compiled(library, options.images[-1], options.device)}
    for name, step in steps.items():
        if name in options.parts:
            start_s = time.perf_counter()
            report[name] = step()
            print(f'{name}: {time.perf_counter() - start_s:.1f} s', flush=True)
        if name == 'engine' and name in report:
            add_ratios(report, ModelShape.from_config(library.config))
        write_json(options, report)  # after every part: a later one may fail


def write_json(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Write the numbers, of further weights into further files."""
    if options.json:
        suffix = '' if report['weights'] == options.weights[0] else f'_{report["weights"]}'
        options.json.with_stem(options.json.stem + suffix).write_text(
            json.dumps(report, indent=1), encoding='utf-8')


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--shape', choices=SHAPES, default='embedded')
    parser.add_argument('--weights', nargs='+', choices=WEIGHTS, default=['as_stored'],
                        help='of the random models, one after the other')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--images', nargs='+', choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument('--keep-ratios', nargs='+', type=float, default=list(KEEP_RATIOS))
    parser.add_argument('--repeats', type=int, default=50)
    parser.add_argument('--updates', type=int, default=1000, help='of a scene, for each share')
    parser.add_argument('--verbose', action='store_true', help='what is captured and chosen')
    parser.add_argument('--threads', type=int, default=0, help='of torch on the CPU')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    parser.add_argument('--plot', type=Path, help='PNG for the times to the first token')
    options = parser.parse_args()
    if options.keep_ratios[0] != 1.0:
        parser.error('--keep-ratios: give 1.0 first, the others are compared with it')
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    if options.threads:
        torch.set_num_threads(options.threads)
    is_gpu = options.device.startswith('cuda')
    machine = torch.cuda.get_device_name() if is_gpu else \
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads'
    for weights in options.weights:
        report: dict[str, Any] = {
            'shape': options.shape, 'weights': weights, 'machine': machine,
            'torch': torch.__version__, 'transformers': transformers.__version__,
            'repeats': options.repeats}
        if options.shape == 'embedded':
            report['embedded'] = measure_embedded(options.keep_ratios, options.repeats)
            write_json(options, report)
        else:
            run_parts(options, report)
        if options.plot and 'engine' in report and weights == options.weights[0]:
            draw_plot(report, options.plot)
        print_table(report)


if __name__ == '__main__':
    main()
