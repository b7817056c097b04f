"""Random scenes: what exists, where it lies, how it looks and moves."""

from __future__ import annotations

from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.sim.photographs import Photographs
from epvlm_ros.sim.randomisation import randomise
from epvlm_ros.sim.scene import (
    COLOUR_VALUES, COLOURS, GROUNDS, is_unseen, MAX_CAMERA_ORBIT, MAX_OBJECTS, MAX_ZOOM,
    RANDOMISED_SPLITS, Scene, SHAPES, SPLITS, SYMBOLS, UNSEEN_GROUNDS)
import numpy as np

_NUM_OBJECTS_PROBABILITIES = (0.10, 0.20, 0.25, 0.20, 0.15, 0.10)  # of 1 to 6 objects
# From one to about ten visual tokens of 28 pixels where the shorter side has 336.
_RADIUS_RANGE = (0.05, 0.145)
_ORBIT_RANGE = (0.02, 0.07)
_SPEED_RANGE = (0.20, 0.70)  # units per second
_SPIN_RANGE = (1.5, 4.0)  # radians per second
_CAMERA_KINDS = ('pan', 'shake', 'drive')
_PAN_ORBIT_RANGE, _PAN_SPEED_RANGE = (0.01, MAX_CAMERA_ORBIT), (0.05, 0.40)
_SHAKE_ORBIT_RANGE, _SHAKE_RATE_RANGE = (0.002, 0.007), (25.0, 70.0)
_ZOOM_RANGE, _ZOOM_RATE_RANGE = (0.015, MAX_ZOOM), (3.0, 9.0)
_GAP = 0.03  # least distance between two objects on their way
_OVERLAP_PROBABILITY, _OVERLAP = 0.3, 0.82  # then so near in sums of their radii
_WRITABLE = np.array([SHAPES.index(name) for name in ('circle', 'square', 'triangle', 'heart')])
_MIN_WRITABLE_RADIUS, _WRITTEN_PROBABILITY = 0.075, 0.65
_APPEARING_PROBABILITY, _LATEST_APPEARANCE_S = 0.06, 2.0
_BRIGHTNESS_RANGE = (0.1, 0.72)  # of the ground
_COARSE_CELLS, _FINE_CELLS = 7, 48
_MAX_CLUTTER = 12


def sample_scene(
    split: str,
    index: int,
    *,
    aspect_ratio: float = 1.0,
    camera_moves: bool | None = None,
    num_objects: int | None = None,
    photographs: Photographs | None = None,
) -> Scene:
    """
    Make the scene with number ``index`` of a split; equal arguments give equal scenes.

    Splits have nothing in common. In 'hard' half of the objects are combinations of shape and
    colour, and all grounds patterns, that the others never have; the looks of 'randomised' ones
    say little, see ``randomisation``, with ``photographs`` among them if given (other splits
    ignore them). ``aspect_ratio`` is width over height, 0.25 to 4. By default the camera moves in
    half of the scenes and the number of objects is random.

    Raises
    ------
    ValueError
        For an unknown split, a negative index, or values out of their range.

    """
    _check_arguments(split, index, aspect_ratio, num_objects)
    random = np.random.default_rng([SPLITS[split], index])
    extent = np.array(
        [max(1.0, 1.0 / aspect_ratio), max(1.0, aspect_ratio)], dtype=np.float32)
    moving_camera = random.random() < 0.5 if camera_moves is None else camera_moves
    camera, zoom = _sample_camera(random, moving_camera)
    wanted = 1 + int(random.choice(MAX_OBJECTS, p=_NUM_OBJECTS_PROBABILITIES))
    radius, orbit = _sample_sizes(random, num_objects or wanted)
    reserve = float(camera[0]) + float(np.expm1(zoom[0])) * float(extent.max()) / 2
    anchor, radius, orbit = _place(random, extent, radius, orbit, reserve)
    shape, colour = _sample_kinds(random, split == 'hard')
    motion = _sample_motion(random, orbit)
    writing = _sample_writing(random, shape, colour, radius)
    motion['spin'][writing['symbol'] >= 0] = 0.0  # what is written stays upright
    scene = Scene(
        extent=extent, shape=shape, colour=colour, radius=radius, anchor=anchor, camera=camera,
        zoom=zoom, **motion, **writing, **_sample_looks(random, colour), **_sample_light(random),
        **_sample_ground(random, split == 'hard', extent))
    return randomise(scene, random, photographs) if split in RANDOMISED_SPLITS else scene


def _check_arguments(
    split: str, index: int, aspect_ratio: float, num_objects: int | None,
) -> None:
    if split not in SPLITS:
        raise ValueError(f'split is {split!r}: give one of {", ".join(SPLITS)}')
    if index < 0:
        raise ValueError(f'index is {index}: give at least 0')
    if not 0.25 <= aspect_ratio <= 4.0:
        raise ValueError(f'aspect_ratio is {aspect_ratio}: give 0.25 to 4')
    if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
        raise ValueError(f'num_objects is {num_objects}: give 1 to {MAX_OBJECTS}')


def _signs(random: np.random.Generator, size: int) -> np.ndarray:
    return random.integers(2, size=size) * 2.0 - 1.0


def _sample_camera(random: np.random.Generator, moves: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return orbit and zoom; all 0 for a camera that stands still."""
    camera, zoom = np.zeros(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
    if not moves:
        return camera, zoom
    kind = _CAMERA_KINDS[random.choice(3, p=(0.4, 0.25, 0.35))]
    sign, phase = _signs(random, 1)[0], random.uniform(0, 2 * np.pi)
    if kind == 'pan':
        orbit, speed = random.uniform(*_PAN_ORBIT_RANGE), random.uniform(*_PAN_SPEED_RANGE)
        camera[:] = orbit, sign * speed / orbit, phase
    elif kind == 'shake':
        orbit, rate = random.uniform(*_SHAKE_ORBIT_RANGE), random.uniform(*_SHAKE_RATE_RANGE)
        camera[:] = orbit, sign * rate, phase
    else:
        zoom[:] = random.uniform(*_ZOOM_RANGE), random.uniform(*_ZOOM_RATE_RANGE), phase
    return camera, zoom


def _sample_sizes(
    random: np.random.Generator, num_objects: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return radii (0 beyond ``num_objects``) and orbit radii (0 for still objects)."""
    low, high = np.log(_RADIUS_RANGE)  # small ones as often as large ones
    radius = np.exp(random.uniform(float(low), float(high), size=MAX_OBJECTS))
    radius[num_objects:] = 0.0
    orbit = random.uniform(*_ORBIT_RANGE, size=MAX_OBJECTS)
    orbit[random.random(MAX_OBJECTS) < 0.5] = 0.0
    return radius, orbit


def _place(
    random: np.random.Generator, extent: np.ndarray, radius: np.ndarray, orbit: np.ndarray,
    reserve: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Place objects in view, at times so that some overlap; those without room get radius 0, last.

    ``reserve`` is the largest displacement by the camera.
    """
    anchor = np.tile(extent / 2, (MAX_OBJECTS, 1)).astype(np.float64)
    radius = radius.copy()
    overlaps = random.random() < _OVERLAP_PROBABILITY
    nearness, gap = (_OVERLAP, 0.0) if overlaps else (1.0, _GAP)
    for item in range(MAX_OBJECTS):
        if radius[item] == 0.0:
            continue
        margin = radius[item] + orbit[item] + reserve + 0.01
        candidates = random.uniform(margin, extent - margin, size=(48, 2))
        others = [other for other in range(item) if radius[other] > 0.0]
        distance = np.linalg.norm(candidates[:, None] - anchor[others], axis=-1)
        needed = nearness * (radius[others] + radius[item]) + orbit[others] + orbit[item] + gap
        free = np.flatnonzero((distance > needed).all(axis=1))
        if len(free):
            # the nearest place of those that do, so that overlaps are no rare luck
            nearest = overlaps and len(others) > 0 and random.random() < 0.5
            spare = (distance - needed).min(axis=1)[free] if nearest else np.zeros(len(free))
            anchor[item] = candidates[free[np.argmin(spare)]]
        else:
            radius[item] = 0.0
    order = np.argsort(radius == 0.0, kind='stable')
    orbit = np.where(radius > 0.0, orbit, 0.0)[order]
    return anchor[order].astype(np.float32), radius[order].astype(np.float32), orbit


def _sample_kinds(random: np.random.Generator, hard: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return shapes and colours: seen combinations only, or half of them unseen ones."""
    every_shape, every_colour = np.divmod(np.arange(len(SHAPES) * len(COLOURS)), len(COLOURS))
    unseen = is_unseen(every_shape, every_colour)
    seen = np.flatnonzero(~unseen)[random.integers((~unseen).sum(), size=MAX_OBJECTS)]
    chosen = seen
    if hard:
        rare = np.flatnonzero(unseen)[random.integers(unseen.sum(), size=MAX_OBJECTS)]
        chosen = np.where(random.random(MAX_OBJECTS) < 0.5, rare, seen)
        chosen[0] = rare[0]
    return every_shape[chosen], every_colour[chosen]


def _sample_motion(random: np.random.Generator, orbit: np.ndarray) -> dict[str, np.ndarray]:
    speed = random.uniform(*_SPEED_RANGE, size=MAX_OBJECTS) * _signs(random, MAX_OBJECTS)
    moving = orbit > 0.0
    rate = np.where(moving, speed / np.where(moving, orbit, 1.0), 0.0)
    spin = random.uniform(*_SPIN_RANGE, size=MAX_OBJECTS) * _signs(random, MAX_OBJECTS)
    # Moving objects often turn as well; a few turn on the spot.
    turning = random.random(MAX_OBJECTS) < np.where(moving, 0.4, 0.1)
    appears = random.random(MAX_OBJECTS) < _APPEARING_PROBABILITY
    appears[0] = False  # there is always something to ask about
    return {
        'orbit_radius': orbit.astype(np.float32),
        'orbit_rate': rate.astype(np.float32),
        'orbit_phase': random.uniform(0, 2 * np.pi, MAX_OBJECTS).astype(np.float32),
        'angle': random.uniform(0, 2 * np.pi, MAX_OBJECTS).astype(np.float32),
        'spin': np.where(turning, spin, 0.0).astype(np.float32),
        'appears_s': np.where(
            appears, random.uniform(0.0, _LATEST_APPEARANCE_S, MAX_OBJECTS), 0.0,
        ).astype(np.float32),
    }


def _sample_looks(random: np.random.Generator, colour: np.ndarray) -> dict[str, np.ndarray]:
    tint = COLOUR_VALUES[colour] * random.uniform(0.88, 1.05, (MAX_OBJECTS, 1))
    tint = tint + random.normal(0.0, 0.02, (MAX_OBJECTS, 3))
    direction = random.uniform(0, 2 * np.pi, MAX_OBJECTS)
    strength = random.uniform(0.0, 0.22, MAX_OBJECTS)
    shading = strength[:, None] * np.stack([np.sin(direction), np.cos(direction)], axis=1)
    mottled = np.stack([
        random.uniform(0.0, 0.16, MAX_OBJECTS), random.uniform(3.0, 9.0, MAX_OBJECTS),
        random.uniform(3.0, 9.0, MAX_OBJECTS), random.uniform(0, 2 * np.pi, MAX_OBJECTS)], axis=1)
    # without a change along y, and a phase at which the factor of y is 1: stripes
    striped = np.stack([
        random.uniform(0.15, 0.3, MAX_OBJECTS), np.zeros(MAX_OBJECTS),
        random.uniform(5.0, 10.0, MAX_OBJECTS), np.full(MAX_OBJECTS, np.pi / 2)], axis=1)
    texture = np.where(random.random((MAX_OBJECTS, 1)) < 0.3, striped, mottled)
    return {
        'tint': np.clip(tint, 0.02, 1.0).astype(np.float32),
        'shading': shading.astype(np.float32),
        'texture': texture.astype(np.float32),
        'surface': np.empty((MAX_OBJECTS, 0, 0), np.uint8),
    }


def _sample_writing(
    random: np.random.Generator, shape: np.ndarray, colour: np.ndarray, radius: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return what is written on objects that have room for it."""
    room = np.isin(shape, _WRITABLE) & (radius >= _MIN_WRITABLE_RADIUS)
    written = room & (random.random(MAX_OBJECTS) < _WRITTEN_PROBABILITY)
    symbol = random.integers(len(SYMBOLS), size=MAX_OBJECTS)
    return {
        'symbol': np.where(written, symbol, -1),
        'symbol_tilt': random.uniform(-0.25, 0.25, MAX_OBJECTS).astype(np.float32),
        'ink': choose_ink(COLOUR_VALUES[colour]),
    }


def choose_ink(paint: np.ndarray) -> np.ndarray:
    """Return the brightness float32 (objects,) of writing on paint (objects, 3): far from it."""
    is_dark = paint @ np.array(LUMA_WEIGHTS) < 0.45
    return np.where(is_dark, 0.96, 0.03).astype(np.float32)


def _sample_light(random: np.random.Generator) -> dict[str, np.ndarray]:
    changes = random.random() < 0.25
    amplitude = random.uniform(0.03, 0.15) if changes else 0.0
    direction = random.uniform(0, 2 * np.pi)
    distance = random.uniform(0.1, 0.3)
    return {
        'light': np.array(
            [amplitude, random.uniform(1.0, 8.0), random.uniform(0, 2 * np.pi)], np.float32),
        'shadow': np.array(
            [distance * np.sin(direction), distance * np.cos(direction),
             random.uniform(0.0, 0.5)], np.float32),
    }


def _sample_ground(
    random: np.random.Generator, hard: bool, extent: np.ndarray,
) -> dict[str, np.ndarray]:
    grey = random.uniform(0.24, 0.5)
    colour = grey + random.normal(0.0, 0.03, 3)
    coarse = random.normal(0.0, random.uniform(0.01, 0.05), (1, _COARSE_CELLS, _COARSE_CELLS))
    coarse = coarse + random.normal(0.0, 0.015, (3, _COARSE_CELLS, _COARSE_CELLS))
    possible = [kind for kind in GROUNDS if (kind in UNSEEN_GROUNDS) == hard]
    kind = possible[random.integers(len(possible))]
    speckle = random.uniform(0.03, 0.09) if kind == 'speckled' else random.uniform(0.005, 0.04)
    fine = random.normal(0.0, speckle, (1, _FINE_CELLS, _FINE_CELLS))
    pattern = [
        random.uniform(0.03, 0.11), random.uniform(0, 2 * np.pi), random.uniform(3.0, 9.0),
        random.uniform(0, 2 * np.pi)]
    num_boxes = random.integers(_MAX_CLUTTER + 1)
    sides = random.uniform(0.01, 0.12, (_MAX_CLUTTER, 2))
    sides[num_boxes:] = 0.0
    # neither as dark as a black object nor as bright as a white one
    paint = random.uniform(0.2, 0.6, (_MAX_CLUTTER, 1)) + random.normal(
        0.0, 0.025, (_MAX_CLUTTER, 3))
    clutter = np.concatenate([
        random.uniform(0.0, 1.0, (_MAX_CLUTTER, 2)) * extent, sides,
        random.uniform(0, np.pi, (_MAX_CLUTTER, 1)), np.clip(paint, 0.15, 0.65)], axis=1)
    return {
        'background': colour.astype(np.float32),
        'coarse': coarse.astype(np.float32),
        'fine': fine.astype(np.float32),
        'ground': np.array([GROUNDS.index(kind)]),
        'ground_pattern': np.array(pattern, np.float32),
        'pattern_colour': np.ones(3, np.float32),
        'ground_range': np.array(_BRIGHTNESS_RANGE, np.float32),
        'photograph': np.empty((3, 0, 0), np.uint8),
        'clutter': clutter.astype(np.float32),
    }
