"""How the objects of a scene lie, and changes of it: moved, taken away, put back, covered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from epvlm_ros.sim.questions import SceneSnapshot, snapshot_scene
from epvlm_ros.sim.scene import Scene
import numpy as np

_GAP = 0.02  # between objects, in units
_PLACES = 64  # that are tried for an object
COVER = 1.15  # half the side of a cover, in radii of what it covers
_COVER_CORNER = COVER * 2.0 ** 0.5
_COVER_GREY = (0.2, 0.6)  # neither as dark as a black object nor as bright as a white one
_TAKEN_AWAY, _COVERED = 0.2, 0.55  # of changes of what is there; the rest is moved


@dataclass(frozen=True, eq=False)
class Arrangement:
    """
    Where the objects of a scene are; arrays have a row for each object and are not changed.

    Attributes
    ----------
    anchor, radius : numpy.ndarray
        float32 as in ``Scene``; a radius of 0 for what was taken away.
    is_covered : numpy.ndarray
        bool: a dull box lies on it.
    full_radius : numpy.ndarray
        float32, the radius of what is there.
    cover_colour : numpy.ndarray
        float32 (objects, 3), red, green and blue of the box that may lie on each.
    extent : numpy.ndarray
        float32 (2,) as in ``Scene``.
    margin : float
        How far objects stay from the border, in units.

    """

    anchor: np.ndarray
    radius: np.ndarray
    is_covered: np.ndarray
    full_radius: np.ndarray
    cover_colour: np.ndarray
    extent: np.ndarray
    margin: float

    @classmethod
    def of(cls, scene: Scene, random: np.random.Generator) -> Arrangement:
        """Return the objects of a scene as they lie at first."""
        num_objects = len(scene.radius)
        grey = random.uniform(*_COVER_GREY, (num_objects, 1))
        colour = grey + random.normal(0.0, 0.025, (num_objects, 3))
        return cls(
            scene.anchor.copy(), scene.radius.copy(), np.zeros(num_objects, np.bool_),
            scene.radius.copy(), colour.astype(np.float32), scene.extent,
            float(scene.camera[0]) + 0.01)

    @property
    def seen_items(self) -> np.ndarray:
        """Return the numbers, int64, of the objects that are there and not covered."""
        return np.flatnonzero((self.radius > 0.0) & ~self.is_covered)

    def view(self, scene: Scene, turn: float = 0.0) -> SceneSnapshot:
        """
        Return what is to be seen of a scene, of which nothing moves by itself.

        It lies like this, and the camera has turned so far on its circle, in radians.
        """
        radius = np.where(self.is_covered, np.float32(0.0), self.radius)
        camera = scene.camera + np.array([0.0, 0.0, turn], np.float32)
        return snapshot_scene(
            replace(scene, anchor=self.anchor, radius=radius, camera=camera), 0.0)

    def towards(self, end: Arrangement, share: float) -> Arrangement:
        """Return what lies between this and another arrangement; what appears does so halfway."""
        if share >= 1.0:
            return end
        way = np.where(self.radius[:, None] > 0.0, end.anchor - self.anchor, 0.0)
        anchor = np.where(self.radius[:, None] > 0.0, self.anchor, end.anchor)
        later = end if share >= 0.5 else self
        return replace(
            end, anchor=(anchor + share * way).astype(np.float32), radius=later.radius,
            is_covered=later.is_covered)

    def way_to(self, end: Arrangement) -> float:
        """Return the longest way that an object moves to another arrangement, in units."""
        is_there = self.radius > 0.0
        return float(np.abs((end.anchor - self.anchor)[is_there]).max(initial=0.0))

    def paint_covers(self, image: np.ndarray, camera: np.ndarray) -> None:
        """
        Paint the covers over a picture, in place.

        Parameters
        ----------
        image : numpy.ndarray
            float32, shape (height, width, 3).
        camera : numpy.ndarray
            Where the camera is, (y, x) in units.

        """
        unit_px = min(image.shape[:2])
        for item in np.flatnonzero(self.is_covered):
            reach = COVER * self.full_radius[item]
            low, high = (np.round((self.anchor[item] - camera + side) * unit_px).astype(int)
                         for side in (-reach, reach))
            low = np.maximum(low, 0)
            image[low[0]:max(high[0], 0), low[1]:max(high[1], 0)] = self.cover_colour[item]

    def reach(self, item: int) -> float:
        """Return the radius of an object with what covers it, 0 where it is not there."""
        return float(self.radius[item]) * (_COVER_CORNER if self.is_covered[item] else 1.0)

    def is_free(self, item: int, places: np.ndarray, reach: float) -> np.ndarray:
        """Tell at which places, (places, 2), an object touches no other, bool (places,)."""
        others = [other for other in range(len(self.radius))
                  if other != item and self.radius[other] > 0.0]
        distance = np.linalg.norm(places[:, None] - self.anchor[others], axis=-1)
        reaches = np.array([self.reach(other) for other in others])
        return np.asarray((distance > reaches + reach + _GAP).all(axis=1))


def same_arrangement(one: Arrangement, other: Arrangement) -> bool:
    """Whether all lies in both as in the other."""
    return all(np.array_equal(getattr(one, name), getattr(other, name))
               for name in ('anchor', 'radius', 'is_covered'))


def rearrange(now: Arrangement, random: np.random.Generator) -> Arrangement:
    """
    Move, take away, put back, cover or uncover one object, drawn at random.

    One object always stays to be seen; what finds no room stays as it is.
    """
    item = int(random.choice(np.flatnonzero(now.full_radius > 0.0)))
    if now.is_covered[item]:
        return _with(now, item, is_covered=False)
    is_visible = (now.radius > 0.0) & ~now.is_covered
    draw = random.random()
    if is_visible[item] and np.count_nonzero(is_visible) > 1:
        if draw < _TAKEN_AWAY:
            return _with(now, item, radius=0.0)
        if draw < _COVERED:
            reach = _COVER_CORNER * float(now.full_radius[item])
            has_room = now.is_free(item, now.anchor[item][None], reach).all()
            return _with(now, item, is_covered=True) if has_room else now
    margin = now.full_radius[item] + now.margin
    places = random.uniform(margin, now.extent - margin, size=(_PLACES, 2)).astype(np.float32)
    free = places[now.is_free(item, places, float(now.full_radius[item]))]
    if not len(free):
        return now
    return _with(now, item, anchor=free[0], radius=now.full_radius[item])


def _with(now: Arrangement, item: int, **changes: object) -> Arrangement:
    """Return an arrangement with other values for one object."""
    arrays = {name: getattr(now, name).copy() for name in changes}
    for name, value in changes.items():
        arrays[name][item] = value
    return replace(now, **arrays)
