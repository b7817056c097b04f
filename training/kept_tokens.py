"""Which tokens a step of the training sees."""

from __future__ import annotations

import math

from epvlm_ros.sim.scene import SHAPES
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
_EARLIER_SHARES = (0.1, 1 / 3)  # of the kept tokens that each earlier moment has
_EVEN_SHARE = 0.2  # of the steps in which all moments have equally many
_BY_CHANGE_SHARE = 0.8  # of the steps in which what changed is kept first, in all moments


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
    num_tokens = batch.grid[0] * batch.grid[1]
    if batch.in_memory:
        return choose_refreshed(pictures, batch.num_moments, num_tokens)
    device = pictures.shape.device
    draws = torch.rand(2, generator=generator, device=device).tolist()
    # few tokens more often than many: that is where most is to be learned
    least = config.min_keep_ratio if batch.num_moments == 1 else config.min_moments_keep_ratio
    most = config.max_keep_ratio if batch.num_moments == 1 else config.max_moments_keep_ratio
    share = least + draws[1] ** 1.5 * (most - least)
    num_kept = num_tokens if draws[0] < config.dense_share else _round(share * num_tokens)
    counts: tuple[int, ...] = (max(_STEP, num_kept),)
    if batch.num_moments > 1:
        counts = _share_out(num_kept, num_tokens, batch.num_moments, config, generator)
    return choose_in_moments(pictures, batch, counts, generator), counts


def choose_in_moments(
    pictures: Pictures, batch: Batch, counts: tuple[int, ...], generator: torch.Generator,
) -> Tensor:
    """Return which tokens are kept, of a kind drawn for each scene, so many of each moment."""
    device, num_moments = pictures.shape.device, batch.num_moments
    num_scenes, num_tokens = len(batch.times_s), batch.grid[0] * batch.grid[1]
    activity = pictures.activity.unflatten(1, (num_moments, num_tokens))
    by_change = num_moments > 1 and torch.rand(
        1, generator=generator, device=device).item() < _BY_CHANGE_SHARE
    changed: Tensor | float = 0.0
    if by_change:
        pictures = pictures._replace(
            activity=activity.mean(dim=1, keepdim=True).expand_as(activity).flatten(1))
        changed = first_what_changed(pictures, num_moments)
    kind = torch.randint(
        len(SELECTIONS) + 1, (num_scenes,), generator=generator, device=device)
    chosen = []
    noise = torch.rand((num_scenes, num_tokens), generator=generator, device=device)
    for moment, count in enumerate(counts):
        if not by_change:
            noise = torch.rand((num_scenes, num_tokens), generator=generator, device=device)
        # What changed is followed by the same tokens everywhere: by those of the latest.
        seen = at_moment(pictures, num_moments - 1 if by_change else moment, num_tokens)
        by_kind = score_tokens(seen, batch.grid, noise)
        kinds = torch.stack([*by_kind.values(), by_kind[_TUNED_SELECTION]])
        scores = changed + kinds[kind, torch.arange(num_scenes, device=device)]
        chosen.append(moment * num_tokens + choose_tokens(scores, count))
    return torch.cat(chosen, dim=1)


def first_what_changed(pictures: Pictures, num_moments: int) -> Tensor:
    """
    Return scores (scenes, tokens) to be added to others, so that what changed comes before.

    The rule is that of ``epvlm_ros.vlm.token_selection.moments``.
    """
    return _CHANGED_FIRST * pictures.difference.unflatten(1, (num_moments, -1)).amax(dim=1)


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


def _share_out(
    num_kept: int, num_tokens: int, num_moments: int, config: TrainingConfig,
    generator: torch.Generator,
) -> tuple[int, ...]:
    """Draw how many tokens each moment has; the latest has at least as many as the others."""
    draws = torch.rand(3, generator=generator, device=generator.device).tolist()
    if draws[0] < config.all_moments_share:
        return (num_tokens,) * num_moments
    low, high = _EARLIER_SHARES
    share = 1 / num_moments if draws[1] < _EVEN_SHARE else low + draws[2] * (high - low)
    earlier = max(_STEP, _round(share * num_kept))
    latest = max(earlier, num_kept - (num_moments - 1) * earlier)
    return (*[earlier] * (num_moments - 1), min(num_tokens, latest))


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
