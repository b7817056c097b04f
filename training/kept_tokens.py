"""Which tokens a step of the training sees."""

from __future__ import annotations

from collections.abc import Sequence
import math

from epvlm_ros.sim.scene import SHAPES
from epvlm_ros.vlm.token_selection.moments import CAMERA_MOVES, CHANGED_SHARE
import torch
from torch import Tensor
from training.batches import Batch
from training.config import TrainingConfig
from training.pictures import Pictures
from training.token_scores import combine_scores, token_contrast

# That the checkpoint is tuned to; today's default is not among the scores in torch.
_TUNED_SELECTION = 'events_and_saliency'
_CHANGED_FIRST = 1e3  # more than any other score of a token
_STEP = 8  # of numbers of kept tokens: few different ones, since every new shape costs time
_EARLIER_SHARES = (0.15, 0.45)  # of the kept tokens that earlier moments have together
_OLDEST_SHARES = (0.4, 0.9)  # of these that the oldest moment has
_BY_CHANGE_SHARE = 0.85  # of the steps in which what changed is kept first


def draw_kept_tokens(
    pictures: Pictures, batch: Batch, config: TrainingConfig, generator: torch.Generator,
) -> tuple[Tensor, tuple[int, ...]]:
    """
    Draw which tokens of each scene are computed on, the same number in all.

    Each mask is of one of the kinds of ``score_tokens``, twice as often of
    ``events_and_saliency`` as of each other kind. Several moments together have as many tokens as
    one picture alone.

    Returns
    -------
    Tensor int64 (scenes, kept)
        Indices ``moment * tokens + token``, ascending.
    tuple of int
        How many of them each moment has.

    """
    num_tokens, num_moments = batch.grid[0] * batch.grid[1], batch.num_moments
    if batch.in_memory:
        return choose_refreshed(pictures, num_moments, num_tokens)
    draws = torch.rand(5, generator=generator, device=pictures.shape.device).tolist()
    # few tokens more often than many: that is where most is to be learned
    least = config.min_keep_ratio if num_moments == 1 else config.min_moments_keep_ratio
    share = least + draws[1] ** 1.5 * (config.max_keep_ratio - least)
    by_change = num_moments > 1 and draws[2] < _BY_CHANGE_SHARE
    dense_share = config.dense_share if num_moments == 1 else config.all_moments_share
    if draws[0] < dense_share:
        counts = (num_tokens,) * num_moments
    else:
        counts = share_out(max(_STEP, _round(share * num_tokens)), num_moments, by_change, draws)
    kind = torch.randint(
        len(SELECTIONS) + 1, (len(pictures.shape),), generator=generator,
        device=pictures.shape.device)
    return choose_in_moments(pictures, batch, counts, kind, generator, by_change), counts


def choose_in_moments(
    pictures: Pictures, batch: Batch, counts: Sequence[int], kind: Tensor,
    generator: torch.Generator, by_change: bool,
) -> Tensor:
    """
    Return which tokens are kept, so many of each moment.

    ``kind``, int64 (scenes,), are indices into ``SELECTIONS``, one more for the tuned one. With
    ``by_change`` those that changed come first, by the rule of
    ``epvlm_ros.vlm.token_selection.moments``.
    """
    num_scenes, num_tokens = len(kind), batch.grid[0] * batch.grid[1]
    row = torch.arange(num_scenes, device=kind.device)
    moments = [at_moment(pictures, moment, num_tokens) for moment in range(len(counts))]
    scores = []
    for seen in moments:
        noise = torch.rand(
            (num_scenes, num_tokens), generator=generator, device=kind.device)
        by_kind = score_tokens(seen, batch.grid, noise)
        scores.append(torch.stack([*by_kind.values(), by_kind[_TUNED_SELECTION]])[kind, row])
    if by_change:
        camera_rests = (moments[-1].difference > 0.0).float().mean(dim=1) <= CAMERA_MOVES
        limits = (num_tokens,) * (len(counts) - 1) + (round(CHANGED_SHARE * counts[-1]),)
        scores = [
            torch.where(
                camera_rests[:, None],
                scores[-1] + _CHANGED_FIRST * _keep_largest(seen.difference, limit), own)
            for seen, own, limit in zip(moments, scores, limits)]
    return torch.cat([
        moment * num_tokens + choose_tokens(score, count)
        for moment, (score, count) in enumerate(zip(scores, counts))], dim=1)


def _keep_largest(amounts: Tensor, number: int) -> Tensor:
    """Return amounts (scenes, tokens) with 0 for all but so many of each scene."""
    if number == amounts.shape[1]:
        return amounts
    largest = amounts.topk(max(1, number), dim=1)
    return torch.zeros_like(amounts).scatter(1, largest.indices, largest.values)


def choose_refreshed(
    pictures: Pictures, num_moments: int, num_tokens: int,
) -> tuple[Tensor, tuple[int, ...]]:
    """
    Choose what a memory computes: all tokens of the first moment, of each later one what differs.

    Every scene has as many as the one in which most differs; the others compute some tokens that
    do not.

    Returns
    -------
    Tensor int64 (scenes, computed)
        Indices ``moment * tokens + token``, ascending.
    tuple of int
        How many of them each moment has.

    """
    difference = pictures.difference.unflatten(1, (num_moments, num_tokens))
    most = int((difference > 0.0).sum(dim=2).amax())
    count = min(num_tokens, _STEP * max(1, math.ceil(most / _STEP)))
    first = torch.arange(num_tokens, device=difference.device).expand(len(difference), -1)
    later = [
        moment * num_tokens + choose_tokens(difference[:, moment], count)
        for moment in range(1, num_moments)]
    return torch.cat([first, *later], dim=1), (num_tokens, *[count] * (num_moments - 1))


def at_moment(pictures: Pictures, moment: int, num_tokens: int) -> Pictures:
    """Return what is seen at one moment."""
    return Pictures(*(
        item[:, moment * num_tokens:(moment + 1) * num_tokens] for item in pictures))


def share_out(
    num_kept: int, num_moments: int, by_change: bool, draws: Sequence[float],
) -> tuple[int, ...]:
    """Draw how many tokens each moment has: by change the latest has most, else all as many."""
    if num_moments == 1:
        return (num_kept,)
    if not by_change:
        return (max(_STEP, _round(num_kept / num_moments)),) * num_moments
    (low, high), (least, most) = _EARLIER_SHARES, _OLDEST_SHARES
    earlier = (low + draws[3] * (high - low)) * num_kept
    oldest = (least + draws[4] * (most - least)) * earlier
    rest = (earlier - oldest) / max(1, num_moments - 2)
    counts = [max(_STEP, _round(number)) for number in (oldest, *[rest] * (num_moments - 2))]
    return (*counts, max(_STEP, num_kept - sum(counts)))


def _round(number: float) -> int:
    return _STEP * round(number / _STEP)


def choose_tokens(scores: Tensor, num_kept: int) -> Tensor:
    """Return the indices int64 (scenes, num_kept) of the highest scores, in ascending order."""
    return scores.topk(num_kept, dim=1).indices.sort(dim=1).values


def score_tokens(
    pictures: Pictures, grid: tuple[int, int], noise: Tensor,
) -> dict[str, Tensor]:
    """
    Return by how much each token is worth keeping, by kind of selection.

    Parameters
    ----------
    pictures : Pictures
        What is seen at one moment of each scene.
    grid : tuple of int
        Rows and columns of tokens.
    noise : Tensor float (scenes, tokens)
        From 0 to 1; decides between tokens that are equally good.

    Returns
    -------
    dict of str to Tensor float (scenes, tokens)
        'random'; 'objects', those on objects first; 'events', the most active ones; 'detail',
        those with most to see; 'events_and_saliency', that policy of the package.

    """
    activity, detail = pictures.activity + 1e-5 * noise, pictures.detail + 1e-9 * noise
    contrast = token_contrast(pictures.activity.unflatten(1, grid))
    salient = combine_scores(pictures.saliency.unflatten(1, grid), contrast).flatten(1)
    return {
        'random': noise, 'objects': noise + (pictures.shape < len(SHAPES)), 'events': activity,
        'detail': detail, 'events_and_saliency': salient + 1e-6 * noise}


SELECTIONS = ('random', 'objects', 'events', 'detail', _TUNED_SELECTION)
