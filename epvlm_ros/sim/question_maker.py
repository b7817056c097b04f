"""
Makes questions about a simulated scene, and puts them into words.

Within each family the answers are balanced: whether a frequent one ('nothing' is written, 'no') is
asked for is decided once, and not again when a draw comes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from epvlm_ros.sim.questions import (
    answer_question, DIRECTIONS, FAMILIES, MOTION, MOTION_FAMILIES, Name, NO_SUCH_OBJECT, NOTHING,
    NUMBERS, Question, RELATIONS, SceneView, SEVERAL_OBJECTS, UNKNOWN)
from epvlm_ros.sim.scene import COLOURS, is_unseen, SHAPES, SYMBOLS
import numpy as np

_RELATION_WORDS: dict[str, tuple[str, ...]] = {
    'left': ('left of', 'to the left of'),
    'right': ('right of', 'to the right of'),
    'above': ('above', 'over', 'higher than'),
    'below': ('below', 'under', 'lower than'),
}
_TEMPLATES: dict[str, tuple[str, ...]] = {
    'colour': (
        'what colour is {subject}', 'what color is {subject}', 'which colour does {subject} have',
        'what is the colour of {subject}', 'what is the color of {subject}'),
    'shape': (
        'what shape is {subject}', 'what is the shape of {subject}', 'which shape is {subject}',
        'what shape does {subject} have', 'what is {subject}'),
    'count': (
        'how many {plural} are there', 'how many {plural} do you see', 'how many {plural} can you '
        'see', 'count the {plural}', 'how many {plural} are in the image',
        'what is the number of {plural}'),
    'relation': ('is {subject} {relation} {other}',),
    'place': (
        'where is {subject}', 'in which part of the image is {subject}', 'where do you see '
        '{subject}', 'where is {subject} in the image', 'in which corner is {subject}'),
    'existence': (
        'is there {indefinite}', 'do you see {indefinite}', 'can you see {indefinite}',
        'is there {indefinite} in the image', 'does the image show {indefinite}'),
    'description': (
        'what do you see', 'what can you see', 'describe the image', 'describe the scene',
        'what is in the image', 'what is there', 'which objects are there',
        'what objects do you see', 'what does the image show', 'list the objects'),
    'symbol': (
        'what is written on {subject}', 'which letter or digit is on {subject}',
        'what does {subject} say', 'what can you read on {subject}', 'read {subject}'),
    'motion': (
        'how fast is {subject}', 'where will {subject} be next', 'is the camera moving',
        'how fast does {subject} move', 'where was {subject} before', 'what happens next'),
    'moving': (
        'what is moving', 'what moves', 'which objects are moving', 'which objects move',
        'what is in motion'),
    'moving_count': (
        'how many objects are moving', 'how many objects move', 'count the moving objects',
        'what is the number of moving objects'),
    'direction': (
        'which way does {subject} move', 'in which direction does {subject} move',
        'where is {subject} going', 'which way is {subject} moving'),
    'still': (
        'what is not moving', 'what stands still', 'which objects are not moving',
        'which objects stand still', 'what is still'),
    'moving_symbol': (
        'what is written on the moving object', 'which letter or digit is on the moving object',
        'what does the moving object say', 'what can you read on the moving object'),
}
_PREFIXES = ('please tell me', 'tell me', 'please', 'can you tell me', 'please say')
_PREFIX_PROBABILITY = 0.06
_STRANGE_WORDS = (
    'elephant', 'car', 'dog', 'person', 'table', 'mug', 'tomorrow', 'weather', 'capital', 'france',
    'door', 'heavy', 'price', 'song', 'robot', 'why', 'grey', 'hexagon', 'brown', 'xyzzy')
_FILLERS = ('image', 'objects', 'move', 'part')
_BLANK_PROBABILITY = 0.12  # of asking what is written where nothing is
_MOVING_BLANK_PROBABILITY = 0.07  # the same of what moves: few moving objects have a symbol


@dataclass(frozen=True)
class _Plan:
    """What holds for all attempts at one question, so that they do not shift the answers."""

    is_blank: bool  # ask what is written where nothing is
    is_there: bool  # ask whether something is there that is

    @staticmethod
    def draw(family: str, random: np.random.Generator) -> _Plan:
        moves = family == 'moving_symbol'
        probability = _MOVING_BLANK_PROBABILITY if moves else _BLANK_PROBABILITY
        return _Plan(random.random() < probability, random.random() < 0.5)


def make_question(
    family: str, view: SceneView, random: np.random.Generator, num_attempts: int = 1,
) -> tuple[Question, str] | None:
    """
    Make one question of a family with its answer.

    Returns
    -------
    tuple of (Question, str) or None
        None where the scene has nothing to ask about in this family, or all attempts hit a case
        without a clear answer.

    Raises
    ------
    ValueError
        For an unknown family.

    """
    return next(draw_questions(family, view, random, num_attempts), None)


def draw_questions(
    family: str, view: SceneView, random: np.random.Generator, num_attempts: int,
) -> Iterator[tuple[Question, str]]:
    """
    Yield questions of a family with their answers, at most as many as there are attempts.

    Raises
    ------
    ValueError
        For an unknown family.

    """
    if family not in FAMILIES:
        raise ValueError(f'family is {family!r}: give one of {", ".join(FAMILIES)}')
    plan = _Plan.draw(family, random)
    for _ in range(num_attempts):
        made = _attempt(family, view, random, plan)
        if made is not None:
            yield made


def _attempt(
    family: str, view: SceneView, random: np.random.Generator, plan: _Plan,
) -> tuple[Question, str] | None:
    if family == 'unknown':
        question: Question | None = Question(
            family, family, _strange_text(view, random))
    elif family in ('absent', 'several'):
        question = _make_unanswerable(family, view, random)
    else:
        question = _make_plain(family, view, random, plan)
    if question is None:
        return None
    answer = answer_question(question, view)
    wanted = {'absent': NO_SUCH_OBJECT, 'several': SEVERAL_OBJECTS}.get(family)
    refused = wanted is None and answer in (NO_SUCH_OBJECT, SEVERAL_OBJECTS)
    if answer is None or refused or (wanted is not None and answer != wanted):
        return None
    return question, answer


def _make_plain(
    family: str, view: SceneView, random: np.random.Generator, plan: _Plan,
) -> Question | None:
    if family in ('description', 'motion'):
        return _phrase(family, _pick_present(view, random), random)
    if family in MOTION_FAMILIES:
        return _ask_about_motion(family, view, random, plan)
    if family == 'existence':
        picked = _pick_present(view, random) if plan.is_there else _pick_absent(view, random)
        return _phrase(family, picked, random)
    if family == 'count':
        return _phrase(family, _pick_counted(view, random), random)
    if family == 'symbol':
        named = _pick_written(view, random, plan)
        return None if named is None else _phrase(family, named, random)
    name = _pick_unique(view, random, {'colour': 'shape', 'shape': 'colour'}.get(family, ''))
    if name is None or family != 'relation':
        return None if name is None else _phrase(family, name, random)
    other = _pick_unique(view, random)
    if other is None or int(view.find(other)[0]) == int(view.find(name)[0]):
        return None
    return _phrase(family, name, random, other)


def _ask_about_motion(
    family: str, view: SceneView, random: np.random.Generator, plan: _Plan,
) -> Question | None:
    if view.camera_moves or not len(view.shape):
        return None
    if family == 'moving_symbol' and plan.is_blank == (view.symbol[view.moves] >= 0).any():
        return None  # or 'nothing' would be the answer most of the time
    if family == 'direction':
        moving = np.flatnonzero(np.abs(view.velocity).max(axis=1) > 0)
        if not len(moving):
            return None
        name = view.name(int(moving[random.integers(len(moving))]))
        return _phrase(family, name, random) if len(view.find(name)) == 1 else None
    return _phrase(family, _pick_present(view, random), random)


def _make_unanswerable(
    family: str, view: SceneView, random: np.random.Generator,
) -> Question | None:
    """Ask about an object that is not there, or that is there several times."""
    about = ('colour', 'shape', 'place', 'relation', 'symbol')[random.integers(5)]
    name: Name | None
    if family == 'absent':
        name = _pick_absent(view, random, {'colour': 'shape', 'shape': 'colour'}.get(about, ''))
    else:
        name = _pick_repeated(view, random, about)
    other = _pick_unique(view, random) if about == 'relation' else None
    if about == 'relation' and random.random() < 0.5:
        name, other = other, name
    if name is None or (other is None and about == 'relation'):
        return None
    phrased = _phrase(about, name, random, other)
    return replace(phrased, family=family)


def _phrase(
    family: str, name: Name, random: np.random.Generator, other: Name | None = None,
) -> Question:
    """Put a question into words."""
    template = _TEMPLATES[family][random.integers(len(_TEMPLATES[family]))]
    relation, relation_text = '', ''
    if family == 'relation':
        relation = RELATIONS[random.integers(len(RELATIONS))]
        wordings = _RELATION_WORDS[relation]
        relation_text = wordings[random.integers(len(wordings))]
    any_colour = name.shape is None and name.colour is not None and random.random() < 0.25
    text = template.format(
        subject='the ' + name.text(), plural=name.text(plural=True), relation=relation_text,
        other='' if other is None else 'the ' + other.text(),
        indefinite=f'anything {COLOURS[name.colour or 0]}' if any_colour else name.indefinite())
    if random.random() < 0.3:
        text = text.replace('object', 'thing')
    if random.random() < 0.2:
        text = text.replace('the image', 'the picture')
    if random.random() < _PREFIX_PROBABILITY:
        text = _PREFIXES[random.integers(len(_PREFIXES))] + ' ' + text
    return Question(family, family, text, name, other, relation)


def _pick_present(view: SceneView, random: np.random.Generator) -> Name:
    item = int(random.integers(len(view.shape)))
    kind = random.integers(3)
    return Name(
        None if kind == 1 else int(view.shape[item]),
        None if kind == 0 else int(view.colour[item]))


def _pick_absent(view: SceneView, random: np.random.Generator, only: str = '') -> Name:
    """
    Name nothing in view, by shape, by colour and by both as often as what is in view is named.

    Each word of a full name fits some object in half of the draws. None is a combination that
    cannot be there: it would tell the answer.
    """
    may_be_unseen = is_unseen(view.shape, view.colour).any()
    kind = {'shape': 0, 'colour': 1}.get(only, int(random.integers(3)))
    for _ in range(64):
        shape, colour = int(random.integers(len(SHAPES))), int(random.integers(len(COLOURS)))
        if kind == 2 and random.random() < 0.5:
            shape = int(view.shape[random.integers(len(view.shape))])
        if kind == 2 and random.random() < 0.5:
            colour = int(view.colour[random.integers(len(view.colour))])
        name = Name(None if kind == 1 else shape, None if kind == 0 else colour)
        possible = kind < 2 or may_be_unseen or not is_unseen(np.array(shape), np.array(colour))
        if possible and len(view.find(name)) == 0:
            return name
    return Name(shape=_least_used(view.shape, len(SHAPES)),
                colour=_least_used(view.colour, len(COLOURS)))


def _least_used(values: np.ndarray, num_values: int) -> int:
    return int(np.bincount(values, minlength=num_values).argmin())


def _pick_counted(view: SceneView, random: np.random.Generator) -> Name:
    kind = random.random()
    if kind < 0.3:
        return Name()
    if kind < 0.45:
        return _pick_absent(view, random)
    # Names that fit several objects first: otherwise nearly every answer were 'one'.
    names = [_pick_present(view, random) for _ in range(4)]
    return max(names, key=lambda name: len(view.find(name)))


def _pick_unique(
    view: SceneView, random: np.random.Generator, only: str = '',
) -> Name | None:
    """Return a name that fits one object, by its shape or colour alone where told or by chance."""
    item = int(random.integers(len(view.shape)))
    shape, colour = int(view.shape[item]), int(view.colour[item])
    names = {'shape': Name(shape=shape), 'colour': Name(colour=colour),
             '': Name(shape=shape, colour=colour)}
    kind = only or ('shape', 'colour', '', '')[random.integers(4)]
    return names[kind] if len(view.find(names[kind])) == 1 else None


def _pick_written(
    view: SceneView, random: np.random.Generator, plan: _Plan,
) -> Name | None:
    """Return a full name that fits one object, with something written on it or not as planned."""
    items = np.flatnonzero((view.symbol < 0) == plan.is_blank)
    if not len(items):
        return None
    name = view.name(int(items[random.integers(len(items))]))
    return name if len(view.find(name)) == 1 else None


def _pick_repeated(view: SceneView, random: np.random.Generator, about: str) -> Name | None:
    kind = {'colour': 0, 'shape': 1}.get(about, int(random.integers(2)))
    values = view.colour if kind else view.shape
    repeated = np.flatnonzero(np.bincount(values) > 1)
    if len(repeated) == 0:
        return None
    value = int(repeated[random.integers(len(repeated))])
    return Name(colour=value) if kind else Name(shape=value)


def _strange_text(view: SceneView, random: np.random.Generator) -> str:
    """Ask with words that have no meaning here, or with known words in no order."""
    family = ('colour', 'shape', 'count', 'relation', 'place', 'existence')[random.integers(6)]
    phrased = _phrase(family, _pick_present(view, random), random, _pick_present(view, random))
    words = phrased.text.split()
    kind = random.random()
    if kind < 0.15:
        words = list(random.permutation(words + list(_FILLERS))[:random.integers(2, 9)])
        return ' '.join(words)
    if kind < 0.35:
        words = [str(word) for word in random.choice(_STRANGE_WORDS, random.integers(1, 8))]
        return ' '.join(words)
    nouns = [place for place, word in enumerate(words) if _is_noun(word)]
    for place in random.permutation(nouns)[:random.integers(1, 3)]:
        words[place] = str(random.choice(_STRANGE_WORDS))
    return ' '.join(words)


def _is_noun(word: str) -> bool:
    singular = word.removesuffix('s') if not word.endswith('crosses') else 'cross'
    return singular in SHAPES or word in SHAPES + COLOURS or singular in ('object', 'thing')


def vocabulary() -> list[str]:
    """Return every word of questions and answers, sorted, a comma included."""
    texts = [template for family in _TEMPLATES.values() for template in family]
    texts += [words for wordings in _RELATION_WORDS.values() for words in wordings]
    texts += [*_PREFIXES, *NUMBERS, *DIRECTIONS, *SYMBOLS, *COLOURS]
    texts += [NO_SUCH_OBJECT, SEVERAL_OBJECTS, UNKNOWN, MOTION, NOTHING]
    names = [Name(shape=shape) for shape in range(len(SHAPES))] + [Name()]
    texts += [name.text(plural) for name in names for plural in (False, True)]
    texts += ['yes no top bottom left right a an the and anything thing things picture ,']
    words = {word for text in texts for word in text.split() if '{' not in word}
    return sorted(words)
