"""
Scenes whose looks say little: domain randomisation.

Grounds are as colourful and detailed as objects, patterns, strips and photographs; objects may be
dull; what moves may have a twin that stands still. As in Tobin et al., "Domain Randomization for
Transferring Deep Neural Networks from Simulation to the Real World", IROS 2017. An object's colour
is drawn from those that can be told from the ground behind it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from epvlm_ros.images import LUMA_WEIGHTS
from epvlm_ros.sim.ground import draw_ground, GROUND_FIELDS
from epvlm_ros.sim.photographs import NEUTRAL, PHOTOGRAPH_SIDE_PX, Photographs, SURFACE_SIDE_PX
from epvlm_ros.sim.scene import (
    COLOUR_VALUES, COLOURS, GROUNDS, is_unseen, MAX_OBJECTS, Scene, UNSEEN_GROUNDS)
import numpy as np
import torch

_TWIN_PROBABILITY = 0.6  # of scenes in which something moves and something else is there
_PHOTOGRAPH_PROBABILITY = 0.5  # of ground and of each surface, where there are photographs
_STRIPS_PROBABILITY = 0.5
_MAX_GREYING, _BRIGHTNESS = 0.4, (0.75, 1.06)  # of a dull object
_CHECK_PX = 48.0  # pixels of a unit at which the ground is looked at
_LEAST_CONTRAST = 0.32  # of RGB from 0 to 1, with what lies around
_MAX_ALIKE = 0.12  # share of what lies around that may have less
_NUM_STRIPS = 12
_BLACK, _WHITE = COLOURS.index('black'), COLOURS.index('white')


def randomise(
    scene: Scene, random: np.random.Generator, photographs: Photographs | None = None,
) -> Scene:
    """Return a scene with other looks; places and motion stay, but for twins that stand still."""
    scene, twins = _place_twin(scene, random)
    scene = replace(scene, **_sample_ground(random, scene.extent, photographs))
    tints = _sample_tints(random)
    if twins is not None:
        tints[twins[1]] = tints[twins[0]]
    colour = _choose_colours(scene, tints, twins, random)
    tint = tints[np.arange(MAX_OBJECTS), colour]
    surface = scene.surface
    if photographs is not None:
        surface = np.full((MAX_OBJECTS, SURFACE_SIDE_PX, SURFACE_SIDE_PX), NEUTRAL, np.uint8)
        for item in np.flatnonzero(random.random(MAX_OBJECTS) < _PHOTOGRAPH_PROBABILITY):
            surface[item] = photographs.surface(random)
    is_dark = tint @ np.array(LUMA_WEIGHTS) < 0.45
    ink = np.where(is_dark, 0.96, 0.03).astype(np.float32)
    return replace(scene, colour=colour, tint=tint, ink=ink, surface=surface)


def has_twin(scene: Scene) -> bool:
    """Tell whether something that moves has a twin, of its shape and colour, that does not."""
    return any(
        scene.moves[item] and not scene.moves[other] and scene.radius[other] > 0
        and scene.shape[item] == scene.shape[other] and scene.colour[item] == scene.colour[other]
        for item in range(MAX_OBJECTS) for other in range(MAX_OBJECTS))


def _place_twin(
    scene: Scene, random: np.random.Generator,
) -> tuple[Scene, tuple[int, int] | None]:
    """Let an object be of the kind of one that moves, and stand still; return both of them."""
    moving = np.flatnonzero(scene.moves)
    if random.random() >= _TWIN_PROBABILITY or scene.num_objects < 2 or not len(moving):
        return scene, None
    item = int(random.choice(moving))
    twin = int(random.choice(np.setdiff1d(np.arange(scene.num_objects), [item])))
    shape, orbit, spin, symbol = (
        getattr(scene, name).copy() for name in ('shape', 'orbit_radius', 'spin', 'symbol'))
    shape[twin], orbit[twin], spin[twin], symbol[twin] = shape[item], 0.0, 0.0, -1
    return replace(
        scene, shape=shape, orbit_radius=orbit, spin=spin, symbol=symbol), (item, twin)


def _sample_tints(random: np.random.Generator) -> np.ndarray:
    """Return what each object would look like in each colour, float32 (objects, colours, 3)."""
    is_dull = random.random((MAX_OBJECTS, 1, 1)) < 0.5
    brightness = random.uniform(*_BRIGHTNESS, (MAX_OBJECTS, 1, 1))
    greying = np.where(is_dull, random.uniform(0.0, _MAX_GREYING, is_dull.shape), 0.0)
    tints = COLOUR_VALUES * np.where(is_dull, np.minimum(brightness, 1.0), brightness)
    luma = (tints @ np.array(LUMA_WEIGHTS))[..., None]
    tints = tints + greying * (luma - tints)
    # grey is nobody's name: white stays bright, black stays dark
    tints[:, _WHITE] = tints[:, _WHITE].clip(0.86, 1.0)
    tints[:, _BLACK] = random.uniform(0.01, 0.07, (MAX_OBJECTS, 1))
    tints += random.normal(0.0, 0.015, tints.shape)
    return np.clip(tints, 0.01, 1.0).astype(np.float32)


def _choose_colours(
    scene: Scene, tints: np.ndarray, twins: tuple[int, int] | None, random: np.random.Generator,
) -> np.ndarray:
    """Return a colour for each object, int64, of those that can be told from the ground."""
    alike = _share_alike(scene, tints)
    if twins is not None:
        alike[list(twins)] = alike[list(twins)].max(axis=0)
    alike[is_unseen(scene.shape[:, None], np.arange(len(COLOURS)))] = np.inf
    # Where none is clear enough, the clearest.
    fits = alike <= np.maximum(_MAX_ALIKE, alike.min(axis=1, keepdims=True))
    colour = np.where(fits, random.random(fits.shape), -1.0).argmax(axis=1)
    if twins is not None:
        colour[twins[1]] = colour[twins[0]]
    return colour


def _share_alike(scene: Scene, tints: np.ndarray) -> np.ndarray:
    """Return how much of the ground around each object looks like each tint of it, 0 to 1."""
    size = tuple(int(round(float(side) * _CHECK_PX)) for side in scene.extent)
    fields = {name: torch.from_numpy(getattr(scene, name)[None]) for name in GROUND_FIELDS}
    drawn = draw_ground(fields, (size[0], size[1]), (0.0, 0.0), _CHECK_PX)
    ground = drawn[0].permute(1, 2, 0).numpy()
    y, x = np.mgrid[:size[0], :size[1]]
    alike = np.zeros(tints.shape[:2])
    for item in np.flatnonzero(scene.radius > 0.0):
        reach = 1.2 * scene.radius[item] + scene.orbit_radius[item]
        away = (np.stack([y, x]) + 0.5) / _CHECK_PX - scene.anchor[item][:, None, None]
        near = ground[np.hypot(*away) < reach]
        distance = np.linalg.norm(near[:, None] - tints[item], axis=2)
        alike[item] = (distance < _LEAST_CONTRAST).mean(axis=0)
    return alike


def _sample_ground(
    random: np.random.Generator, extent: np.ndarray, photographs: Photographs | None,
) -> dict[str, Any]:
    kinds = [name for name in GROUNDS if name not in UNSEEN_GROUNDS]
    background, other = random.uniform(0.05, 0.95, (2, 3))
    chroma, speckle = random.uniform(0.02, 0.14), random.uniform(0.01, 0.12)
    pattern = (0.5, random.uniform(0, 2 * np.pi), random.uniform(2.0, 12.0),
               random.uniform(0, 2 * np.pi))
    ground = {
        'background': (background + other) / 2, 'pattern_colour': other - background,
        'coarse': random.normal(0.0, chroma, (3, 7, 7)),
        'fine': random.normal(0.0, speckle, (1, 48, 48)),
        'ground_pattern': np.array(pattern), 'ground_range': np.array([0.02, 0.98]),
        'clutter': _sample_strips(random, extent)}
    arrays: dict[str, Any] = {name: value.astype(np.float32) for name, value in ground.items()}
    arrays['ground'] = np.array([GROUNDS.index(kinds[random.integers(len(kinds))])])
    if photographs is not None:
        rows, cols = (round(float(side) * PHOTOGRAPH_SIDE_PX) for side in extent)
        arrays['photograph'] = photographs.crop(random, rows, cols)
        if random.random() < _PHOTOGRAPH_PROBABILITY:
            arrays['ground'] = np.array([-1])
    return arrays


def _sample_strips(random: np.random.Generator, extent: np.ndarray) -> np.ndarray:
    """Return long strips of all colours, longer than any object and thin."""
    num_strips = random.integers(_NUM_STRIPS + 1) * (random.random() < _STRIPS_PROBABILITY)
    sides = np.stack([random.uniform(0.006, 0.025, _NUM_STRIPS),
                      random.uniform(0.2, 0.7, _NUM_STRIPS)], axis=1)
    sides[num_strips:] = 0.0
    return np.concatenate([
        random.uniform(0.0, 1.0, (_NUM_STRIPS, 2)) * extent, sides,
        random.uniform(0, np.pi, (_NUM_STRIPS, 1)), random.uniform(0.02, 0.98, (_NUM_STRIPS, 3))],
        axis=1)
