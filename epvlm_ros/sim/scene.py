"""
A simulated scene: coloured objects on cluttered ground, seen by a camera.

Lengths are in units of the shorter side of the image: x runs from 0 to ``extent[1]`` to the right,
y from 0 to ``extent[0]`` downwards. All motion is periodic, so objects stay in view.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

SHAPES = (
    'circle', 'square', 'triangle', 'star', 'cross', 'ring', 'heart', 'arrow', 'moon', 'bar')
COLOURS = (
    'red', 'green', 'blue', 'yellow', 'cyan', 'purple', 'orange', 'white', 'pink', 'black')
# Red, green and blue of the colours, before each object's own variation.
COLOUR_VALUES = np.array([
    (0.84, 0.08, 0.08), (0.08, 0.60, 0.16), (0.12, 0.20, 0.88), (0.92, 0.86, 0.06),
    (0.08, 0.80, 0.88), (0.50, 0.12, 0.70), (0.96, 0.48, 0.02), (0.96, 0.96, 0.96),
    (0.98, 0.52, 0.72), (0.03, 0.03, 0.04)], dtype=np.float32)
SYMBOLS = ('c', 'h', 'k', 'l', 't', 'u', 'x', 'z', '4', '7')
GROUNDS = ('soft', 'speckled', 'planks', 'tiles', 'pebbles', 'bricks', 'waves')
UNSEEN_GROUNDS = ('bricks', 'waves')  # of the split 'hard' only
MAX_OBJECTS = 6
MAX_CAMERA_ORBIT = 0.03
MAX_ZOOM = 0.04  # of the logarithm of the scale

# Disjoint streams of random numbers: a scene of one split never occurs in another.
SPLITS = {
    'train': 0, 'validation': 1, 'test': 2, 'demo': 3, 'hard': 4, 'randomised_train': 5,
    'randomised_validation': 6, 'randomised': 7}
RANDOMISED_SPLITS = ('randomised_train', 'randomised_validation', 'randomised')


def is_unseen(shape: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Tell which combinations occur in 'hard' only: one of every shape and colour."""
    return (shape + 3 * colour) % len(SHAPES) == 7


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
    appears_s : float32 (objects,)
        Time of appearance in seconds; most are there from the start.
    tint : float32 (objects, 3)
        Red, green and blue, 0 to 1.
    shading : float32 (objects, 2)
        Change of brightness over one radius, downwards and to the right.
    texture : float32 (objects, 4)
        Amplitude, two frequencies (radians per radius) and phase of the surface's pattern.
    symbol : int64 (objects,)
        Index into ``SYMBOLS`` of what is written on it; -1 for nothing.
    symbol_tilt, ink : float32 (objects,)
        Angle of the writing in radians, and its brightness.
    camera : float32 (3,)
        Orbit of a camera that pans or shakes: units, radians per second, radians.
    zoom : float32 (3,)
        Of a camera that drives to and fro: amplitude of the logarithm of the scale, radians per
        second, radians.
    light : float32 (3,)
        Changing light: amplitude as a share, radians per second, radians.
    shadow : float32 (3,)
        Offset of the objects' shadows, (y, x) in radii, and their darkness, 0 to 1.
    background : float32 (3,)
        Mean colour of the ground.
    coarse : float32 (3, 7, 7)
        Soft patches of colour that are added to the ground.
    fine : float32 (1, 48, 48)
        Finer grey texture that is added to the ground.
    ground : int64 (1,)
        Index into ``GROUNDS``; -1 for the photograph.
    ground_pattern : float32 (4,)
        Amplitude, angle (radians), frequency (periods per unit) and phase of the pattern.
    pattern_colour : float32 (3,)
        Red, green and blue of the pattern.
    ground_range : float32 (2,)
        The darkest and the brightest value of the ground.
    photograph : uint8 (3, rows, cols)
        Red, green and blue of a photograph as ground; no rows where there is none.
    surface : uint8 (objects, rows, cols)
        Brightness of each object's surface, 128 for as it is; no rows where it is even.
    clutter : float32 (12, 8)
        Boxes on the ground: centre (y, x), half sides (0: none), angle, red, green, blue.

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
    appears_s: np.ndarray
    tint: np.ndarray
    shading: np.ndarray
    texture: np.ndarray
    symbol: np.ndarray
    symbol_tilt: np.ndarray
    ink: np.ndarray
    camera: np.ndarray
    zoom: np.ndarray
    light: np.ndarray
    shadow: np.ndarray
    background: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    ground: np.ndarray
    ground_pattern: np.ndarray
    pattern_colour: np.ndarray
    ground_range: np.ndarray
    photograph: np.ndarray
    surface: np.ndarray
    clutter: np.ndarray

    @property
    def num_objects(self) -> int:
        """Return the number of objects that exist, those that have yet to appear included."""
        return int((self.radius > 0).sum())

    @property
    def camera_moves(self) -> bool:
        """Return whether the camera pans, shakes or drives."""
        return bool(self.camera[0] > 0 or self.zoom[0] > 0)

    @property
    def moves(self) -> np.ndarray:
        """Return which objects move or turn, bool (objects,)."""
        return (self.radius > 0) & ((self.orbit_radius > 0) | (self.spin != 0))

    @property
    def max_speed(self) -> float:
        """Return a bound on the speed of any point of the image, in units per second."""
        speed = self.orbit_radius * np.abs(self.orbit_rate) + self.radius * np.abs(self.spin)
        pan = speed.max() + self.camera[0] * abs(self.camera[1])
        corner = np.linalg.norm(self.extent) / 2
        return float(np.exp(self.zoom[0]) * (pan + self.zoom[0] * abs(self.zoom[1]) * corner))

    def is_there(self, time_s: float) -> np.ndarray:
        """Return which objects are there at a time, bool (objects,)."""
        return (self.radius > 0) & (self.appears_s <= time_s)

    def positions(self, time_s: float) -> np.ndarray:
        """Return the centres (y, x) of the visible objects in units, float32 (objects, 2)."""
        phase = self.orbit_phase + self.orbit_rate * time_s
        circle = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
        scale = np.exp(self.zoom[0] * np.sin(self.zoom[2] + self.zoom[1] * time_s))
        middle = self.extent / 2
        world = self.anchor + self.orbit_radius[:, None] * circle - self.camera_place(time_s)
        return (middle + scale * (world - middle))[self.is_there(time_s)].astype(np.float32)

    def camera_place(self, time_s: float) -> np.ndarray:
        """Return how far the camera has panned from its middle, (y, x) in units."""
        phase = self.camera[2] + self.camera[1] * time_s
        return np.asarray(self.camera[0] * np.stack([np.sin(phase), np.cos(phase)]))

    def velocities(self, time_s: float) -> np.ndarray:
        """Return how fast the objects that are there move by themselves, (y, x) in units/s."""
        phase = self.orbit_phase + self.orbit_rate * time_s
        tangent = np.stack([np.cos(phase), -np.sin(phase)], axis=-1)
        velocity = (self.orbit_radius * self.orbit_rate)[:, None] * tangent
        return velocity[self.is_there(time_s)].astype(np.float32)


SCENE_FIELDS = tuple(item.name for item in fields(Scene))
