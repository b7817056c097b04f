"""
Makes all checkpoints in one command: ``python -m training.recipe --out FOLDER --device cuda``.

First one that always saw whole pictures (the protocol of EP-VLM: no training for sparsity), in
``FOLDER/dense_only``; then, from its weights, one that often saw only some of their tokens, in
``FOLDER/patch_dropout``; then one that saw several moments and scenes whose looks say little too,
in ``FOLDER/several_moments``: the one that ships with the package, which had 35 minutes of this
stage on one card and 16 on two. 32 minutes on one H200.
Called again after an interruption it goes on where it stopped. ``--stages`` and ``--start`` make
the last ones alone, from weights that there are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import torch
from training.config import STAGES
from training.train import STATE_FILE, train

DONE_FILE = 'done.json'


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that are not done."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--out', type=Path, required=True, help='folder of the checkpoints')
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=list(STAGES),
                        help='in their order (default: all)')
    parser.add_argument('--start', type=Path, help='folder of weights that the first starts from')
    parser.add_argument('--photographs', default='', help='folder of images for some scenes')
    parser.add_argument('--minutes', type=float, default=0.0, help='of each, in place of its own')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--num-workers', type=int, default=14, help='processes that make scenes')
    parser.add_argument('--steps', type=int, default=0,
                        help='of each stage, in place of its minutes')
    parser.add_argument('--batch-size', type=int, default=0, help='in place of that of the stages')
    options = parser.parse_args(arguments)
    changes: dict[str, Any] = {
        'num_workers': options.num_workers, 'photographs': options.photographs}
    if options.minutes:
        changes |= {'minutes': options.minutes}
    if options.steps:
        changes |= {'steps': options.steps, 'minutes': 0.0}
    if options.batch_size:
        changes |= {'batch_size': options.batch_size}
    before: Path | None = options.start
    for name in options.stages:
        folder = options.out / name
        if not (folder / DONE_FILE).exists():
            has_state = (folder / STATE_FILE).exists()
            train(
                replace(STAGES[name], **changes), folder, options.device,
                resume=folder if has_state else None, start=None if has_state else before,
                compile_layers=options.device.startswith('cuda'), keep_state=True)
            (folder / DONE_FILE).write_text(json.dumps({'stage': name}) + '\n')
        before = folder


if __name__ == '__main__':
    main()
