"""Photographs as ground and as surface of simulated objects, from a folder that the user gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

PHOTOGRAPH_SIDE_PX = 320  # of the shorter side of the image
SURFACE_SIDE_PX = 48
NEUTRAL = 128  # of a surface: neither brighter nor darker
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_CROP_RANGE = (0.6, 1.0)  # of the largest crop of the right shape
_SURFACE_CONTRAST, _MAX_SURFACE_CONTRAST = 0.18, 0.4


class Photographs:
    """
    All images in a folder, in the order of their names; what was read once stays in memory.

    Raises
    ------
    ValueError
        If there is none, or (on use) one that cannot be read.

    """

    def __init__(self, folder: Path | str) -> None:
        self._paths = sorted(
            path for path in Path(folder).glob('*') if path.suffix.lower() in _SUFFIXES)
        if not self._paths:
            raise ValueError(
                f'no image in {folder}: give a folder with {", ".join(_SUFFIXES)} files')
        self._read: dict[Path, np.ndarray] = {}

    def describe(self) -> str:
        """Return a checksum of names and sizes."""
        listed = [f'{path.name} {path.stat().st_size}\n' for path in self._paths]
        return hashlib.sha256(''.join(listed).encode()).hexdigest()

    def crop(self, random: np.random.Generator, height: int, width: int) -> np.ndarray:
        """Return part of an image drawn at random, uint8 (3, height, width), red first."""
        image = self._image(self._paths[random.integers(len(self._paths))])
        rows, cols = image.shape[:2]
        scale = random.uniform(*_CROP_RANGE) * min(rows / height, cols / width)
        crop_rows, crop_cols = max(1, int(scale * height)), max(1, int(scale * width))
        top, left = (int(random.integers(spare + 1))
                     for spare in (rows - crop_rows, cols - crop_cols))
        part = image[top:top + crop_rows, left:left + crop_cols, ::-1]
        part = part[:, ::-1] if random.random() < 0.5 else part
        resized = cv2.resize(
            np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    def _image(self, path: Path) -> np.ndarray:
        if path not in self._read:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise ValueError(f'{path} cannot be read as an image: take it out of the folder')
            self._read[path] = image
        return self._read[path]

    def surface(self, random: np.random.Generator) -> np.ndarray:
        """Return how much brighter each point of a surface is, uint8 (48, 48), 128 for as is."""
        grey = self.crop(random, SURFACE_SIDE_PX, SURFACE_SIDE_PX).mean(axis=0)
        relief = _SURFACE_CONTRAST * (grey - grey.mean()) / (grey.std() + 1.0)
        relief = relief.clip(-_MAX_SURFACE_CONTRAST, _MAX_SURFACE_CONTRAST)
        return np.round(NEUTRAL * (1.0 + relief)).astype(np.uint8)
