"""Times of a model on one device: encoder, prefill, first token, second question, a token."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from epvlm_ros.vlm.sparse_qwen import SparseBackend, VisionInput
import numpy as np
import torch
from vlm_models import make_prompt

NUM_NEW_TOKENS = 64


class Clock:
    """Times work on one device."""

    def __init__(self, device: str, repeats: int) -> None:
        self._is_gpu, self._repeats = device.startswith('cuda'), repeats

    def measure(self, run: Callable[[], Any], repeats: int = 0) -> dict[str, float]:
        """Return median and 99th percentile in milliseconds after three runs that do not count."""
        times_ms = []
        for index in range((repeats or self._repeats) + 3):
            elapsed_ms = self._once(run)
            if index >= 3:
                times_ms.append(elapsed_ms)
        return {'median_ms': float(np.median(times_ms)),
                'p99_ms': float(np.percentile(times_ms, 99))}

    def _once(self, run: Callable[[], Any]) -> float:
        if not self._is_gpu:
            start_s = time.perf_counter()
            run()
            return (time.perf_counter() - start_s) * 1e3
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


def first_token(model: SparseBackend, prompt_ids: torch.Tensor, vision: VisionInput) -> int:
    """Return the first token of an answer."""
    state = model.prefill(prompt_ids, vision, model.encode(vision))
    return next(iter(model.decode(state, (), 1)))


def measure_prompt(
    model: SparseBackend, vision: VisionInput, clock: Clock, repeats: int = 0,
) -> dict[str, Any]:
    """Return the times of encoder, prefill, both with the first token, and a second question."""
    prompt_ids = make_prompt(model.info.config, vision.rows * vision.cols)
    features = model.encode(vision)
    prefix = model.prefill_image(prompt_ids, vision, features)
    text_ids = prefix.text_after(make_prompt(model.info.config, vision.rows * vision.cols, seed=0))

    def second() -> int:
        return next(iter(model.decode(model.extend(prefix, text_ids), (), 1)))

    return {
        'encoder': clock.measure(lambda: model.encode(vision), repeats),
        'prefill': clock.measure(lambda: model.prefill(prompt_ids, vision, features), repeats),
        'first_token': clock.measure(lambda: first_token(model, prompt_ids, vision), repeats),
        'second_question': clock.measure(second, repeats)}


def measure_decoding(model: SparseBackend, vision: VisionInput, repeats: int = 3) -> float:
    """Return the median time of one more token, in milliseconds on the host's clock."""
    prompt_ids = make_prompt(model.info.config, vision.rows * vision.cols)
    features = model.encode(vision)
    times_ms = []
    for _ in range(repeats + 1):  # the first one does not count
        answer = iter(model.decode(
            model.prefill(prompt_ids, vision, features), (), NUM_NEW_TOKENS))
        next(answer)
        start_s = time.perf_counter()
        num_tokens = len(list(answer))
        times_ms.append((time.perf_counter() - start_s) * 1e3 / num_tokens)
    return float(np.median(times_ms[1:]))
