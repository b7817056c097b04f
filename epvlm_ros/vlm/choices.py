"""Answers to choose from: what they may be, and which of them a model gives how likely."""

from __future__ import annotations

from collections.abc import Sequence
import math

MAX_CHOICES = 64
MAX_CHOICE_LENGTH = 200  # characters


def check_choices(choices: Sequence[str]) -> None:
    """Raise a ValueError if one cannot choose between these; none at all are allowed."""
    if len(choices) == 1 or len(choices) > MAX_CHOICES:
        raise ValueError(
            f'there are {len(choices)} choices: give 2 to {MAX_CHOICES}, or none for an answer '
            'in any words')
    for number, choice in enumerate(choices):
        if not choice.strip():
            raise ValueError(f'choice {number} is empty: give each some words')
        if len(choice) > MAX_CHOICE_LENGTH:
            raise ValueError(
                f'choice {number} has {len(choice)} characters: give at most {MAX_CHOICE_LENGTH}')
        if not choice.isprintable() or choice != choice.strip():
            raise ValueError(
                f'choice {number} is {ascii(choice)}: give one line without blanks around it')
        if choice in choices[:number]:
            raise ValueError(f'choice {number} is {choice!r} again: give each once')


def to_probabilities(log_probabilities: Sequence[float]) -> tuple[float, ...]:
    """Return the share of each in all, which add up to 1."""
    highest = max(log_probabilities)
    weights = [math.exp(value - highest) for value in log_probabilities]
    return tuple(weight / math.fsum(weights) for weight in weights)
