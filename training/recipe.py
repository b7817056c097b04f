"""
Makes both checkpoints in one command: ``python -m training.recipe --out FOLDER --device cuda``.

First one that always saw whole pictures (the protocol of EP-VLM: no training for sparsity), in
``FOLDER/dense_only``; then, from its weights, one that often saw only some of their tokens, in
``FOLDER/patch_dropout``: the one that ships with the package. 14 minutes on one NVIDIA H200. Called
again after an interruption it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from training.config import STAGES, TrainingConfig
from training.train import main as train

DONE_FILE = 'done.json'


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that are not done."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--out', type=Path, required=True, help='folder of both checkpoints')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--num-workers', type=int, default=14, help='processes that make scenes')
    parser.add_argument('--steps', type=int, default=0,
                        help='of each stage, in place of its minutes')
    parser.add_argument('--batch-size', type=int, default=0, help='in place of that of the stages')
    options = parser.parse_args(arguments)
    before: Path | None = None
    for name, config in STAGES.items():
        folder = options.out / name
        if not (folder / DONE_FILE).exists():
            train(stage_arguments(config, folder, before, options))
            (folder / DONE_FILE).write_text(json.dumps({'stage': name}) + '\n')
        before = folder


def stage_arguments(
    config: TrainingConfig, folder: Path, before: Path | None, options: argparse.Namespace,
) -> list[str]:
    """Return the arguments of ``training.train`` for a stage."""
    arguments = [
        '--out', str(folder), '--device', options.device, '--keep-state',
        '--num-workers', str(options.num_workers),
        '--batch-size', str(options.batch_size or config.batch_size),
        '--steps', str(options.steps), '--minutes', str(0.0 if options.steps else config.minutes),
        '--dense-share', str(config.dense_share), '--first-batch', str(config.first_batch),
        '--warmup-steps', str(config.warmup_steps)]
    if options.device.startswith('cuda'):
        arguments.append('--compile')
    if (folder / 'training_state.pt').exists():
        return [*arguments, '--resume', str(folder)]
    return arguments if before is None else [*arguments, '--start', str(before)]


if __name__ == '__main__':
    main()
