"""Which tokens a step of the training sees, and what it is to learn from them."""

from __future__ import annotations

from collections.abc import Sequence

from epvlm_ros.sim.scene import COLOURS, SHAPES, SYMBOLS
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import Batch
from training.config import TrainingConfig
from training.pictures import choose_tokens, NO_LABEL, NUM_MOTIONS, Pictures, score_tokens
from training.sparse_forward import AuxiliaryHeads, ForwardResult

# That the checkpoint is tuned to; today's default is not among the scores in torch.
_TUNED_SELECTION = 'events_and_saliency'
_ORDER_MARGIN = 0.04  # half of the least distance that relations are asked about, in units


def draw_kept_tokens(
    pictures: Pictures, grid: tuple[int, int], config: TrainingConfig,
    generator: torch.Generator,
) -> Tensor:
    """
    Draw which tokens of each picture are computed on, the same number in all.

    Each mask is of one of the kinds of ``score_tokens``, twice as often of
    ``events_and_saliency`` as of each other kind.
    """
    num_scenes, num_tokens = pictures.shape.shape
    device = pictures.shape.device
    draws = torch.rand(2, generator=generator, device=device).tolist()
    # few tokens more often than many: that is where most is to be learned
    share = config.min_keep_ratio + draws[1] ** 1.5 * (
        config.max_keep_ratio - config.min_keep_ratio)
    # Few different numbers, since every new shape costs time.
    num_kept = num_tokens if draws[0] < config.dense_share else 8 * round(share * num_tokens / 8)
    noise = torch.rand((num_scenes, num_tokens), generator=generator, device=device)
    scores_by_kind = score_tokens(pictures, grid, noise)
    kinds = torch.stack([*scores_by_kind.values(), scores_by_kind[_TUNED_SELECTION]])
    kind = torch.randint(len(kinds), (num_scenes,), generator=generator, device=device)
    scores = kinds[kind, torch.arange(num_scenes, device=device)]
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
        labels = labels.gather(1, kept).flatten()
        summed = functional.cross_entropy(scores, labels, weight, reduction='sum')
        asked = labels.clamp_min(0)
        weights = (weight[asked] * (labels != NO_LABEL)).sum()
        return summed / weights.clamp_min(1.0)  # there may be none to ask for

    tokens = torch.stack([
        token_loss(heads.shape, pictures.shape, len(SHAPES)),
        token_loss(heads.colour, pictures.colour, len(COLOURS)),
        token_loss(heads.symbol, pictures.symbol, len(SYMBOLS)),
        token_loss(heads.motion, pictures.motion, NUM_MOTIONS)]).sum()
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
