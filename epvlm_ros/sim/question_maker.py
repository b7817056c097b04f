"""
Makes questions about a simulated scene.

The answers of each family are balanced: whether a frequent one ('nothing' is written, 'no') is
asked for is decided once, and not again when an attempt fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from epvlm_ros.sim.questions import (
    answer_question, FAMILIES, MOTION_FAMILIES, Name, NO_SUCH_OBJECT, ONE_FRAME_FAMILIES, Question,
    SceneSnapshot, SEVERAL_OBJECTS)
from epvlm_ros.sim.scene import COLOURS, is_unseen, SHAPES
from epvlm_ros.sim.wording import make_unknown, phrase_question
import numpy as np

_BLANK_PROBABILITY = 0.08  # of asking what is written where nothing is
_NUMBER_WEIGHTS = (2, 2, 4, 5, 6, 6, 6)  # of asking for none to six; few scenes have six
_MOVING_BLANK_PROBABILITY = 0.07  # the same of what moves: few moving objects have a symbol
ATTEMPTS = 6  # to find a question of a family in a scene


@dataclass(frozen=True)
class _Plan:
    """What holds for all attempts at one question, so that they do not shift the answers."""

    is_blank: bool  # ask what is written where nothing is
    is_there: bool  # ask whether something is there that is
    number: float  # 0 to 1: which of the numbers that something is there is asked for

    @staticmethod
    def draw(family: str, random: np.random.Generator) -> _Plan:
        moves = family == 'moving_symbol'
        probability = _MOVING_BLANK_PROBABILITY if moves else _BLANK_PROBABILITY
        return _Plan(
            random.random() < probability, random.random() < 0.5, random.random())


def make_question(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator, num_attempts: int = 1,
) -> tuple[Question, str] | None:
    """
    Make one question of a family with its answer.

    Returns None where the scene has nothing to ask about in this family, or no attempt has a clear
    answer; raises ``ValueError`` for an unknown family.
    """
    return next(draw_questions(family, snapshot, random, num_attempts), None)


def ask_about_picture(
    snapshot: SceneSnapshot, random: np.random.Generator,
) -> Iterator[tuple[Question, str]]:
    """Yield at most one question of each family that one picture can answer, with its answer."""
    for family in ONE_FRAME_FAMILIES:
        made = make_question(family, snapshot, random, ATTEMPTS)
        if made is not None:
            yield made


def draw_questions(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator, num_attempts: int,
) -> Iterator[tuple[Question, str]]:
    """Yield questions of a family with their answers, at most as many as there are attempts."""
    if family not in FAMILIES:
        raise ValueError(f'family is {family!r}: give one of {", ".join(FAMILIES)}')
    plan = _Plan.draw(family, random)
    for _ in range(num_attempts):
        made = _attempt(family, snapshot, random, plan)
        if made is not None:
            yield made


def _attempt(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator, plan: _Plan,
) -> tuple[Question, str] | None:
    if family == 'unknown':
        question: Question | None = _make_unknown(snapshot, random)
    elif family in ('absent', 'several'):
        question = _make_unanswerable(family, snapshot, random)
    else:
        question = _make_plain(family, snapshot, random, plan)
    if question is None:
        return None
    answer = answer_question(question, snapshot)
    wanted = {'absent': NO_SUCH_OBJECT, 'several': SEVERAL_OBJECTS}.get(family)
    refused = wanted is None and answer in (NO_SUCH_OBJECT, SEVERAL_OBJECTS)
    if answer is None or refused or (wanted is not None and answer != wanted):
        return None
    return question, answer


def _make_plain(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator, plan: _Plan,
) -> Question | None:
    if family in ('description', 'motion'):
        return phrase_question(family, _pick_present(snapshot, random), random)
    if family in MOTION_FAMILIES:
        return _ask_about_motion(family, snapshot, random, plan)
    if family == 'existence':
        pick = _pick_present if plan.is_there else _pick_absent
        return phrase_question(family, pick(snapshot, random), random)
    if family == 'count':
        return phrase_question(family, _pick_counted(snapshot, random, plan.number), random)
    if family == 'symbol':
        named = _pick_written(snapshot, random, plan)
        return None if named is None else phrase_question(family, named, random)
    name = _pick_unique(snapshot, random, {'colour': 'shape', 'shape': 'colour'}.get(family, ''))
    if name is None or family != 'relation':
        return None if name is None else phrase_question(family, name, random)
    other = _pick_unique(snapshot, random)
    if other is None or int(snapshot.find(other)[0]) == int(snapshot.find(name)[0]):
        return None
    return phrase_question(family, name, random, other)


def _ask_about_motion(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator, plan: _Plan,
) -> Question | None:
    if snapshot.camera_moves or not len(snapshot.shape):
        return None
    if family == 'moving_symbol' and plan.is_blank == (snapshot.symbol[snapshot.moves] >= 0).any():
        return None  # or 'nothing' would be the answer most of the time
    if family == 'direction':
        moving = np.flatnonzero(np.abs(snapshot.velocity).max(axis=1) > 0)
        if not len(moving):
            return None
        name = snapshot.name(int(moving[random.integers(len(moving))]))
        return phrase_question(family, name, random) if len(snapshot.find(name)) == 1 else None
    return phrase_question(family, _pick_present(snapshot, random), random)


def _make_unknown(snapshot: SceneSnapshot, random: np.random.Generator) -> Question:
    about = ('colour', 'shape', 'count', 'relation', 'place', 'existence')[random.integers(6)]
    subject, other = (_pick_present(snapshot, random) for _ in range(2))
    return make_unknown(phrase_question(about, subject, random, other), random)


def _make_unanswerable(
    family: str, snapshot: SceneSnapshot, random: np.random.Generator,
) -> Question | None:
    """Ask about an object that is not there, or that is there several times."""
    about = ('colour', 'shape', 'place', 'relation', 'symbol')[random.integers(5)]
    name: Name | None
    if family == 'absent':
        only = {'colour': 'shape', 'shape': 'colour'}.get(about, '')
        name = _pick_absent(snapshot, random, only)
    else:
        name = _pick_repeated(snapshot, random, about)
    other = _pick_unique(snapshot, random) if about == 'relation' else None
    if about == 'relation' and random.random() < 0.5:
        name, other = other, name
    if name is None or (other is None and about == 'relation'):
        return None
    phrased = phrase_question(about, name, random, other)
    return replace(phrased, family=family)


def _pick_present(snapshot: SceneSnapshot, random: np.random.Generator) -> Name:
    item = int(random.integers(len(snapshot.shape)))
    kind = random.integers(3)
    return Name(
        None if kind == 1 else int(snapshot.shape[item]),
        None if kind == 0 else int(snapshot.colour[item]))


def _pick_absent(snapshot: SceneSnapshot, random: np.random.Generator, only: str = '') -> Name:
    """
    Name an absent object, by shape, by colour and by both as often as present ones are named.

    Each word of a full name fits some object in half of the draws. Combinations that never occur
    are not named: they would give the answer away.
    """
    may_be_unseen = is_unseen(snapshot.shape, snapshot.colour).any()
    kind = {'shape': 0, 'colour': 1}.get(only, int(random.integers(3)))
    for _ in range(64):
        shape, colour = int(random.integers(len(SHAPES))), int(random.integers(len(COLOURS)))
        if kind == 2 and random.random() < 0.5:
            shape = int(snapshot.shape[random.integers(len(snapshot.shape))])
        if kind == 2 and random.random() < 0.5:
            colour = int(snapshot.colour[random.integers(len(snapshot.colour))])
        name = Name(None if kind == 1 else shape, None if kind == 0 else colour)
        possible = kind < 2 or may_be_unseen or not is_unseen(np.array(shape), np.array(colour))
        if possible and len(snapshot.find(name)) == 0:
            return name
    return Name(shape=_least_used(snapshot.shape, len(SHAPES)),
                colour=_least_used(snapshot.colour, len(COLOURS)))


def _least_used(values: np.ndarray, num_values: int) -> int:
    return int(np.bincount(values, minlength=num_values).argmin())


def _pick_counted(snapshot: SceneSnapshot, random: np.random.Generator, draw: float) -> Name:
    """Return a name that fits some number of objects; ``draw``, 0 to 1, decides which number."""
    names = [Name(), *(Name(shape=int(shape)) for shape in np.unique(snapshot.shape)),
             *(Name(colour=int(colour)) for colour in np.unique(snapshot.colour)),
             *(snapshot.name(item) for item in range(len(snapshot.shape)))]
    by_number: dict[int, list[Name]] = {0: []}
    for name in names:
        by_number.setdefault(len(snapshot.find(name)), []).append(name)
    numbers = sorted(by_number)
    bounds = np.cumsum([_NUMBER_WEIGHTS[number] for number in numbers])
    number = numbers[int(np.searchsorted(bounds, draw * bounds[-1], side='right'))]
    if not number:
        return _pick_absent(snapshot, random)
    fitting = by_number[number]
    return fitting[random.integers(len(fitting))]


def _pick_unique(
    snapshot: SceneSnapshot, random: np.random.Generator, only: str = '',
) -> Name | None:
    """Return a name that fits one object, by its shape or colour alone where told or by chance."""
    item = int(random.integers(len(snapshot.shape)))
    shape, colour = int(snapshot.shape[item]), int(snapshot.colour[item])
    names = {'shape': Name(shape=shape), 'colour': Name(colour=colour),
             '': Name(shape=shape, colour=colour)}
    kind = only or ('shape', 'colour', '', '')[random.integers(4)]
    return names[kind] if len(snapshot.find(names[kind])) == 1 else None


def _pick_written(
    snapshot: SceneSnapshot, random: np.random.Generator, plan: _Plan,
) -> Name | None:
    """Return a full name that fits one object, with something written on it or not as planned."""
    items = np.flatnonzero((snapshot.symbol < 0) == plan.is_blank)
    if not len(items):
        return None
    name = snapshot.name(int(items[random.integers(len(items))]))
    return name if len(snapshot.find(name)) == 1 else None


def _pick_repeated(
    snapshot: SceneSnapshot, random: np.random.Generator, about: str,
) -> Name | None:
    kind = {'colour': 0, 'shape': 1}.get(about, int(random.integers(2)))
    values = snapshot.colour if kind else snapshot.shape
    repeated = np.flatnonzero(np.bincount(values) > 1)
    if len(repeated) == 0:
        return None
    value = int(repeated[random.integers(len(repeated))])
    return Name(colour=value) if kind else Name(shape=value)
