"""
Questions about a simulated scene, and the answers that hold at a moment.

Nothing but the picture is needed to answer: what one picture cannot tell (whether something
moves) or what the model has no words for gets an answer that says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.sim.scene import COLOURS, Scene, SHAPES
import numpy as np

FAMILIES = (
    'colour', 'shape', 'count', 'relation', 'place', 'existence', 'description', 'absent',
    'several', 'unknown', 'motion')
NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six')
NO_SUCH_OBJECT = 'there is no such object'
SEVERAL_OBJECTS = 'there is more than one'
UNKNOWN = 'i do not know'
MOTION = 'i can not tell from one image'

RELATIONS = ('left', 'right', 'above', 'below')
_PLACE_MARGIN = 0.06  # least distance from the middle lines, in units
_RELATION_MARGIN = 0.08
_ORDER_MARGIN = 0.03
_MAX_DESCRIBED = 4


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
    One question in words and in a form that can be answered at any moment.

    ``about`` says what is asked for; the family is another one where the answer is that there
    is no such object, or that there are several. ``relation`` is one of ``RELATIONS``, only for
    questions about a relation.
    """

    family: str
    about: str
    text: str
    subject: Name | None = None
    other: Name | None = None
    relation: str = ''


@dataclass(frozen=True)
class SceneView:
    """What there is to see at one moment: existing objects only, centres (y, x) in units."""

    extent: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    centres: np.ndarray

    def find(self, name: Name) -> np.ndarray:
        """Return the indices (int64) of the objects that a name fits."""
        fits = np.ones(len(self.shape), dtype=bool)
        if name.shape is not None:
            fits &= self.shape == name.shape
        if name.colour is not None:
            fits &= self.colour == name.colour
        return np.flatnonzero(fits)


def view_scene(scene: Scene, time_s: float) -> SceneView:
    """Return what a scene shows at a time, in seconds since its start."""
    exists = scene.radius > 0
    return SceneView(
        scene.extent, scene.shape[exists], scene.colour[exists], scene.positions(time_s))


def answer_question(question: Question, view: SceneView) -> str | None:
    """
    Return the true answer, or None where it hangs on less than a clear margin.

    Parameters
    ----------
    question : Question
        As ``make_question`` made it, for this or another moment of the scene.
    view : SceneView
        The moment that is asked about.

    """
    fixed = {'unknown': UNKNOWN, 'motion': MOTION}
    if question.about in fixed:
        return fixed[question.about]
    if question.about == 'description':
        return _describe(view)
    assert question.subject is not None
    found = view.find(question.subject)
    if question.about == 'count':
        return NUMBERS[len(found)]
    if question.about == 'existence':
        return 'yes' if len(found) else 'no'
    named = [found] if question.other is None else [found, view.find(question.other)]
    if any(len(indices) == 0 for indices in named):
        return NO_SUCH_OBJECT
    if any(len(indices) > 1 for indices in named):
        return SEVERAL_OBJECTS
    return _answer_about(question, view, [int(indices[0]) for indices in named])


def _answer_about(question: Question, view: SceneView, indices: list[int]) -> str | None:
    """Answer a question whose names fit one object each."""
    subject = indices[0]
    if question.about == 'relation':
        return _compare(question.relation, view.centres[subject], view.centres[indices[1]])
    if question.about == 'place':
        return _name_quadrant(view.centres[subject], view.extent)
    if question.about == 'colour':
        return COLOURS[view.colour[subject]]
    return SHAPES[view.shape[subject]]


def _describe(view: SceneView) -> str | None:
    order = np.argsort(view.centres[:, 1])
    if len(order) > _MAX_DESCRIBED:
        return f'{NUMBERS[len(order)]} objects'
    if len(order) > 1 and np.diff(view.centres[order, 1]).min() < _ORDER_MARGIN:
        return None
    names = [Name(view.shape[item], view.colour[item]).indefinite() for item in order]
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
