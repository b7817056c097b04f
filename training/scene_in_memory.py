"""A scene in memory: what its kept tokens were computed from is no longer all to be seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def see_in_memory(
    computed: Tensor, counts: Sequence[int], num_tokens: int, num_prefix: int, mask: Tensor,
) -> Tensor:
    """
    Return what each token sees in the language model when later ones take others' places.

    A token sees those that stand before it in the picture, as they were when it was computed, and
    a question those of the end. This is what ``SceneForward`` of the package computes in turn.

    Parameters
    ----------
    computed : Tensor int64 (scenes, computed)
        As ``training.kept_tokens.choose_refreshed`` returns them.
    counts : sequence of int
        How many each moment has.
    num_tokens : int
        Of a moment.
    num_prefix : int
        Tokens before the picture.
    mask : Tensor bool (1, 1, sequence, sequence)
        What each token sees if all are kept.

    Returns
    -------
    Tensor bool (scenes, 1, sequence, sequence)

    """
    place, moment = computed % num_tokens, computed // num_tokens
    image = slice(num_prefix, num_prefix + computed.shape[1])
    seen = mask.expand(len(computed), -1, -1, -1).clone()
    # until which moment a token holds its place
    by_place = torch.zeros(
        len(computed), len(counts), num_tokens, dtype=torch.bool, device=computed.device)
    by_place[torch.arange(len(computed), device=computed.device)[:, None], moment, place] = True
    end = torch.full_like(place, len(counts))
    for later in reversed(range(1, len(counts))):
        is_taken = by_place[:, later].gather(1, place) & (moment < later)
        end = end.where(~is_taken, torch.full_like(end, later))
    holds = (moment[:, None] <= moment[:, :, None]) & (end[:, None] > moment[:, :, None])
    seen[:, 0, image, image] = holds & (place[:, None] <= place[:, :, None])
    seen[:, 0, image.stop:, image] &= (end == len(counts))[:, None]
    return seen
