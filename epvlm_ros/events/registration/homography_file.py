"""The file in which a measured registration is kept, in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
import math
from pathlib import Path
import re
from typing import Any, Sequence

import numpy as np
import yaml

_EXPONENT_ONLY = re.compile(r'[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+')
_REMEDY = 'write the file with epvlm calibrate'


@dataclass(frozen=True, eq=False)
class HomographyFile:
    """
    A measured homography, 3 x 3, from event pixels to image pixels; pixel centres are whole.

    ``sensor_size`` and ``image_size`` (height, width in pixels) are those that it was made for,
    ``residual_px`` the mean error that is left, in image pixels, measured with ``num_frames``
    frames. ``window_offset_s`` is the best centre of the event window after the stamp of a frame.
    """

    homography: np.ndarray
    sensor_size: tuple[int, int]
    image_size: tuple[int, int]
    residual_px: float
    num_frames: int
    window_offset_s: float = 0.0
    date: str = ''


def save_registration(path: str | Path, content: HomographyFile) -> None:
    """
    Write a measured registration, with today's date if ``content`` has none.

    Raises ValueError if the file cannot be written.
    """
    date = content.date or datetime.now(timezone.utc).isoformat(timespec='seconds')
    data = {
        'homography': np.asarray(content.homography, np.float64).reshape(3, 3).tolist(),
        'sensor_size': _size_to_dict(content.sensor_size),
        'image_size': _size_to_dict(content.image_size),
        'residual_px': float(content.residual_px),
        'num_frames': int(content.num_frames),
        'window_offset': float(content.window_offset_s),
        'date': date,
    }
    text = '# From event pixels to image pixels, written by epvlm calibrate.\n' + yaml.safe_dump(
        data, sort_keys=False, default_flow_style=None)
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise ValueError(
            f'cannot write {path}: {error.strerror}; is its folder there, and writable?') from None


def load_homography_file(path: str | Path) -> HomographyFile:
    """
    Read a measured registration.

    Raises ValueError, naming file, key and remedy, if it cannot be read or a key is missing or
    wrong.
    """
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ValueError(f'cannot read {path}: {error.strerror}; {_REMEDY}') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path} is not YAML ({reason}): {_REMEDY}') from None
    if not isinstance(data, dict):
        raise ValueError(f'{path} has no keys: {_REMEDY}')
    return HomographyFile(
        homography=_matrix(path, data),
        sensor_size=_size(path, data, 'sensor_size'),
        image_size=_size(path, data, 'image_size'),
        residual_px=_number(path, data, 'residual_px', minimum=0.0),
        num_frames=int(_number(path, data, 'num_frames', minimum=1.0)),
        window_offset_s=_number(path, data, 'window_offset', minimum=-math.inf),
        date=str(_value(path, data, 'date')))


def _size_to_dict(size: Sequence[int]) -> dict[str, int]:
    return {'height': int(size[0]), 'width': int(size[1])}


def _value(path: str | Path, data: dict[Any, Any], key: str) -> Any:
    if key not in data:
        raise ValueError(f'{path} has no key {key}: {_REMEDY}')
    return data[key]


def _number(path: str | Path, data: dict[Any, Any], key: str, minimum: float) -> float:
    value = _to_number(_value(path, data, key))
    if not _is_number(value) or value < minimum:
        raise ValueError(f'{path}: key {key} is {value!r}, which is no such number: {_REMEDY}')
    return float(value)


def _matrix(path: str | Path, data: dict[Any, Any]) -> np.ndarray:
    rows = _value(path, data, 'homography')
    if isinstance(rows, list):
        rows = [[*map(_to_number, row)] if isinstance(row, list) else row for row in rows]
    is_matrix = isinstance(rows, list) and len(rows) == 3 and all(
        isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in rows)
    if not is_matrix:
        raise ValueError(
            f'{path}: key homography is {rows!r}, not 3 rows of 3 finite numbers: {_REMEDY}')
    return np.array(rows, np.float64)


def _size(path: str | Path, data: dict[Any, Any], key: str) -> tuple[int, int]:
    size = _value(path, data, key)
    height, width = (
        size.get(side) if isinstance(size, dict) else None for side in ('height', 'width'))
    # No bool, which is an int, too.
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise ValueError(
            f'{path}: key {key} is {size!r}, not a height and a width in pixels: {_REMEDY}')
    return height, width


def _to_number(value: Any) -> Any:
    """Return a number without a point, such as 1e-05, which YAML 1.1 takes to be text."""
    is_text = isinstance(value, str) and _EXPONENT_ONLY.fullmatch(value)
    return float(value) if is_text else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and \
        math.isfinite(value)
