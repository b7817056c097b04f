"""Times of a scene in memory: updates by the share that changed, and questions about it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.cuda_graphs.scene import padded_update
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.scene_memory import SceneMemory, SceneOptions
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, SparseQwenVl, VisionInput
import numpy as np
import torch
from vlm_models import GRIDS, make_prompt, make_vision
from vlm_times import Clock

SHARES = (0.02, 0.05, 0.1, 0.25)  # of the tokens, changed in an update
_CELL_SIZE_PX, _TOKEN_PX = 4, 28
_NUM_CHANGES = 100  # frames of which change scores are made
_NUM_KERNELS = 25  # that are named


def measure_scene(
    library: Any, images: list[str], device: str, clock: Clock, num_updates: int,
) -> dict[str, Any]:
    """
    Keep a scene in memory, of each size, with patches on the device.

    Numbers of changed tokens are random, but such that they are padded to the same size.
    """
    results: dict[str, Any] = {}
    for image in images:
        model = CudaGraphQwenVl(SparseQwenVl(library))
        rows, cols = GRIDS[image]
        vision = make_vision(library.config, rows, cols, 1.0, device)
        prompt_ids = make_prompt(library.config, rows * cols)
        forward, random = model.scene_forward(True), np.random.default_rng(0)
        scene = forward.begin(prompt_ids, rows, cols)

        def fill() -> None:
            forward.refresh(scene, vision)

        def ask(prefix: PromptPrefix) -> int:
            state = model.extend(prefix, prefix.text_after(prompt_ids))
            return next(iter(model.decode(state, (), 1)))

        result: dict[str, Any] = {'at_once': clock.measure(fill, 7)}
        for share in SHARES:
            size, update = _make_update(forward, scene, vision, share, random)
            result[str(share)] = {
                'padded_to': size, 'update': clock.measure(update, num_updates),
                'selection': clock.measure(_make_selection(rows, cols, share, random), 50),
                'gathering': clock.measure(_make_gathering(vision, share, random), 50)}
        result['first_token'] = clock.measure(lambda: ask(scene.snapshot()))
        result['kernels'] = _time_kernels(_make_update(
            forward, scene, vision, 0.1, random)[1]) if device == 'cuda' else {}
        result['scene_mb'] = scene.num_bytes / 1e6
        results[image] = result
    return results


def _make_update(
    forward: Any, scene: Any, vision: VisionInput, share: float, random: np.random.Generator,
) -> tuple[int, Callable[[], None]]:
    """Return a size, and an update of a random number of tokens that is padded to it."""
    size = padded_update(round(share * vision.num_tokens), vision.num_tokens)
    numbers = [number for number in range(1, vision.num_tokens)
               if padded_update(number, vision.num_tokens) == size]

    def update() -> None:
        forward.refresh(scene, VisionInput(
            vision.pixel_values, vision.rows, vision.cols,
            _draw(vision.num_tokens, int(random.choice(numbers)), random)))

    return size, update


def _make_gathering(
    vision: VisionInput, share: float, random: np.random.Generator,
) -> Callable[[], Any]:
    kept = _draw(vision.num_tokens, round(share * vision.num_tokens), random)
    part = VisionInput(vision.pixel_values, vision.rows, vision.cols, kept)
    return lambda: part.keep(part.pixel_values)


class _Nothing:
    """A scene that is not computed, so that only what is found out about it takes time."""

    num_text_tokens = num_bytes = 0

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols, self.num_tokens = rows, cols, rows * cols
        self.known = np.zeros(rows * cols, np.bool_)

    def snapshot(self) -> PromptPrefix:
        raise NotImplementedError


class _NoForward:
    """Computes nothing."""

    def begin(self, prompt_ids: torch.Tensor, rows: int, cols: int) -> _Nothing:
        return _Nothing(rows, cols)

    def refresh(self, scene: Any, vision: VisionInput) -> None:
        pass

    def rerun_language_model(self, scene: Any, prompt_ids: torch.Tensor) -> None:
        pass

    def warm_up(self, *_: Any) -> None:
        pass

    def release_memory(self) -> None:
        pass


def _make_selection(
    rows: int, cols: int, share: float, random: np.random.Generator,
) -> Callable[[], None]:
    """Return what takes a frame and its change scores and chooses the tokens to compute."""
    height, width = rows * _TOKEN_PX, cols * _TOKEN_PX
    grid = PatchGrid(rows, cols, _TOKEN_PX, height, width, height, width)
    no_pixels = torch.zeros(4 * grid.num_tokens, 0)
    memory = SceneMemory(
        _NoForward(), lambda picture, grid, kept: VisionInput(no_pixels, rows, cols, kept),
        lambda num_tokens: torch.zeros(num_tokens, dtype=torch.int64))
    picture = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
    options = SceneOptions(budget=share, fills_at_once=True)
    scores = np.zeros(grid_shape(height, width, _CELL_SIZE_PX), np.uint16)
    now_ns, side = 0, _TOKEN_PX // _CELL_SIZE_PX
    changes = []
    for _ in range(_NUM_CHANGES):
        for token in _draw(grid.num_tokens, round(share * grid.num_tokens), random):
            row, col = divmod(int(token), cols)
            scores[row * side:(row + 1) * side, col * side:(col + 1) * side] += 2
        changes.append(ChangeScore(scores.copy(), _CELL_SIZE_PX, height, width, 1))
    in_turn = cycle(changes)  # what comes round again has changed everywhere

    def select() -> None:
        nonlocal now_ns
        now_ns += 40_000_000
        memory.update(picture, grid, now_ns, options, next(in_turn))

    select()
    return select


def _draw(num_tokens: int, number: int, random: np.random.Generator) -> np.ndarray:
    return np.sort(random.choice(num_tokens, number, replace=False))


def _time_kernels(run: Callable[[], None]) -> dict[str, float]:
    """Return the time of each kind of kernel in one run, in milliseconds, the longest first."""
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    times_ms = {
        f'{event.count} x {event.key[:90]}': event.device_time_total / 1e3
        for event in profile.key_averages()}
    ordered = sorted(times_ms, key=lambda name: -times_ms[name])[:_NUM_KERNELS]
    return {'all': sum(times_ms.values()), **{name: times_ms[name] for name in ordered}}


def print_scene(results: dict[str, Any]) -> None:
    """Print a table, and where the time of an update goes."""
    print('| image | changed | padded to | update, ms | p99 | selection | gathering |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for image, result in results.items():
        print(f'| {image} | all | | {result["at_once"]["median_ms"]:.2f} | '
              f'{result["at_once"]["p99_ms"]:.2f} | | |')
        for share in map(str, SHARES):
            row = result[share]
            print(f'| {image} | {share} | {row["padded_to"]} | {row["update"]["median_ms"]:.2f} | '
                  f'{row["update"]["p99_ms"]:.2f} | {row["selection"]["median_ms"]:.2f} | '
                  f'{row["gathering"]["median_ms"]:.2f} |')
        print(f'{image}: first token of a question {result["first_token"]["median_ms"]:.2f} ms, '
              f'p99 {result["first_token"]["p99_ms"]:.2f}; {result["scene_mb"]:.0f} MB')
        for name, time_ms in result['kernels'].items():
            print(f'  {time_ms:.3f} ms {name}')
