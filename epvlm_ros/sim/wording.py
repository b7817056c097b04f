"""Puts questions about a simulated scene into words; the vocabulary of questions and answers."""

from __future__ import annotations

from epvlm_ros.sim.questions import (
    APPEARED, DIRECTIONS, DISAPPEARED, MOTION, MOVED, Name, NO_SUCH_OBJECT, NOTHING,
    NOTHING_TO_SEE, NUMBERS, Question, RELATIONS, SEVERAL_OBJECTS, STILL, TOO_BRIGHT, TOO_DARK,
    UNKNOWN)
from epvlm_ros.sim.scene import COLOURS, SHAPES, SYMBOLS
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
# What happened over several pictures.
CHANGE_TEMPLATES: dict[str, tuple[str, ...]] = {
    'appeared': ('what appeared', 'which objects appeared', 'what is new', 'what came into view'),
    'disappeared': ('what disappeared', 'which objects disappeared', 'what is gone',
                    'what went out of sight'),
    'did': ('what did {subject} do', 'what happened to {subject}')}
PREFIXES = ('please tell me', 'tell me', 'please', 'can you tell me', 'please say')
_PREFIX_PROBABILITY = 0.06
_STRANGE_WORDS = (
    'elephant', 'car', 'dog', 'person', 'table', 'mug', 'tomorrow', 'weather', 'capital', 'france',
    'door', 'heavy', 'price', 'song', 'robot', 'why', 'grey', 'hexagon', 'brown', 'xyzzy')
_FILLERS = ('image', 'objects', 'move', 'part')


def phrase_question(
    family: str, name: Name, random: np.random.Generator, other: Name | None = None,
) -> Question:
    """Put a question into words, drawn at random."""
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
        text = PREFIXES[random.integers(len(PREFIXES))] + ' ' + text
    return Question(family, family, text, name, other, relation)


def make_unknown(question: Question, random: np.random.Generator) -> Question:
    """Put words without a meaning here into a question, or mix its words up."""
    return Question('unknown', 'unknown', _strange_text(question.text.split(), random))


def _strange_text(words: list[str], random: np.random.Generator) -> str:
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
    """
    Return every word of questions and answers, a comma included.

    Those about one picture come first, sorted, as an earlier vocabulary had only them: a new
    training can start from weights of that one.
    """
    texts = [template for family in _TEMPLATES.values() for template in family]
    texts += [words for wordings in _RELATION_WORDS.values() for words in wordings]
    texts += [*PREFIXES, *NUMBERS, *DIRECTIONS, *SYMBOLS, *COLOURS]
    texts += [NO_SUCH_OBJECT, SEVERAL_OBJECTS, UNKNOWN, MOTION, NOTHING]
    names = [Name(shape=shape) for shape in range(len(SHAPES))] + [Name()]
    texts += [name.text(plural) for name in names for plural in (False, True)]
    texts += ['yes no top bottom left right a an the and anything thing things picture ,']
    later = [template for family in CHANGE_TEMPLATES.values() for template in family]
    later += [f'it {kind}' for kind in (STILL, MOVED, APPEARED, DISAPPEARED)]
    later += [TOO_DARK, TOO_BRIGHT, NOTHING_TO_SEE]
    words = _words_of(texts)
    return sorted(words) + sorted(_words_of(later) - words)


def _words_of(texts: list[str]) -> set[str]:
    return {word for text in texts for word in text.split() if '{' not in word}
