"""
How much of annotated objects each policy keeps, without any model.

An object is whole if nine tenths of its area lie in kept tokens, and found by its centre if the
token in the middle of its bounding box is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.bootstrap import Estimate, PairedBootstrap
from epvlm_ros.eval.moving_objects import FRAME_BEFORE, MovingObject
from epvlm_ros.eval.photographs import Photograph
from epvlm_ros.eval.policies import activity_for
from epvlm_ros.eval.question_set import Observation
from epvlm_ros.eval.settings import configure
from epvlm_ros.eval.still_image_events import still_image_activity
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np

WHOLE = 0.9
MIN_AREA_PX = 144.0  # of an object: less is a part of one token
# Upper ends of the area, in pixels: those of COCO.
SIZES = {'small': 32.0 ** 2, 'medium': 96.0 ** 2, 'large': float('inf')}
GROUPED_SIZES = {
    'small and medium': ['small', 'medium'], **{name: [name] for name in SIZES},
    'all': list(SIZES)}
GEOMETRY = PatchGeometry(14, 2, 3136, 12_845_056)  # of Qwen2-VL
BOXES, MASKS = 'boxes', 'masks'
CAMERA_STILL, CAMERA_MOVES = 'moving, camera still', 'moving, camera moving'
_LARGEST_MOVING = 0.1  # of the ground
_CACHE_VERSION = 1  # to be raised when equal options come to give other events


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, masks of its objects, what each is counted among, number of its photograph."""

    observation: Observation
    masks: list[np.ndarray]
    kinds: list[str]
    photograph: int


class ActivityCache:
    """Simulated events on disk, by what they depend on; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, make: Callable[[], ActivityGrid], **options: Any) -> ActivityGrid:
        """Return the events that ``make`` returns for these options."""
        if self._folder is None:
            return make()
        options |= {'version': _CACHE_VERSION, 'camera': asdict(EventCameraConfig())}
        key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
        path = self._folder / f'{key}.npz'
        if not path.is_file():
            activity = make()
            self._folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **vars(activity))
            return activity
        with np.load(path) as known:
            return ActivityGrid(known['counts'], **{
                name: known[name].item() for name in known.files if name != 'counts'})


def still_pictures(photographs: Iterable[Photograph], cache: ActivityCache) -> Iterator[Picture]:
    """Yield the photographs with the events of a small motion of the camera."""
    for number, photograph in enumerate(photographs):
        rgb = photograph.read()
        boxes = photograph.box_masks(*rgb.shape[:2])
        masks = photograph.object_masks(*rgb.shape[:2])
        activity = cache.get(lambda: still_image_activity(rgb), image=_checksum(rgb))
        yield Picture(
            Observation(rgb, activity), boxes + masks,
            [BOXES] * len(boxes) + [MASKS] * len(masks), number)


def moving_pictures(
    photographs: Sequence[Photograph], cache: ActivityCache, num_each: int = 2,
) -> Iterator[Picture]:
    """Yield, for each photograph, pictures with one moving object, camera still and moving."""
    # every photograph is ground for objects of another one, in the order of their names
    sources = [item for item in photographs if item.outlines or item.panoptic]
    for number, photograph in enumerate(photographs):
        ground = photograph.read()
        random = np.random.default_rng([29, number])
        others = [item for item in sources if item is not photograph]
        made = 0
        for place in random.permutation(len(others)):
            if made == num_each:
                break
            source = others[place].read()
            fitting = [mask for mask in others[place].object_masks(*source.shape[:2])
                       if _can_move(mask, ground)]
            if not fitting:
                continue
            mask = fitting[int(random.integers(len(fitting)))]
            for camera_moves in (False, True):
                seed = number * num_each + made
                scene = MovingObject(ground, source, mask, camera_moves=camera_moves, seed=seed)
                activity = cache.get(
                    scene.watch, image=_checksum(scene.view(-0.5)), seed=seed,
                    last=_checksum(scene.view(0.5)))
                yield Picture(
                    Observation(scene.view(0.0), activity, scene.view(FRAME_BEFORE)),
                    [scene.mask], [CAMERA_MOVES if camera_moves else CAMERA_STILL], number)
            made += 1


def _can_move(mask: np.ndarray, ground: np.ndarray) -> bool:
    area = float(mask.sum())
    if not SIZES['small'] <= area <= _LARGEST_MOVING * ground.shape[0] * ground.shape[1]:
        return False
    _, _, width, height = cv2.boundingRect((mask > 0.0).astype(np.uint8))
    return height <= ground.shape[0] and width <= ground.shape[1]


def _checksum(image: np.ndarray) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


class KeptObjects:
    """
    Which objects of pictures are kept by each policy at each budget.

    ``whole`` and ``centre`` map (policy, keep ratio) to bool (objects,). ``kinds`` and ``sizes``
    tell of each object what it is.
    """

    def __init__(
        self, pictures: Iterable[Picture], policies: Sequence[str], keep_ratios: Sequence[float],
    ) -> None:
        whole: dict[tuple[str, float], list[bool]] = {}
        centre: dict[tuple[str, float], list[bool]] = {}
        kinds, sizes, images = [], [], []
        for picture in pictures:
            rgb = picture.observation.rgb
            grid = GEOMETRY.grid(*rgb.shape[:2])
            found = [(place, mask) for place, mask in enumerate(picture.masks)
                     if mask.sum() >= MIN_AREA_PX]
            areas = [cv2.resize(mask, (grid.cols, grid.rows), interpolation=cv2.INTER_AREA).ravel()
                     for _, mask in found]
            middles = [_middle_token(mask, grid.rows, grid.cols) for _, mask in found]
            kinds += [picture.kinds[place] for place, _ in found]
            sizes += [next(name for name, end in SIZES.items() if mask.sum() < end)
                      for _, mask in found]
            images += [picture.photograph] * len(found)
            for policy in policies:
                activity = activity_for(policy, picture.observation, picture.photograph)
                for keep_ratio in keep_ratios:
                    kept = np.zeros(grid.num_tokens, np.bool_)
                    kept[select_for_frame(
                        rgb, grid, activity,
                        configure(VlmConfig(), policy, keep_ratio)).kept_indices] = True
                    whole.setdefault((policy, keep_ratio), []).extend(
                        bool(area[kept].sum() >= WHOLE * area.sum()) for area in areas)
                    centre.setdefault((policy, keep_ratio), []).extend(
                        bool(kept[middle]) for middle in middles)
        self.kinds, self.sizes = np.array(kinds), np.array(sizes)
        self.whole = {key: np.array(value, np.bool_) for key, value in whole.items()}
        self.centre = {key: np.array(value, np.bool_) for key, value in centre.items()}
        self._bootstrap = PairedBootstrap(np.array(images, np.int64))

    def groups(self) -> dict[str, np.ndarray]:
        """Return which objects, bool (objects,), each group has that is not empty."""
        groups = {}
        for kind in dict.fromkeys(self.kinds):
            for size, counted in GROUPED_SIZES.items():
                chosen = (self.kinds == kind) & np.isin(self.sizes, counted)
                if chosen.any():
                    groups[f'{kind}, {size}'] = chosen
        return groups

    def summarise(self, references: Sequence[str]) -> dict[str, Any]:
        """
        Return, by group, 'objects', and by policy and keep ratio the estimates in JSON.

        An estimate is (value, low, high) with the 95% interval of a bootstrap over pictures:
        'whole', 'centre', and 'whole less NAME' for the policies of ``references``, paired.
        """
        summary: dict[str, Any] = {}
        for group, chosen in self.groups().items():
            summary[group] = {'objects': int(chosen.sum())}
            for policy, keep_ratio in self.whole:
                whole = self.whole[policy, keep_ratio]
                found = {
                    'whole': self._bootstrap.accuracy(whole, chosen),
                    'centre': self._bootstrap.accuracy(self.centre[policy, keep_ratio], chosen)}
                for name in references:
                    if name != policy and (name, keep_ratio) in self.whole:
                        found[f'whole less {name}'] = self._bootstrap.difference(
                            whole, self.whole[name, keep_ratio], chosen)
                summary[group].setdefault(policy, {})[f'{keep_ratio:g}'] = {
                    key: _in_json(value) for key, value in found.items()}
        return summary


def _in_json(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _middle_token(mask: np.ndarray, rows: int, cols: int) -> int:
    """Return the token in the middle of the bounding box of a mask."""
    places = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    row, col = ((place[0] + place[-1] + 1) / 2 / length
                for place, length in zip(places, mask.shape))
    return min(int(row * rows), rows - 1) * cols + min(int(col * cols), cols - 1)
