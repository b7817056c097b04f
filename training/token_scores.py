"""By how much each visual token is worth computing on, as the package's selections say."""

from __future__ import annotations

from epvlm_ros.vlm.token_selection.saliency import (
    AROUND_TOKENS, AROUND_WEIGHT, EVENT_WEIGHT, HALF_SALIENCY, LEAST_SPREAD, OPPONENT_COLOURS,
    SAMPLES_PER_SIDE)
import torch
from torch import Tensor
import torch.nn.functional as functional
from training.batches import TOKEN_SIZE_PX


def token_detail(rgb: Tensor) -> Tensor:
    """Return the energy of the gradient of all colours in each token, (scenes, rows, cols)."""
    small = functional.avg_pool2d(rgb, 2)
    small = functional.pad(small, (1, 1, 1, 1), mode='replicate')
    down = small[:, :, 2:, 1:-1] - small[:, :, :-2, 1:-1]
    right = small[:, :, 1:-1, 2:] - small[:, :, 1:-1, :-2]
    energy = (down * down + right * right).sum(dim=1, keepdim=True)
    return functional.avg_pool2d(energy, TOKEN_SIZE_PX // 2)[:, 0]


def token_saliency(rgb: Tensor) -> Tensor:
    """
    Return ``image_saliency`` of ``epvlm_ros.vlm.token_selection.saliency``, (scenes, rows, cols).

    Of two middle ones the lower is the median here, and samples are means of all their pixels.
    """
    to_opponent = torch.tensor(OPPONENT_COLOURS, device=rgb.device)
    samples = functional.avg_pool2d(rgb, TOKEN_SIZE_PX // SAMPLES_PER_SIDE)
    samples = torch.einsum('oc,schw->sohw', to_opponent, samples)
    means = functional.avg_pool2d(samples, SAMPLES_PER_SIDE).flatten(2)
    ground = means.median(dim=2, keepdim=True).values
    spread = (means - ground).abs().median(dim=2, keepdim=True).values + LEAST_SPREAD
    unusual = (samples - ground[..., None]) / spread[..., None]
    largest = functional.max_pool2d(unusual.square().sum(dim=1).sqrt(), SAMPLES_PER_SIDE)
    return largest / (largest + HALF_SALIENCY)


def token_contrast(activity: Tensor) -> Tensor:
    """Return ``event_contrast`` of the same module for activity in noise floors."""
    above = (activity - 1.0).clamp_min(0.0)
    margin = AROUND_TOKENS // 2
    padded = functional.pad(activity[:, None], (margin,) * 4, mode='replicate')
    around = functional.avg_pool2d(padded, AROUND_TOKENS, stride=1)[:, 0]
    return above / (above + 1.0 + AROUND_WEIGHT * around)


def combine_scores(saliency: Tensor, contrast: Tensor) -> Tensor:
    """Return ``combine`` of the same module, (scenes, rows, cols) like both."""
    nearby = functional.max_pool2d(contrast, 3, stride=1, padding=1)
    return saliency + EVENT_WEIGHT * (contrast + nearby)
