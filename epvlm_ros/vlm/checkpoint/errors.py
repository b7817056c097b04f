"""What is wrong with a checkpoint, in one line with the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

MAX_REASON_LENGTH = 300  # of what a library says; some explain at length


class CheckpointError(ValueError):
    """A checkpoint that cannot be used as it is; the text names the part and the remedy."""


@contextmanager
def named(source: str, remedy: str) -> Iterator[None]:
    """
    Turn whatever loading raises into a ValueError of one line that names ``source``.

    A ``CheckpointError`` tells its own remedy, ``remedy`` is for what the libraries raise.
    """
    try:
        yield
    except CheckpointError as error:
        raise ValueError(f'cannot load the model {source}: {one_line(error)}') from error
    except Exception as error:  # noqa: B902  libraries fail in many ways on foreign files
        reason = one_line(error)[:MAX_REASON_LENGTH] or type(error).__name__
        raise ValueError(f'cannot load the model {source}: {remedy}. Reason: {reason}') from error


@contextmanager
def of_the_checkpoint() -> Iterator[None]:
    """Say that the ValueErrors of this package in this context tell the remedy."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def one_line(error: Exception) -> str:
    """Return the text of an error without line breaks."""
    return ' '.join(str(error).split())
