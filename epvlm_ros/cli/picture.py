"""Pictures that commands write."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def check_picture_path(path: Path) -> None:
    """Raise a ValueError, before long work, if a picture cannot be written there."""
    if path.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise ValueError(f'cannot write {path}: give a name that ends in .png')
    if not path.absolute().parent.is_dir():
        raise ValueError(f'cannot write {path}: its folder does not exist')


def write_picture(path: Path, rgb: Any) -> None:
    """Write an RGB image; a ValueError if that fails."""
    import cv2

    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f'cannot write {path}: give a name that ends in .png ({error})') from None
    if not written:
        raise ValueError(f'cannot write {path}: is its folder there, and writable?')
