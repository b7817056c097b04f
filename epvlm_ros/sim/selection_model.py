"""
The selection by saliency on batches of pictures, for training: what ``core.selection`` computes.

The same formulas in torch, on pictures that are cut into whole tokens already. Samples are means
of all their pixels here, of a part of them there.
"""

from __future__ import annotations

from epvlm_ros.core.selection.saliency import (
    AROUND_TOKENS, EVENT_WEIGHT, HALF_SALIENCY, LEAST_SPREAD, NEIGHBOUR_SHARE, OPPONENT_COLOURS,
    SAMPLES_PER_SIDE)
import torch
from torch import Tensor
import torch.nn.functional as functional


def image_saliency(rgb: Tensor, token_size_px: int) -> Tensor:
    """
    Return the saliency of each token, see ``core.selection.image_saliency``.

    Parameters
    ----------
    rgb : Tensor float (scenes, 3, height, width)
        0 to 1; height and width are multiples of ``token_size_px``.
    token_size_px : int
        Side of a visual token, a multiple of 4.

    Returns
    -------
    Tensor float (scenes, rows, cols)

    Raises
    ------
    ValueError
        If the picture is not made of whole tokens, or a token not of whole samples.

    """
    if token_size_px % SAMPLES_PER_SIDE or any(side % token_size_px for side in rgb.shape[-2:]):
        raise ValueError(
            f'picture of shape {tuple(rgb.shape)}, tokens of {token_size_px} pixels: give whole '
            f'tokens, their side a multiple of {SAMPLES_PER_SIDE}')
    samples = functional.avg_pool2d(rgb, token_size_px // SAMPLES_PER_SIDE)
    to_opponent = torch.tensor(OPPONENT_COLOURS, dtype=rgb.dtype, device=rgb.device)
    opponent = torch.einsum('oc,nchw->nohw', to_opponent, samples)
    tokens = functional.avg_pool2d(opponent, SAMPLES_PER_SIDE).flatten(2)
    ground = tokens.quantile(0.5, dim=2, keepdim=True)  # median() takes the lower of two
    spread = (tokens - ground).abs().quantile(0.5, dim=2, keepdim=True) + LEAST_SPREAD
    distance = ((opponent - ground[..., None]) / spread[..., None]).norm(dim=1)
    largest = functional.max_pool2d(distance[:, None], SAMPLES_PER_SIDE)[:, 0]
    return largest / (largest + HALF_SALIENCY)


def score_events_and_saliency(
    activity: Tensor, saliency: Tensor, noise_floor: float | Tensor,
) -> Tensor:
    """
    Return what the policy events_and_saliency ranks tokens by.

    Parameters
    ----------
    activity : Tensor float (scenes, rows, cols)
        Events of each token.
    saliency : Tensor float (scenes, rows, cols)
        See ``image_saliency``.
    noise_floor : float or Tensor (scenes, 1, 1)
        Most events of a token in which nothing moves.

    Returns
    -------
    Tensor float (scenes, rows, cols)

    """
    above = (activity - noise_floor).clamp_min(0.0)
    around = functional.avg_pool2d(
        functional.pad(activity[:, None], (AROUND_TOKENS // 2,) * 4, mode='replicate'),
        AROUND_TOKENS, stride=1)[:, 0]
    contrast = above / (above + noise_floor + 2.0 * around).clamp_min(1e-9)
    total = saliency + EVENT_WEIGHT * contrast
    line = torch.tensor([0.25, 0.5, 0.25], dtype=total.dtype, device=total.device)
    around_3 = functional.conv2d(
        functional.pad(total[:, None], (1, 1, 1, 1), mode='replicate'),
        torch.outer(line, line)[None, None])[:, 0]
    return (1.0 - NEIGHBOUR_SHARE) * total + NEIGHBOUR_SHARE * around_3
