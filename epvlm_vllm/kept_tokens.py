"""What a request says about its images: which visual tokens are kept, of which grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KEPT_INDICES, TOKEN_GRIDS = 'kept_indices', 'token_grids'


@dataclass(frozen=True, eq=False)
class KeptTokens:
    """
    The kept visual tokens of one image.

    ``indices`` are ``row * cols + col``, int64, ascending, at least one; ``rows`` and ``cols`` the
    grid of visual tokens that the caller counted with.
    """

    indices: np.ndarray
    rows: int
    cols: int


def read_kept_tokens(
    options: Mapping[str, Any], num_images: int, max_tokens: int,
) -> list[KeptTokens] | None:
    """
    Return the kept tokens of each image of a request, or None where it does not say.

    Parameters
    ----------
    options : mapping
        ``mm_processor_kwargs`` of the request.
    num_images : int
        Its images.
    max_tokens : int
        The most visual tokens that an image has in this server.

    Raises
    ------
    ValueError
        Names the field, the value and the remedy. Lengths are looked at before contents, so that
        a list of any length costs nothing.

    """
    unknown = sorted(map(str, options.keys() - {KEPT_INDICES, TOKEN_GRIDS}))
    if unknown:
        raise ValueError(
            f'mm_processor_kwargs: {_shorten(unknown[0])} is not taken from a request: give '
            f'{KEPT_INDICES} and {TOKEN_GRIDS} only; sizes are set at the start of the server')
    if not options:
        return None
    for name in (KEPT_INDICES, TOKEN_GRIDS):
        if name not in options:
            raise ValueError(f'{name} is missing: give {KEPT_INDICES} and {TOKEN_GRIDS} together')
        given = options[name]
        if not _is_list(given) or len(given) != num_images:
            raise ValueError(
                f'{name}: {_describe(given)}; number of images: {num_images}: give one list for '
                'each image, in the order of the images')
    return [
        _read_image(place, indices, grid, max_tokens)
        for place, (indices, grid) in enumerate(zip(options[KEPT_INDICES], options[TOKEN_GRIDS]))]


def check_grid(place: int, tokens: KeptTokens, rows: int, cols: int) -> None:
    """Raise a ValueError if the image has another grid than the caller counted with."""
    if (tokens.rows, tokens.cols) != (rows, cols):
        raise ValueError(
            f'{TOKEN_GRIDS}[{place}]: {tokens.rows} x {tokens.cols} tokens, but the server cuts '
            f'this image into {rows} x {cols}: send it in the size that the model takes, within '
            "the server's smallest and largest size of an image")


def _read_image(place: int, indices: Any, grid: Any, max_tokens: int) -> KeptTokens:
    """Return one image's kept tokens, checked."""
    if not _is_list(grid) or len(grid) != 2 or not all(_is_count(size) for size in grid):
        raise ValueError(
            f'{TOKEN_GRIDS}[{place}]: {_describe(grid)}: give [rows, columns] of visual tokens')
    rows, cols = map(int, grid)
    if rows * cols > max_tokens:
        raise ValueError(
            f'{TOKEN_GRIDS}[{place}]: {_shorten(rows)} x {_shorten(cols)} tokens: this server '
            f'takes images of at most {max_tokens} tokens')
    name, num_tokens = f'{KEPT_INDICES}[{place}]', rows * cols
    if not _is_list(indices) or not 1 <= len(indices) <= num_tokens:
        raise ValueError(
            f'{name}: {_describe(indices)}: give 1 to {num_tokens} ascending indices of the '
            f'{rows} x {cols} tokens')
    return KeptTokens(_read_indices(name, indices, num_tokens), rows, cols)


def _read_indices(name: str, indices: Sequence[Any], num_tokens: int) -> np.ndarray:
    """Return indices, which are not more than tokens, as an array, checked one by one."""
    last = -1
    for place, index in enumerate(indices):
        if not _is_integer(index) or not 0 <= index < num_tokens:
            raise ValueError(
                f'{name}[{place}]: {_shorten(index)} is no index of a visual token: give 0 to '
                f'{num_tokens - 1}')
        if index <= last:
            what = 'is given twice' if index == last else f'comes after {last}'
            raise ValueError(f'{name}[{place}]: {index} {what}: give ascending indices, each once')
        last = index
    return np.array(indices, dtype=np.int64)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim > 0


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _describe(value: Any) -> str:
    """Return what was given in a few words, of any size."""
    if _is_list(value):
        return f'a list of {len(value)}'
    return f'{_shorten(value)} ({type(value).__name__})'


def _shorten(value: Any) -> str:
    if _is_integer(value) and abs(value) >= 10 ** 20:
        return 'an integer of more than 20 digits'  # longer ones take long to write
    text = str(value) if not isinstance(value, Mapping) else f'{len(value)} entries'
    return text if len(text) <= 40 else f'{text[:40]}...'
