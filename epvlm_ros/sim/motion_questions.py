"""
Questions about what happened over several pictures of a scene, and their true answers.

An object stood still, moved, appeared or disappeared between the first picture and the last one;
what cannot be called one of these (it came back, or hardly moved) makes a scene unfit for
questions about all objects. A camera that pans moves nothing: ways are those in the world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from epvlm_ros.sim.questions import (
    APPEARED, DISAPPEARED, list_objects, MOVED, Name, name_direction, NUMBERS, Question,
    SceneSnapshot, STILL)
from epvlm_ros.sim.wording import CHANGE_TEMPLATES, phrase_question
import numpy as np

CHANGE_FAMILIES = (
    'moved', 'moved_count', 'moved_direction', 'stood_still', 'appeared', 'disappeared', 'did')
LEAST_WAY = 0.08  # units
_ROUNDING = 1e-5  # units, of places that a camera's is added to
# Asked in the words of what moves in one picture.
_PRESENT = {'moved': 'moving', 'moved_count': 'moving_count', 'moved_direction': 'direction',
            'stood_still': 'still'}


class Moment(Protocol):
    """
    What is to be seen at a moment, a ``StreamFrame`` for one.

    ``items``, int64, tells which object of the scene each one in ``view`` is.
    """

    @property
    def view(self) -> SceneSnapshot:
        """Return the truth."""

    @property
    def items(self) -> np.ndarray:
        """Return the numbers of the objects in it."""


@dataclass(frozen=True)
class Change:
    """What an object did: one of the four words or empty; its way in the world, (y, x), units."""

    name: Name
    kind: str
    way: np.ndarray


def find_changes(frames: Sequence[Moment]) -> dict[int, Change]:
    """Return what each object that is seen in any of at least two frames did, by its number."""
    items = sorted({int(item) for frame in frames for item in frame.items})
    return {item: _find_change(item, frames) for item in items}


def ask_about_changes(
    frames: Sequence[Moment], random: np.random.Generator,
) -> Iterator[tuple[Question, str]]:
    """Yield at most one question of each of ``CHANGE_FAMILIES``, with its answer."""
    changes = find_changes(frames)
    is_clear = all(change.kind for change in changes.values())
    for family in CHANGE_FAMILIES:
        if family in ('moved_direction', 'did'):
            made = _ask_about_one(family, changes, random)
        else:
            made = _ask_about_all(family, frames, changes, random) if is_clear else None
        if made is not None:
            yield made


def _find_change(item: int, frames: Sequence[Moment]) -> Change:
    seen = [item in frame.items for frame in frames]
    views = [(frame.view, int(np.flatnonzero(frame.items == item)[0]))
             for frame, is_seen in zip(frames, seen) if is_seen]
    name = views[0][0].name(views[0][1])
    places = np.array([view.centres[place] + view.camera for view, place in views])
    way = places[-1] - places[0]
    longest = float(np.linalg.norm(places - places[0], axis=1).max())
    num_turns = int(np.diff(np.array(seen, np.int8)).astype(bool).sum())
    if num_turns > 1:
        kind = ''
    elif num_turns:
        kind = DISAPPEARED if seen[0] else APPEARED
    elif np.linalg.norm(way) >= LEAST_WAY:
        kind = MOVED
    else:
        kind = STILL if longest < _ROUNDING else ''
    return Change(name, kind, way)


def _ask_about_all(
    family: str, frames: Sequence[Moment], changes: dict[int, Change],
    random: np.random.Generator,
) -> tuple[Question, str] | None:
    kind = {'moved': MOVED, 'moved_count': MOVED, 'stood_still': STILL, 'appeared': APPEARED,
            'disappeared': DISAPPEARED}[family]
    found = [item for item, change in changes.items() if change.kind == kind]
    question = _phrase(family, Name(), random)
    if family == 'moved_count':
        return question, NUMBERS[len(found)]
    frame = frames[0] if family == 'disappeared' else frames[-1]
    listed = list_objects(np.flatnonzero(np.isin(frame.items, found)), frame.view)
    return None if listed is None else (question, listed)


def _ask_about_one(
    family: str, changes: dict[int, Change], random: np.random.Generator,
) -> tuple[Question, str] | None:
    """Ask about an object whose name fits no other one."""
    names = [change.name for change in changes.values()]
    alone = [change for change in changes.values() if names.count(change.name) == 1]
    kinds = (MOVED,) if family == 'moved_direction' else (STILL, MOVED, APPEARED, DISAPPEARED)
    # every kind as often as any other that is there, or most would stand still
    there = [kind for kind in kinds if any(change.kind == kind for change in alone)]
    if not there:
        return None
    kind = there[random.integers(len(there))]
    fitting = [change for change in alone if change.kind == kind]
    change = fitting[random.integers(len(fitting))]
    direction = name_direction(change.way) if kind == MOVED else ''
    if direction is None:
        return None
    answer = direction if family == 'moved_direction' else f'it {kind} {direction}'.strip()
    return _phrase(family, change.name, random), answer


def _phrase(family: str, name: Name, random: np.random.Generator) -> Question:
    if family in _PRESENT:
        text = phrase_question(_PRESENT[family], name, random).text
        return Question(family, family, text, name)
    return phrase_change(family, name, random)


def phrase_change(family: str, name: Name, random: np.random.Generator) -> Question:
    """Put a question of a family of ``CHANGE_TEMPLATES`` into words, drawn at random."""
    templates = CHANGE_TEMPLATES[family]
    text = templates[random.integers(len(templates))].format(subject='the ' + name.text())
    return Question(family, family, text, name)
