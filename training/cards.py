"""
One training on several cards: each draws scenes of its own, and all take the same steps.

``torchrun --nproc-per-node 2 -m -- training.train ...`` starts a process for each card.
"""

from __future__ import annotations

from collections.abc import Iterable
import os

import torch
from torch import Tensor
import torch.distributed as distributed


def number_of_cards() -> int:
    """Return how many processes train together, 1 unless ``torchrun`` started them."""
    return int(os.environ.get('WORLD_SIZE', '1'))


def own_number() -> int:
    """Return which of them this one is, from 0."""
    return int(os.environ.get('RANK', '0'))


def join_others(device: str) -> torch.device:
    """Return the card of this process, once all of them have been found."""
    if number_of_cards() == 1:
        return torch.device(device)
    found = torch.device(device, int(os.environ['LOCAL_RANK'])) if device == 'cuda' else (
        torch.device(device))
    if found.type == 'cuda':
        torch.cuda.set_device(found)
    distributed.init_process_group('nccl' if found.type == 'cuda' else 'gloo')
    return found


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give all cards the mean of their gradients."""
    number = number_of_cards()
    if number == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, summed in zip(gradients, flat.split(sizes)):
        gradient.copy_(summed.view_as(gradient)).div_(number)


def agree_on(share: float, device: torch.device) -> float:
    """Return the largest number that a card has, so that all end with the same step."""
    if number_of_cards() == 1:
        return share
    largest: Tensor = torch.tensor(share, dtype=torch.float64, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest.item()
