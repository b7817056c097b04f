"""What a step of the training is to learn."""

from __future__ import annotations

from collections.abc import Sequence

from epvlm_ros.sim.scene import COLOURS, SHAPES, SYMBOLS
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import Batch
from training.config import TrainingConfig
from training.pictures import NO_LABEL, NUM_CHANGES, NUM_MOTIONS, Pictures
from training.sparse_forward import AuxiliaryHeads, ForwardResult

_ORDER_MARGIN = 0.04  # half of the least distance that relations are asked about, in units


def compute_losses(
    result: ForwardResult, heads: AuxiliaryHeads, batch: Batch, pictures: Pictures, kept: Tensor,
    config: TrainingConfig,
) -> dict[str, Tensor]:
    """Return the losses, weighted, and the share of questions with the right answer."""
    num_tokens = batch.grid[0] * batch.grid[1]
    logits, targets = result.logits[:, :, :-1], batch.tokens[:, :, 1:]
    wanted = batch.is_answer[:, :, 1:]
    answer = functional.cross_entropy(logits[wanted].float(), targets[wanted])
    right = ((logits.argmax(dim=-1) == targets) | ~wanted).all(dim=-1).float().mean()

    def token_loss(
        states: Tensor, head: torch.nn.Linear, labels: Tensor, num_classes: int,
    ) -> Tensor:
        """Return the loss of a head on kept tokens, whose last class is the ground."""
        weight = torch.ones(num_classes + 1, device=labels.device)
        weight[-1] = config.background_weight
        scores = head(states).float().flatten(0, 1)
        labels = labels.gather(1, kept).flatten()
        summed = functional.cross_entropy(scores, labels, weight, reduction='sum')
        asked = labels.clamp_min(0)
        weights = (weight[asked] * (labels != NO_LABEL)).sum()
        return summed / weights.clamp_min(1.0)  # there may be none to ask for

    tokens = torch.stack([
        token_loss(result.visual, head, labels, num_classes) for head, labels, num_classes in (
            (heads.shape, pictures.shape, len(SHAPES)),
            (heads.colour, pictures.colour, len(COLOURS)),
            (heads.symbol, pictures.symbol, len(SYMBOLS)),
            (heads.motion, pictures.motion, NUM_MOTIONS))]).sum()
    changes = torch.stack([
        token_loss(result.change_hidden, head, labels, num_classes)
        for head, labels, num_classes in (
            (heads.change, pictures.change, NUM_CHANGES), (heads.way_y, pictures.way_y, 2),
            (heads.way_x, pictures.way_x, 2))]).sum() * (not batch.in_memory)
    places = [
        functional.cross_entropy(head(result.image_hidden).float().flatten(0, 1), labels.flatten())
        for head, labels in (
            (heads.row, kept % num_tokens // batch.grid[1]), (heads.col, kept % batch.grid[1]))]
    names = _name_losses(result, heads, batch)
    return {
        'answer': answer, 'tokens': config.token_loss_weight * tokens,
        'places': config.position_loss_weight * (places[0] + places[1]),
        'mentions': config.mention_loss_weight * names['mentions'],
        'orders': config.order_loss_weight * names['orders'],
        'relations': config.order_loss_weight * names['relations'],
        'changes': config.change_loss_weight * changes, 'right': right}


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
