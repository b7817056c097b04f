"""
Random scenes of coloured shapes that lie still or move, seen by a camera that rests or moves.

Lengths are in units of the shorter side of the image, so that a scene can be drawn at any
resolution: x runs from 0 to ``extent[1]`` to the right, y from 0 to ``extent[0]`` downwards.
Everything that moves does so on a circle at constant speed: it stays in view for ever, and at
every moment its speed is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
COLOURS = ('red', 'green', 'blue', 'yellow', 'cyan', 'purple', 'orange', 'white')
MAX_OBJECTS = 6

# Disjoint streams of random numbers: a scene of one split never occurs in another.
SPLITS = {'train': 0, 'validation': 1, 'test': 2, 'demo': 3}

_COLOUR_VALUES = np.array([
    (0.84, 0.10, 0.10), (0.10, 0.62, 0.18), (0.12, 0.22, 0.86), (0.90, 0.86, 0.10),
    (0.10, 0.80, 0.86), (0.54, 0.14, 0.70), (0.96, 0.50, 0.04), (0.95, 0.95, 0.95)],
    dtype=np.float32)
_NUM_OBJECTS_PROBABILITIES = (0.10, 0.20, 0.25, 0.20, 0.15, 0.10)  # of 1 to 6 objects
_RADIUS_RANGE = (0.055, 0.125)
_ORBIT_RANGE = (0.02, 0.07)
_SPEED_RANGE = (0.15, 0.80)  # units per second
_SPIN_RANGE = (1.0, 4.0)  # radians per second
MAX_CAMERA_ORBIT = 0.03
_CAMERA_ORBIT_RANGE = (0.01, MAX_CAMERA_ORBIT)
_CAMERA_SPEED_RANGE = (0.05, 0.40)
_GAP = 0.03  # least distance between two objects on their way
_COARSE_CELLS, _FINE_CELLS = 7, 40


@dataclass(frozen=True)
class Scene:
    """
    One scene; arrays have a row for each of ``MAX_OBJECTS`` objects, later ones lie on top.

    Attributes
    ----------
    extent : float32 (2,)
        Height and width of the image in units; the shorter one is 1.
    shape, colour : int64 (objects,)
        Indices into ``SHAPES`` and ``COLOURS``.
    radius : float32 (objects,)
        Half the size; 0 where there is no object.
    anchor : float32 (objects, 2)
        Centre of the orbit, (y, x).
    orbit_radius, orbit_rate, orbit_phase : float32 (objects,)
        The circle about ``anchor``: units, radians per second, radians.
    angle, spin : float32 (objects,)
        Orientation at time 0 and its rate, radians and radians per second.
    tint : float32 (objects, 3)
        Red, green and blue, 0 to 1.
    shading : float32 (objects, 2)
        Change of brightness over one radius, downwards and to the right.
    texture : float32 (objects, 4)
        Amplitude, two frequencies (radians per radius) and phase of the surface's pattern.
    camera : float32 (3,)
        Orbit of the camera: units, radians per second, radians.
    background : float32 (3,)
        Its mean colour.
    coarse : float32 (3, 7, 7)
        Soft patches of colour that are added to the background.
    fine : float32 (1, 40, 40)
        Finer grey texture that is added to the background.

    """

    extent: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    radius: np.ndarray
    anchor: np.ndarray
    orbit_radius: np.ndarray
    orbit_rate: np.ndarray
    orbit_phase: np.ndarray
    angle: np.ndarray
    spin: np.ndarray
    tint: np.ndarray
    shading: np.ndarray
    texture: np.ndarray
    camera: np.ndarray
    background: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray

    @property
    def num_objects(self) -> int:
        """Return the number of objects that exist."""
        return int((self.radius > 0).sum())

    @property
    def max_speed(self) -> float:
        """Return a bound on the speed of any point of the image, in units per second."""
        speed = self.orbit_radius * np.abs(self.orbit_rate) + self.radius * np.abs(self.spin)
        return float(speed.max() + self.camera[0] * abs(self.camera[1]))

    def positions(self, time_s: float) -> np.ndarray:
        """
        Return where the existing objects are in the image.

        Parameters
        ----------
        time_s : float
            Time since the start of the scene, in seconds.

        Returns
        -------
        float32 (num_objects, 2)
            Centres (y, x) in units.

        """
        phase = self.orbit_phase + self.orbit_rate * time_s
        circle = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
        camera_phase = self.camera[2] + self.camera[1] * time_s
        camera = self.camera[0] * np.stack([np.sin(camera_phase), np.cos(camera_phase)])
        centres = self.anchor + self.orbit_radius[:, None] * circle - camera
        return centres[self.radius > 0].astype(np.float32)


SCENE_FIELDS = tuple(item.name for item in fields(Scene))


def sample_scene(
    split: str,
    index: int,
    *,
    aspect_ratio: float = 1.0,
    camera_moves: bool | None = None,
    num_objects: int | None = None,
) -> Scene:
    """
    Make the scene with number ``index`` of a split; equal arguments give equal scenes.

    Parameters
    ----------
    split : str
        One of ``SPLITS``; different splits have nothing in common.
    index : int
        At least 0.
    aspect_ratio : float
        Width over height of the image.
    camera_moves : bool, optional
        Whether the camera moves; by default it does in half of the scenes.
    num_objects : int, optional
        1 to ``MAX_OBJECTS``; random by default.

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
    camera = _sample_camera(random, moving_camera)
    wanted = 1 + int(random.choice(MAX_OBJECTS, p=_NUM_OBJECTS_PROBABILITIES))
    radius, orbit = _sample_sizes(random, num_objects or wanted)
    anchor, radius, orbit = _place(random, extent, radius, orbit, float(camera[0]))
    colour = random.integers(len(COLOURS), size=MAX_OBJECTS)
    return Scene(
        extent=extent, shape=random.integers(len(SHAPES), size=MAX_OBJECTS), colour=colour,
        radius=radius, anchor=anchor, camera=camera,
        **_sample_motion(random, orbit), **_sample_looks(random, colour),
        **_sample_background(random))


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


def _sample_camera(random: np.random.Generator, moves: bool) -> np.ndarray:
    if not moves:
        return np.zeros(3, dtype=np.float32)
    orbit, speed = random.uniform(*_CAMERA_ORBIT_RANGE), random.uniform(*_CAMERA_SPEED_RANGE)
    rate = speed / orbit * _signs(random, 1)[0]
    return np.array([orbit, rate, random.uniform(0, 2 * np.pi)], dtype=np.float32)


def _sample_sizes(
    random: np.random.Generator, num_objects: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return radii (0 beyond ``num_objects``) and orbit radii (0 for still objects)."""
    radius = random.uniform(*_RADIUS_RANGE, size=MAX_OBJECTS)
    radius[num_objects:] = 0.0
    orbit = random.uniform(*_ORBIT_RANGE, size=MAX_OBJECTS)
    orbit[random.random(MAX_OBJECTS) < 0.5] = 0.0
    return radius, orbit


def _place(
    random: np.random.Generator, extent: np.ndarray, radius: np.ndarray, orbit: np.ndarray,
    camera_orbit: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place objects so that they never touch; one that finds no room goes, radius 0, last."""
    anchor = np.tile(extent / 2, (MAX_OBJECTS, 1)).astype(np.float64)
    radius = radius.copy()
    for item in range(MAX_OBJECTS):
        if radius[item] == 0.0:
            continue
        margin = radius[item] + orbit[item] + camera_orbit + 0.01
        candidates = random.uniform(margin, extent - margin, size=(48, 2))
        others = [other for other in range(item) if radius[other] > 0.0]
        distance = np.linalg.norm(candidates[:, None] - anchor[others], axis=-1)
        needed = (radius + orbit)[others] + radius[item] + orbit[item] + _GAP
        free = np.flatnonzero((distance > needed).all(axis=1))
        if len(free):
            anchor[item] = candidates[free[0]]
        else:
            radius[item] = 0.0
    order = np.argsort(radius == 0.0, kind='stable')
    orbit = np.where(radius > 0.0, orbit, 0.0)[order]
    return anchor[order].astype(np.float32), radius[order].astype(np.float32), orbit


def _sample_motion(random: np.random.Generator, orbit: np.ndarray) -> dict[str, np.ndarray]:
    speed = random.uniform(*_SPEED_RANGE, size=MAX_OBJECTS) * _signs(random, MAX_OBJECTS)
    moving = orbit > 0.0
    rate = np.where(moving, speed / np.where(moving, orbit, 1.0), 0.0)
    spin = random.uniform(*_SPIN_RANGE, size=MAX_OBJECTS) * _signs(random, MAX_OBJECTS)
    # Moving objects often turn as well; a few turn on the spot.
    turning = random.random(MAX_OBJECTS) < np.where(moving, 0.6, 0.15)
    return {
        'orbit_radius': orbit.astype(np.float32),
        'orbit_rate': rate.astype(np.float32),
        'orbit_phase': random.uniform(0, 2 * np.pi, MAX_OBJECTS).astype(np.float32),
        'angle': random.uniform(0, 2 * np.pi, MAX_OBJECTS).astype(np.float32),
        'spin': np.where(turning, spin, 0.0).astype(np.float32),
    }


def _sample_looks(random: np.random.Generator, colour: np.ndarray) -> dict[str, np.ndarray]:
    tint = _COLOUR_VALUES[colour] * random.uniform(0.88, 1.05, (MAX_OBJECTS, 1))
    tint = tint + random.normal(0.0, 0.02, (MAX_OBJECTS, 3))
    direction = random.uniform(0, 2 * np.pi, MAX_OBJECTS)
    strength = random.uniform(0.0, 0.22, MAX_OBJECTS)
    texture = np.stack([
        random.uniform(0.0, 0.16, MAX_OBJECTS), random.uniform(3.0, 9.0, MAX_OBJECTS),
        random.uniform(3.0, 9.0, MAX_OBJECTS), random.uniform(0, 2 * np.pi, MAX_OBJECTS)], axis=1)
    shading = strength[:, None] * np.stack([np.sin(direction), np.cos(direction)], axis=1)
    return {
        'tint': np.clip(tint, 0.02, 1.0).astype(np.float32),
        'shading': shading.astype(np.float32),
        'texture': texture.astype(np.float32),
    }


def _sample_background(random: np.random.Generator) -> dict[str, np.ndarray]:
    grey = random.uniform(0.18, 0.5)
    colour = grey + random.normal(0.0, 0.025, 3)
    coarse = random.normal(0.0, random.uniform(0.01, 0.05), (1, _COARSE_CELLS, _COARSE_CELLS))
    coarse = coarse + random.normal(0.0, 0.012, (3, _COARSE_CELLS, _COARSE_CELLS))
    fine = random.normal(0.0, random.uniform(0.005, 0.04), (1, _FINE_CELLS, _FINE_CELLS))
    return {
        'background': colour.astype(np.float32),
        'coarse': coarse.astype(np.float32),
        'fine': fine.astype(np.float32),
    }
