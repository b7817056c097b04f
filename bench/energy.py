#!/usr/bin/env python3
"""
Energy of frames and answers on a GPU: dense, the stateless default, and a scene in memory.

Random weights of the shape of Qwen2-VL-2B, CUDA graphs, patches on the device. First each way runs
back to back: frames alone, then answers alone about the last one. Then at the pace of a robot:
frames at a rate, a question every second. Board power is that of NVML's energy counter (of its
power samples on cards without one), the whole of it and what is above the idle board with the
model loaded. Nothing else may use the GPU meanwhile. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import ctypes
import json
import threading
import time
from typing import Any, Protocol

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, SparseQwenVl, VisionInput
import numpy as np
import torch
from vlm_models import GRIDS, load_model, make_prompt, make_vision, SHAPES

NUM_ANSWER_TOKENS = 32
STATELESS_RATIO = 0.25
CHANGED_SHARE = 0.1
SAMPLE_S = 0.02  # between samples of the power
SETTLE_S = 0.3  # before each run, so that the counter is past what was before


class Meter(Protocol):
    """What tells the energy of a board."""

    def read_joules(self) -> float:
        """Return the energy since some time before."""


class NvmlCounter:
    """
    The energy counter of a GPU, by NVML.

    Raises
    ------
    OSError
        If there is no NVML, or it knows nothing of the GPU.

    """

    def __init__(self, device: int) -> None:
        self._nvml = ctypes.CDLL('libnvidia-ml.so.1')
        self._handle = ctypes.c_void_p()
        _check(self._nvml.nvmlInit_v2(), 'nvmlInit')
        number, handle = ctypes.c_uint(), ctypes.byref(self._handle)
        _check(self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)), 'counting the GPUs')
        if number.value == 1:
            _check(self._nvml.nvmlDeviceGetHandleByIndex_v2(0, handle), 'finding the GPU')
        else:  # torch may count in another order, or see only some
            uuid = f'GPU-{torch.cuda.get_device_properties(device).uuid}'
            _check(self._nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), handle), f'finding {uuid}')

    def read_joules(self) -> float:
        """Return the energy since the driver was loaded; an OSError if there is no counter."""
        energy_mj = ctypes.c_ulonglong()
        _check(self._nvml.nvmlDeviceGetTotalEnergyConsumption(
            self._handle, ctypes.byref(energy_mj)), 'reading the energy')
        return energy_mj.value / 1e3

    def read_watts(self) -> float:
        """Return the power now, or the mean over the last second, as the card has it."""
        power_mw = ctypes.c_uint()
        _check(self._nvml.nvmlDeviceGetPowerUsage(
            self._handle, ctypes.byref(power_mw)), 'reading the power')
        return power_mw.value / 1e3


class SampledPower:
    """The energy of a GPU without a counter: its power, sampled on a thread and summed."""

    def __init__(self, nvml: NvmlCounter) -> None:
        self._nvml, self._joules = nvml, 0.0
        threading.Thread(target=self._sample, daemon=True).start()

    def read_joules(self) -> float:
        """Return the energy since the first sample."""
        return self._joules

    def _sample(self) -> None:
        last_s = time.perf_counter()
        while True:
            time.sleep(SAMPLE_S)
            now_s = time.perf_counter()
            self._joules += self._nvml.read_watts() * (now_s - last_s)
            last_s = now_s


def _check(code: int, what: str) -> None:
    if code:
        raise OSError(f'NVML answers {code} to {what}')


def open_meter(device: int) -> tuple[Meter, str]:
    """Return what tells the energy, and what it is."""
    counter = NvmlCounter(device)
    try:
        counter.read_joules()
        return counter, 'energy counter'
    except OSError:
        return SampledPower(counter), f'power samples every {SAMPLE_S * 1e3:.0f} ms'


class Way:
    """One way to look at frames: what a frame costs, and then an answer about it."""

    def __init__(
        self, model: CudaGraphQwenVl, prompt_ids: torch.Tensor, look: Callable[[], PromptPrefix],
    ) -> None:
        self._model, self._prompt_ids = model, prompt_ids
        self.look = look

    def answer(self, prefix: PromptPrefix) -> None:
        """Answer a question about the last frame."""
        state = self._model.extend(prefix, prefix.text_after(self._prompt_ids))
        for _ in self._model.decode(state, (), NUM_ANSWER_TOKENS):
            pass


def make_ways(library: Any, image: str, device: str) -> dict[str, Way]:
    """Return all ways, with their CUDA graphs captured."""
    model = CudaGraphQwenVl(
        SparseQwenVl(library), usual_ratios=(1.0, STATELESS_RATIO))
    prompt_ids = make_prompt(library.config, int(np.prod(GRIDS[image])))
    looks = {
        'dense': _look_at_frames(model, prompt_ids, make_vision(
            library.config, *GRIDS[image], 1.0, device)),
        f'stateless {STATELESS_RATIO}': _look_at_frames(model, prompt_ids, make_vision(
            library.config, *GRIDS[image], STATELESS_RATIO, device)),
        f'living {CHANGED_SHARE}': _look_at_scene(model, prompt_ids, make_vision(
            library.config, *GRIDS[image], 1.0, device))}
    ways = {name: Way(model, prompt_ids, look) for name, look in looks.items()}
    for way in ways.values():
        for _ in range(4):
            way.answer(way.look())
    return ways


def _look_at_frames(
    model: CudaGraphQwenVl, prompt_ids: torch.Tensor, vision: VisionInput,
) -> Callable[[], PromptPrefix]:
    return lambda: model.prefill_image(prompt_ids, vision, model.encode(vision))


def _look_at_scene(
    model: CudaGraphQwenVl, prompt_ids: torch.Tensor, vision: VisionInput,
) -> Callable[[], PromptPrefix]:
    """Return what computes a share of the tokens anew; questions start from a snapshot."""
    forward, random = model.scene_forward(), np.random.default_rng(0)
    scene = forward.begin(prompt_ids, vision.rows, vision.cols)
    forward.refresh(scene, vision)
    number = round(CHANGED_SHARE * vision.num_tokens)

    def look() -> PromptPrefix:
        changed = np.sort(random.choice(vision.num_tokens, number, replace=False))
        forward.refresh(scene, VisionInput(
            vision.pixel_values, vision.rows, vision.cols, changed))
        return scene.snapshot()

    return look


class Bench:
    """Runs work for a while and measures its energy."""

    def __init__(
        self, meter: Meter, synchronise: Callable[[], Any], seconds: float, rate: float,
    ) -> None:
        self._meter, self._synchronise = meter, synchronise
        self._seconds, self._rate = seconds, rate
        self.idle_watts = 0.0

    def measure(self, work: Callable[[int], None]) -> dict[str, float]:
        """Repeat ``work``, given numbers from 0 on; return mean watts, joules and times each."""
        self._synchronise()
        time.sleep(SETTLE_S)
        before_j, start_s = self._meter.read_joules(), time.perf_counter()
        number, elapsed_s = 0, 0.0
        while elapsed_s < self._seconds:
            work(number)
            self._synchronise()
            number, elapsed_s = number + 1, time.perf_counter() - start_s
        joules = self._meter.read_joules() - before_j
        return {'number': number, 'watts': joules / elapsed_s, 'joules': joules / number,
                'joules_above_idle': (joules - self.idle_watts * elapsed_s) / number,
                'ms': 1e3 * elapsed_s / number}

    def measure_idle(self) -> float:
        """Return the watts of the board while nothing runs."""
        return self.measure(lambda _: time.sleep(0.05))['watts']

    def measure_way(self, way: Way) -> dict[str, dict[str, float]]:
        """Measure frames and answers back to back, then a second at the pace of a robot."""
        prefix = way.look()
        return {'frame': self.measure(lambda _: (way.look(), None)[1]),
                'answer': self.measure(lambda _: way.answer(prefix)),
                'second': self.measure(lambda _: self._one_second(way))}

    def measure_on_demand(self, way: Way) -> dict[str, float]:
        """Measure a second with one frame, the one that the question is about."""
        return self.measure(lambda _: self._one_second(way, num_frames=1))

    def _one_second(self, way: Way, num_frames: int = 0) -> None:
        """Look at frames at a rate for a second, and answer a question about the last one."""
        start_s = time.perf_counter()
        for index in range(num_frames or round(self._rate)):
            time.sleep(max(0.0, start_s + index / self._rate - time.perf_counter()))
            prefix = way.look()
            self._synchronise()
        way.answer(prefix)
        self._synchronise()
        time.sleep(max(0.0, start_s + 1.0 - time.perf_counter()))


def run(bench: Bench, library: Any, images: list[str], device: str) -> dict[str, Any]:
    """Measure all ways at all sizes."""
    results: dict[str, Any] = {}
    for image in images:
        ways = make_ways(library, image, device)
        bench.idle_watts = bench.measure_idle()
        print(f'{image}: idle with the model loaded {bench.idle_watts:.1f} W', flush=True)
        results[image] = {'idle_watts': bench.idle_watts}
        for name, way in ways.items():
            results[image][name] = bench.measure_way(way)
            print(f'{image}, {name}: {json.dumps(results[image][name])}', flush=True)
        name, way = list(ways.items())[1]
        results[image][f'{name} for questions only'] = {'second': bench.measure_on_demand(way)}
    return results


def print_table(results: dict[str, Any], rate: float) -> None:
    """Print joules, whole board and above idle."""
    print(f'| image | way | J a frame | above idle | ms | J an answer | above idle | ms | '
          f'W at {rate:g} frames/s and a question/s | above idle |')
    print('| --- ' * 10 + '|')
    for image, result in results.items():
        for name in result:
            if name != 'idle_watts':
                cells = [cell for part in ('frame', 'answer')
                         for cell in _format_part(result[name].get(part))]
                second = result[name]['second']
                # of seconds that took longer, since the rate was too high, no watts are gained
                print(f'| {image} | {name} | {" | ".join(cells)} | {second["watts"]:.1f} | '
                      f'{second["watts"] - result["idle_watts"]:.1f}'
                      f'{" (too slow)" if second["ms"] > 1050.0 else ""} |')


def _format_part(part: dict[str, float] | None) -> list[str]:
    return ['', '', ''] if part is None else [
        f'{part["joules"]:.2f}', f'{part["joules_above_idle"]:.2f}', f'{part["ms"]:.1f}']


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--shape', choices=[name for name in SHAPES if name != 'embedded'],
                        default='2b')
    parser.add_argument('--images', nargs='+', choices=list(GRIDS),
                        default=['1280x720', '1920x1080'])
    parser.add_argument('--seconds', type=float, default=2.5, help='of each run')
    parser.add_argument('--rate', type=float, default=10.0, help='frames per second of a robot')
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error('the energy is that of an NVIDIA GPU, and torch sees none here: run it on a '
                     'machine with one')
    device = torch.cuda.current_device()
    meter, kind = open_meter(device)
    library = load_model(options.shape, 'cuda')
    bench = Bench(meter, torch.cuda.synchronize, options.seconds, options.rate)
    print(f'{options.shape} on {torch.cuda.get_device_name()}, {kind}', flush=True)
    results = run(bench, library, options.images, 'cuda')
    idle_watts = bench.measure_idle()
    print_table(results, options.rate)
    print(f'idle at the end {idle_watts:.1f} W')
    print(json.dumps({'meter': kind, 'rate': options.rate, 'answer_tokens': NUM_ANSWER_TOKENS,
                      'idle_watts_at_the_end': idle_watts, **results}))


if __name__ == '__main__':
    main()
