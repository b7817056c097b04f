#!/usr/bin/env python3
"""
Time to the first token at several keep ratios, in one run, as ratios to the dense run.

``--shape embedded`` runs the checkpoint that ships with the package, ``--shape 2b`` random
weights of the shape of Qwen2-VL-2B. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import Any, Callable

from epvlm_ros.core.checkpoint import load_checkpoint
from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.flops import ModelShape, prefill_flops
from epvlm_ros.core.selection import token_budget
from epvlm_ros.core.sparse_qwen_vl import SparseQwenVl, VisionInput
import numpy as np
import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

KEEP_RATIOS = (1.0, 0.5, 0.3, 0.2)
NUM_TEXT_TOKENS = 40
GRIDS = {  # rows and columns of visual tokens
    'embedded': {'448 x 336': (12, 16)},
    '2b': {'448 x 448': (16, 16), '640 x 480': (17, 23), '1280 x 720': (26, 46),
           '1920 x 1080': (39, 69)},
}


def load_model(shape: str, device: str) -> SparseQwenVl:
    """Return the embedded model, or random weights of the shape of Qwen2-VL-2B in bfloat16."""
    if shape == 'embedded':
        return load_checkpoint(VlmConfig(device=device)).model
    config = Qwen2VLConfig(
        vision_config={'depth': 32, 'embed_dim': 1280, 'hidden_size': 1536, 'num_heads': 16,
                       'mlp_ratio': 4},
        text_config={'hidden_size': 1536, 'num_hidden_layers': 28, 'num_attention_heads': 12,
                     'num_key_value_heads': 2, 'intermediate_size': 8960,
                     'vocab_size': 151936, 'rope_parameters': {
                         'rope_type': 'default', 'mrope_section': [16, 24, 24],
                         'rope_theta': 1e6}},
        tie_word_embeddings=True)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return SparseQwenVl(Qwen2VLForConditionalGeneration(config).eval())
    finally:
        torch.set_default_dtype(default)


def make_input(
    model: SparseQwenVl, rows: int, cols: int, keep_ratio: float,
) -> tuple[torch.Tensor, VisionInput]:
    """Return a prompt and patches of noise, an even share of the tokens kept."""
    num_tokens = rows * cols
    budget = token_budget(keep_ratio, num_tokens)
    kept = np.floor(np.arange(budget) * num_tokens / budget).astype(np.int64)
    vision = model.config.vision_config
    values = 3 * vision.temporal_patch_size * vision.patch_size ** 2
    pixels = torch.randn(4 * num_tokens, values).to(model.device)
    text = torch.ones(NUM_TEXT_TOKENS, dtype=torch.int64)
    image = torch.full((num_tokens,), model.image_token_id)
    return torch.cat([text[:4], image, text[4:]]), VisionInput(pixels, rows, cols, kept)


def median_ms(run: Callable[[], Any], repeats: int) -> float:
    """Return the median wall-clock time of ``run`` after two runs that do not count."""
    times = []
    for index in range(repeats + 2):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if index >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))


def measure(model: SparseQwenVl, rows: int, cols: int, repeats: int) -> list[dict[str, float]]:
    """Return encoder and prefill times at every keep ratio."""
    shape = ModelShape.from_config(model.config)
    results = []
    for keep_ratio in KEEP_RATIOS:
        prompt_ids, vision = make_input(model, rows, cols, keep_ratio)
        features = model.encode(vision)
        encoder_ms = median_ms(lambda vision=vision: model.encode(vision), repeats)
        prefill_ms = median_ms(
            lambda ids=prompt_ids, vision=vision, features=features:
            model.prefill(ids, vision, features), repeats)
        kept = len(vision.kept_indices)
        results.append({
            'keep_ratio': keep_ratio, 'tokens': rows * cols, 'tokens_kept': kept,
            'encoder_ms': encoder_ms, 'prefill_ms': prefill_ms,
            'total_ms': encoder_ms + prefill_ms,
            'flops_saved': 1.0 - prefill_flops(shape, kept, NUM_TEXT_TOKENS)
            / prefill_flops(shape, rows * cols, NUM_TEXT_TOKENS)})
    for result in results:
        result['speed_up'] = results[0]['total_ms'] / result['total_ms']
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--shape', choices=sorted(GRIDS), default='embedded')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, default=0, help='of torch on the CPU')
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = torch.cuda.get_device_name() if options.device == 'cuda' else \
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads'
    model = load_model(options.shape, options.device)
    report: dict[str, Any] = {
        'machine': machine, 'torch': torch.__version__, 'model': model.description, 'images': {}}
    print(f'{report["model"]} ({machine})')
    print(f'{"image":>12} {"keep":>5} {"tokens":>7} {"encoder":>9} {"prefill":>9} '
          f'{"FLOPs saved":>12} {"speed-up":>9}')
    for image, (rows, cols) in GRIDS[options.shape].items():
        report['images'][image] = results = measure(model, rows, cols, options.repeats)
        for result in results:
            print(f'{image:>12} {result["keep_ratio"]:5.2f} {result["tokens_kept"]:7d} '
                  f'{result["encoder_ms"]:6.1f} ms {result["prefill_ms"]:6.1f} ms '
                  f'{result["flops_saved"]:12.1%} {result["speed_up"]:8.2f}x', flush=True)
    print(json.dumps(report))


if __name__ == '__main__':
    main()
