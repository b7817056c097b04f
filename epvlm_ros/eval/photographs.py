"""
Photographs with annotated objects, in the formats of COCO.

A folder has its images in ``images`` (or beside the annotations), and any of: JSON files of object
detection (``bbox``, ``segmentation`` as polygons or counts of runs), JSON files of panoptic
segmentation with their PNG files in a folder of the same name, and boxes in YOLO's format in
``boxes`` (a text file per image; class, centre and size as shares of the image).
"""

from __future__ import annotations

from dataclasses import dataclass, field
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HALVES = ('choose', 'report')
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


@dataclass(eq=False)
class Photograph:
    """
    One image and its objects.

    ``boxes`` are (left, top, right, bottom) in pixels of the image, or in shares of its sides
    where they are ``relative_boxes``. What is a crowd, or no countable thing, is left out.
    """

    path: Path
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    relative_boxes: list[tuple[float, ...]] = field(default_factory=list)
    outlines: list[Any] = field(default_factory=list)  # segmentations of object detection
    panoptic: tuple[Path, tuple[int, ...]] | None = None  # PNG file, identifiers of the things

    @property
    def half(self) -> str:
        """Return one of ``HALVES``, by a hash of the file's name."""
        return HALVES[hashlib.sha256(self.path.name.encode()).digest()[0] & 1]

    def read(self) -> np.ndarray:
        """Return the image, uint8 (height, width, 3), red first."""
        return _read_png(self.path)

    def box_masks(self, height: int, width: int) -> list[np.ndarray]:
        """Return each box as a float32 mask (height, width): the share of a pixel inside of it."""
        size = (width, height, width, height)
        boxes = self.boxes + [
            tuple(share * side for share, side in zip(box, size)) for box in self.relative_boxes]
        masks = []
        for left, top, right, bottom in boxes:
            rows, cols = (
                np.clip(np.minimum(end, np.arange(1, length + 1))
                        - np.maximum(start, np.arange(length)), 0.0, 1.0)
                for start, end, length in ((top, bottom, height), (left, right, width)))
            masks.append(np.outer(rows, cols).astype(np.float32))
        return masks

    def object_masks(self, height: int, width: int) -> list[np.ndarray]:
        """Return the mask of each object that has one, float32 (height, width), 0 or 1."""
        masks = [_fill(outline, height, width) for outline in self.outlines]
        if self.panoptic is not None:
            path, identifiers = self.panoptic
            red, green, blue = np.moveaxis(_read_png(path).astype(np.int64), 2, 0)
            owner = red + 256 * green + 65536 * blue
            masks += [(owner == identifier).astype(np.float32) for identifier in identifiers]
        return masks


def read_photographs(folder: Path) -> list[Photograph]:
    """
    Return the photographs of a folder in the order of their names, with their annotations.

    Raises
    ------
    ValueError
        If there are no images, or none with annotations.

    """
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    photographs = {path.stem: Photograph(path) for path in sorted(images.glob('*'))
                   if path.suffix.lower() in _SUFFIXES}
    if not photographs:
        raise ValueError(f'{folder} has no images: give a folder with images, or with images/')
    for path in sorted(folder.glob('*.json')):
        _add_annotations(photographs, path)
    for stem, photograph in photographs.items():
        boxes = folder / 'boxes' / f'{stem}.txt'
        if boxes.is_file():
            photograph.relative_boxes += _read_yolo(boxes)
    if not any(item.boxes or item.relative_boxes or item.outlines or item.panoptic
               for item in photographs.values()):
        raise ValueError(f'{folder} has no annotations: give JSON files of COCO, or boxes/*.txt')
    return list(photographs.values())


def _add_annotations(photographs: dict[str, Photograph], path: Path) -> None:
    """Add the objects of a JSON file of COCO to the photographs that they are about."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or not isinstance(content.get('annotations'), list):
        return
    stems = {image['id']: Path(image['file_name']).stem for image in content.get('images', ())}
    things = {item['id'] for item in content.get('categories', ()) if item.get('isthing', 1)}
    for annotation in content['annotations']:
        photograph = photographs.get(stems.get(annotation.get('image_id'), ''))
        if photograph is None:
            continue
        if 'segments_info' in annotation:
            photograph.panoptic = (path.with_suffix('') / annotation['file_name'], tuple(
                segment['id'] for segment in annotation['segments_info']
                if not segment.get('iscrowd') and segment['category_id'] in things))
        elif not annotation.get('iscrowd'):
            left, top, width, height = annotation['bbox']
            photograph.boxes.append((left, top, left + width, top + height))
            if annotation.get('segmentation'):
                photograph.outlines.append(annotation['segmentation'])


def _read_yolo(path: Path) -> list[tuple[float, ...]]:
    """Return the boxes of a file as (left, top, right, bottom) in shares of the image."""
    boxes: list[tuple[float, ...]] = []
    for line in path.read_text().splitlines():
        if line.strip():
            x, y, width, height = (float(word) for word in line.split()[1:5])
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return boxes


def _fill(outline: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of polygons [[x, y, x, y, ...], ...], or of counts of runs by columns."""
    if isinstance(outline, dict):
        counts = outline['counts']
        if not isinstance(counts, list):
            raise ValueError('a segmentation has compressed counts: give polygons or plain counts')
        values = np.arange(len(counts)) % 2
        return np.repeat(values, counts).reshape(width, height).T.astype(np.float32)
    mask = np.zeros((height, width), np.uint8)
    for polygon in outline:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        cv2.fillPoly(mask, [np.floor(points).astype(np.int32)], 1)
    return mask.astype(np.float32)


def _read_png(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{path} cannot be read as an image: repair or remove it')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
