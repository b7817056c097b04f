"""
Trains the small model from nothing: ``python -m training.train --out FOLDER --device cuda``.

Scenes and questions come from worker processes, pictures are drawn on the device. The result is
a checkpoint folder with ``training.json`` beside it, which holds the configuration and the course
of the run. With ``--keep-state`` a run that was stopped goes on with ``--resume FOLDER``;
``--start FOLDER`` begins a new one with the weights of another. For several cards see ``cards``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import dataclasses
import json
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from training.batches import Batch, BatchDataset, make_loader
from training.cards import (
    agree_on, average_gradients, join_others, number_of_cards, own_number)
from training.checkpoint import build_model, load_weights, save_checkpoint
from training.config import TrainingConfig
from training.kept_tokens import draw_kept_tokens
from training.losses import compute_losses
from training.pictures import draw_pictures
from training.sparse_forward import AuxiliaryHeads, BlockFunction, run_model, run_vision_block

STATE_FILE, _HEADS_FILE = 'training_state.pt', 'heads.pt'
_REPORT_EVERY = 20
_SAVE_EVERY_MINUTES = 2.0
_AGREE_EVERY = 10  # steps


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    def move(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: move(value) for name, value in item.items()}
        return item.to(device, non_blocking=True)

    return Batch(batch.grid, batch.in_memory, *(move(item) for item in batch[2:]))


def build_optimizers(
    model: torch.nn.Module, heads: torch.nn.Module, config: TrainingConfig,
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers, and AdamW for all the rest."""
    matrices, others, vectors = [], [], []
    for name, parameter in [*model.named_parameters(), *heads.named_parameters()]:
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif parameter.ndim == 2 and ('.layers.' in name or '.blocks.' in name):
            matrices.append(parameter)
        else:
            others.append(parameter)
    groups = [{'params': others, 'weight_decay': config.weight_decay},
              {'params': vectors, 'weight_decay': 0.0}]
    is_cuda = next(model.parameters()).is_cuda
    return [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=is_cuda),
        torch.optim.Muon(
            matrices, lr=config.matrix_learning_rate, weight_decay=config.weight_decay,
            adjust_lr_fn='match_rms_adamw')]


class Trainer:
    """One run: model, optimiser and the course so far."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        """Start from random weights that the seed determines."""
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.model = build_model()
        self.model.to(device)  # type: ignore[arg-type]
        self.heads = AuxiliaryHeads(self.model.lm_head.in_features).to(device)
        self.generator = torch.Generator(device).manual_seed(config.seed + 1)
        self.optimizers = build_optimizers(self.model, self.heads, config)
        self._first_rates = [
            [group['lr'] for group in item.param_groups] for item in self.optimizers]
        self.course: list[dict[str, float]] = []
        self.num_steps = 0
        self._minutes_over = 0.0  # as a share of those there are, the same on all cards
        self._run_block: BlockFunction = run_vision_block
        self._started_s = time.monotonic()
        if device.type == 'cuda':
            # It prepares anew, for a good part of a second, for every number of kept tokens.
            torch.backends.cuda.enable_cudnn_sdp(False)

    def compile_layers(self) -> None:
        """Compile the layers, once for all numbers of tokens."""
        self._run_block = torch.compile(run_vision_block, dynamic=True)
        for layer in self.model.model.language_model.layers:
            layer.compile(dynamic=True)

    def start_from(self, folder: Path) -> None:
        """Take the weights, and the heads where there are any, of another run."""
        load_weights(self.model, folder)
        heads = folder / _HEADS_FILE
        if heads.exists():
            self.heads.load_state_dict(
                torch.load(heads, map_location=self.device, weights_only=True))
            self.config = dataclasses.replace(self.config, heads_only_steps=0)

    def resume(self, folder: Path) -> None:
        """Go on where a run stopped that kept its state."""
        path = folder / STATE_FILE
        if not path.exists():
            raise ValueError(f'there is no {path}: give the folder of a run with --keep-state')
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state['model'])
        self.heads.load_state_dict(state['heads'])
        for optimizer, values in zip(self.optimizers, state['optimizers']):
            optimizer.load_state_dict(values)
        self.generator.set_state(state['generator'].cpu())
        self.num_steps, self.course = state['num_steps'], state['course']
        self._started_s = time.monotonic() - 60.0 * state['minutes']
        self._look_at_the_clock()

    def save(self, folder: Path, with_state: bool) -> None:
        """Write the checkpoint, the heads, and what a run that goes on needs if told so."""
        save_checkpoint(self.model, folder)
        torch.save(self.heads.state_dict(), folder / _HEADS_FILE)
        if with_state:
            torch.save({
                'model': self.model.state_dict(), 'heads': self.heads.state_dict(),
                'optimizers': [item.state_dict() for item in self.optimizers],
                'generator': self.generator.get_state(), 'num_steps': self.num_steps,
                'minutes': self._minutes(), 'course': self.course}, folder / STATE_FILE)
        report = {
            'config': dataclasses.asdict(self.config), 'num_steps': self.num_steps,
            'cards': number_of_cards(),
            'device': _device_name(self.device), 'torch': torch.__version__,
            'minutes': self._minutes(), 'course': self.course}
        (folder / 'training.json').write_text(json.dumps(report, indent=1) + '\n')

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch and return its losses."""
        batch = move_batch(batch, self.device)
        with torch.no_grad():
            pictures = draw_pictures(batch, self.generator)
            kept, counts = draw_kept_tokens(pictures, batch, self.config, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == 'cuda'):
            result = run_model(
                self.model, pictures.patches, kept, batch.grid, batch.tokens, counts,
                self._run_block, in_memory=batch.in_memory)
            losses = compute_losses(result, self.heads, batch, pictures, kept, self.config)
        loss = torch.stack([value for name, value in losses.items() if name != 'right']).sum()
        share = self._rate_share()
        for optimizer, rates in zip(self.optimizers, self._first_rates):
            optimizer.zero_grad(set_to_none=True)
            for group, rate in zip(optimizer.param_groups, rates):
                group['lr'] = share * rate
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients([*self.model.parameters(), *self.heads.parameters()])
        if self.num_steps < self.config.heads_only_steps:
            self.model.zero_grad(set_to_none=True)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.num_steps += 1
        if number_of_cards() == 1 or self.num_steps % _AGREE_EVERY == 0:
            self._look_at_the_clock()
        return losses

    @property
    def share_over(self) -> float:
        """Return how much of the run is over, 0 to 1, the same on all cards."""
        steps_over = self.num_steps / self.config.steps if self.config.steps else 0.0
        return max(steps_over, self._minutes_over)

    def _look_at_the_clock(self) -> None:
        """See how much of the time is over; cards wait for each other to do so."""
        if self.config.minutes:
            self._minutes_over = agree_on(self._minutes() / self.config.minutes, self.device)

    def _minutes(self) -> float:
        return (time.monotonic() - self._started_s) / 60.0

    def _rate_share(self) -> float:
        """Return the learning rates as a share of what they are at first: up, then a cosine."""
        config = self.config
        warm_steps = self.num_steps + 1 - config.heads_only_steps
        warmth = min(1.0, warm_steps / max(1, config.warmup_steps)) if warm_steps > 0 else 1.0
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.share_over)))
        return warmth * (config.final_rate_share + (1.0 - config.final_rate_share) * fall)

    def run(self, batches: Iterator[Batch], save: Callable[[], None] | None = None) -> None:
        """Learn until steps or minutes are used up; ``save`` is called now and then."""
        self.model.train()
        saved_minutes = self._minutes()
        with tqdm(total=self.config.steps or None, mininterval=15.0, desc='training') as bar:
            for batch in batches:
                losses = self.step(batch)
                bar.update()
                if self.num_steps % _REPORT_EVERY == 0 or self.num_steps == 1:
                    numbers = {name: round(value.item(), 4) for name, value in losses.items()}
                    self.course.append({
                        'step': self.num_steps, 'moments': batch.num_moments, **numbers})
                    bar.set_postfix(numbers, refresh=False)
                if self.share_over >= 1.0:
                    return
                if save is not None and self._minutes() > saved_minutes + _SAVE_EVERY_MINUTES:
                    save()
                    saved_minutes = self._minutes()


def saved_steps(folder: Path | None) -> int:
    """Return how many batches a run that is to go on has seen."""
    if folder is None or not (folder / 'training.json').exists():
        return 0
    return int(json.loads((folder / 'training.json').read_text())['num_steps'])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu'


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; every field of ``TrainingConfig`` is an option."""
    parser = argparse.ArgumentParser(description='Train the small model from nothing.')
    parser.add_argument('--out', type=Path, required=True, help='folder of the checkpoint')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument('--resume', type=Path, help='folder of a run that is to go on')
    sources.add_argument('--start', type=Path, help='folder of weights to start from')
    parser.add_argument('--compile', action='store_true', help='compile the layers first')
    parser.add_argument(
        '--keep-state', action='store_true', help='also write what --resume needs to go on')
    for item in dataclasses.fields(TrainingConfig):
        kind: Any = type(item.default)
        parser.add_argument('--' + item.name.replace('_', '-'), type=kind, default=item.default)
    return parser.parse_args(arguments)


def train(
    config: TrainingConfig, out: Path, device: str, *, resume: Path | None = None,
    start: Path | None = None, compile_layers: bool = False, keep_state: bool = False,
) -> Trainer:
    """
    Train, write the checkpoint and return the trainer.

    Parameters
    ----------
    config : TrainingConfig
        The run.
    out : Path
        Folder of the checkpoint.
    device : str
        A device of torch.
    resume : Path, optional
        Folder of a run that kept its state and is to go on.
    start : Path, optional
        Folder of weights to start from.
    compile_layers : bool
        Whether the layers are compiled first.
    keep_state : bool
        Whether what ``resume`` needs is written too, and now and then on the way.

    Raises
    ------
    ValueError
        If nothing ends the run, or there is no state to go on from.

    """
    if not config.steps and not config.minutes:
        raise ValueError('steps and minutes are both 0: give one of them')
    dataset = BatchDataset(
        'train', config.steps or 10_000_000, config.batch_size, config.questions_per_image,
        config.first_batch + saved_steps(resume), mixture=config.mixture,
        part=(own_number(), number_of_cards()))
    # Workers start before the device is touched, so that nothing of it is inherited.
    batches = iter(make_loader(dataset, config.num_workers))
    trainer = Trainer(config, join_others(device))
    if resume:
        trainer.resume(resume)
    if start:
        trainer.start_from(start)
    if compile_layers:
        trainer.compile_layers()
    is_first = own_number() == 0
    trainer.run(batches, (lambda: trainer.save(out, True)) if keep_state and is_first else None)
    if is_first:
        trainer.save(out, keep_state)
    return trainer


def main(arguments: list[str] | None = None) -> Trainer:
    """Train as the command line says and return the trainer."""
    options = parse_arguments(arguments)
    config = TrainingConfig(**{
        item.name: getattr(options, item.name) for item in dataclasses.fields(TrainingConfig)})
    return train(
        config, options.out, options.device, resume=options.resume, start=options.start,
        compile_layers=options.compile, keep_state=options.keep_state)


if __name__ == '__main__':
    main()
