"""
Questions about a simulated scene, and their true answers at a moment.

Most families can be answered from one image. Motion shows in an image only by its blur and by
which patches were kept; its direction and speed do not show at all, and the model is to say that
it cannot tell. A question outside the vocabulary has its own answer as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from epvlm_ros.sim.scene import COLOURS, Scene, SHAPES, SYMBOLS
import numpy as np

ONE_FRAME_FAMILIES = (
    'colour', 'shape', 'count', 'relation', 'place', 'existence', 'symbol', 'description',
    'absent', 'several')
REFUSAL_FAMILIES = ('unknown', 'motion')  # no picture answers them
MOTION_FAMILIES = ('moving', 'moving_count', 'direction', 'still', 'moving_symbol')
FAMILIES = ONE_FRAME_FAMILIES + REFUSAL_FAMILIES + MOTION_FAMILIES
NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six')
NO_SUCH_OBJECT = 'there is no such object'
SEVERAL_OBJECTS = 'there is more than one'
UNKNOWN = 'i do not know'
MOTION = 'i can not tell from one image'
NOTHING = 'nothing'
# Of frames that show nothing, whatever is asked; an even one, of a bare wall, has nothing to see.
TOO_DARK, TOO_BRIGHT = 'it is too dark to see', 'it is too bright to see'
NOTHING_TO_SEE = 'there is nothing to see'
UNKNOWABLE_ANSWERS = (UNKNOWN, MOTION, TOO_DARK, TOO_BRIGHT, NOTHING_TO_SEE)
STILL, MOVED, APPEARED, DISAPPEARED = 'stood still', 'moved', 'appeared', 'disappeared'

RELATIONS = ('left', 'right', 'above', 'below')
DIRECTIONS = ('up', 'down', 'left', 'right')
_PLACE_MARGIN = 0.06  # least distance from the middle lines, in units
_RELATION_MARGIN = 0.08
_ORDER_MARGIN = 0.03
_STEEPNESS = 1.5  # a direction's main part over the other one
_MAX_DESCRIBED = 3


@dataclass(frozen=True)
class Name:
    """A noun phrase: a shape, a colour, both or neither (any object)."""

    shape: int | None = None
    colour: int | None = None

    def text(self, plural: bool = False) -> str:
        """Return for example 'red circle', 'red object', 'circles'."""
        noun = 'object' if self.shape is None else SHAPES[self.shape]
        if plural:
            noun += 'es' if noun.endswith('s') else 's'
        return noun if self.colour is None else f'{COLOURS[self.colour]} {noun}'

    def indefinite(self) -> str:
        """Return for example 'a red circle', 'an object'."""
        text = self.text()
        return ('an ' if text[0] in 'aeiou' else 'a ') + text


@dataclass(frozen=True)
class Question:
    """
    A question in words, and in a form that can be answered at any moment.

    ``about`` is what is asked for; ``family`` differs from it where the answer is that there is no
    such object, or more than one. ``relation`` is one of ``RELATIONS`` or empty.
    """

    family: str
    about: str
    text: str
    subject: Name | None = None
    other: Name | None = None
    relation: str = ''


@dataclass(frozen=True)
class SceneSnapshot:
    """
    The visible objects at one moment; arrays have a row for each object.

    ``extent`` is height and width of the image in units; ``shape``, ``colour`` and ``symbol`` are
    int64 indices (symbol -1: none); ``centres`` and ``velocity`` are float32 (objects, 2), (y, x)
    in units and units per second, without the camera's motion; ``moves`` is bool, moves or turns.
    ``camera`` is float32 (2,), where the camera has panned to: but for zoom ``centres + camera``
    are places in the world.
    """

    extent: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    centres: np.ndarray
    symbol: np.ndarray
    moves: np.ndarray
    velocity: np.ndarray
    camera_moves: bool = False
    camera: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))

    def find(self, name: Name) -> np.ndarray:
        """Return the indices (int64) of the objects that a name fits."""
        fits = np.ones(len(self.shape), dtype=bool)
        if name.shape is not None:
            fits &= self.shape == name.shape
        if name.colour is not None:
            fits &= self.colour == name.colour
        return np.flatnonzero(fits)

    def name(self, index: int) -> Name:
        """Return the full name of an object."""
        return Name(int(self.shape[index]), int(self.colour[index]))


def snapshot_scene(scene: Scene, time_s: float) -> SceneSnapshot:
    """Return what a scene shows at a time, in seconds since its start."""
    there = scene.is_there(time_s)
    return SceneSnapshot(
        scene.extent, scene.shape[there], scene.colour[there], scene.positions(time_s),
        scene.symbol[there], scene.moves[there], scene.velocities(time_s), scene.camera_moves,
        scene.camera_place(time_s).astype(np.float32))


def answer_question(question: Question, snapshot: SceneSnapshot) -> str | None:
    """Return the true answer, or None where it depends on less than a clear margin."""
    about = question.about
    fixed = {'unknown': UNKNOWN, 'motion': MOTION}
    if about in fixed:
        return fixed[about]
    if about == 'description':
        return list_objects(np.arange(len(snapshot.shape)), snapshot)
    if about in MOTION_FAMILIES:
        return None if snapshot.camera_moves else _answer_about_motion(question, snapshot)
    assert question.subject is not None
    found = snapshot.find(question.subject)
    if about == 'count':
        return NUMBERS[len(found)]
    if about == 'existence':
        return 'yes' if len(found) else 'no'
    named = [found] if question.other is None else [found, snapshot.find(question.other)]
    if any(len(indices) == 0 for indices in named):
        return NO_SUCH_OBJECT
    if any(len(indices) > 1 for indices in named):
        return SEVERAL_OBJECTS
    return _answer_about(question, snapshot, [int(indices[0]) for indices in named])


def _answer_about(question: Question, snapshot: SceneSnapshot, indices: list[int]) -> str | None:
    """Answer a question whose names fit one object each."""
    subject = indices[0]
    if question.about == 'relation':
        return _compare(question.relation, snapshot.centres[subject], snapshot.centres[indices[1]])
    if question.about == 'place':
        return _name_quadrant(snapshot.centres[subject], snapshot.extent)
    if question.about == 'symbol':
        return _read(snapshot.symbol[subject])
    if question.about == 'colour':
        return COLOURS[snapshot.colour[subject]]
    return SHAPES[snapshot.shape[subject]]


def _answer_about_motion(question: Question, snapshot: SceneSnapshot) -> str | None:
    """Answer a question about what moves before a camera that stands still."""
    moving = np.flatnonzero(snapshot.moves)
    if question.about == 'moving':
        return list_objects(moving, snapshot)
    if question.about == 'still':
        return list_objects(np.flatnonzero(~snapshot.moves), snapshot)
    if question.about == 'moving_count':
        return NUMBERS[len(moving)]
    if question.about == 'moving_symbol':
        return _read(snapshot.symbol[moving[0]]) if len(moving) == 1 else None
    assert question.subject is not None
    found = snapshot.find(question.subject)
    return name_direction(snapshot.velocity[found[0]]) if len(found) == 1 else None


def _read(symbol: int) -> str:
    return NOTHING if symbol < 0 else SYMBOLS[symbol]


def list_objects(items: np.ndarray, snapshot: SceneSnapshot) -> str | None:
    """Name objects from left to right, or only count them where they are many."""
    if not len(items):
        return NOTHING
    if len(items) > _MAX_DESCRIBED:
        return f'{NUMBERS[len(items)]} objects'
    order = items[np.argsort(snapshot.centres[items, 1])]
    if len(order) > 1 and np.diff(snapshot.centres[order, 1]).min() < _ORDER_MARGIN:
        return None
    names = [snapshot.name(item).indefinite() for item in order]
    if len(names) == 1:
        return names[0]
    return ', '.join(names[:-1]) + ' and ' + names[-1]


def _compare(relation: str, subject: np.ndarray, other: np.ndarray) -> str | None:
    axis = 1 if relation in ('left', 'right') else 0
    difference = float(other[axis] - subject[axis])  # positive: left of, or above
    if abs(difference) < _RELATION_MARGIN:
        return None
    holds = difference > 0 if relation in ('left', 'above') else difference < 0
    return 'yes' if holds else 'no'


def _name_quadrant(centre: np.ndarray, extent: np.ndarray) -> str | None:
    offset = centre - extent / 2
    if np.abs(offset).min() < _PLACE_MARGIN:
        return None
    return ('top' if offset[0] < 0 else 'bottom') + (' left' if offset[1] < 0 else ' right')


def name_direction(velocity: np.ndarray) -> str | None:
    """Return one of ``DIRECTIONS`` for (y, x), None where it is slanted or stands still."""
    axis = int(np.abs(velocity).argmax())
    if not abs(velocity[axis]) > _STEEPNESS * abs(velocity[1 - axis]):
        return None
    return DIRECTIONS[2 * axis + int(velocity[axis] > 0)]
