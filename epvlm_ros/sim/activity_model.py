"""A cheap event camera for training: how many events each visual token sees, without times."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as functional

THRESHOLD = 0.2  # of an event, a change of the logarithm
LOG_OFFSET = 0.02  # keeps the logarithm of black finite; the event simulator uses it as well


def token_activity(
    brightness: Tensor,
    token_size_px: int,
    *,
    contrast_threshold: float = THRESHOLD,
    noise_events_per_px: Tensor | float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """
    Estimate the number of events in each visual token, float (scenes, rows, cols).

    ``brightness``, float (scenes, times, height, width), is linear, 0 to 1, at increasing times.
    Events are crossings of the threshold by its logarithm, plus ``noise_events_per_px`` counted
    noise events on average, (scenes,) or one number. Zeros and noise for fewer than two times.

    Raises
    ------
    ValueError
        If the image is not made of whole tokens or the threshold is not positive.

    """
    height, width = brightness.shape[-2:]
    if height % token_size_px or width % token_size_px:
        raise ValueError(
            f'picture of {height} x {width}: give multiples of {token_size_px} pixels')
    if contrast_threshold <= 0.0:
        raise ValueError(f'contrast_threshold is {contrast_threshold}: give more than 0')
    change = torch.log(brightness + LOG_OFFSET).diff(dim=1).abs().sum(dim=1)
    area = token_size_px * token_size_px
    events = functional.avg_pool2d(change[:, None], token_size_px)[:, 0]
    events = events * (area / contrast_threshold)
    rate = torch.as_tensor(noise_events_per_px, device=events.device, dtype=events.dtype)
    mean_noise = (rate.reshape(-1, 1, 1) * area).expand_as(events)
    return events + torch.poisson(mean_noise, generator=generator)
