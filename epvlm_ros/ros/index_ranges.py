"""Ascending indices as text, short enough for a line of ``ros2 topic echo``."""

from __future__ import annotations

import numpy as np


def pack_indices(indices: np.ndarray) -> str:
    """Return ascending integers as ranges with both ends: 0, 1, 2 and 7 are ``0-2,7``."""
    if not len(indices):
        return ''
    runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
    return ','.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs)


def unpack_indices(text: str) -> np.ndarray:
    """
    Return the indices of ``Answer.kept_tokens``, int64, ascending.

    Raises
    ------
    ValueError
        If the text is not what ``pack_indices`` writes.

    """
    indices: list[int] = []
    for part in text.split(',') if text else []:
        first, dash, last = part.partition('-')
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[1]) or \
                indices and int(ends[0]) <= indices[-1]:
            raise ValueError(f'{part[:40]!r} is no range that goes on: give one such as 0-2,7')
        indices.extend(range(int(ends[0]), int(ends[1]) + 1))
    return np.array(indices, np.int64)
