"""
Trains the small model from nothing: ``python -m training.train --out FOLDER --device cuda``.

Scenes and questions come from worker processes, pictures are drawn on the device. The result is
a checkpoint folder with ``training.json`` beside it, which holds the configuration and the course
of the run. A run that ended goes on with ``--resume FOLDER``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import json
import math
from pathlib import Path
import time
from typing import Any

from epvlm_ros.sim.scene import COLOURS, SHAPES
import torch
from torch import Tensor
import torch.nn.functional as functional
from tqdm import tqdm
from training.batches import Batch, BatchDataset, make_loader
from training.checkpoint import build_model, load_weights, save_checkpoint
from training.config import TrainingConfig
from training.pictures import choose_tokens, draw_pictures, Pictures
from training.sparse_forward import (
    AuxiliaryHeads, BlockFunction, ForwardResult, run_model, run_vision_block)

_STATE_FILE = 'training_state.pt'
_REPORT_EVERY = 20
_ORDER_MARGIN = 0.04  # half of the least distance that relations are asked about, in units


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    scenes = {name: value.to(device, non_blocking=True) for name, value in batch.scenes.items()}
    tensors = [item.to(device, non_blocking=True) for item in batch[2:]]
    return Batch(batch.grid, scenes, *tensors)


def draw_kept_tokens(
    pictures: Pictures, config: TrainingConfig, generator: torch.Generator,
) -> Tensor:
    """
    Draw which tokens of each picture are computed on, the same number in all.

    About a third of the masks are random, a third keep tokens on objects first, a third the most
    active ones.
    """
    num_scenes, num_tokens = pictures.shape.shape
    device = pictures.shape.device
    draws = torch.rand(3, generator=generator, device=device).tolist()
    share = config.min_keep_ratio + draws[1] * (config.max_keep_ratio - config.min_keep_ratio)
    # Few different numbers, since every new shape costs time.
    num_kept = num_tokens if draws[0] < config.dense_share else 8 * round(share * num_tokens / 8)
    noise = torch.rand((num_scenes, num_tokens), generator=generator, device=device)
    on_object = noise + (pictures.shape < len(SHAPES))
    active = pictures.activity + 1e-3 * noise
    kind = torch.randint(3, (num_scenes, 1), generator=generator, device=device)
    scores = torch.where(kind == 0, noise, torch.where(kind == 1, on_object, active))
    return choose_tokens(scores, max(8, num_kept))


def compute_losses(
    result: ForwardResult, heads: AuxiliaryHeads, batch: Batch, pictures: Pictures, kept: Tensor,
    config: TrainingConfig,
) -> dict[str, Tensor]:
    """Return the losses, weighted, and the share of questions with the right answer."""
    logits, targets = result.logits[:, :, :-1], batch.tokens[:, :, 1:]
    wanted = batch.is_answer[:, :, 1:]
    answer = functional.cross_entropy(logits[wanted].float(), targets[wanted])
    right = ((logits.argmax(dim=-1) == targets) | ~wanted).all(dim=-1).float().mean()

    def token_loss(head: torch.nn.Linear, labels: Tensor, num_classes: int) -> Tensor:
        weight = torch.ones(num_classes + 1, device=labels.device)
        weight[-1] = config.background_weight
        scores = head(result.visual).float().flatten(0, 1)
        return functional.cross_entropy(scores, labels.gather(1, kept).flatten(), weight)

    tokens = token_loss(heads.shape, pictures.shape, len(SHAPES))
    tokens = tokens + token_loss(heads.colour, pictures.colour, len(COLOURS))
    places = [
        functional.cross_entropy(head(result.image_hidden).float().flatten(0, 1), labels.flatten())
        for head, labels in (
            (heads.row, kept // batch.grid[1]), (heads.col, kept % batch.grid[1]))]
    names = _name_losses(result, heads, batch)
    return {
        'answer': answer, 'tokens': config.token_loss_weight * tokens,
        'places': config.position_loss_weight * (places[0] + places[1]),
        'mentions': config.mention_loss_weight * names['mentions'],
        'orders': config.order_loss_weight * names['orders'],
        'relations': config.order_loss_weight * names['relations'], 'right': right}


def _name_losses(
    result: ForwardResult, heads: AuxiliaryHeads, batch: Batch,
) -> dict[str, Tensor]:
    """Return the losses on where named objects are, and on how two of them lie."""
    named = batch.mention > 0  # (scenes, questions, 2)
    places = torch.stack([
        _states_at(result.mention_hidden, batch.mention[:, :, role]) for role in (0, 1)], dim=2)
    tokens = (batch.mention_centre[named] * min(batch.grid)).long()  # (names, 2): row, col
    mentions = _cross_entropies(places[named], (heads.mention_row, heads.mention_col), tokens)
    both = named.all(dim=-1)
    offset = batch.mention_centre[both][:, 1] - batch.mention_centre[both][:, 0]
    # 0: the first is below or right of the second one; 2: it is above or left of it.
    order = 1 + (offset > _ORDER_MARGIN).long() - (offset < -_ORDER_MARGIN).long()
    last_words = _states_at(result.order_hidden, batch.mention[:, :, 1])[both]
    before_answer = batch.is_answer.int().argmax(dim=-1) - 1
    answers = _states_at(result.answer_hidden, before_answer)[both]
    relation = batch.relation[both][:, None]
    return {
        'mentions': mentions,
        'orders': _cross_entropies(last_words, (heads.order_y, heads.order_x), order),
        'relations': _cross_entropies(
            answers, (heads.answer_y, heads.answer_x, heads.relation),
            torch.cat([order, relation], dim=1))}


def _states_at(states: Tensor, places: Tensor) -> Tensor:
    """Pick (scenes, questions, dim) of states (scenes, questions, length, dim) by place."""
    index = places[:, :, None, None].expand(-1, -1, -1, states.shape[-1])
    return states.gather(2, index)[:, :, 0]


def _cross_entropies(
    states: Tensor, heads: Sequence[torch.nn.Linear], labels: Tensor,
) -> Tensor:
    """Return the sum of the losses of heads with labels (rows, heads), 0 for no rows."""
    if not len(labels):
        return states.sum()
    return torch.stack([
        functional.cross_entropy(head(states).float(), labels[:, column])
        for column, head in enumerate(heads)]).sum()


class Trainer:
    """One run: model, optimiser and the course so far."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        """Start from random weights that the seed determines."""
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.model = build_model()
        self.model.to(device)  # type: ignore[arg-type]
        if config.train_last_layers:
            self.model.requires_grad_(False)
            for layer in self.model.model.language_model.layers[-config.train_last_layers:]:
                layer.requires_grad_(True)
            self.model.get_input_embeddings().requires_grad_(True)
        self.heads = AuxiliaryHeads(self.model.lm_head.in_features).to(device)
        self.generator = torch.Generator(device).manual_seed(config.seed + 1)
        parameters = [
            item for part in (self.model, self.heads) for item in part.parameters()
            if item.requires_grad]
        groups = [
            {'params': [item for item in parameters if item.ndim > 1],
             'weight_decay': config.weight_decay},
            {'params': [item for item in parameters if item.ndim <= 1], 'weight_decay': 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=device.type == 'cuda')
        self.course: list[dict[str, float]] = []
        self.num_steps = 0
        self._run_block: BlockFunction = run_vision_block
        self._started = time.monotonic()
        if device.type == 'cuda':
            # It prepares anew, for a good part of a second, for every number of kept tokens.
            torch.backends.cuda.enable_cudnn_sdp(False)

    def compile_layers(self) -> None:
        """Compile the layers, once for all numbers of tokens."""
        self._run_block = torch.compile(run_vision_block, dynamic=True)
        for layer in self.model.model.language_model.layers:
            layer.compile(dynamic=True)

    def resume(self, folder: Path) -> None:
        """Go on from a run's folder; where it holds weights only, the optimiser starts anew."""
        state_path = folder / _STATE_FILE
        if state_path.exists():
            state = torch.load(state_path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state['model'])
            self.heads.load_state_dict(state['heads'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.num_steps = int(state['num_steps'])
            return
        load_weights(self.model, folder)
        heads = folder / 'heads.pt'
        if heads.exists():
            self.heads.load_state_dict(
                torch.load(heads, map_location=self.device, weights_only=True))

    def save(self, folder: Path, with_state: bool) -> None:
        """Write the checkpoint, the heads, and what a run that goes on needs if told so."""
        save_checkpoint(self.model, folder)
        torch.save(self.heads.state_dict(), folder / 'heads.pt')
        if with_state:
            torch.save({
                'model': self.model.state_dict(), 'heads': self.heads.state_dict(),
                'optimizer': self.optimizer.state_dict(), 'num_steps': self.num_steps},
                folder / _STATE_FILE)
        report = {
            'config': dataclasses.asdict(self.config), 'num_steps': self.num_steps,
            'device': _device_name(self.device), 'torch': torch.__version__,
            'minutes': (time.monotonic() - self._started) / 60.0, 'course': self.course}
        (folder / 'training.json').write_text(json.dumps(report, indent=1) + '\n')

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch and return its losses."""
        batch = move_batch(batch, self.device)
        with torch.no_grad():
            pictures = draw_pictures(batch, self.generator)
            kept = draw_kept_tokens(pictures, self.config, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == 'cuda'):
            result = run_model(
                self.model, pictures.patches, kept, batch.grid, batch.tokens, self._run_block)
            losses = compute_losses(result, self.heads, batch, pictures, kept, self.config)
        loss = torch.stack([value for name, value in losses.items() if name != 'right']).sum()
        for group in self.optimizer.param_groups:
            group['lr'] = self._learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.num_steps += 1
        return losses

    def share_over(self) -> float:
        """Return how much of the run is over, 0 to 1."""
        config, shares = self.config, [0.0]
        if config.steps:
            shares.append(self.num_steps / config.steps)
        if config.minutes:
            shares.append((time.monotonic() - self._started) / (60.0 * config.minutes))
        return max(shares)

    def _learning_rate(self) -> float:
        config = self.config
        warmth = min(1.0, (self.num_steps + 1) / max(1, config.warmup_steps))
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.share_over())))
        return warmth * (
            config.final_learning_rate
            + (config.learning_rate - config.final_learning_rate) * fall)

    def run(self, batches: Iterator[Batch]) -> None:
        """Learn until steps or minutes are used up."""
        self.model.train()
        with tqdm(total=self.config.steps or None, mininterval=15.0, desc='training') as bar:
            for batch in batches:
                losses = self.step(batch)
                bar.update()
                if self.num_steps % _REPORT_EVERY == 0 or self.num_steps == 1:
                    numbers = {name: round(value.item(), 4) for name, value in losses.items()}
                    self.course.append({'step': self.num_steps, **numbers})
                    bar.set_postfix(numbers, refresh=False)
                if self.share_over() >= 1.0:
                    return


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu'


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; every field of ``TrainingConfig`` is an option."""
    parser = argparse.ArgumentParser(description='Train the small model from nothing.')
    parser.add_argument('--out', type=Path, required=True, help='folder of the checkpoint')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--resume', type=Path, help='folder of a run that is to go on')
    parser.add_argument('--compile', action='store_true', help='compile the layers first')
    parser.add_argument(
        '--keep-state', action='store_true', help='also write what --resume needs to go on')
    for item in dataclasses.fields(TrainingConfig):
        kind: Any = type(item.default)
        parser.add_argument('--' + item.name.replace('_', '-'), type=kind, default=item.default)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> Trainer:
    """Train as the command line says and return the trainer."""
    options = parse_arguments(arguments)
    config = TrainingConfig(**{
        item.name: getattr(options, item.name) for item in dataclasses.fields(TrainingConfig)})
    if not config.steps and not config.minutes:
        raise ValueError('steps and minutes are both 0: give one of them')
    dataset = BatchDataset(
        'train', config.steps or 10_000_000, config.batch_size, config.questions_per_image,
        config.first_batch, relation_weight=config.relation_weight)
    # Workers start before the device is touched, so that nothing of it is inherited.
    batches = iter(make_loader(dataset, config.num_workers))
    trainer = Trainer(config, torch.device(options.device))
    if options.resume:
        trainer.resume(options.resume)
    if options.compile:
        trainer.compile_layers()
    trainer.run(batches)
    trainer.save(options.out, options.keep_state)
    return trainer


if __name__ == '__main__':
    main()
